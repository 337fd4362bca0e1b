"""How much memory there is, and whether it was too little."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

__all__ = ["free_memory", "is_exhausted"]

# What PyTorch says on CPUs, where it has no error of its own for that.
_SAID = "can't allocate memory"


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error is PyTorch's that there was too little memory.

    Args:
        error: Any.
    """
    own = isinstance(error, torch.OutOfMemoryError)
    return own or (isinstance(error, RuntimeError) and _SAID in str(error))


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes can be taken; None if that cannot be known.

    Args:
        device: A CUDA device; for any other, the machine's own memory counts, and the limits of
            the process and of the control group that it is in.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [
        each for each in (_available(), _left_in_group(), _left_to_process()) if each is not None
    ]
    return min(known, default=None)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_group() -> int | None:
    """Return what a control group (version 2) leaves, as containers have it."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None


def _left_to_process() -> int | None:
    """Return what the limit of the process's addresses leaves (`ulimit -v`)."""
    if sys.platform != "linux":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return max(0, limit - pages * resource.getpagesize())
