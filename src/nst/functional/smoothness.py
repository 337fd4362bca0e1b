"""Differences of neighboring pixels; see `nst.functional`."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def total_variation(image: Tensor, *, power: Literal[1, 2] = 2) -> Tensor:
    r"""Return the mean difference of neighboring pixels of images `(N, C, H, W)`, `(N,)`.

    $$\mathrm{TV} = \overline{|x_{i+1,j} - x_{i,j}|^{p}} + \overline{|x_{i,j+1} - x_{i,j}|^{p}}$$

    Other libraries sum over pixels, so their weight depends on the size of the picture. `power`, p,
    is 1 for the anisotropic form (Esedoglu & Osher 2004) of the total variation of Rudin et al.
    (1992), 2 for squared differences.

    Examples:
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).tolist()
        [1.0]
    """
    terms = [
        difference.abs().pow(power).flatten(1).mean(1)
        for difference in (image.diff(dim=-2), image.diff(dim=-1))
        if difference.numel() > 0  # a picture of one row has no vertical neighbors
    ]
    return sum(terms, image.new_zeros(len(image)))


def laplacian(image: Tensor, pool: int = 1) -> Tensor:
    r"""Return the Laplacian of an image averaged over cells of `pool` pixels: its lines.

    \(\sum_{q \sim p} (x_q - x_p)\) over the four neighbors of each cell, inside the border only:
    `(N, C, H, W)` to `(N, C, H // pool - 2, W // pool - 2)`, at least 0 each. Pixels left over at
    the right and lower border are dropped.

    Examples:
        >>> image = torch.tensor([[0.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 0.0]])
        >>> laplacian(image[None, None]).tolist()
        [[[[-8.0]]]]
    """
    cells = F.avg_pool2d(image, pool) if min(image.shape[-2:]) >= pool else image[..., :0, :0]
    inside = cells[..., 1:-1, 1:-1]
    beside = cells[..., :-2, 1:-1] + cells[..., 2:, 1:-1]
    return beside + cells[..., 1:-1, :-2] + cells[..., 1:-1, 2:] - 4 * inside
