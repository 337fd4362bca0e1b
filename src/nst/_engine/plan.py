"""Which scales a run has, and whether pictures, losses and network fit each other at each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain

from torch import Tensor

from nst._engine.config import Recipe
from nst._engine.reader import Material
from nst._engine.scales import Scale, plan_scales
from nst._utils.hashing import hash_network
from nst.extractors.vgg import FeatureExtractor
from nst.images import fit
from nst.losses import Loss
from nst.losses.base import StorableLoss
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style

__all__ = ["check_captured", "check_masks", "picture_shapes", "plan_run"]


def plan_run(
    shape: Sequence[int],
    styles: Sequence[Style],
    materials: Sequence[Material],
    size: int,
    recipe: Recipe,
) -> list[Scale]:
    """Plan the scales; those at which a picture is too small for the network are left out.

    Args:
        shape: The photograph's height and width.
        styles: The styles.
        materials: What there is of each.
        size: The longer side of the result.
        recipe: Of the transfer.

    Raises:
        ValueError: A picture is too small for every scale.
    """
    scales = plan_scales(size, recipe.num_steps, recipe.num_scales)
    if isinstance(recipe.extractor, FeatureExtractor):
        for name, (height, width) in picture_shapes(shape, styles, materials, size).items():
            recipe.extractor.check_size(height, width, recipe.layers, name=name)
        smallest = recipe.extractor.smallest_side(recipe.layers)
        while len(scales) > 1 and smallest > min(
            chain.from_iterable(picture_shapes(shape, styles, materials, scales[0].size).values())
        ):
            scales = plan_scales(size, recipe.num_steps, len(scales) - 1)
    return scales


def picture_shapes(
    photo: Sequence[int], styles: Sequence[Style], materials: Sequence[Material], size: int
) -> dict[str, tuple[int, int]]:
    """Return the height and width of every picture at a scale, by the argument's name.

    Args:
        photo: The photograph's height and width.
        styles: The styles.
        materials: What there is of each.
        size: The longer side of the picture, in pixels.
    """
    shapes = {"content": fit(photo, size)}
    for i, (style, each) in enumerate(zip(styles, materials, strict=True)):
        if isinstance(each, Painting):
            shapes[f"style[{i}]"] = fit(each.pixels.shape[-2:], style.size_at(size))
    return shapes


def check_masks(
    losses: Mapping[str, Loss],
    materials: Sequence[Material],
    regions: Mapping[Hashable, Tensor | None],
) -> None:
    """Refuse masks if a loss cannot be taken over a part of a picture.

    Args:
        losses: By name.
        materials: What there is of each style.
        regions: Masks on the photograph, by the styles' `region_key`.

    Raises:
        ValueError: It cannot.
    """
    masks = [each.mask for each in materials if isinstance(each, Painting)]
    if all(mask is None for mask in [*masks, *regions.values()]):
        return
    for name, loss in losses.items():
        if loss.weight > 0 and loss.reference == "style" and not isinstance(loss, StorableLoss):
            raise ValueError(
                f"`style` has a region, a mask or a rotation, or `where` is given, but the loss "
                f"{name!r} ({type(loss).__name__}) is not a mean over positions that could be "
                "taken over a part of them. Use a StatisticLoss, or styles without."
            )


def check_captured(
    materials: Sequence[Material], styles: Sequence[Style], scales: Sequence[Scale], recipe: Recipe
) -> None:
    """Refuse statistics that some loss could not compare with at some scale.

    Args:
        materials: What there is of each style.
        styles: The styles.
        scales: Of the run.
        recipe: Of the transfer.

    Raises:
        ValueError: They are of another network, another loss or other sizes.
    """
    captured = [each for each in materials if isinstance(each, StyleStatistics)]
    network = hash_network(recipe.extractor) if captured else ""
    for material in captured:
        if material.network != network:
            raise ValueError(
                f"`style` was captured with another network ({material.network[:12]}, this is "
                f"{network[:12]}). Capture the painting again with this transfer, or use the "
                "weights, pooling and padding that it was captured with."
            )
        for name, loss in recipe.losses.items():
            if loss.reference != "style" or loss.weight == 0:
                continue
            if not isinstance(loss, StorableLoss):
                raise ValueError(
                    f"`style` is one of which only statistics were kept, but the loss {name!r} "
                    f"({type(loss).__name__}) compares with the painting itself. Use the painting, "
                    "or a StatisticLoss."
                )
            for scale in scales:
                material.find(loss, scale.size)
