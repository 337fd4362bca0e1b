"""A style: a reference picture with its weight, region and mask."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._utils.checks import non_negative, number
from nst.images import ImageLike, resize
from nst.styles.mask import MaskLike
from nst.styles.statistics import StyleStatistics

_LARGEST = 1e100  # its multiples are still finite


@dataclass(frozen=True, eq=False)
class Style:
    """A reference picture with the style to learn.

    Masks are gray pictures or boolean arrays: white (True) counts, black and transparent pixels do
    not, gray counts in part. A tuple such as `("labels.png", "#ff0000")` selects the pixels of one
    color, `"alpha"` the picture's own transparency. A mask may have any size in the proportions of
    its picture.

    `StyleTransfer.capture` replaces the picture by statistics, which can be saved, and include
    mask, scale and rotation.

    Args:
        image: A path, PIL image, array or tensor (see `nst.load_image`), or captured statistics.
        weight: Weight among the styles of the same region; only ratios matter.
        region: Part of the *content* to which the style applies; None for all of it. Styles of the
            same region (of equal masks) are blended there. Where regions overlap, all of them
            apply; areas outside every region are constrained only by the content loss.
        mask: Part of the *style* to learn from; None for all of it.
        scale: Size of the picture, and so of its strokes, relative to the result; above 0. The
            picture is never enlarged.
        rotation: Counterclockwise rotation of the picture, and so of its strokes, in degrees.

    Examples:
        >>> style = Style("night.jpg", weight=0.7, region="sky.png", scale=0.5)
    """

    image: ImageLike | StyleStatistics
    weight: float = 1.0
    region: MaskLike | None = None
    mask: MaskLike | None = None
    scale: float = 1.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", non_negative("weight", self.weight))
        object.__setattr__(self, "scale", non_negative("scale", self.scale, _LARGEST))
        if self.scale == 0:
            raise ValueError("`scale` is 0; it must be positive.")
        rotation = number("rotation", self.rotation, "a number of degrees")
        object.__setattr__(self, "rotation", rotation)
        if not math.isfinite(self.rotation):
            raise ValueError(f"`rotation` is {self.rotation!r}; it must be finite.")
        if isinstance(self.image, StyleStatistics):
            changed = {"scale": self.scale != 1, "rotation": self.rotation != 0}
            for name, is_changed in {"mask": self.mask is not None, **changed}.items():
                if is_changed:
                    raise ValueError(
                        f"`{name}` cannot be changed in a style that is captured. Capture the "
                        f"painting with it: transfer.capture(Style(painting, {name}=...))."
                    )

    def size_at(self, size: int) -> int:
        """Return the longer side of the picture, in pixels, for a result of that size."""
        return max(1, round(size * self.scale))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the captured statistics to a file, about 1 MB for each size, and return its path.

        Weight and region are not stored. The path may have any suffix, by convention `.nst`. A
        style that is not captured raises `ValueError`.

        Examples:
            >>> from nst import StyleTransfer
            >>> from nst.testing import tiny_extractor
            >>> captured = StyleTransfer(tiny_extractor()).capture(torch.rand(1, 3, 40, 40))
            >>> path = captured.save("waves.nst")
            >>> again = Style.load(path, weight=0.7)
        """
        if not isinstance(self.image, StyleStatistics):
            raise ValueError(
                "`style` is a picture without statistics. Capture it first: "
                "transfer.capture(style).save(path)."
            )
        return self.image.save(path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, weight: float = 1.0, region: MaskLike | None = None
    ) -> Style:
        """Read a style that `save` wrote; `weight` and `region` are as in `Style`.

        It works only with the network, types of style loss and layers that it was captured with. A
        file that is not a style file, has another version or is damaged raises `ValueError`.
        """
        return cls(StyleStatistics.load(path), weight=weight, region=region)


