"""The device to compute on: its arithmetic, its free memory, and the reuse of memory.

Every step allocates features of tens of megabytes. glibc returns such blocks to the system, and
mapping them again takes a seventh of a step's time at 512 pixels. For larger pictures, unused
blocks between used ones took a sixth of the memory, so there the process reuses fewer blocks.
"""

import ctypes
import math
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

# Parts of PyTorch's messages for which it has no error class. A library that cannot allocate its
# workspace, or that finds no algorithm with one that fits, does not speak of memory.
_MESSAGES = (
    "DefaultCPUAllocator",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# In version 1 and 2, a control group's files for the limit and the used memory, and the entry of
# `memory.stat` for cached files, which count as used but can be dropped.
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = ("memory.max", "memory.current", "inactive_file")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
# The size from which a block is returned to the system, and the most unused memory: for small
# pictures, and otherwise, which are glibc's own values in a process that uses large blocks.
_SMALL, _OTHERWISE = (65 * 2**20, 2**29), (2**25, 2**26)
_MOST_PIXELS = 2**18  # of a small picture: VGG's first block takes 256 bytes per pixel
_lock = threading.Lock()
_users: list[tuple[int, int]] = []
_before: dict[str, list[Any]] = {}


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of a `device` argument if it is usable; `"auto"` is CUDA, MPS or CPU."""
    if not isinstance(device, (str, torch.device)):
        raise TypeError(f"`device` is {device!r}; pass 'auto', 'cpu', 'cuda' or a torch.device.")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, dtype=torch.uint8, device=resolved)  # the machine may lack a known device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"`device` is {str(device)!r}, which cannot be used here "
            f"({str(error).splitlines()[0]}). Use 'auto' or 'cpu'."
        ) from error
    return resolved


def moved(name: str, module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module on a device; raise `TypeError` for float64 on MPS, which lacks it."""
    if device.type == "mps" and any(p.dtype == torch.float64 for p in module.parameters()):
        raise TypeError(
            f"`{name}` is in float64, which MPS does not support. Convert it with .float(), or use "
            "device='cpu'."
        )
    return module.to(device)


@contextmanager
def plain_arithmetic(*, gradients: bool | None = True) -> Iterator[None]:
    """Turn off the caller's autocast and inference mode; if None, record gradients as before."""
    recorded = torch.is_grad_enabled() if gradients is None else gradients
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(recorded))
        for kind in ("cpu", "cuda", "mps"):
            # PyTorch 2.4 has no autocast on MPS, and raises an error for it.
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's global generators, from which custom losses may draw."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the states of torch's global generators."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def generators_restored(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators at the end of the block."""
    with ExitStack() as stack:
        stack.enter_context(restored("generator", torch.get_rng_state, torch.set_rng_state))
        if device.type == "cuda":
            read = partial(torch.cuda.get_rng_state, device)
            write = partial(torch.cuda.set_rng_state, device=device)
            stack.enter_context(restored(f"generator of {device}", read, write))
        yield


@contextmanager
def restored(name: str, read: Callable[[], T], write: Callable[[T], object]) -> Iterator[None]:
    """Restore a setting of the process; of several threads, the last one, as the first found it."""
    with _lock:
        _before.setdefault(name, []).append(read())
    try:
        yield
    finally:
        with _lock:
            found = _before[name].pop()
            if not _before[name]:
                write(found)


