"""Show the pictures of `candidates.py` side by side, with labels or blind.

    python benchmarks/sheets.py OUTPUT [--size 512] [--candidates default motifs001 ...]
                                [--pairs NAME ...] [--blind SEED] [--rows 4] [--cell 320]

OUTPUT is the folder that `candidates.py` has filled. A sheet has a row for each pair: photograph,
painting, candidates. Blind sheets shuffle the candidates of every pair by the seed and call them
A, B, C, ...; the key is in a JSON file. The sheets are JPEG files in OUTPUT/sheets.
"""

from __future__ import annotations

import argparse
import json
import random
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from candidates import REFERENCES, picture_path, read_results

_LABEL, _GAP = 16, 6
"""Height of a line of text and the space between cells, in pixels."""

Row = Mapping[str, str]
"""Label to candidate, in the order of the columns."""


def shuffled(pair: str, candidates: Sequence[str], seed: int) -> Row:
    """Return letters for the candidates of a pair, in an order that depends on pair and seed."""
    order = list(candidates)
    random.Random(f"{seed} {pair}").shuffle(order)
    return dict(zip(string.ascii_uppercase, order, strict=False))


def draw(rows: Mapping[str, Row], output: Path, size: int, cell: int) -> Image.Image:
    """Draw a sheet.

    Args:
        rows: Pair to its row without the references.
        output: Output folder of `candidates.py`.
        size: Size of the results.
        cell: Width and largest height of a picture in pixels.
    """
    strips = [_strip(pair, row, output, size, cell) for pair, row in rows.items()]
    whole = max(strip.width for strip in strips), sum(strip.height for strip in strips)
    sheet = Image.new("RGB", whole, "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _strip(pair: str, row: Row, output: Path, size: int, cell: int) -> Image.Image:
    """Draw the row of a pair, as high as its highest picture."""
    cells = {**{name: name for name in REFERENCES}, **row}
    pictures = {}
    for label, candidate in cells.items():
        path = picture_path(output, size, pair, candidate)
        if path.exists():
            with Image.open(path) as picture:
                pictures[label] = ImageOps.contain(picture.convert("RGB"), (cell, cell))
    height = max((picture.height for picture in pictures.values()), default=0)
    strip = Image.new("RGB", (len(cells) * (cell + _GAP), height + 2 * _LABEL + _GAP), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((2, 2), pair, fill="black")
    for column, label in enumerate(cells):
        left = column * (cell + _GAP)
        pen.text((left + 2, _LABEL), label, fill="black")
        if label in pictures:
            strip.paste(pictures[label], (left, 2 * _LABEL))
    return strip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--candidates", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--pairs", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--blind", type=int, metavar="SEED", help="hide the names")
    parser.add_argument("--rows", type=int, default=4, help="pairs on a sheet")
    parser.add_argument("--cell", type=int, default=320, help="side of a picture in pixels")
    arguments = parser.parse_args()
    size, seed = arguments.size, arguments.blind
    found = [key for key in read_results(arguments.output) if key[2] == size]
    pairs = arguments.pairs or list(dict.fromkeys(pair for pair, _, _ in found))
    candidates = arguments.candidates or [
        name for name in dict.fromkeys(name for _, name, _ in found) if name not in REFERENCES
    ]
    if not pairs or not candidates:
        parser.error(f"no results of {size} pixels in {arguments.output}")
    if len(candidates) > len(string.ascii_uppercase):
        parser.error(f"{len(candidates)} candidates; a sheet has room for 26")
    rows: dict[str, Row] = {}
    for pair in pairs:
        if seed is None:
            rows[pair] = {name: name for name in candidates}
        else:
            present = [name for name in candidates if (pair, name, size) in found]
            rows[pair] = shuffled(pair, present, seed)
    folder = arguments.output / "sheets"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"labeled-{size}" if seed is None else f"blind-{size}-{seed}"
    for number, first in enumerate(range(0, len(pairs), arguments.rows), start=1):
        part = {pair: rows[pair] for pair in pairs[first : first + arguments.rows]}
        path = folder / f"{name}-{number}.jpg"
        draw(part, arguments.output, size, arguments.cell).save(path, quality=92)
        print(path)
    if seed is not None:
        path = folder / f"{name}-key.json"
        path.write_text(json.dumps(rows, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
