"""A style: a reference picture and what part it has in the blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from nst._checks import non_negative
from nst.images import ImageLike

__all__ = ["Style", "StyleLike", "as_styles"]


@dataclass(frozen=True, eq=False)
class Style:
    """A picture to take the manner from.

    Args:
        image: A path, PIL image, array or tensor; see `nst.load_image`.
        weight: Its share when several styles are blended; only the ratio matters.

    Raises:
        ValueError: The weight is negative or not finite.

    Examples:
        >>> from PIL import Image
        >>> waves = Style(Image.new("RGB", (64, 64), "navy"), weight=0.7)
        >>> waves.weight
        0.7
    """

    image: ImageLike
    weight: float = 1.0

    def __post_init__(self) -> None:
        # Zero is fine as long as another style has some weight.
        object.__setattr__(self, "weight", non_negative("weight", self.weight))


StyleLike: TypeAlias = Style | ImageLike | Sequence[Style | ImageLike]


def as_styles(style: StyleLike) -> list[Style]:
    """Bring one style or several, given as `Style` or as pictures, to one form.

    Args:
        style: What `StyleTransfer.run` takes.

    Raises:
        ValueError: No styles, or weights that are all zero.
    """
    # Only these two count as several: an array, for one, is a single picture.
    several = (
        list(style) if isinstance(style, (list, tuple)) else [cast("Style | ImageLike", style)]
    )
    styles = [s if isinstance(s, Style) else Style(s) for s in several]
    if not styles:
        raise ValueError("`style` is empty; pass at least one picture.")
    if not any(s.weight for s in styles):
        raise ValueError("`style` has only weights of 0; at least one must be positive.")
    return styles
