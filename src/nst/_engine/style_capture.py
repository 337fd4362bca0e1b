"""Capture a style: the statistics that the losses compare with, without the picture."""

from collections.abc import Sequence

from nst._engine.configuration import Configuration, explaining_memory, plan_scales
from nst._engine.objective import Objective
from nst._engine.reading import color_moments, read_style
from nst._utils.checks import at_least
from nst._utils.plain import hash_network
from nst.extractors.base import evaluation_mode
from nst.losses.base import layers_of
from nst.losses.storable import is_storable
from nst.styles.statistics import Entry, StyleStatistics, contradict, loss_identity
from nst.styles.style import Painting, Style


def can_capture(configuration: Configuration) -> bool:
    """Return whether there are style losses, and statistics are all that they compare with."""
    losses = configuration.active_losses("style").values()
    return bool(losses) and all(is_storable(loss) for loss in losses)


def capture_style(configuration: Configuration, style: Style, sizes: Sequence[int] | None) -> Style:
    """Capture a style; see `StyleTransfer.capture`."""
    losses = configuration.active_losses("style")
    for name, loss in losses.items():
        if not is_storable(loss):
            raise ValueError(
                f"`losses[{name!r}]` ({type(loss).__name__}) compares with the painting itself, "
                "so it has no statistics to capture. Use a StatisticLoss, or the painting."
            )
    if not losses:
        raise ValueError(
            "`losses` has no style loss of positive weight, so there is nothing to capture. "
            "Add a StatisticLoss, such as GramStyleLoss()."
        )
    if sizes is not None:
        sizes = sorted({at_least("sizes", size, 1) for size in sizes})
    elif configuration.size is not None:
        scales = plan_scales(configuration.size, configuration.num_steps, configuration.num_scales)
        sizes = [scale.size for scale in scales]
    else:
        raise ValueError(
            "`sizes` is required, as the transfer's `size` is None. Pass e.g. sizes=[256, 512]."
        )
    if not sizes:
        raise ValueError("`sizes` is empty; name at least one, such as sizes=[512].")
    painting = read_style(style, configuration.like)
    if not isinstance(painting, Painting):
        raise ValueError("`style` is captured already. Pass the painting, or use it as it is.")
    statistics = capture_painting(configuration, style, painting, sizes)
    return Style(statistics, weight=style.weight, region=style.region)


def capture_painting(
    configuration: Configuration, style: Style, painting: Painting, sizes: Sequence[int]
) -> StyleStatistics:
    """Return the statistics of a painting for pictures of some sizes, in ascending order."""
    losses, network = configuration.active_losses("style"), configuration.network
    scaled = {size: painting.resized(style.size_at(size)) for size in sizes}
    height, width = scaled[sizes[0]].pixels.shape[-2:]
    network.check_size(height, width, layers_of(losses.values()), name="style")
    largest = scaled[sizes[-1]].pixels
    shape = largest.shape[-2], largest.shape[-1]
    tile = configuration.tile_for(shape, largest, losses)
    objective, entries = Objective(network, losses, largest, tile=tile), list[Entry]()
    with explaining_memory(shape, tile, largest), evaluation_mode(configuration.extractor):
        for size, each in scaled.items():
            for name, summary in objective.summarize(each).items():
                entry = Entry(loss_identity(losses[name]), size, summary)
                if any(contradict(entry, other) for other in entries):
                    raise ValueError(
                        f"`losses[{name!r}]` has the type and the settings of another loss, but "
                        "other statistics. Add what distinguishes them to its `settings`."
                    )
                entries.append(entry)
    colors = color_moments(painting.pixels, painting.mask)
    return StyleStatistics(hash_network(configuration.extractor), entries, *colors)
