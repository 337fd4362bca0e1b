"""The processes that work on one picture: the only module that uses `torch.distributed`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# How long to wait for a machine that cannot be reached. A process that ended is noticed at once.
_TIMEOUT = timedelta(minutes=10)
# Each process's first row is a multiple of this number. In every block it is then a multiple of
# four, as for Winograd's tiles, so rounding changes no ReLU.
_GRID = 64
# Key of the store under which a process that fails leaves the reason for the others.
_FAILURE = "nst failure"


class ProcessLost(RuntimeError):
    """Another process has failed or does not answer."""


@dataclass(eq=False)
class Group:
    """The processes of torch's default group; rank 0 runs the optimizer and the callbacks."""

    rank: int = 0
    size: int = 1
    sent: dict[str, int] = field(default_factory=dict, init=False)
    """Number of bytes sent, by kind."""

    @classmethod
    def current(cls) -> Group:
        """Return the processes of torch's default group; this one alone if there is none."""
        initialized = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if initialized else cls()

    def divides(self, height: int) -> bool:
        """Return whether there are several processes, and rows for each of them."""
        return 1 < self.size <= height // _GRID

    def edges(self, height: int) -> list[int]:
        """Return the first row of each process, and the number of rows of the picture."""
        cells = height // _GRID
        return [*(_GRID * (cells * rank // self.size) for rank in range(self.size)), height]

    def broadcast_object(self, value: Any) -> Any:
        """Return the first process's value; the others' values are ignored."""
        box = [value]
        if self.size > 1:
            with self._naming_the_lost():
                dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the values of all processes."""
        values = [value] * self.size
        if self.size > 1:
            with self._naming_the_lost():
                dist.all_gather_object(values, value)
        return values

    def broadcast(self, values: Tensor, kind: str = "scalars") -> Tensor:
        """Return the first process's tensor; the others pass one of the same shape."""
        if self.size > 1:
            values = values.contiguous()
            if self.rank == 0:
                self._count(kind, values)
            with self._naming_the_lost():
                dist.broadcast(values, src=0)
        return values

    def add_up(self, tensors: Sequence[Tensor], kind: str = "scalars") -> list[Tensor]:
        """Return the sums of tensors over all processes, with one message."""
        if self.size == 1 or not tensors:
            return list(tensors)
        together = torch.cat([each.flatten() for each in tensors])
        self._count(kind, together)
        with self._naming_the_lost():
            dist.all_reduce(together)
        parts = torch.split(together, [each.numel() for each in tensors])
        pairs = zip(parts, tensors, strict=True)
        return [part.view(each.shape).to(each.dtype) for part, each in pairs]

    def exchange(self, outgoing: dict[int, Tensor], incoming: dict[int, Tensor], kind: str) -> None:
        """Send tensors to other processes, by rank, and receive others into existing memory."""
        self._count(kind, *outgoing.values())
        received = {rank: each.contiguous() for rank, each in incoming.items()}
        messages = [dist.P2POp(dist.isend, x.contiguous(), r) for r, x in outgoing.items()]
        messages += [dist.P2POp(dist.irecv, x, r) for r, x in received.items()]
        if not messages:
            return
        with self._naming_the_lost({*outgoing, *incoming}):
            for work in dist.batch_isend_irecv(messages):
                work.wait()
        for rank, each in received.items():
            if each is not incoming[rank]:
                incoming[rank].copy_(each)

    def leave(self, error: BaseException | None = None) -> None:
        """Close the connections, so that processes that wait for this one fail as well.

        They report the error as the reason, unless it is that another process has failed.
        """
        if dist.is_available() and dist.is_initialized():
            if error is not None and not isinstance(error, ProcessLost):
                reason = f"{self.rank} of {self.size} has failed: {type(error).__name__}: {error}"
                with suppress(Exception):  # the process with the store may have ended
                    dist.distributed_c10d._get_default_store().set(_FAILURE, f"Process {reason}")
            dist.destroy_process_group()
        self.size = 1

    @contextmanager
    def interrupts_deferred(self, *, ignored: bool = False) -> Iterator[None]:
        """Delay Ctrl-C until the end of the block, or ignore it, as other processes wait."""
        if self.size == 1 or threading.current_thread() is not threading.main_thread():
            yield
            return
        interrupted = []
        before = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            if interrupted and not ignored:
                signal.raise_signal(signal.SIGINT)

    def _count(self, kind: str, *tensors: Tensor) -> None:
        self.sent[kind] = self.sent.get(kind, 0) + sum(each.nbytes for each in tensors)

    @contextmanager
    def _naming_the_lost(self, others: set[int] | None = None) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not _is_lost(error):
                raise
            who = " or ".join(map(str, sorted(others or set(range(self.size)) - {self.rank})))
            raise ProcessLost(
                _reported_failure()
                or f"Process {self.rank} of {self.size} gets no answer from process {who}: it has "
                "ended, or its machine cannot be reached. Earlier checkpoints are intact; resume "
                "from one with StyleTransfer.resume and any number of processes."
            ) from error


def _reported_failure() -> str | None:
    """Return why another process has failed, if it has said so."""
    with suppress(Exception):  # the process with the store may have ended
        store = dist.distributed_c10d._get_default_store()
        return store.get(_FAILURE).decode() if store.check([_FAILURE]) else None
    return None


def _is_lost(error: RuntimeError) -> bool:
    """Return whether an error of `torch.distributed` means that another process does not answer."""
    words, text = ("gloo", "connection", "timed out", "timeout", "remote"), str(error).lower()
    is_lost = any(word in text for word in words) and "enforce fail" not in text
    return is_lost or isinstance(error, (dist.DistNetworkError, dist.DistStoreError))


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process: with torchrun and CUDA, the one with its local number."""
    if device.type == "cpu" or not (launched() and dist.is_initialized()):
        return device
    if device.type == "cuda" and _each_has_a_gpu():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    raise ValueError(
        f"`device` is {str(device)!r}, but each process of torchrun needs its own CUDA device, and "
        f"there are {torch.cuda.device_count()}. Use device='cpu', or fewer processes."
    )


def _each_has_a_gpu() -> bool:
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) <= torch.cuda.device_count()


def launched() -> bool:
    """Return whether `torchrun` has started this process as one of several."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return several and dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def process_group() -> Iterator[Group]:
    """Connect the processes that `torchrun` has started; with a GPU for each, it is their own."""
    backend = "gloo"
    if torch.cuda.is_available() and _each_has_a_gpu():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    group = Group.current()
    try:
        yield group
    except BaseException as error:
        group.leave(error)
        raise
    group.leave()
