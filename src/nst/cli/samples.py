"""Pictures to begin with: a photograph under a free license, paintings made in code, and a mask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from nst.cli.painting import paint
from nst.cli.prints import woodcut

__all__ = ["cup_mask", "demo_photograph", "photograph", "write_samples"]

# The saucer and the cup in scikit-image's photograph, in shares of its width and height.
_CUP = ((0.13, 0.18, 0.8, 0.97), (0.28, 0.04, 0.69, 0.52))


def demo_photograph() -> Image.Image:
    """Return scikit-image's cat.

    Raises:
        ImportError: scikit-image is not installed.
    """
    return photograph("chelsea")  # CC0, by Stefan van der Walt; part of the wheel


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
    coffee = photograph("coffee")  # CC0, by Rachel Michetti; part of the wheel
    place.mkdir(parents=True, exist_ok=True)
    pictures = (coffee, paint(), woodcut(), cup_mask(coffee.size))
    for name, picture in zip(names, pictures, strict=True):
        picture.save(place / name, quality=95)
    return [place / name for name in names]


def photograph(name: str) -> Image.Image:
    """Return a photograph of scikit-image's wheel.

    Args:
        name: Of the function in `skimage.data`.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "`nst demo` and `nst samples` need scikit-image, which is not installed. "
            "Run `pip install 'nst[demo]'`."
        ) from error
    untyped: Any = data
    return Image.fromarray(getattr(untyped, name)())


def cup_mask(size: tuple[int, int]) -> Image.Image:
    """Return a mask of scikit-image's photograph of a cup: white for cup and saucer, softly edged.

    Args:
        size: Width and height of the photograph.
    """
    mask = Image.new("L", size, 0)
    for left, top, right, bottom in _CUP:
        box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
        ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(size[0] / 100))
