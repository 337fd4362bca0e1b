"""What several processes exchange while they share a picture: halos, and sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst._network.bands import Rows
from nst._utils.group import Group


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
