"""A convolution and what follows it, for some rows of a picture, forward and backward.

Weights are frozen, so of a convolution nothing must be kept. Of a ReLU it is enough which values
were positive, a byte each instead of four, unless somebody wants its output, which tells the same;
of max pooling, which of four was the largest. All that
belongs together is done while a band of rows is in the cache: convolution, ReLU and pooling on the
forward pass; pooling, ReLU and convolution on the backward pass.

Pictures are `(N, H, W, C)` here, which is `channels_last` seen as it lies in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._network.buffers import Workspace
from nst._network.convolution import Convolution, bands

__all__ = ["Room", "Stage", "Strip", "Trace", "stage_backward", "stage_forward"]

# Added where none of the four pixels is positive, so that the ReLU stops their gradient.
_DEAD = 4

Room: TypeAlias = Callable[[str, Sequence[int], torch.dtype], Tensor]
"""From what it is for, a shape and a type of number to memory for the results of a stage."""
_Rows: TypeAlias = Callable[[int, int], Tensor]
"""From the first row and the one after the last to these rows of a picture."""


class Strip(NamedTuple):
    """Some rows of a picture, and which they are."""

    rows: Tensor
    """`(N, h, W, C)`."""
    first: int
    """Which row of the picture is the first."""
    height: int
    """How many rows the picture has."""

    @property
    def last(self) -> int:
        """The row of the picture after the last of the strip."""
        return self.first + self.rows.shape[1]

    def part(self, start: int, stop: int) -> Tensor:
        """Return the rows from one up to another, counted in the picture."""
        return self.rows[:, start - self.first : stop - self.first]


class Stage(NamedTuple):
    """A convolution and what follows it, up to the next."""

    convolution: Convolution
    pooling: str
    """`"max"` or `"average"`."""
    parts: tuple[str, ...] = ()
    """What it consists of: `"conv"`, and in this order `"relu"` and `"pool"` if they follow."""
    wanted: Mapping[str, str] = {}
    """Which of its parts are features that somebody asked for, to the layer's name."""

    @property
    def pools(self) -> bool:
        """Whether its result is half as large."""
        return "pool" in self.parts

    @property
    def stride(self) -> int:
        """How many rows of what it is given belong to one of its result."""
        return 2 if self.pools else 1

    def followed_by(self, part: str, layer: str | None) -> Stage:
        """Return the stage with one more part, which is a layer that somebody wants, or None."""
        wanted = self.wanted if layer is None else {**self.wanted, part: layer}
        return self._replace(parts=(*self.parts, part), wanted=wanted)


class Trace(NamedTuple):
    """What the backward pass needs of some rows of a stage; None where there is nothing to know."""

    positive: Tensor | None
    """Positive where the ReLU let pass: 1 instead of 0, or its output."""
    largest: Tensor | None
    """Which pixel of four max pooling took, 0 to 3 in the order of reading; more, if dead."""
    first: int
    """The first of the rows."""


