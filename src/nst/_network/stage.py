"""A frozen 3x3 convolution with its ReLU and perhaps its max pooling, as one step of autograd.

It computes `max_pool2d(relu(conv2d(x)))` in less time and memory: all three process a band of rows
while it is in the cache, and wide convolutions use Winograd's method. As the weights are frozen,
the backward pass does not need the input: it stores one byte a value for the ReLU, two bytes for
four pooled values, or nothing where a loss stores the output anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst._network import winograd
from nst._utils.device import scratch
from nst._utils.plain import hooks_of

Padding = Literal["zeros", "replicate"]
Kind = Literal["conv", "relu", "pool"]
Span: TypeAlias = tuple[int, int]

_BAND = 2**21  # values of a band: they fit into the cache, and give matrix products enough rows


class Stage(nn.Module):
    """A convolution of kernel `(K, C, 3, 3)` and bias `(K,)`, with its ReLU and max pooling.

    As a module, it is an ordinary convolution. `winograd` allows Winograd's method where faster.
    It computes in the type of its input, to which the weights are converted.
    """

    def __init__(
        self, kernel: Tensor, bias: Tensor, padding: Padding = "zeros", *, winograd: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(kernel, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.padding, self.winograd = padding, winograd
        self._derived: dict[str, tuple[Any, Tensor]] = {}
        self._digest = torch.empty(0, device="cpu")  # of the weights that they are derived from

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stage:
        """Move the parameters, to the memory layout in which their device convolves fastest."""
        super()._apply(lambda tensor: _laid_out(fn(tensor)), recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave derived kernels out of copies."""
        return {**self.__dict__, "_derived": {}}

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of `(N, C, H, W)`, without its ReLU."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.padding == "replicate":
            return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight, bias)
        return F.conv2d(x, weight, bias, padding=1)

    def compute(
        self, x: Tensor, kind: Kind, *, output_stays: bool = False, span: Span | None = None
    ) -> Tensor:
        """Return the convolution of `(N, C, H, W)`, with its ReLU and pooling, in one step.

        Args:
            x: Input.
            kind: Last operation: `"conv"`, `"relu"`, or `"pool"` (max pooling after the ReLU).
            output_stays: Whether the result is stored anyway, so it can serve as the ReLU's trace.
            span: First row of the convolution and the one after the last; None for all.
        """
        trainable = self.weight.requires_grad or self.bias.requires_grad
        everything = 0, x.shape[2]
        span = span or everything
        if x.device.type != "cpu" or hooks_of(self) or trainable:
            rows = self(x.contiguous() if x.is_mps else x)  # see `layout`
            return _followed(rows if span == everything else rows[:, :, slice(*span)], kind)
        how: tuple[Kind, bool, Span] = kind, output_stays, span
        if self.padding == "replicate":  # a wider picture, whose border is cut off afterwards
            x = F.pad(x, (1, 1, 1, 1), mode="replicate")
            how = "conv", False, (span[0] + 1, span[1] + 1)
        x = x.contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled() and x.requires_grad:
            out = _Fused.apply(x, self, *how)[0]
        else:
            out, _ = self.pass_forward(x, how[0], how[2], traces=False)
        return out if self.padding == "zeros" else _followed(out[:, :, :, 1:-1], kind)

    def pass_forward(
        self, x: Tensor, kind: Kind, span: Span, *, traces: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the result and its trace: 0 where the ReLU blocked, else 1 or a pooled place."""
        n, _, height, width = x.shape
        stride, rows, trace = 2 if kind == "pool" else 1, x.permute(0, 2, 3, 1), None
        shape = n, len(self.weight), (span[1] - span[0]) // stride, width // stride
        picture = new_picture(x, *shape)
        out = picture.permute(0, 2, 3, 1)
        if traces:
            dtype = torch.int16 if 2 * width < 2**15 else torch.int32  # places in two rows
            trace = out.new_empty(out.shape, dtype=dtype if kind == "pool" else torch.uint8)
        for start, stop in self._bands(rows, *span):
            own = slice((start - span[0]) // stride, (stop - span[0]) // stride)
            target = out[:, own]
            room = None if kind == "pool" else target
            band = self._convolve(_with_border(rows, start - 1, stop + 1), (height, width), room)
            if kind == "conv":
                if band is not target:
                    target.copy_(band)
            elif kind == "relu":
                torch.clamp_min(band, 0, out=target)
                if trace is not None:
                    torch.gt(target, 0, out=trace[:, own])
            else:
                largest, place = _pool(band)
                torch.clamp_min(largest, 0, out=target)
                if trace is not None:
                    torch.mul(place, largest > 0, out=trace[:, own])
        return picture, trace

    def pass_backward(
        self, gradient: Tensor, trace: Tensor | None, kind: Kind, span: Span, shape: torch.Size
    ) -> Tensor:
        """Return the gradient for an input of a shape, from the gradient for the result."""
        picture, stride = new_picture(gradient, *shape), 2 if kind == "pool" else 1
        out, given = picture.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        height = given.shape[1] * stride  # an odd last row is not pooled
        reached = max(span[0] - 1, 0), min(span[1] + 1, shape[2])
        out[:, : reached[0]] = out[:, reached[1] :] = 0
        for start, stop in self._bands(out, *reached):
            above, below = start - 1 - span[0], stop + 1 - span[0]
            first, last = max(above, 0), min(below, height)
            cells = slice(first // stride, -(-last // stride))
            rows = given[:, cells]
            if trace is not None:
                rows = _where_positive(trace[:, cells], rows)
                if kind == "pool":
                    rows = _unpool(rows, trace[:, cells], shape[3])
                    rows = rows[:, first % 2 : first % 2 + last - first]
            rows = _with_border(rows, above - first, below - first)
            own = out[:, start:stop]
            band = self._convolve(rows, (shape[2], shape[3]), own, rotated=True)
            if band is not own:
                own.copy_(band)
        return picture

    def discard_outdated(self) -> None:
        """Discard derived kernels if the weights have changed in a way that has no version."""
        # NumPy and `.data` write unnoticed, and a new tensor may have the address of an old one.
        if self._derived and not torch.equal(self._digest, _digest(self.weight)):
            self._derived.clear()

    @property
    def bytes_to_derive(self) -> int:
        """Size of the kernels that the first use derives from the weights and stores."""
        return 0 if self._derived else 4 * self.weight.nbytes  # 6x6 numbers for 3x3

    def _bands(self, rows: Tensor, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Divide rows from one to another into bands, of a multiple of four rows but the last."""
        n, _, width, _ = rows.shape
        values = n * width * max(self.weight.shape[:2]) * winograd.TILE
        step = max(1, _BAND // values) * winograd.TILE
        return ((i, min(i + step, last)) for i in range(first, last, step))

    def _convolve(
        self, rows: Tensor, shape: tuple[int, int], out: Tensor | None, *, rotated: bool = False
    ) -> Tensor:
        """Convolve rows with one more above and below; return `out`, or memory to copy from."""
        bias, dtype = None if rotated else self.bias.to(rows.dtype), rows.dtype
        is_own = dtype == self.weight.dtype
        if self.winograd and is_own and winograd.is_faster(self.weight, *shape):
            kernel = self._derive("transformed", winograd.transform_kernel)
            if out is None:
                n, height, width, _ = rows.shape
                out = scratch.take("band", (n, height - 2, width, len(self.weight)), rows)
            winograd.convolve(rows, kernel, out, bias, rotated=rotated)
            return out
        name = f"{'rotated' if rotated else 'plain'} {dtype}"
        kernel = self._derive(name, partial(_reorder, rotated=rotated, dtype=dtype))
        result = F.conv2d(rows.permute(0, 3, 1, 2), kernel, bias, padding=(0, 1))
        return result.permute(0, 2, 3, 1)

    def _derive(self, name: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a cached function of the kernel, computed again if it has a new version."""
        version = 0 if self.weight.is_inference() else self.weight._version
        state = self.weight.data_ptr(), version, self.weight.dtype
        known = self._derived.get(name)
        if known is None or known[0] != state:
            with torch.inference_mode(False):
                if not self._derived:
                    self._digest = _digest(self.weight)
                known = self._derived[name] = (state, make(self.weight.detach()))
        return known[1]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, stage: Stage, kind: Kind, output_stays: bool, span: Span) -> Any:
        traces = kind == "pool" or (kind == "relu" and not output_stays)
        return stage.pass_forward(x, kind, span, traces=traces)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        (x, ctx.stage, ctx.kind, _, ctx.span), (out, trace) = inputs, output
        ctx.shape = x.shape
        if ctx.kind != "conv":
            ctx.save_for_backward(out if trace is None else trace)
        if trace is not None:
            ctx.mark_non_differentiable(trace)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        trace = ctx.saved_tensors[0] if ctx.kind != "conv" else None
        how = ctx.stage, ctx.kind, ctx.span, ctx.shape
        return _PulledBack.apply(gradient, trace, *how), None, None, None, None


class _PulledBack(torch.autograd.Function):
    """The backward pass, a separate function so that `torch.func` can trace it."""

    @staticmethod
    def forward(gradient: Tensor, trace: Tensor | None, stage: Stage, *how: Any) -> Tensor:
        if trace is not None and trace.is_floating_point():
            trace = trace.permute(0, 2, 3, 1)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return stage.pass_backward(gradient, trace, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is stored, as there is no second derivative."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        raise RuntimeError(
            "`create_graph` is True, but FeatureExtractor computes no second derivatives. Use "
            "FeatureExtractor.requires_grad_(), which makes it compute with plain operations."
        )


def _followed(x: Tensor, kind: Kind) -> Tensor:
    """Apply the ReLU and the pooling by plain operations."""
    x = F.max_pool2d(x, 2) if kind == "pool" else x  # first, as a ReLU of fewer values is faster
    return x if kind == "conv" else x.relu()


def _laid_out(tensor: Tensor) -> Tensor:
    """Return a picture or kernel off the CPU in the layout of its device."""
    on_cpu, device = tensor.device.type == "cpu", tensor.device
    return tensor if on_cpu or tensor.ndim != 4 else tensor.contiguous(memory_format=layout(device))


def layout(device: torch.device) -> torch.memory_format:
    """Return the memory layout of pictures and kernels in which a device convolves fastest."""
    # On MPS before macOS 15, a ReLU's gradient that is not contiguous is lost.
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def new_picture(like: Tensor, *shape: int) -> Tensor:
    """Return memory in the device's layout; not a view, so that autograd can add in place."""
    memory_format = layout(like.device)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)


def _digest(weight: Tensor) -> Tensor:
    """Return a number for each output channel that changes if any weight does, beyond rounding."""
    rows = weight.detach().flatten(1)
    rows = rows.to("cpu", torch.promote_types(rows.dtype, torch.float32))
    return rows @ torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype, device="cpu").sin()


def _reorder(kernel: Tensor, *, rotated: bool, dtype: torch.dtype) -> Tensor:
    """Return a kernel, or that of the gradient's convolution, in the pictures' memory order."""
    kernel = kernel.flip(-2, -1).transpose(0, 1) if rotated else kernel
    return kernel.to(dtype).contiguous(memory_format=torch.channels_last)


def _with_border(rows: Tensor, start: int, stop: int) -> Tensor:
    """Return rows from one up to another, zeros outside the picture; a view if possible."""
    above, below = max(-start, 0), max(stop - rows.shape[1], 0)
    inner = rows[:, max(start, 0) : stop]
    if not above and not below:
        return inner
    n, height, *rest = inner.shape
    bordered = scratch.take("bordered", (n, above + height + below, *rest), rows)
    bordered[:, above : above + height] = inner
    bordered[:, :above] = bordered[:, above + height :] = 0
    return bordered


def _where_positive(condition: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient where the condition is positive, else 0; `where` takes far longer."""
    if condition.dtype != gradient.dtype:
        condition = scratch.take("passed", gradient.shape, gradient).copy_(condition)
    out = scratch.take("gradient", gradient.shape, gradient)
    torch.ops.aten.threshold_backward.grad_input(gradient, condition, 0, grad_input=out)
    return out


def _pool(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of every four pixels, and its place in its two rows plus 1."""
    n, height, width, channels = rows.shape
    pairs = rows[:, : height // 2 * 2].reshape(-1, 2, width, channels).permute(0, 3, 1, 2)
    largest, place = F.max_pool2d(pairs, 2, return_indices=True)
    shape = n, height // 2, width // 2, channels
    place = place.permute(0, 2, 3, 1).int().add_(1)
    return largest.permute(0, 2, 3, 1).reshape(shape), place.reshape(shape)


def _unpool(cells: Tensor, place: Tensor, width: int) -> Tensor:
    """Return the gradient for the pooled rows. Where the place is 0, the gradient must be 0."""
    n, height, across, channels = cells.shape
    like = cells.new_empty(n * height, 2, width, channels).permute(0, 3, 1, 2)
    pairs = n * height, 1, across, channels
    cells, place = (x.reshape(pairs).permute(0, 3, 1, 2) for x in (cells, place))
    rows: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        cells, like, [2, 2], [2, 2], [0, 0], [1, 1], False, place.long().sub_(1).clamp_min_(0)
    )
    return rows.permute(0, 2, 3, 1).reshape(n, 2 * height, width, channels)
