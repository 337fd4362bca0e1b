"""Show the pictures of `candidates.py` side by side, with labels or blind.

    python benchmarks/sheets.py OUTPUT [--size 512] [--candidates default strokes ...]
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

from PIL import Image, ImageOps
from torch import Tensor

from candidates import REFERENCES, picture_path, read_results
from nst import load_image, save_image
from nst.cli.commands.sheet import contact_sheet

Row = Mapping[str, str]
"""Label to candidate, in the order of the columns."""


def shuffled(pair: str, candidates: Sequence[str], seed: int) -> Row:
    """Return letters for the candidates of a pair, in an order that depends on pair and seed."""
    order = list(candidates)
    random.Random(f"{seed} {pair}").shuffle(order)
    return dict(zip(string.ascii_uppercase, order, strict=False))


def draw(rows: Mapping[str, Row], output: Path, size: int, cell: int) -> Tensor:
    """Draw a sheet, `(1, 3, H, W)`.

    Args:
        rows: Pair to its row without the references.
        output: Output folder of `candidates.py`.
        size: Size of the results.
        cell: Side of a picture in pixels.
    """
    labels = [*REFERENCES, *max(rows.values(), key=len)]
    pictures = []
    for pair, row in rows.items():
        named = {**{name: name for name in REFERENCES}, **row}
        paths = {label: picture_path(output, size, pair, each) for label, each in named.items()}
        pictures.append([_fitted(paths.get(label), cell) for label in labels])
    return contact_sheet(pictures, list(rows), labels)


def _fitted(path: Path | None, cell: int) -> Tensor:
    """Return a picture in the middle of a white square; nothing but white if there is none."""
    blank = Image.new("RGB", (cell, cell), "white")
    if path is None or not path.exists():
        return load_image(blank)
    with Image.open(path) as picture:
        return load_image(ImageOps.pad(picture.convert("RGB"), blank.size, color="white"))


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
        save_image(draw(part, arguments.output, size, arguments.cell), path)
        print(path)
    if seed is not None:
        path = folder / f"{name}-key.json"
        path.write_text(json.dumps(rows, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
