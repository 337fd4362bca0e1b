"""Pictures to begin with: a photograph under a free license, paintings made in code, and a mask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from nst._painting import paint

__all__ = ["demo_photograph", "write_samples"]

# The saucer and the cup in scikit-image's photograph, in shares of its width and height.
_CUP = ((0.13, 0.18, 0.8, 0.97), (0.28, 0.04, 0.69, 0.52))


def demo_photograph() -> Image.Image:
    """Return scikit-image's cat.

    Raises:
        ImportError: scikit-image is not installed.
    """
    return _photograph("chelsea")  # CC0, by Stefan van der Walt; part of the wheel


def write_samples(folder: str | os.PathLike[str]) -> list[Path]:
    """Write `photo.jpg`, `painting.jpg`, `other.jpg` and `mask.png`, white where the cup is.

    Args:
        folder: Where to; it is made if it does not exist.

    Returns:
        The files written.

    Raises:
        FileExistsError: One of the files is there already. Nothing is written then.
        OSError: They cannot be written.
        ImportError: scikit-image, which has the photograph, is not installed.
    """
    place = Path(folder)
    names = ("photo.jpg", "painting.jpg", "other.jpg", "mask.png")
    for path in (place / name for name in names):
        if path.exists():
            raise FileExistsError(
                f"`FOLDER` is {str(place)!r}, where {path.name!r} is already and would be written "
                "over. Name another folder."
            )
    photograph = _photograph("coffee")  # CC0, by Rachel Michetti; part of the wheel
    place.mkdir(parents=True, exist_ok=True)
    pictures = (photograph, paint(), paint(seed=1), _mask(photograph.size))
    for name, picture in zip(names, pictures, strict=True):
        picture.save(place / name, quality=95)
    return [place / name for name in names]


def _photograph(name: str) -> Image.Image:
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "scikit-image, whose photograph is needed, is not installed. "
            "Run `pip install 'nst[demo]'`."
        ) from error
    untyped: Any = data
    return Image.fromarray(getattr(untyped, name)())


def _mask(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size, 0)
    for left, top, right, bottom in _CUP:
        box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
        ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(size[0] / 100))
