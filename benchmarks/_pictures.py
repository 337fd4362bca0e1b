"""Pairs of a photograph and a painting, and where their pictures are."""

from __future__ import annotations

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["Pair", "find_picture", "read_pairs"]

_SCRIPTS = Path(__file__).parent.parent / "scripts"
_PACKAGES = {"skimage": "data", "matplotlib": "mpl-data/sample_data"}
"""Package to its folder of pictures."""
_MADE = ("woodcut.png", "mosaic.png", "drawing.png")
_SIZE = 1024, 768


class Pair(NamedTuple):
    """File names of a photograph and a painting, and what they show."""

    photo: str
    painting: str
    about: str


def read_pairs(path: Path) -> dict[str, Pair]:
    """Read pairs by name from a JSON file such as `pairs.json`."""
    return {name: Pair(**pair) for name, pair in json.loads(path.read_text()).items()}


def find_picture(name: str, images: Path, made: Path) -> Path:
    """Return the path of a picture.

    It is looked up in `images`, then among the pictures of scikit-image and matplotlib.
    `woodcut.png`, `mosaic.png` and `drawing.png` are created in `made` if there are none.

    Raises:
        FileNotFoundError: There is no such picture.
    """
    folders = [images, made]
    for package, folder in _PACKAGES.items():
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent / folder)
    for path in [folder / name for folder in folders]:
        if path.exists():
            return path
    if name not in _MADE:
        places = ", ".join(map(str, folders))
        raise FileNotFoundError(
            f"There is no {name!r} in {places}. Run `pip install 'nst[bench]'`."
        )
    made.mkdir(parents=True, exist_ok=True)
    _make(name, images, made).save(made / name)
    return made / name


def _make(name: str, images: Path, made: Path) -> Image.Image:
    if name == "drawing.png":
        with Image.open(find_picture("golden_gate.jpg", images, made)) as picture:
            return _drawn(picture.convert("L").resize(_SIZE))
    sys.path.insert(0, str(_SCRIPTS))
    painter = getattr(importlib.import_module("prints"), name.removesuffix(".png"))
    picture = painter(*_SIZE)
    assert isinstance(picture, Image.Image)
    return picture


def _drawn(gray: Image.Image) -> Image.Image:
    """Draw a gray picture in ink: outlines, and the darker the more layers of hatching."""
    light = np.asarray(gray.filter(ImageFilter.GaussianBlur(4)), np.float32) / 255
    height, width = light.shape
    rng = np.random.default_rng(0)
    wobble = Image.fromarray(rng.normal(0, 1, (12, 16)).astype(np.float32))
    bent: NDArray[Any] = np.asarray(wobble.resize((width, height), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:height, :width]
    ink = np.zeros_like(light)
    for threshold, angle in ((0.75, 0.8), (0.55, 2.3), (0.38, 1.5), (0.22, 0.1)):
        along = x * np.sin(angle) + y * np.cos(angle) + 5 * bent
        line = 1 - np.abs(along % 8 - 4) / 1.6
        ink = np.maximum(ink, line * np.clip((threshold - light) / 0.08, 0, 1))
    down, across = np.gradient(light)
    ink = np.maximum(ink, np.clip(np.hypot(down, across) * 40 - 0.5, 0, 1))
    paper, black = np.array([244, 240, 230.0]), np.array([38, 34, 40.0])
    mixed = paper + np.clip(ink, 0, 1)[..., None] * (black - paper)
    return Image.fromarray(mixed.astype(np.uint8))
