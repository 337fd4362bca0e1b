"""Formulas of the smoothness and the lines of an image."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

__all__ = ["laplacian", "total_variation"]


def total_variation(image: Tensor, *, power: Literal[1, 2] = 2) -> Tensor:
    r"""Return the mean difference of neighboring pixels of images `(N, C, H, W)`, `(N,)`.

    $$\mathrm{TV} = \overline{|x_{i+1,j} - x_{i,j}|^{p}} + \overline{|x_{i,j+1} - x_{i,j}|^{p}}$$

    Unlike a sum, it does not depend on the image size. `power`, p, is 1 for the anisotropic form
    (Esedoglu & Osher 2004) of the total variation of Rudin et al. (1992), 2 for squares.

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
    r"""Return the lines of an image: its Laplacian, averaged over cells of `pool` pixels a side.

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
