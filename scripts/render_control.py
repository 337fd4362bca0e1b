"""Render the pictures of docs/how-to/control.md and docs/how-to/choose-a-loss.md.

python scripts/render_control.py PHOTO PAINTING OTHER MASK [SHEET ...]

MASK is white where OTHER goes, in the proportions of PHOTO. All sheets by default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst import FeatureExtractor, Style, StyleTransfer, load_image, style_layers
from nst.cli.commands.sheet import contact_sheet
from nst.cli.losses import LOSSES_BY_REFERENCE
from nst.color import COLOR_METHODS, preserve_color
from nst.images import resize, to_pil
from nst.losses.statistics import STYLE_LAYERS
from nst.presets import preset

OUTPUT = Path(__file__).parent.parent / "docs" / "images"
SIZE = 512
# Of the rendered pictures, how large they are on the sheets: each sheet may have 300 kB.
CELL, LARGEST = 340, 300_000


class Sheets:
    """Renders the sheets of one photograph."""

    def __init__(self, photo: str, painting: str, other: str, mask: str) -> None:
        self.photo, self.painting, self.other, self.mask = photo, painting, other, mask
        self.transfer = StyleTransfer(FeatureExtractor(), size=SIZE)

    def _paint(
        self, style: Any = None, transfer: StyleTransfer | None = None, **options: Any
    ) -> Tensor:
        """Return the photograph in a style, by default the painting."""
        return (transfer or self.transfer).run(self.photo, style or self.painting, **options).image

    def _from_preset(self, name: str, **changes: Any) -> Tensor:
        """Return the photograph by a preset."""
        extractor = self.transfer.extractor
        return self._paint(
            transfer=StyleTransfer.from_preset(name, extractor, size=SIZE, **changes)
        )

    def strength(self) -> None:
        """Render six strengths."""
        values = (0, 0.25, 0.5, 0.75, 1, 1.5)
        pictures = [self._paint(strength=value) for value in values]
        write_rows("strength", pictures, [f"strength {value}" for value in values])

    def motifs(self) -> None:
        """Render four settings of the motifs."""
        values = (0, 0.01, 0.2, 1)
        pictures = [self._from_preset("default", motifs=value) for value in values]
        write_rows("motifs", pictures, [f"motifs {value}" for value in values], columns=2)

    def steps(self) -> None:
        """Render four numbers of steps."""
        values = (30, 50, 80, 150)
        pictures = [self._from_preset("default", num_steps=value) for value in values]
        write_rows("steps", pictures, [f"{value} steps" for value in values], columns=2)

    def presets(self) -> None:
        """Render the presets."""
        names = ["default", "strokes", "motifs", "faithful"]
        write_rows("presets", [self._from_preset(name) for name in names], names, columns=2)

    def styles(self) -> None:
        """Render two styles blended and by region, and one in a region."""
        inverse = 1 - load_image(self.mask)
        both = [Style(self.painting, weight=0.5), Style(self.other, weight=0.5)]
        parts = [Style(self.other, region=self.mask), Style(self.painting, region=inverse)]
        pictures = [self._paint(both), self._paint(parts), self._paint(where=inverse)]
        write_rows("styles", pictures, ["two styles blended", "by region", "where="])

    def color(self) -> None:
        """Render every method to preserve colors, before and after."""
        content, plain = load_image(self.photo, size=SIZE), self._paint()
        before = [self._paint(preserve_color=m, color_when="before") for m in COLOR_METHODS]
        after = [preserve_color(plain, content, m, when="after") for m in COLOR_METHODS]
        small = [[resize(cell, CELL * 3 // 5) for cell in row] for row in (before, after)]
        save(contact_sheet(small, ["before", "after"], list(COLOR_METHODS)), "color")

    def style_losses(self) -> None:
        """Render every style loss."""
        pictures = []
        for kind in LOSSES_BY_REFERENCE["style"].values():
            loss: Any = kind()
            if loss.layers == tuple(STYLE_LAYERS):
                loss = kind(style_layers())  # type: ignore[call-arg]
            losses = {**preset("default")["losses"], "style": loss}
            pictures.append(self._paint(transfer=replace(self.transfer, losses=losses)))
        write_rows("losses-style", pictures, list(LOSSES_BY_REFERENCE["style"]))

    def content_losses(self) -> None:
        """Render every content loss."""
        pictures = []
        for kind in LOSSES_BY_REFERENCE["content"].values():
            losses = {**preset("default")["losses"], "content": kind(weight=0.01)}
            pictures.append(self._paint(transfer=replace(self.transfer, losses=losses)))
        write_rows("losses-content", pictures, list(LOSSES_BY_REFERENCE["content"]))


SHEETS = [name for name in vars(Sheets) if not name.startswith("_")]
"""Methods of `Sheets` that render one."""


def write_rows(
    name: str, pictures: Sequence[Tensor], labels: Sequence[str], columns: int = 3
) -> None:
    """Save a sheet of labeled pictures."""
    cells = [resize(picture, CELL) for picture in pictures]
    starts = range(0, len(cells), columns)
    rows = [contact_sheet([cells[i : i + columns]], [], labels[i : i + columns]) for i in starts]
    save(torch.cat(rows, -2), name)


def save(sheet: Tensor, name: str) -> None:
    """Save a sheet for the docs, as good as its size may be."""
    path = OUTPUT / f"{name}.jpg"
    for quality in range(90, 50, -4):
        to_pil(sheet).save(path, quality=quality)
        if path.stat().st_size < LARGEST:
            return


def main() -> None:
    """Render what is asked for."""
    parser = argparse.ArgumentParser(description="Render the pictures of two pages.")
    for name in ("photo", "painting", "other", "mask"):
        parser.add_argument(name)
    parser.add_argument("sheets", nargs="*", metavar="SHEET", help=", ".join(SHEETS))
    options = parser.parse_args()
    if unknown := set(options.sheets) - set(SHEETS):
        parser.error(f"no sheet {unknown.pop()!r}; there are {', '.join(SHEETS)}")
    sheets = Sheets(options.photo, options.painting, options.other, options.mask)
    for name in options.sheets or SHEETS:
        getattr(sheets, name)()


if __name__ == "__main__":
    main()
