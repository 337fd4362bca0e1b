"""Make many short runs in one process, and check that nothing is left behind.

python scripts/long_use.py [RUNS]

Prints memory, objects, open files, hooks and buffers ten times; Linux only. The exit status is 1 if
memory has grown by more than 10 MB since the sixth time, or anything else has.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path

import torch

from nst import StyleTransfer, save_image
from nst.testing import tiny_extractor

COUNTED = "bytes", "objects", "files", "hooks", "buffers"
MAY_GROW = 10_000_000, 100, 0, 0, 0
METHODS = None, "luminance", "histogram"


def count(network: torch.nn.Module) -> list[int]:
    """Count what a run could leave behind."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
    files = len(list(Path("/proc/self/fd").iterdir()))
    buffers = len(list(network.buffers()))
    return [pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects()), files, hooks, buffers]


def main(runs: int = 1000) -> int:
    """Run, save, capture and load in turns."""
    torch.set_num_threads(1)
    transfer = StyleTransfer(tiny_extractor(), num_steps=3, num_scales=2)
    photo, painting = torch.rand(1, 3, 32, 40), torch.rand(1, 3, 36, 28)
    counts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_image(photo, folder / "photo.png")
        for i in range(1, runs + 1):
            style = transfer.capture(painting, sizes=[20, 40]) if i % 2 else painting
            colors = METHODS[i % len(METHODS)] if i % 2 == 0 else None
            result = transfer.run(folder / "photo.png", style, preserve_color=colors)
            result.save(folder / "made.png")
            if i % max(1, runs // 10) == 0:
                counts.append(count(transfer.extractor))
                line = ", ".join(f"{n} {what}" for n, what in zip(counts[-1], COUNTED, strict=True))
                sys.stdout.write(f"{i} runs: {line}\n")
    before, after = counts[len(counts) // 2], counts[-1]
    return int(any(b - a > most for a, b, most in zip(before, after, MAY_GROW, strict=True)))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