def at_least_single(tensor: Tensor) -> Tensor:
    """Return half precision as float32, in which sums neither overflow nor lose small parts."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def replace_inference_tensors(module: nn.Module) -> None:
    """Replace parameters and buffers made in inference mode, which autograd refuses, by copies."""
    with torch.inference_mode(False):
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None and parameter.is_inference():
                    copy = parameter.detach().clone()
                    part._parameters[name] = nn.Parameter(copy, parameter.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None and buffer.is_inference():
                    part._buffers[name] = buffer.clone()


def is_exhausted(error: BaseException) -> bool:
    """Return whether an error is PyTorch's for too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(each in str(error) for each in _MESSAGES)
    )


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes of a device, or those this process may use; None if unknown."""
    if device.type in ("cuda", "xpu"):
        backend = torch.get_device_module(device)
        # PyTorch's reserve is allocated but free.
        in_reserve = int(backend.memory_reserved(device) - backend.memory_allocated(device))
        try:
            return int(backend.mem_get_info(device)[0]) + in_reserve
        except (AttributeError, RuntimeError):  # of an older PyTorch, or a driver without a count
            return None
    limits = [_available(), *_left_in_groups(), _left_to_process()]
    if device.type == "mps":  # which shares the memory of the processor
        limits.append(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return min((each for each in limits if each is not None), default=None)


def _available() -> int | None:
    try:
        if sys.platform == "darwin":
            report = subprocess.run(
                ["/usr/bin/vm_stat"], capture_output=True, text=True, check=True
            )
            return _available_on_macos(report.stdout)
        return _numbers(Path("/proc/meminfo"))["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError, subprocess.SubprocessError):  # or not Linux
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows
        return None


def _available_on_macos(report: str) -> int:
    """Return the free bytes in what `vm_stat` prints, with those that caches would give up."""
    pages = dict(re.findall(r"^Pages ([a-z]+): +([0-9]+)\.$", report, re.MULTILINE))
    size = re.search(r"page size of ([0-9]+) bytes", report)
    if size is None:
        raise ValueError("`vm_stat` has another format; the page size is needed.")
    return int(size[1]) * sum(int(pages[kind]) for kind in ("free", "inactive", "speculative"))


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers in a file of lines such as "MemAvailable: 1024 kB", by name."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {name.removesuffix(":"): int(number) for name, number, *_ in lines}


def _left_in_groups() -> list[int | None]:
    """Return the bytes that each control group of the process leaves, such as a container's."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            top, names = (_GROUPS / "memory", _FIRST) if controllers else (_GROUPS, _SECOND)
            group = top / path.lstrip("/")
            parents = (each for each in group.parents if each.is_relative_to(top))
            left += [_left_in_group(each, *names) for each in (group, *parents)]
    return left


def _left_in_group(group: Path, limit_file: str, used_file: str, cached_entry: str) -> int | None:
    try:
        limit = (group / limit_file).read_text().strip()
        used = int((group / used_file).read_text())
        cached = _numbers(group / "memory.stat").get(cached_entry, 0)
    except OSError:
        return None
    return int(limit) - used + cached if limit.isdigit() else None


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


@contextmanager
def blocks_kept(pixels: int) -> Iterator[None]:
    """Let the steps of a picture reuse memory; do nothing without glibc or if the user set it."""
    libc, setting = _glibc(), _SMALL if pixels <= _MOST_PIXELS else _OTHERWISE
    if libc is None:
        yield
        return
    with _lock:
        _users.append(setting)
        _set_thresholds(libc)
    try:
        yield
    finally:
        with _lock:
            _users.remove(setting)
            _set_thresholds(libc)


def _set_thresholds(libc: ctypes.CDLL) -> None:
    """Set the thresholds for all users, as threads share the memory."""
    mmap_threshold, trim_threshold = max(_users, default=_OTHERWISE)
    # Before 2.35, glibc refuses more than half of a heap.
    if not libc.mallopt(_MMAP_THRESHOLD, mmap_threshold):
        libc.mallopt(_MMAP_THRESHOLD, _OTHERWISE[0])
    libc.mallopt(_TRIM_THRESHOLD, trim_threshold)
    if not _users:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    available = platform.libc_ver()[0] == "glibc" and not set_by_user
    return ctypes.CDLL("libc.so.6") if available else None


class Scratch(threading.local):
    """Named buffers that grow as needed, as making fresh pages takes as long as computing them."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return an uninitialized CPU tensor; the same name returns the same memory."""
        size, key = math.prod(shape), (name, like.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            # Outside of inference mode, a tensor made within it could not be written.
            with torch.inference_mode(False):
                buffer = self._buffers[key] = torch.empty(size, dtype=like.dtype, device="cpu")
        return buffer[:size].view(*shape)


scratch = Scratch()
