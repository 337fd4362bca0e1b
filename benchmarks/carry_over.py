"""Do the default weights mean the same at every size, for any painting and either pooling?

    python benchmarks/carry_over.py PHOTO PAINTING [PAINTING ...] --folder FOLDER

Each painting is transferred with the defaults at each size, with max and with average pooling. The
table has the distance of the result from the style in layers that were not optimized, by Gram
matrices and by sliced Wasserstein, at the result's own size; and from the content, with result and
photograph seen at the smallest of the sizes: a photograph enlarged is another thing to the network,
so distances at each one's own size, in the last row, are not of the same things. The last column is
the largest deviation from the sizes' mean. Pictures that are in FOLDER already are not made again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from _machine import describe_machine
from _metrics import Scorer
from nst import FeatureExtractor, Style, StyleTransfer, load_image
from nst.images import resize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo")
    parser.add_argument("paintings", nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--poolings", nargs="+", default=["max", "average"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, required=True, help="where pictures are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine())
    sizes = "".join(f" {size:>8}" for size in arguments.sizes)
    print(f"{'painting':24} {'pooling':8} {'distance':8}{sizes} deviation", flush=True)
    for pooling in arguments.poolings:
        extractor = FeatureExtractor(pooling=pooling)
        for painting in arguments.paintings:
            pair = f"{Path(arguments.photo).stem}-{Path(painting).stem}"
            rows: dict[str, list[float]] = {n: [] for n in ("Gram", "sliced", "content", "(own)")}
            for size in arguments.sizes:
                content, style = (load_image(p, size=size) for p in (arguments.photo, painting))
                file = arguments.folder / f"{pair}-{pooling}-{size}.png"
                if not file.exists():
                    StyleTransfer(extractor, size=size).run(content, Style(painting)).save(file)
                result = load_image(file)
                scores = Scorer(extractor, content, style)(result)
                rows["Gram"].append(scores.style)
                rows["sliced"].append(scores.wasserstein)
                rows["(own)"].append(scores.content)
                seen = (resize(image, min(arguments.sizes)) for image in (content, style, result))
                content, style, result = seen
                rows["content"].append(Scorer(extractor, content, style)(result).content)
            for name, values in rows.items():
                mean = statistics.mean(values)
                deviation = max(abs(value - mean) for value in values) / mean
                line = "".join(f" {value:8.4f}" for value in values)
                stem = Path(painting).stem
                print(f"{stem:24} {pooling:8} {name:8}{line} {deviation:8.1%}", flush=True)


if __name__ == "__main__":
    main()
