"""Everything that one run is given, read and checked before any work is done."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor

from nst._engine.configuration import (
    Configuration,
    RunOptions,
    Scale,
    explaining_memory,
    plan_scales,
)
from nst._engine.objective import Objective, Region
from nst._engine.reading import (
    StyleSource,
    identify_pictures,
    read_content,
    read_regions,
    read_start,
    read_style,
    recolor_styles,
)
from nst._utils.checks import at_least
from nst._utils.group import Group
from nst._utils.plain import hash_network
from nst.images import ImageLike, Picture, fit, resize
from nst.losses.base import StorableLoss
from nst.result import StyleTransferResult
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style, StyleLike, as_styles, read_mask

_MOST_PIXELS = 2**31
# Factor of the losses that refer to the content, at all scales but the last: a finer scale does not
# recover what a coarse scale loses of the photograph.
_COARSE_EMPHASIS = 3.0


@dataclass(frozen=True, eq=False)
class RunInputs:
    """Everything that one run is given; nothing of it changes during the run."""

    configuration: Configuration
    options: RunOptions
    content: Picture
    styles: Sequence[Style]
    sources: Sequence[Sequence[StyleSource]]
    """What each style is learned from, in full size. A single list for all pictures of the batch,
    or one for each picture if the styles get the colors of the photograph."""
    regions: Mapping[Hashable, Tensor | None]
    """Masks on the content, `(1, 1, H, W)`, by the styles' `region_key`; None for everywhere."""
    where: Tensor | None
    """Mask of what may change, `(1, 1, H, W)`; None for everything."""
    shape: tuple[int, int]
    """Height and width of the result."""
    scales: Sequence[Scale]
    tile: int | None
    """Number of rows of each block that are computed at a time; None for all."""
    start: Tensor
    """The pictures that the run starts from, `(N, 3, h, w)`."""
    identities: Mapping[str, Mapping[str, str | None]]
    """Names and hashes of the pictures, by argument."""

    @classmethod
    def read(
        cls,
        configuration: Configuration,
        content: ImageLike | None,
        style: StyleLike,
        options: RunOptions | None = None,
        shape: Sequence[int] | None = None,
    ) -> RunInputs:
        """Read and check the arguments of `StyleTransfer.run` or, without content, `synthesize`."""
        configuration.check_losses()
        options, like = options or RunOptions(), configuration.like
        photo = None if content is None else read_content(content, like)
        styles = as_styles(style)
        if photo is None:
            _check_texture(configuration, styles)
            configuration = configuration.without_content()
        sources = [read_style(each, like, f"style[{i}]") for i, each in enumerate(styles)]
        if photo is None:
            photo = _blank(shape, sources[0], configuration)
            size = max(photo.pixels.shape[-2:])
        else:
            size = configuration.size_of(photo.pixels.shape[-2:])
        where = None if options.where is None else read_mask(options.where, *photo, "where")
        regions = read_regions(styles, photo, where)
        _check_strength(configuration, options)
        _check_masks(configuration, sources, regions)
        given = photo.pixels.shape[-2:]
        scales = plan_run(configuration, given, styles, sources, size)
        _check_captured(configuration, sources, scales)
        result_shape = fit(given, size)
        tile = configuration.tile_for(result_shape, photo.pixels)
        with explaining_memory(result_shape, tile, photo.pixels):
            recolored = recolor_styles(sources, photo.pixels, options)
            start = read_start(options, photo.pixels, recolored, fit(given, scales[0].size))
        return cls(
            configuration=configuration,
            options=options,
            content=photo,
            styles=styles,
            sources=recolored,
            regions=regions,
            where=where,
            shape=result_shape,
            scales=scales,
            tile=tile,
            start=start,
            identities=identify_pictures(content, styles, options),
        )

    def shapes_at(self, size: int) -> list[tuple[int, int]]:
        """Return height and width of the content and of the paintings at a scale of this size."""
        content = self.content.pixels.shape[-2:]
        return list(_shapes_at(size, content, self.styles, self.sources[0]).values())

    def regions_at(
        self, size: int, picture: int = 0, *, captured_for: int | None = None
    ) -> list[Region]:
        """Return the regions with their styles for a scale and one picture of the batch.

        Captured styles may be those for another size.
        """
        pairs, regions = list(zip(self.styles, self.sources[picture], strict=True)), []
        for key, mask in self.regions.items():
            members = [(style, each) for style, each in pairs if style.region_key == key]
            region = Region(
                mask=None if mask is None else resize(mask, size),
                styles=[
                    each.resized(style.size_at(size))
                    if isinstance(each, Painting)
                    else partial(each.find, size=captured_for or size)
                    for style, each in members
                ],
                blend=[style.weight for style, _ in members],
            )
            regions.append(region)
        return regions

    def objectives_at(self, index: int, group: Group) -> Iterator[Objective]:
        """Yield an objective for each picture, with the targets of the styles at a scale."""
        size, configuration = self.scales[index].size, self.configuration
        height, _ = fit(self.shape, size)
        for number in range(len(self.content.pixels)):
            if number < len(self.sources):  # otherwise its styles are those of the first picture
                objective = Objective(
                    configuration.network,
                    configuration.losses,
                    strength=self.options.strength,
                    emphasis=1.0 if index == len(self.scales) - 1 else _COARSE_EMPHASIS,
                    normalize_gradients=configuration.normalize_gradients,
                    tile=self.tile,
                    group=group if group.divides(height) else None,
                )
                objective.capture_styles(self.regions_at(size, number))
            yield objective.copy()

    def result(self, image: Tensor, **outcome: Any) -> StyleTransferResult:
        """Return the result of a run: its pictures, with the other fields of the result."""
        alpha = self.content.alpha
        return StyleTransferResult(
            image=image.cpu(),
            content=resize(self.content.pixels, self.shape).cpu(),
            styles=resized_paintings(self.styles, self.sources[0], max(self.shape)),
            alpha=None if alpha is None else resize(alpha, self.shape).cpu(),
            **outcome,
        )


