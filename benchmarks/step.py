"""Seconds and memory of a step of nst against loops that use PyTorch's own convolution.

    python benchmarks/step.py [--width 512] [--height 384] [--steps 3] [--repeats 7] [--threads 2]

All work on the same pictures, the same weights and the same layers, and evaluate losses and
gradient once a step. First the loops alternate in one process: medians of the seconds, and the
median of each round's ratio to the fastest loop that is not nst. Then each runs two steps in a
process of its own: how far its memory rises above where it stood with the network loaded (what
nst makes of the kernels at the first use, about 200 MB, counts).
`--memory-only` leaves out the first part.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from _loops import LOOPS
from _machine import describe_machine, megabytes


def pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return noise in place of a photograph and a painting."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, height, width)
    content, style = (torch.rand(shape, generator=generator) for _ in range(2))
    return content, style


def time_all(height: int, width: int, steps: int, repeats: int) -> None:
    """Print seconds per step; what a loop does only once is taken out."""
    seconds: dict[str, list[float]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        loops = {name: make(*pictures(height, width), Path(folder)) for name, make in LOOPS.items()}
        for loop in loops.values():
            loop(1)  # warm up
        for _ in range(repeats):
            for name, loop in loops.items():
                times = []
                for count in (1, 1 + steps):
                    start = time.perf_counter()
                    loop(count)
                    times.append(time.perf_counter() - start)
                seconds[name].append((times[1] - times[0]) / steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min((n for n in LOOPS if not n.startswith("nst")), key=medians.__getitem__)
    print(f"seconds per step, and the ratio to {fastest!r}: median (least to most)")
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(values, seconds[fastest], strict=True)]
        print(
            f"{name:28} {medians[name]:8.3f}   {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


def print_megabytes(height: int, width: int, name: str) -> None:
    """Print how many megabytes two steps of a loop need beyond the network."""
    with tempfile.TemporaryDirectory() as folder:
        loop = LOOPS[name](*pictures(height, width), Path(folder))
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
        base = megabytes("VmRSS")
        loop(2)
        print(f"{name:28} {megabytes('VmHWM') - base:8.0f} MB above {base:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--memory-of", choices=LOOPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of is not None:
        print_megabytes(arguments.height, arguments.width, arguments.memory_of)
        return
    print(describe_machine())
    print(f"{arguments.width}x{arguments.height} pixels")
    if not arguments.memory_only:
        time_all(arguments.height, arguments.width, arguments.steps, arguments.repeats)
    print("memory of two steps", flush=True)
    # As an exception it ends the child as well, which is left alone otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    options = [f"--{name}={getattr(arguments, name)}" for name in ("width", "height", "threads")]
    for name in LOOPS:
        subprocess.run([sys.executable, __file__, *options, "--memory-of", name], check=True)


if __name__ == "__main__":
    main()
