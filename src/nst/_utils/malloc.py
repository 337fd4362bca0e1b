"""Large blocks of memory stay with the process while pictures are painted.

The features of a step are blocks of tens of megabytes, and every step needs them anew. glibc gives
such blocks back to the system after use, which then has to make their pages again: a seventh of a
step's time at 512 pixels. The blocks of larger pictures are left to the system: to keep them too
would take a quarter more memory.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

__all__ = ["large_blocks_kept"]

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# From which size on a block is the system's, and how much unused memory is kept: while pictures are
# painted, and what glibc itself comes to in a process that uses large blocks.
_PAINTING, _OTHERWISE = (65 * 2**20, 2**29), (2**25, 2**26)
# The largest picture that is painted like that: VGG's first block takes 256 bytes for each pixel.
_MOST_PIXELS = 2**18
_lock = threading.Lock()
_users = 0


@contextmanager
def large_blocks_kept(pixels: int) -> Iterator[None]:
    """Keep blocks of up to 65 MB in the process; in the end, all unused memory is given back.

    Does nothing where memory is not glibc's, or the user has set how it is to be kept.

    Args:
        pixels: How many the picture has; nothing is done for a large one.
    """
    libc = _glibc()
    if libc is None or pixels > _MOST_PIXELS:
        yield
        return
    _count(libc, 1)
    try:
        yield
    finally:
        _count(libc, -1)


def _count(libc: ctypes.CDLL, more: int) -> None:
    """Count those who want it; threads share the memory."""
    global _users
    with _lock:
        before, _users = _users, _users + more
        if bool(before) == bool(_users):
            return
        mmap_threshold, trim_threshold = _PAINTING if _users else _OTHERWISE
        # Before 2.35, glibc refuses more than half of a heap; what follows sets the rest for good.
        if not libc.mallopt(_MMAP_THRESHOLD, mmap_threshold):
            libc.mallopt(_MMAP_THRESHOLD, _OTHERWISE[0])
        libc.mallopt(_TRIM_THRESHOLD, trim_threshold)
        if not _users:
            libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if platform.libc_ver()[0] != "glibc" or set_by_user:
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None
