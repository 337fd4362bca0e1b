"""Winograd's minimal filtering F(4x4, 3x3): a frozen 3x3 convolution in a quarter of the products.

Tiles of 6x6 pixels become 4x4 pixels of the result: both are transformed, and in between every one
of the 36 components is a product of matrices. PyTorch has no such convolution on CPUs.

The gradient is pulled back with the same components: a convolution with the kernel turned around
is the convolution of a tile turned around.

Paper: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nst._network.buffers import Workspace

__all__ = ["TILE", "convolve_rows", "pays", "transform_kernel"]

TILE = 4
"""Rows and columns of a result that are computed together."""
# Of the kernel, for the points 0, 1, -1, 2, -2 and infinity; the other two transforms are written
# out at the end of this file.
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_COMPONENTS = 36
# The component that alone adds the same to every pixel of the result.
_CONSTANT = 7
# What torch.compile makes of a linear layer. As it is no part of PyTorch's public interface, there
# is a way without.
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def pays(kernel: Tensor, height: int, width: int) -> bool:
    """Tell whether this was measured to be faster than PyTorch's own (benchmarks/winograd.py).

    The answer depends on the machine's instructions and on shapes alone, so that a run repeated
    gives the same bits.

    Args:
        kernel: `(K, C, 3, 3)`.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
    """
    if kernel.device.type != "cpu" or kernel.dtype != torch.float32:
        return False
    narrow, wide = (128, 128) if _avx512() else (64, 64)
    channels = kernel.shape[:2]
    return min(channels) >= narrow and max(channels) >= wide and min(height, width) >= 2 * TILE


def _avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def transform_kernel(kernel: Tensor) -> Tensor:
    """Return a kernel's components, `(36, K, C)`, transformed in float64.

    Args:
        kernel: `(K, C, 3, 3)`.
    """
    g = torch.tensor(_KERNEL, dtype=torch.float64, device=kernel.device)
    components = torch.einsum("ia,kcab,jb->jikc", g, kernel.double(), g).flatten(0, 1)
    return components.to(kernel.dtype).contiguous()


def convolve_rows(
    rows: Tensor,
    kernel: Tensor,
    out: Tensor,
    workspace: Workspace,
    *,
    bias: Tensor | None = None,
    backward: bool = False,
) -> None:
    """Convolve some rows of pictures, which beyond their sides are zero.

    Args:
        rows: The rows with one more above and below, `(N, h + 2, W, C)`.
        kernel: What `transform_kernel` returned.
        out: Where the result goes, `(N, h, W, K)`.
        workspace: Used alone.
        bias: `(K,)`.
        backward: Whether this is the gradient's way; `C` and `K` change places.
    """
    tiles = _tiles(rows, workspace, backward=backward)
    products = _multiply(tiles, kernel if backward else kernel.mT, workspace, bias)
    _assemble(products, out, workspace, backward=backward)


def _tiles(rows: Tensor, workspace: Workspace, *, backward: bool) -> Tensor:
    """Return the components of the tiles, `(6, 6, N, down, across, C)`."""
    n, height, width, channels = rows.shape
    down, across = -(-(height - 2) // TILE), -(-width // TILE)
    if height < TILE * down + 2:  # the last tile reaches beyond the last row
        whole = workspace.take("rows", (n, TILE * down + 2, width, channels), rows)
        whole[:, :height], whole[:, height:] = rows, 0
        rows = whole
    # Along the columns first: there whole rows are added.
    half = workspace.take("half", (6, n, down, TILE * across + 2, channels), rows)
    half[:, :, :, 0] = 0
    half[:, :, :, width + 1 :] = 0
    scratch = workspace.take("scratch", (2, n, down, width, channels), rows)
    steps = [rows[:, i : i + TILE * down - 3 : TILE] for i in range(6)]
    _transform(_turned(steps, backward), half[:, :, :, 1 : width + 1], scratch)
    tiles = workspace.take("tiles", (6, 6, n, down, across, channels), rows)
    scratch = workspace.take("scratch", (2, 6, n, down, across, channels), rows)
    steps = [half[:, :, :, j : j + TILE * across - 3 : TILE] for j in range(6)]
    _transform(_turned(steps, backward), tiles, scratch)
    return tiles


def _turned(pixels: Sequence[Tensor] | Tensor, backward: bool) -> list[Tensor]:
    """Return the pixels of tiles along one side, on the backward pass in the other direction."""
    return list(pixels)[::-1] if backward else list(pixels)


def _multiply(
    tiles: Tensor, kernel: Tensor, workspace: Workspace, bias: Tensor | None
) -> Sequence[Tensor]:
    """Return the 36 components of the result, `(N, down, across, K)` each."""
    shape, channels = tiles.shape[2:-1], tiles.shape[-1]
    matrices = tiles.view(_COMPONENTS, -1, channels)
    if _linear is not None and _avx512() and tiles.dtype == torch.float32:
        # oneDNN multiplies twice as fast as BLAS with these instructions.
        biases = {_CONSTANT: bias}
        pairs = enumerate(zip(matrices, kernel.mT, strict=True))
        return [
            _linear(a, b, biases.get(i), "none", [], "").view(*shape, -1) for i, (a, b) in pairs
        ]
    products = workspace.take("products", (*matrices.shape[:2], kernel.shape[-1]), tiles)
    torch.bmm(matrices, kernel, out=products)
    if bias is not None:
        products[_CONSTANT] += bias
    return products.view(_COMPONENTS, *shape, -1).unbind()


def _assemble(
    products: Sequence[Tensor], out: Tensor, workspace: Workspace, *, backward: bool
) -> None:
    """Turn the components of a result into its rows."""
    n, down, across, channels = products[0].shape
    half = workspace.take("half", (6, TILE, n, down, across, channels), out)
    scratch = workspace.take("scratch", (2, n, down, across, channels), out)
    for j in range(6):
        _invert(products[6 * j : 6 * j + 6], _turned(half[j], backward), scratch)
    whole = out.shape[1:3] == (TILE * down, TILE * across)
    rows = out if whole else workspace.take("rows", (n, TILE * down, TILE * across, channels), out)
    scratch = workspace.take("scratch", (2, TILE, n, down, across, channels), out)
    pixels = rows.view(n, down, TILE, across, TILE, channels).permute(4, 2, 0, 1, 3, 5)
    _invert(half, _turned(pixels, backward), scratch)
    if not whole:
        out.copy_(rows[:, : out.shape[1], : out.shape[2]])


def _transform(x: Sequence[Tensor], out: Tensor, scratch: Tensor) -> None:
    """Transform six pixels to six components, in twelve sums."""
    a, b = scratch
    torch.sub(x[4], x[2], out=a)
    torch.sub(x[3], x[1], out=b)
    torch.add(a, b, alpha=2, out=out[3])
    torch.sub(a, b, alpha=2, out=out[4])
    torch.sub(x[0], x[2], out=out[0])
    torch.add(a, out[0], alpha=4, out=out[0])
    torch.sub(x[5], x[3], out=out[5])
    torch.sub(out[5], b, alpha=4, out=out[5])
    torch.sub(x[4], x[2], alpha=4, out=a)
    torch.sub(x[3], x[1], alpha=4, out=b)
    torch.add(a, b, out=out[1])
    torch.sub(a, b, out=out[2])


def _invert(m: Sequence[Tensor] | Tensor, out: Sequence[Tensor], scratch: Tensor) -> None:
    """Turn six components into four pixels, in ten sums."""
    a, b = scratch
    torch.add(m[1], m[2], out=a)
    torch.add(m[3], m[4], out=b)
    torch.add(m[0], a, out=out[0])
    out[0].add_(b)
    torch.add(a, b, alpha=4, out=out[2])
    torch.sub(m[1], m[2], out=a)
    torch.sub(m[3], m[4], out=b)
    torch.add(a, b, alpha=2, out=out[1])
    torch.add(a, b, alpha=8, out=out[3])
    out[3].add_(m[5])
