"""One picture on several processes: who has which rows, and all that they tell each other.

The only module that talks to `torch.distributed`. Every process has a band of the picture's rows.
Before each block of the network it is sent the rows beyond its band that the block looks at; on
the backward pass, it sends the gradient for rows beyond to whom they belong. What is a sum over the
picture is added up over the processes, so that all decide alike.
"""

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

from nst._network.stage import Strip

__all__ = ["ProcessLost", "Ranks", "Share", "launched", "process_group"]

# Bands begin at multiples of so many rows of the picture. Then every block's begin at multiples of
# four, as Winograd's method does: convolutions are computed as in one process, and rounding decides
# no ReLU otherwise.
_GRID = 64
# How long a process waits for another. One that has ended is noticed at once; this is for a machine
# that has lost its network.
_TIMEOUT = timedelta(minutes=10)


class ProcessLost(RuntimeError):
    """Another process does not answer any more."""


class Ranks:
    """The processes that work on one picture; `Ranks.found()` returns those there are."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.sent: dict[str, int] = {}
        """Bytes that this process handed over, by what they were."""
        self.interrupted = False
        """Whether there was a Ctrl-C while `holding_interrupts`."""

    @classmethod
    def found(cls) -> Ranks:
        """Return the processes of torch's default group; this one alone if there is none."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process has the callbacks, and the say."""
        return self.rank == 0

    def share(self, height: int) -> Share:
        """Return this process's rows of a picture.

        Args:
            height: Of the picture. If it is too small for all, the first process has all of it.
        """
        cells = height // _GRID
        if self.size == 1 or cells < self.size:
            return Share(Ranks(), (0, height), waits=not self.leads)
        edges = [_GRID * (cells * rank // self.size) for rank in range(self.size)]
        return Share(self, (*edges, height))

    def agree(self, message: Any) -> Any:
        """Return the first process's message; what the others pass does not matter."""
        return self._broadcast(message) if self.size > 1 else message

    @contextmanager
    def holding_interrupts(self) -> Iterator[None]:
        """Take note of Ctrl-C, which no process may heed before the others know."""
        if self.size == 1 or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(*_: object) -> None:
            self.interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _broadcast(self, message: object) -> Any:
        box = [message]
        with self._in_touch():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def add_up(self, tensors: Sequence[Tensor], kind: str) -> list[Tensor]:
        """Return the sums of tensors over all processes, in one message."""
        if self.size == 1 or not tensors:
            return list(tensors)
        together = torch.cat([each.flatten() for each in tensors])
        self._count(kind, together)
        with self._in_touch():
            dist.all_reduce(together)
        parts = torch.split(together, [each.numel() for each in tensors])
        return [
            part.view(each.shape).to(each.dtype) for each, part in zip(tensors, parts, strict=True)
        ]

    def of_first(self, values: Tensor) -> Tensor:
        """Return the first process's values."""
        if self.size > 1:
            values = values.contiguous()
            self._count("scalars", values)
            with self._in_touch():
                dist.broadcast(values, src=0)
        return values

    def exchange(
        self, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor], kind: str
    ) -> None:
        """Send tensors to other processes, and receive some from others.

        Args:
            outgoing: By rank.
            incoming: By rank: memory for what will come.
            kind: What it is counted as.
        """
        self._count(kind, *outgoing.values())
        received = {rank: each.contiguous() for rank, each in incoming.items()}
        sends = [dist.P2POp(dist.isend, x.contiguous(), r) for r, x in outgoing.items()]
        receipts = [dist.P2POp(dist.irecv, x, r) for r, x in received.items()]
        if not sends and not receipts:
            return
        with self._in_touch({*outgoing, *incoming}):
            for work in dist.batch_isend_irecv([*sends, *receipts]):
                work.wait()
        for rank, each in received.items():
            if each is not incoming[rank]:
                incoming[rank].copy_(each)

    def _count(self, kind: str, *tensors: Tensor) -> None:
        self.sent[kind] = self.sent.get(kind, 0) + sum(each.nbytes for each in tensors)

    @contextmanager
    def _in_touch(self, others: set[int] | None = None) -> Iterator[None]:
        """Say in words that another process does not answer any more."""
        try:
            yield
        except RuntimeError as error:
            others = set(range(self.size)) - {self.rank} if others is None else others
            who = " or ".join(map(str, sorted(others)))
            raise ProcessLost(
                f"Process {self.rank} of {self.size} gets no answer from process {who}: it has "
                "ended, or its machine cannot be reached. A checkpoint written before is good; "
                "StyleTransfer.resume goes on from there, with any number of processes."
            ) from error


class Share:
    """The rows of a picture that one process works on; all of them, if it is alone.

    Args:
        ranks: Who shares the picture.
        edges: The first row of each process, and the number of rows.
        waits: Whether another process does the work.
    """

    def __init__(self, ranks: Ranks, edges: Sequence[int], *, waits: bool = False) -> None:
        self.ranks, self._edges, self.waits = ranks, tuple(edges), waits

    @classmethod
    def of_all(cls, height: int) -> Share:
        """Return the share of a process that has a picture to itself."""
        return cls(Ranks(), (0, height))

    @property
    def height(self) -> int:
        """How many rows the picture has."""
        return self._edges[-1]

    @property
    def first(self) -> int:
        """The first row of this process."""
        return self._edges[self.ranks.rank]

    @property
    def last(self) -> int:
        """The row after the last of this process."""
        return self._edges[self.ranks.rank + 1]

    @property
    def divided(self) -> bool:
        """Whether others have rows as well."""
        return self.ranks.size > 1

    def at(self, height: int) -> Share:
        """Return the share of a picture that was halved until it had so many rows."""
        share = self
        while share.height > height:
            share = Share(share.ranks, [edge // 2 for edge in share._edges])
        return share

    def own(self, picture: Tensor) -> Tensor:
        """Return this process's rows of a picture `(..., H, W)`."""
        return picture[..., self.first : self.last, :]

    def whole(self, rows: Tensor, kind: str = "pictures", *, for_all: bool = True) -> Tensor:
        """Return the picture from every process's rows.

        Args:
            rows: Of this process, `(..., h, W)`.
            kind: What it is counted as.
            for_all: Else only the first process needs the picture; others return their rows.
        """
        if not self.divided:
            return rows
        wanted = [(0, self.height)] + [(0, self.height if for_all else 0)] * (self.ranks.size - 1)
        found = self._fetch(rows.movedim(-2, 0), wanted, kind)
        return found.movedim(0, -2).contiguous() if len(found) == self.height else rows

    def around(self, rows: Tensor, reach: int) -> tuple[Tensor, slice]:
        """Return a picture's rows with those around them, and where among these they are.

        Args:
            rows: Of this process, `(..., h, W)`.
            reach: How many more above and below.
        """
        if not self.divided:
            return rows, slice(None)
        wider = self._fetch(rows.movedim(-2, 0), self._wider(reach), "halos")
        above = min(reach, self.first)
        return wider.movedim(0, -2), slice(above, above + self.last - self.first)

    def room(self, reach: int, like: Tensor, width: int, channels: int) -> Strip:
        """Return memory for this process's rows and those around them.

        Args:
            reach: How many more rows above and below.
            like: Has the batch, the device and the type.
            width: Of the picture.
            channels: Of the picture.
        """
        first, last = self._wider(reach)[self.ranks.rank]
        return Strip(like.new_empty(len(like), last - first, width, channels), first, self.height)

    def fill(self, strip: Strip, reach: int) -> None:
        """Get the rows around this process's own, which are there already.

        Args:
            strip: Memory as from `room`.
            reach: As in `room`.
        """
        if self.divided:
            rows = strip.part(self.first, self.last).movedim(1, 0)
            self._fetch(rows, self._wider(reach), "halos", strip.rows.movedim(1, 0))

    def folded(self, strip: Strip) -> Strip:
        """Return the gradient for this process's rows, with what others found for them.

        Args:
            strip: A gradient for rows of which the first and the last may belong to others.
        """
        if not self.divided:
            return strip
        reach = max(strip.last - self.last, self.first - strip.first)
        total = strip.part(self.first, self.last)
        # All reach equally far, but for the picture's borders.
        outgoing, incoming = {}, {}
        for rank, (start, stop) in enumerate(self._bands()):
            if rank == self.ranks.rank:
                continue
            given = max(start, strip.first), min(stop, strip.last)
            if given[0] < given[1]:
                outgoing[rank] = strip.part(*given)
            taken = max(self.first, start - reach), min(self.last, stop + reach)
            if taken[0] < taken[1]:
                n, _, width, channels = total.shape
                incoming[rank] = total.new_empty(n, taken[1] - taken[0], width, channels)
        self.ranks.exchange(outgoing, incoming, "halos")
        for rank, (start, _) in enumerate(self._bands()):
            if rank in incoming:
                at = max(self.first, start - reach) - self.first
                total[:, at : at + incoming[rank].shape[1]] += incoming[rank]
        return Strip(total, self.first, self.height)

    def add_up(self, tensors: Sequence[Tensor], kind: str = "scalars") -> list[Tensor]:
        """Return the sums over all processes of what was computed of each one's rows."""
        return self.ranks.add_up(tensors, kind)

    def mean(self, rows: Tensor) -> Tensor:
        """Return the mean over all processes of what each has of a picture."""
        if not self.divided:
            return rows.mean()
        total, count = self.add_up([rows.sum(), rows.new_tensor(rows.numel())])
        return total / count

    def largest(self, values: Tensor) -> Tensor:
        """Return the largest of values of which every process has some."""
        own = values.new_zeros(self.ranks.size)  # a place for each process
        own[self.ranks.rank] = values.max()
        return self.add_up([own])[0].max()

    def any(self, condition: Tensor) -> bool:
        """Tell whether a condition holds in any process."""
        if not self.divided:
            return bool(condition)
        (count,) = self.add_up([condition.to(torch.float32)])
        return bool(count > 0)

    def _bands(self) -> list[tuple[int, int]]:
        return list(zip(self._edges[:-1], self._edges[1:], strict=True))

    def _wider(self, reach: int) -> list[tuple[int, int]]:
        return [(max(a - reach, 0), min(b + reach, self.height)) for a, b in self._bands()]

    def _fetch(
        self,
        rows: Tensor,
        wanted: Sequence[tuple[int, int]],
        kind: str,
        found: Tensor | None = None,
    ) -> Tensor:
        """Return the rows that this process wants; the rows come first in the shape.

        Args:
            rows: Of this process.
            wanted: The first row and the one after the last that each process wants.
            kind: What is counted.
            found: Memory for them, with this process's own in place.
        """
        me, outgoing, incoming = self.ranks.rank, {}, {}
        start, stop = wanted[me]
        if found is None:
            found = rows.new_empty(stop - start, *rows.shape[1:])
            a, b = max(start, self.first), min(stop, self.last)
            if a < b:
                found[a - start : b - start] = rows[a - self.first : b - self.first]
        for rank, band in enumerate(self._bands()):
            if rank == me:
                continue
            a, b = max(wanted[rank][0], self.first), min(wanted[rank][1], self.last)
            if a < b:
                outgoing[rank] = rows[a - self.first : b - self.first]
            a, b = max(start, band[0]), min(stop, band[1])
            if a < b:
                incoming[rank] = found[a - start : b - start]
        self.ranks.exchange(outgoing, incoming, kind)
        return found


def launched() -> bool:
    """Tell whether `torchrun` has started this process as one of several."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return several and dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Bring the processes together that `torchrun` has started; with GPUs, each takes its own."""
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield Ranks.found()
    finally:
        dist.destroy_process_group()
