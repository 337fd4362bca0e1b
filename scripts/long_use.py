"""Make many short runs in one process, and see that nothing is left behind.

python scripts/long_use.py [RUNS]

Prints memory, objects, open files and hooks as it goes on; Linux only. The exit status is not 0 if
the memory of the second half has grown by more than 10 MB, or anything else has.
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

ALLOWED = 10_000_000


def state(network: torch.nn.Module) -> tuple[int, int, int, int]:
    """Return the bytes in memory; objects, open files and hooks."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
    files = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects()), files, hooks


def main(runs: int = 1000) -> int:
    """Run, save, capture and load in turns."""
    torch.set_num_threads(1)
    transfer = StyleTransfer(tiny_extractor(), num_steps=3, num_scales=2)
    photo, painting = torch.rand(1, 3, 32, 40), torch.rand(1, 3, 36, 28)
    seen = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_image(photo, folder / "photo.png")
        style = transfer.capture(painting, sizes=[20, 40])
        for i in range(1, runs + 1):
            result = transfer.run(
                folder / "photo.png",
                style if i % 2 else painting,
                preserve_color="luminance" if i % 3 else None,
            )
            result.save(folder / "made.png")
            if i % max(1, runs // 10) == 0:
                seen.append(state(transfer.extractor))
                memory, objects, files, hooks = seen[-1]
                sys.stdout.write(
                    f"{i} runs: {memory / 1e6:.1f} MB, {objects} objects, {files} files, "
                    f"{hooks} hooks\n"
                )
    middle, last = seen[len(seen) // 2], seen[-1]
    grown = last[0] - middle[0] > ALLOWED or last[1] - middle[1] > 100
    return int(grown or last[2:] != middle[2:])


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
