"""The processes that work on one picture: the only module that uses `torch.distributed`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# How long a process waits for another. A process that has ended is noticed at once; this is for a
# machine that has lost its network.
_TIMEOUT = timedelta(minutes=10)

# Each process's rows of a picture begin at a multiple of this number. Then those of every block
# begin at a multiple of four, as Winograd's tiles do, and rounding decides no ReLU differently.
_GRID = 64


class ProcessLost(RuntimeError):
    """Another process does not answer."""


class Group:
    """The processes of torch's default group, or this process alone.

    `rank` is the number of this process. The first one, 0, runs the optimizer and the callbacks.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.sent: dict[str, int] = {}
        """Bytes that this process has sent, by kind."""

    @classmethod
    def current(cls) -> Group:
        """Return the processes of torch's default group; this one alone if there is none."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def divides(self, height: int) -> bool:
        """Return whether there are several processes, and rows of a picture for each of them."""
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
        return [
            part.view(each.shape).to(each.dtype) for each, part in zip(tensors, parts, strict=True)
        ]

    def exchange(
        self, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor], kind: str
    ) -> None:
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
        """Let Ctrl-C take effect only afterwards, or not at all, as other processes are waiting."""
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
            others = set(range(self.size)) - {self.rank} if others is None else others
            who = " or ".join(map(str, sorted(others)))
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
