"""A part of a network computed a band of rows at a time, as one step of autograd.

Like `torch.utils.checkpoint`, it stores only its input and computes the rest again on the backward
pass, but one band at a time. The result for a band depends on some rows around it, its *halo*; the
halo's results are cut off. Processes that share a picture receive the halo from their neighbors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst._network.stage import new_picture
from nst._utils.group import Group


class Rows(NamedTuple):
    """The rows of a whole picture that a tensor holds as its own, between halos."""

    first: int
    last: int  # exclusive
    height: int  # of the whole picture
    above: int = 0  # number of halo rows above the own ones

    def halved(self) -> Rows:
        """Return the same rows after pooling."""
        return Rows(self.first // 2, self.last // 2, self.height // 2, self.above // 2)


Part: TypeAlias = Callable[[Tensor, Rows], tuple[Tensor, ...]]
"""Maps a band to its own rows of the result (half as many if pooled; empty if not needed), and any
number of sums over them, which are added up over the bands."""


def in_bands(part: Part, x: Tensor, rows: Rows, step: int, halo: int) -> tuple[Tensor, ...]:
    """Return a part's result and its sums for an input `(N, C, H, W)`, `step` rows at a time.

    Each band has up to `halo` rows above and below; both numbers are multiples of four.
    """
    result: tuple[Tensor, ...] = _InBands.apply(x, part, list(_bands(x, rows, step, halo)))
    return result


def _bands(x: Tensor, rows: Rows, step: int, halo: int) -> Iterator[tuple[Rows, slice]]:
    """Yield the rows of each band, and the slice of the input that holds it with its halo."""
    origin = rows.first - rows.above
    # A single row left over, which pooling may refuse, belongs to the band above.
    for first in range(rows.first, max(rows.last - 1, rows.first + 1), step):
        last = first + step if first + step < rows.last - 1 else rows.last
        start, stop = max(first - halo, origin), min(last + halo, origin + x.shape[2])
        yield Rows(first, last, rows.height, first - start), slice(start - origin, stop - origin)


class _InBands(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, part: Part, bands: list[tuple[Rows, slice]]) -> Any:
        ctx.save_for_backward(x)
        ctx.part, ctx.bands, ctx.stride = part, bands, 1
        ctx.set_materialize_grads(False)
        result, totals = x.new_empty(0), list[Tensor]()
        for band, given in bands:
            own, *sums = part(x[:, :, given], band)
            if own.numel():
                if not result.numel():
                    n, channels, _, width = own.shape
                    ctx.stride = 1 if width == x.shape[3] else 2
                    height = bands[-1][0].last // ctx.stride - bands[0][0].first // ctx.stride
                    result = new_picture(own, n, channels, height, width)
                result[:, :, _place(ctx, band)] = own
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
            of_band = None if of_result is None else of_result[:, :, _place(ctx, band)]
            pairs = [
                (output, gradient)
                for output, gradient in zip(outputs, (of_band, *of_sums), strict=True)
                if gradient is not None and output.requires_grad
            ]
            if pairs:
                values, gradients = zip(*pairs, strict=True)
                total[:, :, given] += torch.autograd.grad(values, seen, gradients)[0]
        return total, None, None


def _place(ctx: Any, band: Rows) -> slice:
    """Return the rows of the result that belong to a band."""
    start = ctx.bands[0][0].first // ctx.stride
    return slice(band.first // ctx.stride - start, band.last // ctx.stride - start)


def widen(x: Tensor, rows: Rows, halo: int, edges: list[int], group: Group) -> tuple[Tensor, Rows]:
    """Add up to `halo` rows above and below to this process's rows `(N, C, h, W)` of a picture.

    `edges` are the first row of each process, and the number of rows of the picture.
    """
    wide: Tensor = _Widened.apply(x, rows, halo, edges, group)
    return wide, rows._replace(above=min(halo, rows.first))


def add_up(tensors: Sequence[Tensor], group: Group) -> list[Tensor]:
    """Return sums over all processes, which then all compute the same."""
    return list(_AddedUp.apply(group, *tensors))


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows, halo: int, edges: list[int], group: Group) -> Any:
        start, stop = max(rows.first - halo, 0), min(rows.last + halo, rows.height)
        n, channels, _, width = x.shape
        wide = new_picture(x, n, channels, stop - start, width)
        ctx.own, ctx.group = slice(rows.first - start, rows.last - start), group
        wide[:, :, ctx.own] = x
        ctx.lent, ctx.borrowed = _overlaps(rows, halo, edges, group.rank)
        outgoing = {rank: x[:, :, place] for rank, place in ctx.lent.items()}
        incoming = {rank: wide[:, :, place] for rank, place in ctx.borrowed.items()}
        group.exchange(outgoing, incoming, "halos")
        return wide

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        own = gradient[:, :, ctx.own].clone()
        # The gradient for borrowed rows is sent to their owners, which add it to their own.
        outgoing = {rank: gradient[:, :, place] for rank, place in ctx.borrowed.items()}
        lent = {rank: own[:, :, place] for rank, place in ctx.lent.items()}
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
) -> tuple[dict[int, slice], dict[int, slice]]:
    """Return by rank the own rows that others borrow, and the widened rows that others lend."""
    lent, borrowed = dict[int, slice](), dict[int, slice]()
    start = max(rows.first - halo, 0)
    for rank, (first, last) in enumerate(pairwise(edges)):
        low, high = max(first - halo, rows.first), min(last + halo, rows.last)
        if rank != own and low < high:
            lent[rank] = slice(low - rows.first, high - rows.first)
        low, high = max(rows.first - halo, first), min(rows.last + halo, last)
        if rank != own and low < high:
            borrowed[rank] = slice(low - start, high - start)
    return lent, borrowed
