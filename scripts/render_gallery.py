"""Render the pictures of the home page and of the gallery, each with the record of its run.

python scripts/render_gallery.py [--inputs FOLDER] [NAME ...]

All of them by default, which takes about four minutes on a CPU. The photographs and
paintings they are made from are written into FOLDER, where `nst rerun` finds them again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from painting import paint
from PIL import Image, ImageOps
from prints import mosaic, woodcut
from torch import nn

from nst import FeatureExtractor, Style, StyleTransfer, StyleTransferResult, load_image, save_image
from nst.cli.commands.samples import cup_mask, photograph
from nst.images import resize
from nst.presets import preset

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SIZE, STEPS = 480, 50
HEIGHT = 256  # of the three pictures of the README, side by side

INPUTS: Mapping[str, Callable[[], Image.Image]] = {
    "cat": lambda: photograph("chelsea"),
    "coffee": lambda: photograph("coffee"),
    "rocket": lambda: photograph("rocket"),
    "astronaut": lambda: photograph("astronaut"),
    "evening": paint,
    "mosaic": mosaic,
    "woodcut": woodcut,
    "cup": lambda: cup_mask(photograph("coffee").size),
    "table": lambda: ImageOps.invert(cup_mask(photograph("coffee").size)),
}
"""What the pictures are made from, each a file called so."""

Paths = Mapping[str, Path]
PICTURES: Mapping[str, Callable[[Paths], dict[str, Any]]] = {
    "cat": lambda at: {  # as `nst demo` does
        "content": at["cat"],
        "style": at["evening"],
        "content_weight": 0.05,
    },
    "coffee-woodcut": lambda at: {
        "content": at["coffee"],
        "style": at["woodcut"],
        "content_weight": 0.03,
    },
    "coffee-mosaic": lambda at: {"content": at["coffee"], "style": at["mosaic"]},
    "rocket-evening": lambda at: {"content": at["rocket"], "style": at["evening"]},
    "astronaut-woodcut": lambda at: {
        "content": at["astronaut"],
        "style": at["woodcut"],
        "content_weight": 0.05,
    },
    "cat-colors-kept": lambda at: {
        "content": at["cat"],
        "style": at["woodcut"],
        "content_weight": 0.03,
        "preserve_color": "luminance",
    },
    "coffee-two-styles": lambda at: {
        "content": at["coffee"],
        "style": [Style(at["evening"], region=at["cup"]), Style(at["mosaic"], region=at["table"])],
    },
    "texture": lambda at: {"style": at["evening"], "shape": (320, 480), "seed": 1},
}
"""Arguments of `run`, or of `synthesize` where there is no content; and the content's weight."""


def make_inputs(folder: Path) -> dict[str, Path]:
    """Write what the pictures are made from.

    Args:
        folder: Where to; it is made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in INPUTS}
    for name, path in paths.items():
        INPUTS[name]().save(path)
    return paths


def render(
    name: str, at: Paths, extractor: nn.Module, *, size: int = SIZE, num_steps: int = STEPS
) -> StyleTransferResult:
    """Render one picture of the gallery.

    Args:
        name: One of `PICTURES`.
        at: What `make_inputs` returned.
        extractor: The network.
        size: The longer side.
        num_steps: Over both scales.
    """
    arguments = PICTURES[name](at)
    losses = preset("default")["losses"]
    losses["content"].weight = arguments.pop("content_weight", losses["content"].weight)
    if "content" not in arguments:  # a texture is all motifs
        losses["style"] = preset("motifs")["losses"]["style"]
    transfer = StyleTransfer(extractor, losses, size=size, num_steps=num_steps, num_scales=2)
    if "content" in arguments:
        return transfer.run(**arguments)
    if size != SIZE:
        arguments["shape"] = (size * 2 // 3, size)
    return transfer.synthesize(**arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Render what is asked for."""
    parser = argparse.ArgumentParser(description="Render the pictures of the documentation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PICTURES)}")
    parser.add_argument("--inputs", type=Path, help="keep what they are made from here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        at = make_inputs(options.inputs or Path(folder))
        extractor = FeatureExtractor()
        for name in options.names or PICTURES:
            result = render(name, at, extractor)
            (path,) = result.save(IMAGES / "gallery" / f"{name}.jpg")
            sys.stdout.write(f"{path}: {result.seconds:.0f} s, {path.stat().st_size // 1000} kB\n")
            sys.stdout.flush()
            if name == "cat":
                _show_demo(at, result)


def _show_demo(at: Paths, result: StyleTransferResult) -> None:
    """Save the two pictures of the home page, and the three of the README."""
    cat = load_image(at["cat"], size=SIZE)
    save_image(cat, IMAGES / "before.jpg")
    result.save(IMAGES / "after.jpg")
    row = [
        resize(picture, (HEIGHT, round(picture.shape[-1] * HEIGHT / picture.shape[-2])))
        for picture in (cat, load_image(at["evening"]), result.image)
    ]
    save_image(torch.cat(row, dim=-1), IMAGES / "demo.jpg")


if __name__ == "__main__":
    main()
