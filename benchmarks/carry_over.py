"""Do the default weights mean the same at every size, for any painting and either pooling?

    python benchmarks/carry_over.py PHOTO PAINTING [PAINTING ...] [--sizes 256 512 1024]

Each painting is transferred with the defaults at each size, with max and with average pooling. The
table has the distance of the result from the style in layers that were not optimized, and from the
content; the last column is the largest deviation from the sizes' mean, in percent.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from _machine import describe_machine
from _metrics import Scorer
from nst import FeatureExtractor, Style, StyleTransfer, load_image
from nst.images import to_pil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo")
    parser.add_argument("paintings", nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--poolings", nargs="+", default=["max", "average"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="where to keep the pictures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe_machine())
    sizes = "".join(f" {size:>8}" for size in arguments.sizes)
    print(f"{'painting':24} {'pooling':8} {'distance':8}{sizes} deviation", flush=True)
    for pooling in arguments.poolings:
        extractor = FeatureExtractor(pooling=pooling)
        for painting in arguments.paintings:
            scores = []
            for size in arguments.sizes:
                content = load_image(arguments.photo, size=size)
                result = StyleTransfer(extractor, size=size).run(content, Style(painting))
                (style,) = result.styles
                scores.append(Scorer(extractor, content, style)(result.image))
                if arguments.folder is not None:
                    name = f"{Path(painting).stem}-{pooling}-{size}.jpg"
                    to_pil(result.image).save(arguments.folder / name, quality=90)
            for name in ("style", "content"):
                values = [getattr(each, name) for each in scores]
                mean = statistics.mean(values)
                deviation = max(abs(value - mean) for value in values) / mean
                line = "".join(f" {value:8.4f}" for value in values)
                stem = Path(painting).stem
                print(f"{stem:24} {pooling:8} {name:8}{line} {deviation:8.1%}", flush=True)


if __name__ == "__main__":
    main()
