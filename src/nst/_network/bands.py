"""A part of a network computed a band of rows at a time, as one step of autograd.

Like `torch.utils.checkpoint`, it stores only its input and computes the rest again on the backward
pass; but band by band, so that intermediate values exist for one band at a time. A part looks at
some rows beyond those that it computes, its *halo*. They are given to it as well, and what becomes
of them is cut off: a band is a lower picture.

Several processes share a picture in the same way: each has its rows, and takes the halo from its
neighbors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst._utils.group import Group


class Rows(NamedTuple):
    """The rows of a whole picture that a tensor holds as its own, between halos."""

    first: int
    last: int
    """The row after the last."""
    height: int
    """Number of rows of the whole picture."""
    above: int = 0
    """Number of halo rows above the own ones."""

    @classmethod
    def whole(cls, picture: Tensor) -> Rows:
        """Return all rows of a picture."""
        return cls(0, picture.shape[2], picture.shape[2])

    def halved(self) -> Rows:
        """Return the same rows after pooling."""
        return Rows(self.first // 2, self.last // 2, self.height // 2, self.above // 2)

    def own(self, tensor: Tensor) -> Tensor:
        """Return the own rows of a tensor `(N, C, H, W)`, which may have no others."""
        count = self.last - self.first
        # A slice of everything would cost a copy on the backward pass.
        return tensor if tensor.shape[2] == count else tensor[:, :, self.above :][:, :, :count]

    def slice(self, tensor: Tensor, span: tuple[int, int]) -> Tensor:
        """Return some rows of a tensor that holds the own rows; the span counts in the picture."""
        return tensor[:, :, span[0] - self.first : span[1] - self.first]


Part: TypeAlias = Callable[[Tensor, Rows], tuple[Tensor, ...]]
"""Maps a band to its own rows of the result, perhaps half as many, or an empty tensor if nobody
needs it; and to any number of sums over its own rows, which are added up over the bands."""


def in_bands(part: Part, x: Tensor, rows: Rows, step: int, halo: int) -> tuple[Tensor, ...]:
    """Return a part's result and its sums, computed some rows at a time.

    Args:
        part: What to compute.
        x: Input, `(N, C, H, W)`.
        rows: Which rows of the whole picture it holds.
        step: Number of rows computed at a time, a multiple of four.
        halo: Number of rows that the part looks at above and below, a multiple of four.
    """
    result: tuple[Tensor, ...] = _InBands.apply(x, part, rows, step, halo)
    return result


def bands(rows: Rows, size: int, step: int, halo: int) -> Iterator[tuple[Rows, slice]]:
    """Yield the rows of each band, and where a tensor of `size` rows holds it with its halo."""
    origin = rows.first - rows.above
    # A single row left over, which pooling may refuse, belongs to the band above.
    for first in range(rows.first, max(rows.last - 1, rows.first + 1), step):
        last = first + step if first + step < rows.last - 1 else rows.last
        start, stop = max(first - halo, origin), min(last + halo, origin + size)
        yield Rows(first, last, rows.height, first - start), slice(start - origin, stop - origin)


class _InBands(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, part: Part, rows: Rows, step: int, halo: int
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.part, ctx.bands = part, list(bands(rows, x.shape[2], step, halo))
        ctx.set_materialize_grads(False)
        result, totals, ctx.stride, ctx.start = x.new_empty(0), list[Tensor](), 1, rows.first
        for band, given in ctx.bands:
            own, *sums = part(x[:, :, given], band)
            if own.numel():
                if not result.numel():
                    result, ctx.stride = _room_for(own, x, rows)
                    ctx.start = rows.first // ctx.stride
                at = slice(*(row // ctx.stride - ctx.start for row in band[:2]))
                result[:, :, at] = own
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else [*sums]
        return result, *totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_result: Tensor | None, *of_sums: Tensor | None) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        total = torch.zeros_like(x)
        for band, given in ctx.bands:
            seen = x[:, :, given].detach().requires_grad_()
            with torch.enable_grad():
                outputs = ctx.part(seen, band)
            own = slice(*(row // ctx.stride - ctx.start for row in band[:2]))
            given_back = [None if of_result is None else of_result[:, :, own], *of_sums]
            pairs = [
                (output, gradient)
                for output, gradient in zip(outputs, given_back, strict=True)
                if gradient is not None and output.requires_grad
            ]
            if pairs:
                values, gradients = zip(*pairs, strict=True)
                total[:, :, given] += torch.autograd.grad(values, seen, gradients)[0]
        return total, None, None, None, None


def _room_for(own: Tensor, x: Tensor, rows: Rows) -> tuple[Tensor, int]:
    """Return memory for the whole result of which a band is given, and its stride."""
    n, channels, _, width = own.shape
    stride = 1 if width == x.shape[3] else 2
    height = rows.last // stride - rows.first // stride
    layout = torch.channels_last
    return own.new_empty(n, channels, height, width).contiguous(memory_format=layout), stride


def widen(
    x: Tensor, rows: Rows, halo: int, edges: Sequence[int], group: Group
) -> tuple[Tensor, Rows]:
    """Return this process's rows of a picture with those around them, from its neighbors.

    Args:
        x: Own rows, `(N, C, h, W)`.
        rows: Which they are.
        halo: Number of rows to add above and below, where the picture has them.
        edges: First row of each process, and the number of rows of the picture.
        group: The processes.
    """
    if group.size == 1:
        return x, rows
    wide: Tensor = _Widened.apply(x, rows, halo, edges, group)
    return wide, rows._replace(above=min(halo, rows.first))


def add_up(tensors: Sequence[Tensor], group: Group) -> list[Tensor]:
    """Return sums over all processes, each of which goes on alike from there."""
    if group.size == 1 or not tensors:
        return list(tensors)
    return list(_AddedUp.apply(group, *tensors))


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Rows, halo: int, edges: Sequence[int], group: Group
    ) -> Tensor:
        start, stop = max(rows.first - halo, 0), min(rows.last + halo, rows.height)
        n, channels, _, width = x.shape
        wide = x.new_empty(n, channels, stop - start, width)
        wide = wide.contiguous(memory_format=torch.channels_last)
        wide[:, :, rows.first - start : rows.last - start] = x
        ctx.start, ctx.rows, ctx.group = start, rows, group
        ctx.overlaps = list(_overlaps(rows, halo, edges, group.rank))
        outgoing = {rank: rows.slice(x, lent) for rank, lent, _ in ctx.overlaps if lent}
        lenders = ((rank, borrowed) for rank, _, borrowed in ctx.overlaps if borrowed)
        incoming = {rank: wide[:, :, a - start : b - start] for rank, (a, b) in lenders}
        group.exchange(outgoing, incoming, "halos")
        return wide

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        start, rows = ctx.start, ctx.rows
        own = gradient[:, :, rows.first - start : rows.last - start].clone()
        # The gradient for borrowed rows goes back to whom they belong, and is added there.
        lenders = ((rank, borrowed) for rank, _, borrowed in ctx.overlaps if borrowed)
        outgoing = {rank: gradient[:, :, a - start : b - start] for rank, (a, b) in lenders}
        lent = {rank: rows.slice(own, span) for rank, span, _ in ctx.overlaps if span}
        incoming = {rank: torch.empty_like(part) for rank, part in lent.items()}
        ctx.group.exchange(outgoing, incoming, "halos")
        for rank, part in lent.items():
            part += incoming[rank]
        return own, None, None, None, None


class _AddedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, group: Group, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(group.add_up(tensors, "statistics"))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, *gradients  # the sum is compared alike in every process


def _overlaps(
    rows: Rows, halo: int, edges: Sequence[int], own: int
) -> Iterator[tuple[int, tuple[int, int] | None, tuple[int, int] | None]]:
    """Yield each other rank, the rows that it borrows from this process, and those it lends."""
    for rank, (first, last) in enumerate(pairwise(edges)):
        if rank != own:
            lent = max(first - halo, rows.first), min(last + halo, rows.last)
            borrowed = max(rows.first - halo, first), min(rows.last + halo, last)
            yield rank, _if_any(lent), _if_any(borrowed)


def _if_any(span: tuple[int, int]) -> tuple[int, int] | None:
    return span if span[0] < span[1] else None
