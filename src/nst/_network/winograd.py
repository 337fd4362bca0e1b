"""Winograd's minimal filtering F(4x4, 3x3): a 3x3 convolution in a quarter of the products.

A tile of 6x6 pixels becomes 4x4 pixels of the result. Tile and kernel are transformed into 36
components; a matrix product for each is transformed into pixels. PyTorch has no such convolution on
CPUs. Pictures are `(N, H, W, C)` here. The gradient for the input is a convolution with the kernel
rotated by 180 degrees; rotating the tiles instead lets both directions use the same components.

Paper: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
"""

import torch
from torch import Tensor

from nst._utils.device import scratch

TILE = 4  # rows and columns of the result that are computed together
# Transform of a side of the kernel, for the points 0, 1, -1, 2, -2 and infinity.
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_COMPONENTS = 36
_CONSTANT = 7  # adds the same value to every pixel of the result, as the bias does
_NARROWEST = 64  # channels


def is_faster(kernel: Tensor, height: int, width: int) -> bool:
    """Return whether this was faster than PyTorch in benchmarks/winograd.py."""
    # Shapes alone decide, so that repeated runs are bit-identical.
    if min(kernel.shape[:2]) < _NARROWEST or min(height, width) < 2 * TILE:
        return False
    # PyTorch may be allowed to round factors to bfloat16. The sums would amplify the error.
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # since PyTorch 2.9
    if matmul is None:
        rounded = torch.get_float32_matmul_precision() == "medium"
    else:
        rounded = matmul.fp32_precision == "bf16"
    return kernel.device.type == "cpu" and kernel.dtype == torch.float32 and not rounded


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
    torch.bmm(tiles, kernel, out=products)
    if bias is not None:
        products[_CONSTANT] += bias
    n, height, width, channels = out.shape
    down, across = -(-height // TILE), -(-width // TILE)
    whole = (height, width) == (TILE * down, TILE * across)
    room = (n, TILE * down, TILE * across, channels)
    target = out if whole else scratch.take("pixels", room, out)
    half = scratch.take("half", (TILE, 6, n, down, across, channels), out)
    _to_result(products.view(6, *half.shape[1:]), half, rotated)
    pixels = target.view(n, down, TILE, across, TILE, channels).permute(2, 4, 0, 1, 3, 5)
    _to_result(half.transpose(0, 1), pixels, rotated)
    if not whole:
        out.copy_(target[:, :height, :width])


def _to_tiles(rows: Tensor, rotated: bool) -> Tensor:
    """Return the components of the tiles, `(36, N * down * across, C)`."""
    n, height, width, channels = rows.shape
    down, across = -(-(height - 2) // TILE), -(-width // TILE)
    if height < TILE * down + 2:  # the last tile reaches beyond the last row
        padded = scratch.take("padded", (n, TILE * down + 2, width, channels), rows)
        padded[:, :height], padded[:, height:] = rows, 0
        rows = padded
    # Along the columns first: whole rows are added there. The outer columns stay zero.
    half = scratch.take("half", (6, n, down, TILE * across + 2, channels), rows)
    half[:, :, :, 0] = half[:, :, :, width + 1 :] = 0
    _to_components(rows.unfold(1, 6, TILE).movedim(-1, 0), half[:, :, :, 1 : width + 1], rotated)
    tiles = scratch.take("tiles", (6, 6, n, down, across, channels), rows)
    _to_components(half.unfold(3, 6, TILE).movedim(-1, 0), tiles, rotated)
    return tiles.view(_COMPONENTS, -1, channels)


# The two transforms combine the first dimension, a side of every tile or result. They add whole
# tensors, as products with such small matrices take longer. Rotating reverses that side.


def _to_components(pixels: Tensor, out: Tensor, rotated: bool) -> None:
    """Write six components of every six pixels."""
    a, b, c, d, e, f = pixels.unbind()[:: -1 if rotated else 1]
    even, odd = scratch.take("sums", (2, *a.shape), out)
    torch.sub(a, c, out=out[0])
    torch.sub(f, d, out=out[5])
    torch.sub(e, c, alpha=4, out=even)
    torch.sub(d, b, alpha=4, out=odd)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(e, c, out=even)
    torch.sub(d, b, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(even, out[0], alpha=4, out=out[0])
    torch.sub(out[5], odd, alpha=4, out=out[5])


def _to_result(components: Tensor, out: Tensor, rotated: bool) -> None:
    """Write four pixels of every six components."""
    a, b, c, d, e, f = components
    w, x, y, z = out.unbind()[:: -1 if rotated else 1]
    even, odd = scratch.take("sums", (2, *a.shape), out)
    torch.add(b, c, out=even)
    torch.add(d, e, out=odd)
    torch.add(a, even, out=w).add_(odd)
    torch.add(even, odd, alpha=4, out=y)
    torch.sub(b, c, out=even)
    torch.sub(d, e, out=odd)
    torch.add(even, odd, alpha=2, out=x)
    torch.add(f, even, out=z).add_(odd, alpha=8)
