"""The processes that work on one picture: the only module that uses `torch.distributed`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Until a machine without network is given up; a process that has ended is noticed at once.
_TIMEOUT = timedelta(minutes=10)
# Each process's first row is a multiple of this number. In every block it is then a multiple of
# four, as for Winograd's tiles, so rounding changes no ReLU.
_GRID = 64


class ProcessLost(RuntimeError):
    """Another process does not answer."""


class Group:
    """The processes of torch's default group; rank 0 runs the optimizer and the callbacks."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.sent: dict[str, int] = {}  # bytes by kind

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

    def leave(self) -> None:
        """Close the connections, so that processes that wait for this one fail as well."""
        self.size = 1
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()

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
            who = " or ".join(map(str, sorted(others or set(range(self.size)) - {self.rank})))
            raise ProcessLost(
                f"Process {self.rank} of {self.size} gets no answer from process {who}: it has "
                "ended, or its machine cannot be reached. Earlier checkpoints are intact; resume "
                "from one with StyleTransfer.resume and any number of processes."
            ) from error


def launched() -> bool:
    """Return whether `torchrun` has started this process as one of several."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return several and dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def process_group() -> Iterator[Group]:
    """Connect the processes that `torchrun` has started; with GPUs, each uses its own."""
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    group = Group.current()
    try:
        yield group
    finally:
        group.leave()