def resized_paintings(
    styles: Sequence[Style], sources: Sequence[StyleSource], size: int
) -> list[Tensor]:
    """Return the pixels of the paintings for a picture of this size, on the CPU."""
    return [
        each.resized(style.size_at(size)).pixels.cpu()
        for style, each in zip(styles, sources, strict=True)
        if isinstance(each, Painting)
    ]


def plan_run(
    configuration: Configuration,
    shape: Sequence[int],
    styles: Sequence[Style],
    sources: Sequence[StyleSource],
    size: int,
) -> list[Scale]:
    """Return the scales of a run at which no picture is too small for the network.

    Raise `ValueError` if a picture is too small at every scale.
    """
    network = configuration.network
    scales = plan_scales(size, configuration.num_steps, configuration.num_scales)
    for name, (height, width) in _shapes_at(size, shape, styles, sources).items():
        network.check_size(height, width, configuration.layers, name=name)
    smallest = network.smallest_side(configuration.layers)
    while len(scales) > 1 and smallest > min(
        chain.from_iterable(_shapes_at(scales[0].size, shape, styles, sources).values())
    ):
        scales = plan_scales(size, configuration.num_steps, len(scales) - 1)
    return scales


def _shapes_at(
    size: int, content: Sequence[int], styles: Sequence[Style], sources: Sequence[StyleSource]
) -> dict[str, tuple[int, int]]:
    shapes = {"content": fit(content, size)}
    for i, (style, each) in enumerate(zip(styles, sources, strict=True)):
        if isinstance(each, Painting):
            shapes[f"style[{i}]"] = fit(each.pixels.shape[-2:], style.size_at(size))
    return shapes


def _check_texture(configuration: Configuration, styles: Sequence[Style]) -> None:
    if any(each.region is not None for each in styles):
        raise ValueError("`style` has a region, but a texture has none. Leave it out.")
    if not configuration.active_losses("style"):
        raise ValueError(
            "`losses` has no style loss of positive weight, which a texture needs. Add one, "
            "such as GramStyleLoss()."
        )


def _blank(
    shape: Sequence[int] | None, first: StyleSource, configuration: Configuration
) -> Picture:
    """Return a black picture in place of the content of a texture."""
    if shape is None:
        if isinstance(first, StyleStatistics):
            raise ValueError("`shape` is needed for a captured style; pass shape=(height, width).")
        whole = first.pixels.shape[-2:]
        shape = fit(whole, configuration.size or max(whole))
    try:
        height, width = shape
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"`shape` is {shape!r}; height and width are needed, such as (384, 512)."
        ) from error
    height, width = at_least("shape", height, 1), at_least("shape", width, 1)
    if height * width > _MOST_PIXELS:
        raise ValueError(
            f"`shape` is {(height, width)}; it must have at most {_MOST_PIXELS} pixels."
        )
    like = configuration.like
    with explaining_memory((height, width), None, like):
        return Picture(like.new_zeros(1, 3, height, width), None)


def _check_strength(configuration: Configuration, options: RunOptions) -> None:
    if options.strength == 0 and not configuration.active_losses("content"):
        raise ValueError(
            "`strength` is 0, which leaves only losses that refer to the content, and there are "
            "none. Add a ContentLoss, or use a strength above 0."
        )


def _check_masks(
    configuration: Configuration,
    sources: Sequence[StyleSource],
    regions: Mapping[Hashable, Tensor | None],
) -> None:
    """Refuse masks if a style loss cannot be computed on a part of a picture."""
    masks = [each.mask for each in sources if isinstance(each, Painting)]
    if all(mask is None for mask in [*masks, *regions.values()]):
        return
    for name, loss in configuration.active_losses("style").items():
        if not isinstance(loss, StorableLoss):
            raise ValueError(
                f"`style` has a region, a mask or a rotation, or `where` is given, but the loss "
                f"{name!r} ({type(loss).__name__}) is not a mean over positions that could be "
                "taken over a part of them. Use a StatisticLoss, or styles without."
            )


def _check_captured(
    configuration: Configuration, sources: Sequence[StyleSource], scales: Sequence[Scale]
) -> None:
    """Refuse captured statistics of another network, for other losses, or for other sizes."""
    captured = [each for each in sources if isinstance(each, StyleStatistics)]
    network = hash_network(configuration.extractor) if captured else ""
    for statistics in captured:
        if statistics.network != network:
            raise ValueError(
                f"`style` was captured with another network ({statistics.network[:12]}, this is "
                f"{network[:12]}). Capture the painting again with this transfer, or use the "
                "weights, pooling and padding that it was captured with."
            )
        for name, loss in configuration.active_losses("style").items():
            if not isinstance(loss, StorableLoss):
                raise ValueError(
                    f"`style` is captured, but the loss {name!r} ({type(loss).__name__}) "
                    "compares with the painting itself. Use the painting, or a StatisticLoss."
                )
            for scale in scales:
                statistics.find(loss, scale.size)
