"""Winograd's minimal filtering F(4x4, 3x3): a 3x3 convolution in a quarter of the products.

A tile of 6x6 pixels becomes 4x4 pixels of the result. Tile and kernel are transformed into 36
components; a matrix product for each is transformed into pixels. PyTorch has no such convolution on
CPUs. Pictures are `(N, H, W, C)` here. The gradient for the input is a convolution with the kernel
rotated by 180 degrees; rotating the tiles instead lets both directions use the same components.

Paper: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from nst._utils.device import scratch

TILE = 4  # rows and columns of the result that are computed together
# Transforms of the sides of kernel, tile and result, for the points 0, 1, -1, 2, -2 and infinity.
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_TILE = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_RESULT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_COMPONENTS = 36
_CONSTANT = 7  # adds the same value to every pixel of the result, as the bias does
# With AVX-512, twice as fast as BLAS except on Intel's processors. Not public: it may be missing.
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def is_faster(kernel: Tensor, height: int, width: int) -> bool:
    """Return whether this was faster than PyTorch in benchmarks/winograd.py."""
    # Processor and shapes alone decide, so that repeated runs are bit-identical.
    if kernel.device.type != "cpu" or kernel.dtype != torch.float32 or _products_are_rounded():
        return False
    narrowest = 128 if _linear_is_faster() else 64
    return min(kernel.shape[:2]) >= narrowest and min(height, width) >= 2 * TILE


def transform_kernel(kernel: Tensor) -> Tensor:
    """Return the components `(36, K, C)` of a kernel `(K, C, 3, 3)`, computed in float64."""
    g = torch.tensor(_KERNEL, dtype=torch.float64, device=kernel.device)
    components = torch.einsum("ia,kcab,jb->jikc", g, kernel.double().contiguous(), g).flatten(0, 1)
    return components.to(kernel.dtype).contiguous()


def convolve(rows: Tensor, kernel: Tensor, out: Tensor, bias: Tensor | None, rotated: bool) -> None:
    """Convolve rows `(N, h + 2, W, C)`, zero beyond their sides, into `out`, `(N, h, W, K)`.

    `kernel` comes from `transform_kernel`. `rotated` rotates it, as the gradient requires: C and K
    change places.
    """
    tiles, kernel = _to_tiles(rows, rotated), kernel if rotated else kernel.mT
    products = scratch.take("products", (*tiles.shape[:2], kernel.shape[-1]), tiles)
    if _linear_is_faster() and tiles.dtype == torch.float32:
        for product, tile, matrix in zip(products, tiles, kernel.mT, strict=True):
            product.copy_(_linear(tile, matrix, None, "none", [], ""))
    else:
        torch.bmm(tiles, kernel, out=products)
    if bias is not None:
        products[_CONSTANT] += bias
    n, height, width, channels = out.shape
    down, across = -(-height // TILE), -(-width // TILE)
    _, transform = _transforms(out.dtype, rotated)
    pixels = scratch.take("pixels", (TILE, TILE, n, down, across, channels), out)
    torch.mm(transform, products.view(_COMPONENTS, -1), out=pixels.view(TILE * TILE, -1))
    pixels = pixels.permute(2, 3, 1, 4, 0, 5)
    if height == TILE * down and width == TILE * across:
        out.view(pixels.shape).copy_(pixels)
    else:
        out.copy_(pixels.reshape(n, TILE * down, TILE * across, -1)[:, :height, :width])


def _to_tiles(rows: Tensor, rotated: bool) -> Tensor:
    """Return the components of the tiles, `(36, N * down * across, C)`."""
    n, height, width, channels = rows.shape
    down, across = -(-(height - 2) // TILE), -(-width // TILE)
    if height < TILE * down + 2:  # the last tile reaches beyond the last row
        padded = scratch.take("padded", (n, TILE * down + 2, width, channels), rows)
        padded[:, :height], padded[:, height:] = rows, 0
        rows = padded
    transform, _ = _transforms(rows.dtype, rotated)
    # Along the columns first: whole rows are added there. The outer columns stay zero.
    half = scratch.take("half", (n * down, 6, TILE * across + 2, channels), rows)
    half[:, :, 0] = half[:, :, width + 1 :] = 0
    pixels = rows.unfold(1, 6, TILE).movedim(-1, 2).reshape(n * down, 6, -1)
    inner = half.flatten(2)[:, :, channels : channels * (width + 1)]
    torch.bmm(transform.expand(n * down, 6, 6), pixels, out=inner)
    windows = half.unfold(2, 6, TILE).permute(4, 1, 0, 2, 3)
    pixels = scratch.take("pixels", windows.shape, rows).copy_(windows).view(6, -1)
    tiles = scratch.take("tiles", pixels.shape, rows)
    return torch.mm(transform, pixels, out=tiles).view(_COMPONENTS, -1, channels)


@functools.cache
def _transforms(dtype: torch.dtype, rotated: bool) -> tuple[Tensor, Tensor]:
    """Return the matrices that transform a side of a tile, and both sides of a result."""
    with torch.inference_mode(False):
        tile = torch.tensor(_TILE, dtype=dtype, device="cpu")
        result = torch.tensor(_RESULT, dtype=dtype, device="cpu")
        if rotated:
            tile, result = tile.flip(1), result.flip(0)
        return tile, torch.kron(result, result)


def _products_are_rounded() -> bool:
    """Return whether PyTorch may round factors to bfloat16; the sums would amplify the error."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # since PyTorch 2.9
    if matmul is None:
        return torch.get_float32_matmul_precision() == "medium"
    return bool(matmul.fp32_precision == "bf16")


@functools.cache
def _linear_is_faster() -> bool:
    """Return whether `_linear` exists and is faster than BLAS."""
    avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    describe: Any = getattr(torch.cpu, "get_capabilities", dict)
    return _linear is not None and avx512 and "Intel" not in describe().get("cpu_name", "")
