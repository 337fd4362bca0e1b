"""Seconds and memory of a step with two checkouts of the library, in turns.

    python benchmarks/before_after.py OLD NEW [--case 512x384 --case 1024x1024 ...] [--steps 8]
                                              [--threads 2]

OLD and NEW are folders with `src/nst`. A case is a size in pixels, `width x height`, and perhaps
`:tile`, as in `1536x1024:64`. For each case, each checkout runs in a process of its own, with VGG19
and the default losses on noise. They take turns, a step of L-BFGS each, while the other waits:
medians of the seconds and of each round's ratio, and how far memory rises above where it stood
with the network and the pictures loaded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from _machine import describe_machine, megabytes

_CASES = ("512x384", "1024x1024", "1536x1024:64")


def work(case: str, threads: int) -> None:
    """Take a step for every line that comes in, and print its seconds; at the end, the memory."""
    import nst

    torch.set_num_threads(threads)
    size, _, tile = case.partition(":")
    width, height = map(int, size.split("x"))
    generator = torch.Generator().manual_seed(0)
    content = torch.rand(1, 3, height, width, generator=generator)
    style = torch.rand(1, 3, 512, 512, generator=generator)
    started = [0.0]

    def take_turns(state: nst.RunState) -> None:
        if state.step > 1:  # the first evaluates twice, and prepares kernels
            print(time.perf_counter() - started[0], flush=True)
        else:
            print("ready", flush=True)
        if not sys.stdin.readline():
            state.stop("enough")
        started[0] = time.perf_counter()

    transfer = nst.StyleTransfer(
        nst.FeatureExtractor(),
        size=None,
        num_scales=1,
        num_steps=1000,
        tile=int(tile) if tile else None,
        device="cpu",
    )
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    base = megabytes("VmRSS")
    transfer.run(content, style, callbacks=[take_turns])
    print(megabytes("VmHWM") - base, flush=True)


def start(checkout: Path, case: str, threads: int) -> subprocess.Popen[str]:
    """Start a process with the library of a checkout."""
    paths = os.pathsep.join([str(checkout.resolve() / "src"), str(Path(__file__).parent)])
    command = [sys.executable, __file__, "--work", case, "--threads", str(threads), "-", "-"]
    pipe = subprocess.PIPE
    env = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True)


def read(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise SystemExit("a process has ended; see above")
    return line


def compare(checkouts: list[Path], case: str, steps: int, threads: int) -> None:
    """Print what a step takes with both checkouts."""
    processes = []
    for checkout in checkouts:  # one after another: together they would wait for each other
        processes.append(start(checkout, case, threads))
        read(processes[-1])
    rounds = []
    for _ in range(steps):
        seconds = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("step\n")
            process.stdin.flush()
            seconds.append(float(read(process)))
        rounds.append(seconds)
    memory = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()  # by which it ends
        memory.append(float(read(process)))
        process.wait()
    old, new = (statistics.median(each) for each in zip(*rounds, strict=True))
    ratios = [b / a for a, b in rounds]
    print(
        f"{case:14} {old:7.3f} s -> {new:7.3f} s, ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}); {memory[0]:6.0f} MB -> {memory[1]:6.0f} MB, "
        f"ratio {memory[1] / memory[0]:.3f}",
        flush=True,
    )


def main() -> None:
    """Compare two checkouts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs=2, type=Path, metavar=("OLD", "NEW"))
    parser.add_argument("--case", action="append", dest="cases")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.threads)
        return
    print(f"{describe_machine()}, {arguments.threads} threads", flush=True)
    for case in arguments.cases or _CASES:
        compare(arguments.checkouts, case, arguments.steps, arguments.threads)


if __name__ == "__main__":
    main()
