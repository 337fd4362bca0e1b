"""Do the default weights mean the same at every size, for any painting and either pooling?

    python benchmarks/carry_over.py --photos PHOTO [...] --paintings PAINTING [...] --folder FOLDER

Each painting is transferred to each photograph with the defaults at each size, with max and with
average pooling. The table has the distance of the result from the style in layers that were not
optimized, by Gram matrices and by sliced Wasserstein, at the result's own size; and from the
content, with result and photograph seen at the smallest of the sizes: a photograph enlarged is
another thing to the network, so distances at each one's own size, in the last row, are not of the
same things. The last column is the largest deviation from the sizes' mean. Of several photographs,
the mean comes after them. Pictures that are in FOLDER already are not made again, so other steps or
losses want a folder of their own.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from _machine import describe_machine
from _metrics import Scorer, load_pair
from nst import FeatureExtractor, Style, StyleTransfer, load_image
from nst.images import resize
from nst.presets import preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", nargs="+", required=True)
    parser.add_argument("--paintings", nargs="+", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--poolings", nargs="+", default=["max", "average"])
    parser.add_argument("--steps", type=int, default=StyleTransfer.num_steps)
    parser.add_argument("--no-content", action="store_true", help="leave out the content's loss")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, required=True, help="where pictures are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine())
    head = f"{'painting':24} {'pooling':8} {'photo':16} {'distance':8}"
    print(head + "".join(f" {size:>8}" for size in arguments.sizes), "deviation", flush=True)
    for pooling in arguments.poolings:
        extractor = FeatureExtractor(pooling=pooling)
        for painting in arguments.paintings:
            name = f"{Path(painting).stem:24} {pooling:8}"
            tables = []
            for photo in arguments.photos:
                table = measure(extractor, photo, painting, arguments)
                print_rows(f"{name} {Path(photo).stem:16}", table)
                tables.append(table)
            if len(tables) > 1:
                means = {
                    row: [statistics.mean(of) for of in zip(*(t[row] for t in tables), strict=True)]
                    for row in tables[0]
                }
                print_rows(f"{name} {'mean':16}", means)


def measure(
    extractor: FeatureExtractor, photo: str, painting: str, arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the distances at each size, by what they are of; make what pictures are missing."""
    rows: dict[str, list[float]] = {row: [] for row in ("Gram", "sliced", "content", "(own)")}
    for size in arguments.sizes:
        content, style = load_pair(photo, painting, size)
        stem = f"{Path(photo).stem}-{Path(painting).stem}-{extractor.pooling}-{size}"
        file = arguments.folder / f"{stem}.png"
        if not file.exists():
            recipe = preset("default") | {"size": size, "num_steps": arguments.steps}
            if arguments.no_content:
                del recipe["losses"]["content"]
            StyleTransfer(extractor, **recipe).run(content, Style(painting)).save(file)
        result = load_image(file)
        scores = Scorer(extractor, content, style)(result)
        rows["Gram"].append(scores.style)
        rows["sliced"].append(scores.wasserstein)
        rows["(own)"].append(scores.content)
        smallest = min(arguments.sizes)
        content, style, result = (resize(image, smallest) for image in (content, style, result))
        rows["content"].append(Scorer(extractor, content, style)(result).content)
    return rows


def print_rows(name: str, rows: dict[str, list[float]]) -> None:
    """Print a line for each distance, with its largest deviation from the mean."""
    for row, values in rows.items():
        mean = statistics.mean(values)
        deviation = max(abs(value - mean) for value in values) / mean
        line = "".join(f" {value:8.4f}" for value in values)
        print(f"{name} {row:8}{line} {deviation:8.1%}", flush=True)


if __name__ == "__main__":
    main()
