"""Render the pictures of docs/control.md and docs/choosing.md.

python scripts/render_control.py PHOTO PAINTING OTHER MASK

MASK is white where OTHER goes, in the proportions of PHOTO.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from nst import FeatureExtractor, Style, StyleTransfer, load_image
from nst.cli.commands.sheet import contact_sheet
from nst.cli.losses import LOSSES_BY_REFERENCE
from nst.color import COLOR_METHODS, preserve_color
from nst.images import resize, to_pil
from nst.presets import preset

OUTPUT = Path(__file__).parent.parent / "docs" / "images"
SIZE, STEPS = 512, 60
# Of the rendered pictures, how large they are on the sheets: each sheet may have 300 kB.
CELL, LARGEST = 340, 300_000


def main(photo: str, painting: str, other: str, mask: str) -> None:
    """Render one sheet after the other."""
    extractor = FeatureExtractor()
    transfer = StyleTransfer(extractor, size=SIZE, num_steps=STEPS)
    content, inverse = load_image(photo, size=SIZE), 1 - load_image(mask)

    def paint(style: object, **handles: object) -> Tensor:
        return transfer.run(photo, style, **handles).image  # type: ignore[arg-type]

    plain = paint(painting)
    strengths = [paint(painting, strength=s) for s in (0, 0.25, 0.5, 0.75)]
    strengths += [plain, paint(painting, strength=1.5)]
    names = [f"strength {s}" for s in (0, 0.25, 0.5, 0.75, 1, 1.5)]
    write("strength", [strengths[:3]], names[:3], [strengths[3:]], names[3:])

    blended = paint([Style(painting, weight=0.5), Style(other, weight=0.5)])
    regions = paint([Style(other, region=mask), Style(painting, region=inverse)])
    where = paint(painting, where=inverse)
    write("styles", [[blended, regions, where]], ["two styles blended", "by region", "where="])

    before = [paint(painting, preserve_color=m, color_when="before") for m in COLOR_METHODS]
    after = [preserve_color(plain, content, m, when="after") for m in COLOR_METHODS]
    small = [[resize(cell, CELL * 3 // 5) for cell in row] for row in (before, after)]
    save(contact_sheet(small, ["before", "after"], list(COLOR_METHODS)), "color")

    for kind, losses in LOSSES_BY_REFERENCE.items():
        pictures = []
        for name, loss in losses.items():
            recipe = preset("default")
            if kind == "style":
                recipe["losses"]["style"] = loss()
            else:
                recipe["losses"]["content"] = loss(weight=0.01)
            one = StyleTransfer(extractor, **{**recipe, "size": SIZE, "num_steps": STEPS})
            result = one.run(photo, painting)
            sys.stdout.write(f"{name}: {result.seconds:.0f} s, {result.stop_reason}\n")
            sys.stdout.flush()
            pictures.append(result.image)
        names, rows = list(losses), [pictures[i : i + 3] for i in range(0, len(pictures), 3)]
        parts: list[object] = []
        for i, row in enumerate(rows):
            parts += [[row], names[3 * i : 3 * i + 3]]
        write(f"losses-{kind}", *parts)


def write(name: str, *parts: object) -> None:
    """Write rows, each with labels of its own, into one picture."""
    pairs = zip(parts[::2], parts[1::2], strict=True)
    sheets = [
        contact_sheet([[resize(cell, CELL) for cell in row] for row in rows], [], labels)  # type: ignore[arg-type, attr-defined]
        for rows, labels in pairs
    ]
    save(torch.cat(sheets, -2), name)


def save(sheet: Tensor, name: str) -> None:
    """Save a sheet for the docs, as good as its size may be."""
    path = OUTPUT / f"{name}.jpg"
    for quality in range(90, 50, -4):
        to_pil(sheet).save(path, quality=quality)
        if path.stat().st_size < LARGEST:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
