"""A frozen 3x3 convolution, forwards and backwards, a band of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst._network import winograd
from nst._network.buffers import Workspace

__all__ = ["Convolution", "bands"]

Padding = Literal["zeros", "replicate"]

# Numbers of a result that are worked on at a time, so that all that belongs to them stays in the
# cache.
_BAND = 2**21


def bands(image: Tensor, kernel: Tensor, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Divide rows into bands, each of a multiple of four rows but the last.

    Args:
        image: `(N, H, W, C)`.
        kernel: Of the convolution, `(K, C, 3, 3)`.
        start: The first row.
        stop: The row after the last.
    """
    n, _, width, _ = image.shape
    numbers = n * width * max(kernel.shape[:2]) * winograd.TILE
    on_cpu = image.device.type == "cpu"
    rows = max(1, _BAND // numbers) * winograd.TILE if on_cpu else max(1, stop - start)
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


class Convolution(nn.Module):
    """A 3x3 convolution whose kernel does not change, so that what is made of it can be kept.

    Args:
        kernel: `(K, C, 3, 3)`.
        bias: `(K,)`.
        padding: What lies beyond the border.
        winograd: Whether Winograd's way may be taken, where it pays.
    """

    def __init__(
        self, kernel: Tensor, bias: Tensor, padding: Padding = "zeros", *, winograd: bool = True
    ) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(kernel), nn.Parameter(bias)
        self.padding, self.winograd = padding, winograd
        self._made: dict[str, tuple[Any, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies what can be made again."""
        return {**self.__dict__, "_made": {}}

    def rows(
        self,
        rows: Tensor,
        out: Tensor,
        workspace: Workspace,
        shape: tuple[int, int],
        *,
        backward: bool,
    ) -> Tensor:
        """Convolve some rows, or pull a gradient back through that.

        Args:
            rows: With one more above and below, `(N, h + 2, W, C)`.
            out: Where the result may go, `(N, h, W, K)`.
            workspace: Used alone.
            shape: Height and width of the whole picture, which decide how it is done.
            backward: Whether the rows are a gradient for the result; `C` and `K` change places.

        Returns:
            The result: `out`, or, if that saves a copy, other memory.
        """
        bias = None if backward else self.bias
        if self.winograd and winograd.pays(self.weight, *shape):
            kernel = self._kept("transformed", winograd.transform_kernel)
            winograd.convolve_rows(rows, kernel, out, workspace, bias=bias, backward=backward)
            return out
        kernel = self._kept("turned", _turn) if backward else self._kept("kernel", _in_memory_order)
        result = F.conv2d(rows.permute(0, 3, 1, 2), kernel, bias, padding=(0, 1))
        return result.permute(0, 2, 3, 1)

    def _kept(self, name: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what is made of the kernel, made again only if the weights have changed."""
        state = self.weight.data_ptr(), self.weight._version, self.weight.dtype
        kept = self._made.get(name)
        if kept is None or kept[0] != state:
            kept = self._made[name] = (state, make(self.weight.detach()))
        return kept[1]


def _in_memory_order(kernel: Tensor) -> Tensor:
    """Return a kernel in the order in memory of the pictures."""
    return kernel.contiguous(memory_format=torch.channels_last)


def _turn(kernel: Tensor) -> Tensor:
    """Return the kernel of a convolution's adjoint."""
    return _in_memory_order(kernel.flip(-2, -1).transpose(0, 1))
