"""The free memory, and errors of too little memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

__all__ = ["free_memory", "is_exhausted"]

# Parts of PyTorch's messages where it has no error class: on CPUs, and on MPS.
_MESSAGES = ("DefaultCPUAllocator", "MPS backend out of memory")

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Files of a control group, in version 1 and 2: its limit, its used memory, and the entry of
# `memory.stat` for cached files, which count as used but can be dropped.
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = ("memory.max", "memory.current", "inactive_file")


def is_exhausted(error: BaseException) -> bool:
    """Return whether an error is PyTorch's for too little memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _MESSAGES)


def free_memory(device: torch.device) -> int | None:
    """Return the number of free bytes; None if it is unknown.

    Args:
        device: A CUDA device. For any other, the machine's memory counts, and the limits of the
            process and its control groups.
    """
    if device.type == "cuda":
        # PyTorch's reserve is allocated but free.
        in_reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + in_reserve
    known = (_available(), _left_in_groups(), _left_to_process())
    return min((each for each in known if each is not None), default=None)


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
    """Return the bytes that the control groups of the process leave, such as a container's."""
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
        # The limits of all parent groups apply.
        within = [each for each in (group, *group.parents) if each.is_relative_to(top)]
        left += [_left_in_group(each, *names) for each in within]
    return min((each for each in left if each is not None), default=None)


def _left_in_group(group: Path, limit_file: str, used_file: str, cached_entry: str) -> int | None:
    try:
        limit = (group / limit_file).read_text().strip()
        used = int((group / used_file).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    cached = dict(line.split() for line in lines).get(cached_entry, 0)
    return int(limit) - used + int(cached) if limit.isdigit() else None


def _left_to_process() -> int | None:
    """Return the bytes that the limit of virtual memory leaves (`ulimit -v`)."""
    if sys.platform != "linux":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return max(0, limit - pages * resource.getpagesize())