class Painting(NamedTuple):
    """The pixels of a style's picture, and their mask."""

    pixels: Tensor
    """`(1, 3, H, W)`."""
    mask: Tensor | None
    """`(1, 1, H, W)`; None if all pixels count."""

    def rotated(self, degrees: float) -> Painting:
        """Return the painting rotated counterclockwise; the empty corners are masked."""
        if degrees % 360 == 0:
            return self
        if degrees % 90 == 0:
            turns = round(degrees / 90)
            mask = None if self.mask is None else torch.rot90(self.mask, turns, (-2, -1))
            return Painting(torch.rot90(self.pixels, turns, (-2, -1)), mask)
        mask = torch.ones_like(self.pixels[:, :1]) if self.mask is None else self.mask
        both = torch.cat([self.pixels, mask, torch.ones_like(mask)], dim=1)
        rotated = _rotated(both, math.radians(degrees)).clamp(0, 1)
        # Only whole pixels: edge pixels are mixed with the color of the empty corners.
        mask = rotated[:, 3:4] * (rotated[:, 4:] > 0.999)
        if not bool(mask.any()):
            raise ValueError(
                f"`rotation` is {degrees!r}, which leaves no whole pixel of the style or its mask. "
                "Use a larger picture or mask, or a multiple of 90."
            )
        return Painting(rotated[:, :3], mask)

    def resized(self, size: int) -> Painting:
        """Return the painting with its longer side at most `size` pixels."""
        mask = None if self.mask is None else resize(self.mask, size)
        return Painting(resize(self.pixels, size), mask)


def _rotated(image: Tensor, angle: float) -> Tensor:
    """Return an image `(1, C, H, W)` rotated counterclockwise by radians, with empty corners."""
    cos, sin, sides = math.cos(angle), math.sin(angle), image.shape[:1:-1]
    spans = abs(cos) * sides[0] + abs(sin) * sides[1], abs(sin) * sides[0] + abs(cos) * sides[1]
    positions = []
    for side, span in zip(sides, spans, strict=True):
        ends = (side - span) / 2, (side + span) / 2
        count = math.ceil(round(ends[1], 4)) - math.floor(round(ends[0], 4))
        steps = torch.arange(count, dtype=image.dtype, device=image.device)
        positions.append(steps - (count - 1) / 2)  # from the center
    x, y = positions[0], positions[1][:, None]
    # The coordinates of `grid_sample`: the borders of the image are at -1 and 1.
    grid = torch.stack([(cos * x - sin * y) * 2 / sides[0], (sin * x + cos * y) * 2 / sides[1]], -1)
    return F.grid_sample(image, grid[None], align_corners=False)


ONLY_ZEROS = "`style` has only weights of 0 in a region; at least one must be positive."

_One: TypeAlias = Style | ImageLike
StyleLike: TypeAlias = _One | Sequence[_One] | Iterator[_One] | ValuesView[_One]
"""A style or painting, or several to blend."""


def as_styles(style: StyleLike) -> list[Style]:
    """Return a list of styles; raise if none has a positive weight."""
    several: list[Any] = [style]
    # Other collections, such as arrays, open files and named tuples, are a single picture.
    is_one = isinstance(style, IOBase) or hasattr(style, "_fields")
    if isinstance(style, (list, tuple, ValuesView, Iterator)) and not is_one:
        several = list(style)
    for each in [style, *several]:
        if isinstance(each, Mapping) or (each is not style and isinstance(each, (list, tuple))):
            raise TypeError(
                f"`style` has a {type(each).__name__} for a picture; each style must be a picture "
                "or a Style. Give weights as in [Style('a.jpg', weight=0.7), Style('b.jpg')]."
            )
    styles = [s if isinstance(s, Style) else Style(s) for s in several]
    if not styles:
        raise ValueError("`style` is empty; pass at least one picture.")
    if not any(each.weight for each in styles):
        raise ValueError(ONLY_ZEROS)
    return styles