def stage_forward(
    strip: Strip,
    stage: Stage,
    span: tuple[int, int],
    workspace: Workspace,
    room: Room,
    *,
    tracing: bool,
) -> dict[str, Strip]:
    """Compute some rows of a stage.

    Args:
        strip: What the stage is given, with a row more above and below, where there are such.
        stage: What is computed.
        span: The first row and the one after the last; even if they are pooled, except for the
            last of the picture.
        workspace: Used alone.
        room: Where the results go.
        tracing: Whether there will be a backward pass.

    Returns:
        Those parts of the stage that somebody wants, and its result.
    """
    rows, trace = _make_room(strip, stage, span, room, tracing=tracing)
    start, stop = span
    for band in bands(strip.rows, stage.convolution.weight, start, stop):
        _fill(rows, trace, strip, stage, (start, *band), workspace)
    half = Strip(rows["pool"], start // 2, strip.height // 2) if "pool" in rows else None
    parts = {name: Strip(each, start, strip.height) for name, each in rows.items()}
    return parts if half is None else {**parts, "pool": half}


def _make_room(
    strip: Strip, stage: Stage, span: tuple[int, int], room: Room, *, tracing: bool
) -> tuple[dict[str, Tensor], Trace]:
    """Make room for the parts of a stage that are needed after it, and for its trace."""
    n, _, width, _ = strip.rows.shape
    start, stop = span
    channels, number = len(stage.convolution.weight), strip.rows.dtype
    whole = (n, stop - start, width, channels)
    halved = (n, stop // 2 - start // 2, width // 2, channels)
    rows = {}
    if "conv" in stage.wanted or stage.parts[-1] == "conv":
        rows["conv"] = room("conv", whole, number)
    if "relu" in stage.wanted or stage.parts[-1] == "relu":
        rows["relu"] = room("relu", whole, number)
    if stage.pools:
        rows["pool"] = room("pool", halved, number)
    positive = largest = None
    if tracing and stage.pools and stage.pooling == "max":
        largest = room("largest", halved, torch.uint8)
    if tracing and "relu" in stage.wanted:
        positive = rows["relu"]
    elif tracing and "relu" in stage.parts and largest is None:
        positive = room("positive", whole, torch.uint8)
    return rows, Trace(positive, largest, start)


def _fill(
    parts: Mapping[str, Tensor],
    trace: Trace,
    strip: Strip,
    stage: Stage,
    lines: tuple[int, int, int],
    workspace: Workspace,
) -> None:
    """Compute a band of rows: from the first line of the parts, the band's first and last line."""
    origin, start, stop = lines
    own = slice(start - origin, stop - origin)
    n, _, width, _ = strip.rows.shape
    band = {name: parts[name][:, own] for name in ("conv", "relu") if name in parts}
    shape = (n, stop - start, width, len(stage.convolution.weight))
    spare = workspace.take("band", shape, strip.rows)
    out = _convolve(stage.convolution, strip, band.get("relu", spare), start, stop, workspace)
    if "conv" in band:
        band["conv"].copy_(out)
    if "relu" in stage.parts:
        out = torch.clamp_min(out, 0, out=band.get("relu", spare))
    if trace.positive is not None and "relu" not in stage.wanted:
        torch.gt(out, 0, out=trace.positive[:, own])
    if stage.pools:
        halves = slice(own.start // 2, own.stop // 2)
        largest = None if trace.largest is None else trace.largest[:, halves]
        _pool(stage.pooling, out, parts["pool"][:, halves], largest)


def _convolve(
    convolution: Convolution,
    strip: Strip,
    out: Tensor,
    start: int,
    stop: int,
    workspace: Workspace,
) -> Tensor:
    """Return some rows of a convolution of a picture, in `out` or elsewhere."""
    n, _, width, _ = strip.rows.shape
    height = strip.height
    rows = strip.part(max(start - 1, 0), min(stop + 1, height))
    if convolution.padding == "zeros":
        rows = _bordered(rows, int(start == 0), int(stop == height), workspace)
        return convolution.rows(rows, out, workspace, (height, width), backward=False)
    # A picture with its border repeated, of whose convolution the border is cut off.
    above, below = [rows[:, :1]] * (start == 0), [rows[:, -1:]] * (stop == height)
    rows = torch.cat([*above, rows, *below], dim=1)
    rows = torch.cat([rows[:, :, :1], rows, rows[:, :, -1:]], dim=2)
    wide = workspace.take("wide", (n, stop - start, width + 2, out.shape[-1]), rows)
    wide = convolution.rows(rows, wide, workspace, (height, width), backward=False)
    return wide[:, :, 1:-1]


def _bordered(rows: Tensor, above: int, below: int, workspace: Workspace) -> Tensor:
    """Return rows with rows of zeros above or below."""
    if not above and not below:
        return rows
    n, height, *rest = rows.shape
    bordered = workspace.take("bordered", (n, height + above + below, *rest), rows)
    bordered[:, above : above + height] = rows
    bordered[:, :above] = 0
    bordered[:, above + height :] = 0
    return bordered


def _corners(rows: Tensor) -> list[Tensor]:
    """Return the four pixels of each cell that pooling takes together, in the order of reading."""
    rows = rows[:, : rows.shape[1] // 2 * 2, : rows.shape[2] // 2 * 2]
    return [rows[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def _pool(kind: str, rows: Tensor, out: Tensor, largest: Tensor | None) -> None:
    """Pool rows, and say which of four pixels was the largest if somebody wants to know."""
    a, b, c, d = _corners(rows)
    if kind == "average":
        torch.add(a, b, out=out)
        out.add_(c).add_(d).div_(4)
        return
    torch.maximum(a, b, out=out)
    torch.maximum(out, c, out=out)
    torch.maximum(out, d, out=out)
    if largest is None:
        return
    # 0 if a, else 1 if b, else 2 if c, else 3: of equal pixels the first, as for PyTorch.
    torch.ne(c, out, out=largest)
    spare = torch.empty_like(largest)
    for corner in (b, a):
        largest.add_(1).mul_(torch.ne(corner, out, out=spare))
    largest.add_(torch.le(out, 0, out=spare), alpha=_DEAD)


def stage_backward(
    gradients: Mapping[str, Strip],
    stage: Stage,
    span: tuple[int, int],
    trace: Trace,
    shape: tuple[int, int],
    workspace: Workspace,
    room: Room,
) -> Strip:
    """Return the gradient for what a stage was given, from those for its parts.

    Args:
        gradients: By part, at least one; that for a stage's result has all rows of the span.
        stage: What was computed.
        span: The first row and the one after the last, as in `stage_forward`. Beyond these, the
            gradient is taken to be zero.
        trace: What was kept of it, of at least these rows.
        shape: Height and width of the picture that the stage is given rows of.
        workspace: Used alone.
        room: Where the result goes.

    Returns:
        A row more above and below than the span has, where there are such.
    """
    height, width = shape

    def rows(first: int, last: int) -> Tensor:
        return _gradient_rows(gradients, first, last, shape, trace, workspace)

    def own_room(size: tuple[int, int, int]) -> Tensor:
        some = next(iter(gradients.values())).rows
        return room("back", (len(some), *size), some.dtype)

    convolution = stage.convolution
    if convolution.padding == "zeros":
        pulled = _convolve_backward(convolution, rows, span, shape, workspace, own_room)
        return Strip(pulled, max(span[0] - 1, 0), height)
    # The adjoint of repeating the border: what belongs to a repeated pixel goes to its original.

    def wide_rows(first: int, last: int) -> Tensor:
        return F.pad(rows(first - 1, last - 1), (0, 0, 1, 1))

    wide_span, wide_shape = (span[0] + 1, span[1] + 1), (height + 2, width + 2)
    wide = _convolve_backward(convolution, wide_rows, wide_span, wide_shape, workspace, own_room)
    if span[0] == 0:
        wide[:, 1] += wide[:, 0]
        wide = wide[:, 1:]
    if span[1] == height:
        wide[:, -2] += wide[:, -1]
        wide = wide[:, :-1]
    wide[:, :, 1] += wide[:, :, 0]
    wide[:, :, -2] += wide[:, :, -1]
    return Strip(wide[:, :, 1:-1].contiguous(), max(span[0] - 1, 0), height)


def _convolve_backward(
    convolution: Convolution,
    rows: _Rows,
    span: tuple[int, int],
    shape: tuple[int, int],
    workspace: Workspace,
    room: Callable[[tuple[int, int, int]], Tensor],
) -> Tensor:
    """Return the gradient for a convolution's picture from the rows of that for its result."""
    start, stop = span
    height, width = shape
    first, last = max(start - 1, 0), min(stop + 1, height)
    out = room((last - first, width, convolution.weight.shape[1]))
    for begin, end in bands(out, convolution.weight, first, last):
        above, below = max(begin - 1, start), min(end + 1, stop)
        given = _bordered(rows(above, below), above - begin + 1, end + 1 - below, workspace)
        band = out[:, begin - first : end - first]
        result = convolution.rows(given, band, workspace, shape, backward=True)
        if result is not band:
            band.copy_(result)
    return out


def _gradient_rows(
    gradients: Mapping[str, Strip],
    first: int,
    last: int,
    shape: tuple[int, int],
    trace: Trace,
    workspace: Workspace,
) -> Tensor:
    """Return rows of the gradient for a convolution's result from those for a stage's parts."""
    out = None
    if "pool" in gradients:
        out = _unpool(gradients["pool"], trace, first, last, shape, workspace)
    if "relu" in gradients:
        own = gradients["relu"].part(first, last)
        out = own if out is None else out.add_(own)
    if out is not None and trace.positive is not None:
        positive = trace.positive[:, first - trace.first : last - trace.first]
        passed = workspace.take("passed", out.shape, out)
        if positive.dtype != out.dtype:
            positive = passed.copy_(positive)
        out = _where_positive(positive, out, passed)
    if "conv" in gradients:
        strip = gradients["conv"]
        if out is None:
            return strip.part(first, last)
        start, stop = max(first, strip.first), min(last, strip.last)
        if start < stop:
            out[:, start - first : stop - first] += strip.part(start, stop)
    assert out is not None
    return out


def _where_positive(condition: Tensor, gradient: Tensor, out: Tensor) -> Tensor:
    """Write the gradient where a condition is positive, else 0, though the gradient be NaN."""
    # The gradient of ReLU: `torch.where` does the same and takes 25 times as long.
    torch.ops.aten.threshold_backward.grad_input(gradient, condition, 0, grad_input=out)
    return out


def _unpool(
    gradient: Strip,
    trace: Trace,
    first: int,
    last: int,
    shape: tuple[int, int],
    workspace: Workspace,
) -> Tensor:
    """Return rows of the gradient for what was pooled."""
    n, _, _, channels = gradient.rows.shape
    height, width = shape
    start, stop = first // 2, min(-(-last // 2), height // 2)  # of the cells
    wanted = (n, last + last % 2 - 2 * start, width, channels)
    rows = workspace.take("unpooled", wanted, gradient.rows)
    if height % 2 or width % 2:
        rows.zero_()  # what no cell covers
    cells = gradient.part(start, stop)
    chosen = workspace.take("chosen", cells.shape, cells)
    for i, corner in enumerate(_corners(rows[:, : 2 * (stop - start)])):
        if trace.largest is None:
            torch.div(cells, 4, out=corner)
        else:
            origin = trace.first // 2
            torch.eq(trace.largest[:, start - origin : stop - origin], i, out=chosen)
            _where_positive(chosen, cells, corner)
    return rows[:, first - 2 * start : last - 2 * start]
