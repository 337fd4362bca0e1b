"""What a step takes in tiles, how it grows with the picture, and whether it stays within a limit.

    python benchmarks/size.py [--threads 2] [--largest 4096] [--limit 6]

First tiled and whole steps alternate at 1024x1536 pixels: medians of the seconds, of each round's
ratio, and how far the gradients differ. Then each size takes a step in a process of its own, tiled,
and whole as long as that is reasonable: its seconds, and how far the memory rises above where it
stood with the network and the pictures loaded. That of `--largest` pixels squared is ended if its
resident memory exceeds the limit, in GB; the last is one of 6144x4096 pixels. A step is one
evaluation of the default losses and their gradient; the optimizer's own memory is not part of it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from _machine import describe_machine, megabytes
from nst import FeatureExtractor
from nst._engine.objective import Objective, Region
from nst.presets import preset
from nst.styles.style import Painting

_TILE, _TILE_OF_LARGEST = 64, 32
_SIZES = ((256, 256), (512, 512), (1024, 1024), (1024, 1536), (2048, 1536), (2048, 3072))
_LARGEST_WHOLE = 2048 * 1536
_PRINT = (4096, 6144)


def picture(height: int, width: int, seed: int) -> Tensor:
    """Return a picture of clouds."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bilinear", antialias=False)


def prepared(extractor: FeatureExtractor, image: Tensor, tile: int | None) -> Objective:
    """Return the default losses with their targets; the style is of at most 1024 pixels."""
    objective = Objective(extractor, preset("default")["losses"], image, tile=tile)
    objective.capture(image)
    side = min(1024, *image.shape[-2:])
    objective.capture_styles([Region(None, [Painting(picture(side, side, 1), None)], [1.0])])
    return objective


def compare(height: int, width: int, repeats: int) -> None:
    """Print how a tiled step compares with a whole one."""
    extractor, image = FeatureExtractor(), picture(height, width, 0)
    objectives = {tile: prepared(extractor, image, tile) for tile in (None, _TILE)}
    start = image.flip(-1)
    gradients = {tile: each.evaluate(start)[1] for tile, each in objectives.items()}
    apart = (gradients[_TILE] - gradients[None]).norm() / gradients[None].norm()
    seconds: dict[int | None, list[float]] = {tile: [] for tile in objectives}
    for _ in range(repeats):
        for tile, objective in objectives.items():
            begin = time.perf_counter()
            objective.evaluate(start)
            seconds[tile].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(seconds[_TILE], seconds[None], strict=True)]
    print(f"{width}x{height} pixels, {_TILE} rows at a time against whole pictures:")
    print(
        f"  {statistics.median(seconds[_TILE]):.2f} s, not {statistics.median(seconds[None]):.2f}"
        f" s, {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of the time"
    )
    print(f"  the gradients differ by {float(apart):.1e}", flush=True)


def measure(height: int, width: int, tile: int | None) -> None:
    """Print what one step takes, after one that makes what is kept."""
    extractor, image = FeatureExtractor(), picture(height, width, 0)
    small = picture(64, 64, 0)
    prepared(extractor, small, None).evaluate(small.flip(-1))  # kernels are made
    base = megabytes("VmRSS")
    objective = prepared(extractor, image, tile)
    start = image.flip(-1)
    del image
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the targets
    seconds = []
    for _ in range(2 if height * width < 2**22 else 1):
        begin = time.perf_counter()
        objective.evaluate(start)
        seconds.append(time.perf_counter() - begin)
    risen = megabytes("VmHWM") - base
    pixels = height * width
    print(
        f"{width}x{height:<6} {'whole' if tile is None else f'{tile} rows':8} {seconds[-1]:8.2f} s "
        f"{seconds[-1] / pixels * 1e6:7.2f} s/MP {risen:8.0f} MB {risen * 2**20 / pixels:7.0f} "
        f"bytes/pixel, {megabytes('VmHWM') / 1024:.2f} GB in all",
        flush=True,
    )


def run_within(limit: float, arguments: list[str]) -> None:
    """Run one measurement in a process of its own, and end it if it takes more than the limit."""
    process = subprocess.Popen([sys.executable, __file__, *arguments])
    while process.poll() is None:
        if megabytes("VmRSS", process.pid) > limit * 1024:
            process.kill()
            print(f"ended: more than {limit} GB")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--largest", type=int, default=4096)
    parser.add_argument("--limit", type=float, default=6.0)
    parser.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure is not None:
        height, width, tile = arguments.measure
        measure(height, width, tile or None)
        return
    print(describe_machine())
    compare(1024, 1536, arguments.repeats)
    threads = ["--threads", str(arguments.threads)]
    for height, width in _SIZES:
        for tile in (_TILE, 0):
            if tile or height * width <= _LARGEST_WHOLE:
                shape = ["--measure", str(height), str(width), str(tile)]
                run_within(float("inf"), [*threads, *shape])
    square = (arguments.largest, arguments.largest)
    for limit, sides in ((arguments.limit, square), (float("inf"), _PRINT)):
        largest = ["--measure", *map(str, sides), str(_TILE_OF_LARGEST)]
        run_within(limit, [*threads, *largest])


if __name__ == "__main__":
    main()
