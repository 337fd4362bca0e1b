"""While pictures are painted, memory is not taken from the system again for every step."""

import platform

import pytest
import torch

from nst._utils import device
from nst._utils.device import blocks_kept
from tests.helpers import at_step, fail_at, paint

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or device._glibc() is None, reason="memory is not glibc's"
)


def pages_made(size: int) -> int:
    """How many pages the system makes for a block of memory that was used just before."""
    import resource

    torch.ones(size // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


LARGEST = 512 * 512
BLOCK = 40 * 2**20
PAGES = BLOCK // 4096


def test_large_blocks_are_kept_within_and_given_back_after() -> None:
    with blocks_kept(LARGEST):
        # Not every time: small blocks may be cut off from the one that was left behind.
        assert sum(pages_made(BLOCK) for _ in range(10)) < 5 * PAGES
    assert not device._users


def test_a_run_keeps_them_and_the_last_user_gives_back() -> None:
    seen: list[int] = []
    look = at_step(1, lambda state: seen.append(len(device._users)))
    with blocks_kept(LARGEST):
        with pytest.raises(ZeroDivisionError):
            paint(num_steps=3, callbacks=[look, fail_at(2, ZeroDivisionError())])
        assert seen == [2] and len(device._users) == 1
    assert not device._users


def test_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    device._glibc.cache_clear()
    try:
        assert device._glibc() is None
        with blocks_kept(LARGEST):
            assert not device._users
    finally:
        device._glibc.cache_clear()


def test_large_pictures_keep_fewer_blocks_and_an_older_glibc_is_asked_for_its_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    class Older:
        def mallopt(self, parameter: int, value: int) -> int:
            if parameter != device._MMAP_THRESHOLD:
                return 1
            asked.append(value)
            return int(value <= 2**25)

        def malloc_trim(self, padding: int) -> int:
            return 1

    monkeypatch.setattr(device, "_glibc", Older)
    with blocks_kept(LARGEST + 1):
        assert asked == [2**25]
        with blocks_kept(LARGEST):
            assert asked[-1] == 2**25
    assert asked[-1] == 2**25


def test_what_macos_reports_is_added_up() -> None:
    report = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               10.\n"
        "Pages active:                            500.\n"
        "Pages inactive:                           20.\n"
        "Pages speculative:                         3.\n"
    )
    assert device._available_on_macos(report) == 33 * 16384


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 3 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't al"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access"), False),
        (RuntimeError("shapes differ"), False),
        (MemoryError(), False),
    ],
)
def test_only_errors_of_pytorch_and_its_libraries_say_that_memory_is_exhausted(
    error: Exception, expected: bool
) -> None:
    assert device.is_exhausted(error) == expected
