"""One pass through the network and back, with what the exact gradient needs and no more.

Weights are frozen, so of a convolution nothing must be kept. Of a ReLU it is enough which values
were positive, a byte each instead of four; of max pooling, which of four was the largest. All that
belongs together is done while a band of rows is in the cache: convolution, ReLU and pooling on the
way forth; pooling, ReLU and convolution on the way back.

Inside this file pictures are `(N, H, W, C)`, which is `channels_last` seen as it lies in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst._convolution import Convolution, bands
from nst._workspace import Workspace, Workspaces

__all__ = ["Stage", "pass_through"]

# Added where none of the four pixels is positive, so that the ReLU stops their gradient.
_DEAD = 4

Rows: TypeAlias = Callable[[int, int], Tensor]
"""From the first row and the one after the last to these rows of a picture."""


class Stage(NamedTuple):
    """A convolution and what follows it, up to the next."""

    convolution: Convolution
    pooling: str
    """`"max"` or `"average"`."""
    parts: tuple[str, ...] = ()
    """What it consists of: `"conv"`, and in this order `"relu"` and `"pool"` if they follow."""
    wanted: frozenset[str] = frozenset()
    """Which of its parts are features that somebody asked for."""

    def followed_by(self, part: str, *, wanted: bool) -> Stage:
        """Return the stage with one more part."""
        more = {part} if wanted else set()
        return self._replace(parts=(*self.parts, part), wanted=self.wanted | more)


class _Trace(NamedTuple):
    """What the way back needs of a stage; None where there is nothing to know."""

    positive: Tensor | None
    """Where the ReLU let pass: 0 or 1. Not its output, which may be gone before the way back."""
    largest: Tensor | None
    """Which pixel of four max pooling took, 0 to 3 in the order of reading; more, if dead."""


def pass_through(images: Tensor, stages: Sequence[Stage], workspaces: Workspaces) -> list[Tensor]:
    """Return the wanted features, `(N, C, h, w)` each, in the order in which they are computed.

    Args:
        images: Normalized, `(N, 3, H, W)`.
        stages: The network.
        workspaces: Where to borrow one.
    """
    if torch.is_grad_enabled() and images.requires_grad:
        return list(_Pass.apply(images, stages, workspaces))
    return _forth(images, stages, workspaces, None)


class _Pass(torch.autograd.Function):
    """The way forth, with its exact gradient."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, stages: Sequence[Stage], workspaces: Workspaces
    ) -> tuple[Tensor, ...]:
        traces: list[_Trace] = []
        features = _forth(images, stages, workspaces, traces)
        ctx.stages, ctx.workspaces, ctx.shape = stages, workspaces, images.shape[-2:]
        ctx.save_for_backward(*chain.from_iterable(traces))
        ctx.set_materialize_grads(False)
        return tuple(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:
        saved = iter(ctx.saved_tensors)
        traces = [_Trace(*pair) for pair in zip(saved, saved, strict=True)]
        return _back(gradients, ctx.shape, ctx.stages, traces, ctx.workspaces), None, None


def _forth(
    images: Tensor, stages: Sequence[Stage], workspaces: Workspaces, traces: list[_Trace] | None
) -> list[Tensor]:
    """Compute the features; add to the traces what the way back needs, if there is to be one."""
    features: list[Tensor] = []
    x = images.permute(0, 2, 3, 1).contiguous()
    with workspaces.borrow() as workspace:
        for stage in stages:
            parts, trace = _parts(x, stage, tracing=traces is not None)
            for start, stop in bands(x, stage.convolution.weight):
                _fill(parts, trace, x, stage, start, stop, workspace)
            features += [
                parts[name].permute(0, 3, 1, 2) for name in stage.parts if name in stage.wanted
            ]
            x = parts[stage.parts[-1]]
            if traces is not None:
                traces.append(trace)
    return features


def _parts(x: Tensor, stage: Stage, *, tracing: bool) -> tuple[dict[str, Tensor], _Trace]:
    """Make room for the parts of a stage that are needed as a whole, and for its trace."""
    n, height, width, _ = x.shape
    channels = len(stage.convolution.weight)
    whole, halved = (n, height, width, channels), (n, height // 2, width // 2, channels)
    parts = {}
    if "conv" in stage.wanted:
        parts["conv"] = x.new_empty(whole)
    if stage.parts[-1] == "relu" or "relu" in stage.wanted:
        parts["relu"] = x.new_empty(whole)
    if "pool" in stage.parts:
        parts["pool"] = x.new_empty(halved)
    positive = largest = None
    if tracing and "pool" in stage.parts and stage.pooling == "max":
        largest = x.new_empty(halved, dtype=torch.uint8)
    if tracing and "relu" in stage.parts and (largest is None or "relu" in stage.wanted):
        positive = x.new_empty(whole, dtype=torch.uint8)
    return parts, _Trace(positive, largest)


def _fill(
    parts: dict[str, Tensor],
    trace: _Trace,
    x: Tensor,
    stage: Stage,
    start: int,
    stop: int,
    workspace: Workspace,
) -> None:
    """Compute some rows of a stage."""
    n, _, width, _ = x.shape
    band = {name: parts[name][:, start:stop] for name in ("conv", "relu") if name in parts}
    spare = workspace.take("band", (n, stop - start, width, len(stage.convolution.weight)), x)
    out = _convolve(stage.convolution, x, band.get("relu", spare), start, stop, workspace)
    if "conv" in band:
        band["conv"].copy_(out)
    if "relu" in stage.parts:
        out = torch.clamp_min(out, 0, out=band.get("relu", spare))
    if trace.positive is not None:
        torch.gt(out, 0, out=trace.positive[:, start:stop])
    if "pool" in stage.parts:
        halves = slice(start // 2, stop // 2)
        largest = None if trace.largest is None else trace.largest[:, halves]
        _pool(stage.pooling, out, parts["pool"][:, halves], largest)


def _convolve(
    convolution: Convolution, x: Tensor, out: Tensor, start: int, stop: int, workspace: Workspace
) -> Tensor:
    """Return some rows of a convolution of a picture, in `out` or elsewhere."""
    n, height, width, _ = x.shape
    rows = x[:, max(start - 1, 0) : stop + 1]
    if convolution.padding == "zeros":
        rows = _bordered(rows, start == 0, stop == height, workspace)
        return convolution.rows(rows, out, workspace, (height, width), back=False)
    # A picture with its border repeated, of whose convolution the border is cut off.
    above, below = [x[:, :1]] * (start == 0), [x[:, -1:]] * (stop == height)
    rows = torch.cat([*above, rows, *below], dim=1)
    rows = torch.cat([rows[:, :, :1], rows, rows[:, :, -1:]], dim=2)
    wide = workspace.take("wide", (n, stop - start, width + 2, out.shape[-1]), x)
    wide = convolution.rows(rows, wide, workspace, (height, width), back=False)
    return wide[:, :, 1:-1]


def _bordered(rows: Tensor, above: bool, below: bool, workspace: Workspace) -> Tensor:
    """Return rows with a row of zeros above or below."""
    if not above and not below:
        return rows
    n, height, *rest = rows.shape
    bordered = workspace.take("bordered", (n, height + above + below, *rest), rows)
    bordered[:, above : above + height] = rows
    if above:
        bordered[:, 0] = 0
    if below:
        bordered[:, -1] = 0
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


def _back(
    gradients: Sequence[Tensor | None],
    shape: tuple[int, int],
    stages: Sequence[Stage],
    traces: Sequence[_Trace],
    workspaces: Workspaces,
) -> Tensor | None:
    """Return the gradient for the images from those for the features."""
    remaining = list(gradients)
    gradient: Tensor | None = None
    shapes = [shape]
    for stage in stages[:-1]:
        height, width = shapes[-1]
        pooled = "pool" in stage.parts
        shapes.append((height // 2, width // 2) if pooled else (height, width))
    with workspaces.borrow() as workspace:
        for stage, trace, size in zip(
            reversed(stages), reversed(traces), reversed(shapes), strict=True
        ):
            own = {name: remaining.pop() for name in reversed(stage.parts) if name in stage.wanted}
            gradient = _stage_back(gradient, own, size, stage, trace, workspace)
    return None if gradient is None else gradient.permute(0, 3, 1, 2)


def _stage_back(
    gradient: Tensor | None,
    own: dict[str, Tensor | None],
    shape: tuple[int, int],
    stage: Stage,
    trace: _Trace,
    workspace: Workspace,
) -> Tensor | None:
    """Return the gradient for what a stage was given, from that for its result and its parts."""
    given = {name: g.permute(0, 2, 3, 1) for name, g in own.items() if g is not None}
    if gradient is not None:
        result = stage.parts[-1]
        given[result] = gradient.add_(given[result]) if result in given else gradient
    if not given:
        return None

    def rows(first: int, last: int) -> Tensor:
        return _gradient_rows(given, first, last, shape, trace, workspace)

    convolution, some = stage.convolution, next(iter(given.values()))
    if convolution.padding == "zeros":
        return _convolve_back(convolution, rows, shape, some, workspace)
    # The adjoint of repeating the border: what belongs to a repeated pixel goes to its original.
    height, width = shape

    def wide_rows(first: int, last: int) -> Tensor:
        inside = rows(max(first - 1, 0), min(last - 1, height))
        above, below = int(first < 1), int(last > height + 1)
        return F.pad(inside, (0, 0, 1, 1, above, below))

    wide = _convolve_back(convolution, wide_rows, (height + 2, width + 2), some, workspace)
    wide[:, 1] += wide[:, 0]
    wide[:, -2] += wide[:, -1]
    wide[:, :, 1] += wide[:, :, 0]
    wide[:, :, -2] += wide[:, :, -1]
    return wide[:, 1:-1, 1:-1].contiguous()


def _convolve_back(
    convolution: Convolution,
    rows: Rows,
    shape: tuple[int, int],
    like: Tensor,
    workspace: Workspace,
) -> Tensor:
    """Return the gradient for a convolution's picture from the rows of that for its result."""
    height, width = shape
    out = like.new_empty(len(like), height, width, convolution.weight.shape[1])
    for start, stop in bands(out, convolution.weight):
        some = rows(max(start - 1, 0), min(stop + 1, height))
        some = _bordered(some, start == 0, stop == height, workspace)
        band = out[:, start:stop]
        result = convolution.rows(some, band, workspace, shape, back=True)
        if result is not band:
            band.copy_(result)
    return out


def _gradient_rows(
    given: dict[str, Tensor],
    first: int,
    last: int,
    shape: tuple[int, int],
    trace: _Trace,
    workspace: Workspace,
) -> Tensor:
    """Return rows of the gradient for a convolution's result from those for a stage's parts."""
    out = None
    if "pool" in given:
        out = _unpool(given["pool"], trace.largest, first, last, shape, workspace)
    if "relu" in given:
        own = given["relu"][:, first:last]
        out = own if out is None else out.add_(own)
    if out is not None and trace.positive is not None:
        passed = workspace.take("passed", out.shape, out)
        passed.copy_(trace.positive[:, first:last])
        out = _where_positive(passed, out, passed)
    if "conv" in given:
        own = given["conv"][:, first:last]
        out = own if out is None else out + own
    assert out is not None
    return out


def _where_positive(condition: Tensor, gradient: Tensor, out: Tensor) -> Tensor:
    """Write the gradient where a condition is positive, else 0, though the gradient be NaN."""
    # The gradient of ReLU: `torch.where` does the same and takes 25 times as long.
    torch.ops.aten.threshold_backward.grad_input(gradient, condition, 0, grad_input=out)
    return out


def _unpool(
    gradient: Tensor,
    largest: Tensor | None,
    first: int,
    last: int,
    shape: tuple[int, int],
    workspace: Workspace,
) -> Tensor:
    """Return rows of the gradient for what was pooled."""
    n, _, _, channels = gradient.shape
    height, width = shape
    start, stop = first // 2, -(-last // 2)  # of the cells
    stop = min(stop, height // 2)
    rows = workspace.take("unpooled", (n, last + last % 2 - 2 * start, width, channels), gradient)
    if height % 2 or width % 2:
        rows.zero_()  # what no cell covers
    cells = gradient[:, start:stop]
    chosen = workspace.take("chosen", cells.shape, cells)
    for i, corner in enumerate(_corners(rows[:, : 2 * (stop - start)])):
        if largest is None:
            torch.div(cells, 4, out=corner)
        else:
            torch.eq(largest[:, start:stop], i, out=chosen)
            _where_positive(chosen, cells, corner)
    return rows[:, first - 2 * start : last - 2 * start]
