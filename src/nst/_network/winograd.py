"""Winograd's minimal filtering F(4x4, 3x3): a 3x3 convolution in a quarter of the products.

A tile of 6x6 pixels becomes 4x4 pixels of the result. Tile and kernel are transformed into 36
components, each of which is one matrix product; a last transform turns the products into pixels.
PyTorch has no such convolution on CPUs. Pictures are `(N, H, W, C)` here.

The gradient for the input is a convolution with the kernel rotated by 180 degrees, which equals
rotating the tiles instead: the same components serve both directions.

Paper: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nst._network.scratch import scratch

TILE = 4
"""Rows and columns of the result that are computed together."""
# The kernel's transform, for the points 0, 1, -1, 2, -2 and infinity. The other two transforms are
# written out in `_transform` and `_invert`.
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_COMPONENTS = 36
# The component that adds the same value to every pixel of the result: the bias goes there.
_CONSTANT = 7
# With AVX-512 this is twice as fast as BLAS. It is not public, so `torch.bmm` stands by.
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def has_avx512() -> bool:
    """Tell whether PyTorch's CPU kernels use AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def is_faster(kernel: Tensor, height: int, width: int) -> bool:
    """Tell whether this was measured to be faster than PyTorch (benchmarks/winograd.py).

    The answer depends on instructions and shapes alone, so that a repeated run has the same bits.
    """
    if kernel.device.type != "cpu" or kernel.dtype != torch.float32:
        return False
    return min(kernel.shape[:2]) >= (128 if has_avx512() else 64) and min(height, width) >= 2 * TILE


def transform_kernel(kernel: Tensor) -> Tensor:
    """Return the components `(36, K, C)` of a kernel `(K, C, 3, 3)`, computed in float64."""
    g = torch.tensor(_KERNEL, dtype=torch.float64, device=kernel.device)
    components = torch.einsum("ia,kcab,jb->jikc", g, kernel.double(), g).flatten(0, 1)
    return components.to(kernel.dtype).contiguous()


def convolve(
    rows: Tensor, kernel: Tensor, out: Tensor, bias: Tensor | None = None, *, rotated: bool = False
) -> None:
    """Convolve rows of pictures that are zero beyond their left and right sides.

    Args:
        rows: Input with one more row above and below, `(N, h + 2, W, C)`.
        kernel: Result of `transform_kernel`.
        out: Memory for the result, `(N, h, W, K)`.
        bias: `(K,)`.
        rotated: Whether to rotate the kernel, as the gradient needs it; C and K change places.
    """
    tiles = _to_tiles(rows, rotated)
    products = _multiply(tiles, kernel if rotated else kernel.mT, bias)
    _to_rows(products, out, rotated)


def _to_tiles(rows: Tensor, rotated: bool) -> Tensor:
    """Return the components of the tiles, `(6, 6, N, down, across, C)`."""
    n, height, width, channels = rows.shape
    down, across = -(-(height - 2) // TILE), -(-width // TILE)
    if height < TILE * down + 2:  # the last tile reaches beyond the last row
        padded = scratch.take("padded", (n, TILE * down + 2, width, channels), rows)
        padded[:, :height], padded[:, height:] = rows, 0
        rows = padded
    # Along the columns first: whole rows are added there.
    half = scratch.take("half", (6, n, down, TILE * across + 2, channels), rows)
    half[:, :, :, 0] = 0
    half[:, :, :, width + 1 :] = 0
    pixels = [rows[:, i : i + TILE * down - 3 : TILE] for i in range(6)]
    _transform(_along(pixels, rotated), half[:, :, :, 1 : width + 1])
    tiles = scratch.take("tiles", (6, 6, n, down, across, channels), rows)
    pixels = [half[:, :, :, j : j + TILE * across - 3 : TILE] for j in range(6)]
    _transform(_along(pixels, rotated), tiles)
    return tiles


def _along(pixels: Sequence[Tensor] | Tensor, rotated: bool) -> list[Tensor]:
    """Return the pixels along one side of a tile, reversed if it is rotated."""
    return list(pixels)[::-1] if rotated else list(pixels)


def _multiply(tiles: Tensor, kernel: Tensor, bias: Tensor | None) -> Sequence[Tensor]:
    """Return the 36 components of the result, `(N, down, across, K)` each."""
    shape, matrices = tiles.shape[2:-1], tiles.view(_COMPONENTS, -1, tiles.shape[-1])
    if _linear is not None and has_avx512() and tiles.dtype == torch.float32:
        biases = {_CONSTANT: bias}
        pairs = enumerate(zip(matrices, kernel.mT, strict=True))
        return [
            _linear(a, b, biases.get(i), "none", [], "").view(*shape, -1) for i, (a, b) in pairs
        ]
    products = scratch.take("products", (*matrices.shape[:2], kernel.shape[-1]), tiles)
    torch.bmm(matrices, kernel, out=products)
    if bias is not None:
        products[_CONSTANT] += bias
    return products.view(_COMPONENTS, *shape, -1).unbind()


def _to_rows(products: Sequence[Tensor], out: Tensor, rotated: bool) -> None:
    """Turn the components of a result into its rows."""
    n, down, across, channels = products[0].shape
    half = scratch.take("half", (6, TILE, n, down, across, channels), out)
    for j in range(6):
        _invert(products[6 * j : 6 * j + 6], _along(half[j], rotated))
    fits = out.shape[1:3] == (TILE * down, TILE * across) and out.is_contiguous()
    rows = out if fits else scratch.take("padded", (n, TILE * down, TILE * across, channels), out)
    pixels = rows.view(n, down, TILE, across, TILE, channels).permute(4, 2, 0, 1, 3, 5)
    _invert(half, _along(pixels, rotated))
    if not fits:
        out.copy_(rows[:, : out.shape[1], : out.shape[2]])


def _transform(x: Sequence[Tensor], out: Tensor) -> None:
    """Transform six pixels into six components, in twelve sums."""
    a, b = scratch.take("sums", (2, *x[0].shape), out)
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


def _invert(m: Sequence[Tensor] | Tensor, out: Sequence[Tensor]) -> None:
    """Transform six components into four pixels, in ten sums."""
    a, b = scratch.take("sums", (2, *m[0].shape), m[0])
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
