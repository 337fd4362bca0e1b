"""One picture on several processes: which rows each one has, and what it sends to its neighbors.

Before each block of the network, a process receives the rows beyond its own that the block reads;
in the backward pass it sends the gradient of such rows back. Sums over the picture are added up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nst._network.stage import Strip
from nst._utils.group import Group

__all__ = ["Share"]

# Bands begin at multiples of this many rows of the picture. Then the bands of every block begin at
# multiples of four, like the tiles of Winograd's method, so convolutions round as in one process;
# otherwise rounding would flip ReLUs.
_GRID = 64


class Share:
    """The rows of a picture that one process evaluates; all of them, if it is alone.

    Args:
        group: The processes that share the picture.
        edges: The first row of each process, and the number of rows.
    """

    def __init__(self, group: Group, edges: Sequence[int]) -> None:
        self.group, self._edges = group, tuple(edges)

    @classmethod
    def of_all(cls, height: int) -> Share:
        """Return the share of a process that has a picture to itself."""
        return cls(Group(), (0, height))

    @classmethod
    def of_group(cls, group: Group, height: int) -> Share:
        """Return this process's share; all rows, if they are too few for all processes."""
        cells = height // _GRID
        if group.size == 1 or cells < group.size:
            return cls.of_all(height)
        return cls(group, [*(_GRID * (cells * i // group.size) for i in range(group.size)), height])

    @property
    def height(self) -> int:
        """How many rows the picture has."""
        return self._edges[-1]

    @property
    def first(self) -> int:
        """The first row of this process."""
        return self._edges[self.group.rank]

    @property
    def last(self) -> int:
        """The row after the last of this process."""
        return self._edges[self.group.rank + 1]

    @property
    def divided(self) -> bool:
        """Whether others have rows as well."""
        return self.group.size > 1

    def at(self, height: int) -> Share:
        """Return the share of a picture that was halved until it had so many rows."""
        share = self
        while share.height > height:
            share = Share(share.group, [edge // 2 for edge in share._edges])
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
        wanted = [(0, self.height)] + [(0, self.height if for_all else 0)] * (self.group.size - 1)
        found = self._fetch(rows.movedim(-2, 0), wanted, kind)
        return found.movedim(0, -2).contiguous() if len(found) == self.height else rows

    def room(self, reach: int, like: Tensor, width: int, channels: int) -> Strip:
        """Return memory for this process's rows and those around them.

        Args:
            reach: How many more rows above and below.
            like: Has the batch, the device and the type.
            width: Of the picture.
            channels: Of the picture.
        """
        first, last = self._wider(reach)[self.group.rank]
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
            if rank == self.group.rank:
                continue
            given = max(start, strip.first), min(stop, strip.last)
            if given[0] < given[1]:
                outgoing[rank] = strip.part(*given)
            taken = max(self.first, start - reach), min(self.last, stop + reach)
            if taken[0] < taken[1]:
                n, _, width, channels = total.shape
                incoming[rank] = total.new_empty(n, taken[1] - taken[0], width, channels)
        self.group.exchange(outgoing, incoming, "halos")
        for rank, (start, _) in enumerate(self._bands()):
            if rank in incoming:
                at = max(self.first, start - reach) - self.first
                total[:, at : at + incoming[rank].shape[1]] += incoming[rank]
        return Strip(total, self.first, self.height)

    def add_up(self, tensors: Sequence[Tensor], kind: str = "scalars") -> list[Tensor]:
        """Return the sums over all processes of what was computed of each one's rows."""
        return self.group.add_up(tensors, kind)

    def mean(self, rows: Tensor) -> Tensor:
        """Return the mean over all processes of what each has of a picture."""
        if not self.divided:
            return rows.mean()
        total, count = self.add_up([rows.sum(), rows.new_tensor(rows.numel())])
        return total / count

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
        me, outgoing, incoming = self.group.rank, {}, {}
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
        self.group.exchange(outgoing, incoming, kind)
        return found
