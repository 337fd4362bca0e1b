"""Captures a style: what the losses compare with, without the picture."""

from __future__ import annotations

from collections.abc import Sequence

from nst._engine.config import Recipe
from nst._engine.noise import color_moments
from nst._engine.objective import Objective
from nst._engine.references import Reference
from nst._engine.scales import plan_scales
from nst._engine.tiles import choose_tile, explaining_memory
from nst._utils.checks import at_least
from nst._utils.hashing import hash_network
from nst.extractors.vgg import FeatureExtractor
from nst.losses import Loss
from nst.losses.base import StorableLoss
from nst.styles.statistics import Entry, StyleStatistics, loss_identity
from nst.styles.style import Painting, Style

__all__ = ["can_capture", "capture_painting", "capture_style"]


def can_capture(recipe: Recipe) -> bool:
    """Say whether there are style losses, of which statistics are all that they compare with.

    Args:
        recipe: Has the losses.
    """
    losses = [x for x in recipe.losses.values() if x.reference == "style" and x.weight > 0]
    return bool(losses) and all(isinstance(loss, StorableLoss) for loss in losses)


def capture_style(style: Style, sizes: Sequence[int] | None, recipe: Recipe) -> Style:
    """Do what `StyleTransfer.capture` says; see there for the arguments."""
    _style_losses(recipe)  # refuses before anything is read
    sizes = _sizes(sizes, recipe)
    painting = recipe.reader.read_style(style, "style")
    if not isinstance(painting, Painting):
        raise ValueError("`style` is captured already. Pass the painting, or use it as it is.")
    return capture_painting(style, painting, sizes, recipe)


def capture_painting(
    style: Style, painting: Painting, sizes: Sequence[int], recipe: Recipe
) -> Style:
    """Capture a style whose picture has been read.

    Args:
        style: The style.
        painting: Its picture.
        sizes: The longer sides of the pictures that it is for, ascending.
        recipe: Of the transfer.

    Raises:
        ValueError: As `StyleTransfer.capture`.
    """
    losses = _style_losses(recipe)
    scaled = {size: painting.resized(style.size_at(size)) for size in sizes}
    if isinstance(recipe.extractor, FeatureExtractor):
        layers = {layer for loss in losses.values() for layer in loss.layers}
        height, width = scaled[sizes[0]].pixels.shape[-2:]
        recipe.extractor.check_size(height, width, layers, name="style")
    largest = scaled[sizes[-1]].pixels
    shape = largest.shape[-2], largest.shape[-1]
    tile = choose_tile(recipe.tile, recipe.extractor, losses, shape, largest)
    objective, entries = Objective(recipe.extractor, losses, tile=tile), []
    with explaining_memory(shape, lambda: tile, largest):
        for size, each in scaled.items():
            for name, summary in objective.summarize(Reference(each.pixels, each.mask)).items():
                entries.append(Entry(loss_identity(losses[name]), size, summary))
    colors = color_moments(painting.pixels, painting.mask)
    statistics = StyleStatistics(hash_network(recipe.extractor), entries, *colors)
    return Style(statistics, weight=style.weight, region=style.region)


def _style_losses(recipe: Recipe) -> dict[str, Loss]:
    losses: dict[str, Loss] = {}
    for name, loss in recipe.losses.items():
        if loss.reference != "style" or loss.weight == 0:
            continue
        if not isinstance(loss, StorableLoss):
            raise ValueError(
                f"`losses[{name!r}]` ({type(loss).__name__}) compares with the painting itself, "
                "of which no statistics can be kept. Use a StatisticLoss, or the painting."
            )
        losses[name] = loss
    if not losses:
        raise ValueError(
            "`losses` has no style loss of positive weight, so there is nothing to capture. "
            "Add a StatisticLoss, such as GramStyleLoss()."
        )
    return losses


def _sizes(sizes: Sequence[int] | None, recipe: Recipe) -> list[int]:
    if sizes is None:
        if recipe.size is None:
            raise ValueError(
                "`sizes` is needed, as the transfer's `size` is None. Pass e.g. sizes=[256, 512]."
            )
        plan = plan_scales(recipe.size, recipe.num_steps, recipe.num_scales)
        return [scale.size for scale in plan]
    found = sorted({at_least("sizes", size, 1) for size in sizes})
    if not found:
        raise ValueError("`sizes` is empty; name at least one, such as sizes=[512].")
    return found
