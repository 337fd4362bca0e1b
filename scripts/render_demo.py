"""Render docs/images/demo.jpg: the demo's photograph, its painting, and the result.

python scripts/render_demo.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from skimage import data

from nst import load_image, save_image
from nst._painting import paint
from nst.cli import main as nst
from nst.images import resize

OUTPUT = Path(__file__).parent.parent / "docs" / "images" / "demo.jpg"
HEIGHT = 256


def main() -> None:
    """Run the demo and put its three pictures side by side, at the same height."""
    with tempfile.TemporaryDirectory() as folder:
        stylized = Path(folder) / "demo.png"
        if nst(["demo", "-o", str(stylized)]) != 0:
            raise SystemExit("the demo failed")
        photograph = data.chelsea()  # type: ignore[no-untyped-call]
        pictures = [load_image(source) for source in (photograph, paint(), stylized)]
    row = [
        resize(picture, (HEIGHT, round(picture.shape[-1] * HEIGHT / picture.shape[-2])))
        for picture in pictures
    ]
    save_image(torch.cat(row, dim=-1), OUTPUT)


if __name__ == "__main__":
    main()
