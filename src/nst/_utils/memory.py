"""How much memory there is, and whether it was too little."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["free_memory", "is_exhausted"]

# What PyTorch says where it has no error of its own for that: on CPUs, and on MPS.
_SAID = ("DefaultCPUAllocator", "MPS backend out of memory")

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


class _Names(NamedTuple):
    """What the files of a control group are called, in one of the two versions."""

    limit: str
    used: str
    cached: str
    """What of the used memory are files that can be read again, in `memory.stat`."""


_FIRST = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = _Names("memory.max", "memory.current", "inactive_file")


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error is PyTorch's that there was too little memory.

    Args:
        error: Any.
    """
    own = isinstance(error, torch.OutOfMemoryError)
    return own or (isinstance(error, RuntimeError) and any(each in str(error) for each in _SAID))


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes can be taken; None if that cannot be known.

    Args:
        device: A CUDA device; for any other, the machine's own memory counts, and the limits of
            the process and of the control group that it is in.
    """
    if device.type == "cuda":
        # What PyTorch holds in reserve is taken, but free all the same.
        in_reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + in_reserve
    known = [
        each for each in (_available(), _left_in_groups(), _left_to_process()) if each is not None
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


def _left_in_groups() -> int | None:
    """Return what the process's control groups leave, as containers have them."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (_GROUPS / "memory", _FIRST) if controllers else (_GROUPS, _SECOND)
        group = top / path.lstrip("/")
        # The limits of all groups that this one is within count.
        within = [each for each in (group, *group.parents) if each.is_relative_to(top)]
        left += [_left_in_group(each, names) for each in within]
    return min((each for each in left if each is not None), default=None)


def _left_in_group(group: Path, names: _Names) -> int | None:
    try:
        limit = (group / names.limit).read_text().strip()
        used = int((group / names.used).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    cached = dict(line.split() for line in lines).get(names.cached, 0)
    return int(limit) - used + int(cached) if limit.isdigit() else None


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
