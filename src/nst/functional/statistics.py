"""Every formula, once: tensors in, tensors out.

A *statistic* is a weighted sum over positions, so it is linear in its weights: that is what lets
several styles be blended and regions be masked. Features are `(N, C, P)`, P positions of C
channels; weights are `(N, 1, P)`, or `(N, 1, 1)` where all positions weigh the same.

Papers: Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks" (CVPR
2016); Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer" (ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "cross_gram",
    "gram_matrix",
    "laplacian",
    "mask_weight",
    "mean",
    "mean_square_error",
    "relative_square_error",
    "second_moment",
    "square_size",
    "total_variation",
    "uniform_weight",
]


def uniform_weight(feature: Tensor) -> Tensor:
    """Return the weight under which every position counts the same: `1 / P`.

    Args:
        feature: Features, `(N, C, P)`.

    Returns:
        A tensor of shape `(N, 1, 1)`, so that nothing as large as the features is multiplied.

    Examples:
        >>> uniform_weight(torch.ones(2, 3, 4)).flatten().tolist()
        [0.25, 0.25]
    """
    n, _, positions = feature.shape
    return feature.new_full((n, 1, 1), 1 / positions)


def mask_weight(mask: Tensor, shape: Sequence[int]) -> Tensor:
    r"""Return the weights of a layer's positions under a mask of the picture's pixels.

    The mask is averaged over the pixels that belong to each position, then divided by its sum, so
    that a small region counts as fully as a large one. Gatys et al., "Controlling Perceptual
    Factors in Neural Style Transfer" (CVPR 2017), normalize their guidance channels likewise.

    Args:
        mask: `(N, 1, H, W)`, non-negative, not all zero.
        shape: Height and width of the layer's features.

    Returns:
        Weights that sum to one, `(N, 1, P)`.

    Examples:
        >>> mask_weight(torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]]), (1, 2)).flatten().tolist()
        [0.6666666865348816, 0.3333333432674408]
    """
    share = F.interpolate(mask, tuple(shape), mode="area").flatten(2)
    return share / share.sum(-1, keepdim=True)


def gram_matrix(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the Gram matrix: which channels respond together.

    $$G_{ij} = \sum_p w_p F_{ip} F_{jp}$$

    With the default weights, \(w_p = 1/P\), it is the *mean* over positions and does not depend on
    the size of the picture. Gatys et al. sum instead (\(w_p = 1\)); Johnson et al. divide by C as
    well.

    Args:
        feature: Features, `(N, C, P)`.
        weight: Weights of the positions, `(N, 1, P)` or `(N, 1, 1)`; `1 / P` each by default.

    Returns:
        One symmetric matrix for each picture, `(N, C, C)`.

    Examples:
        >>> gram_matrix(torch.tensor([[[1.0, 3.0], [0.0, 2.0]]])).tolist()
        [[[5.0, 3.0], [3.0, 2.0]]]
    """
    weight = uniform_weight(feature) if weight is None else weight
    if weight.shape[-1] == 1:
        product: Tensor = _OwnProduct.apply(feature)
        return weight * product
    return (feature * weight) @ feature.mT


class _OwnProduct(torch.autograd.Function):
    """`feature @ feature.mT`, whose gradient takes one product where autograd would take two."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor) -> Tensor:
        ctx.save_for_backward(feature)
        return feature @ feature.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (feature,) = ctx.saved_tensors
        both = gradient + gradient.mT
        # In the features' own memory layout: a network in `channels_last` works on with it.
        product: Tensor = (feature.mT @ both).mT if feature.stride(1) == 1 else both @ feature
        return product


def mean(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the mean response of every channel, \(\mu_i = \sum_p w_p F_{ip}\).

    Args:
        feature: Features, `(N, C, P)`.
        weight: Weights of the positions, `(N, 1, P)` or `(N, 1, 1)`; `1 / P` each by default.

    Returns:
        `(N, C)`.

    Examples:
        >>> mean(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[2.0]]
    """
    weight = uniform_weight(feature) if weight is None else weight
    if weight.shape[-1] == 1:
        return weight[..., 0] * feature.sum(-1)
    return (feature * weight).sum(-1)


def second_moment(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the raw second moment of every channel, \(m_i = \sum_p w_p F_{ip}^2\).

    It is the diagonal of the Gram matrix. Raw moments may be averaged over styles; a
    standard deviation may not.

    Args:
        feature: Features, `(N, C, P)`.
        weight: Weights of the positions, `(N, 1, P)` or `(N, 1, 1)`; `1 / P` each by default.

    Returns:
        `(N, C)`.

    Examples:
        >>> second_moment(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[5.0]]
    """
    return mean(feature.square(), weight)


def cross_gram(feature: Tensor, other: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return which channels of two layers respond together, \(\sum_p w_p F_{ip} H_{jp}\).

    Args:
        feature: Features, `(N, C, P)`.
        other: Features at the same positions, `(N, D, P)`.
        weight: Weights of the positions, `(N, 1, P)` or `(N, 1, 1)`; `1 / P` each by default.

    Returns:
        `(N, C, D)`.

    Examples:
        >>> cross_gram(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 4.0]]])).tolist()
        [[[7.0]]]
    """
    weight = uniform_weight(feature) if weight is None else weight
    if weight.shape[-1] == 1:
        return weight * (feature @ other.mT)
    return (feature * weight) @ other.mT


def mean_square_error(value: Tensor, target: Tensor) -> Tensor:
    r"""Return the mean of \((x - \hat x)^2\) over everything but the batch.

    Args:
        value: `(N, ...)`.
        target: `(N, ...)`, or `(1, ...)` to compare every picture with the same target.

    Returns:
        One number for each picture, `(N,)`.

    Examples:
        >>> mean_square_error(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 3.0]])).tolist()
        [2.0]
    """
    return _flat((value - target).square()).mean(1)


def square_size(target: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    r"""Return what a relative error is divided by, \(\max(\lVert \hat x \rVert^2, \epsilon)\).

    Where that is 0, it is 1: a target of zeros has no scale of its own.

    Args:
        target: `(N, ...)`.
        floor: \(\epsilon\), `(N,)`, for a target that may be nothing but rounding.

    Returns:
        One number for each picture, `(N,)`.

    Examples:
        >>> square_size(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [25.0, 1.0]
    """
    size = _flat(target.square()).sum(1)
    size = size.maximum(torch.as_tensor(floor).to(size))
    return torch.where(size > 0, size, 1)


def relative_square_error(value: Tensor, target: Tensor, size: Tensor | None = None) -> Tensor:
    r"""Return \(\lVert x - \hat x \rVert^2 / \lVert \hat x \rVert^2\), which has no unit.

    It is 0 at the target and 1 for a value of zero, whatever the network's scale, the layer's
    number of channels or the picture's size. A target of zeros has no scale of its own and is
    compared absolutely.

    Args:
        value: `(N, ...)`.
        target: `(N, ...)`, or `(1, ...)` to compare every picture with the same target.
        size: What the squared difference is divided by, `(N,)` or `(1,)`; `square_size(target)` by
            default, which a loss computes once.

    Returns:
        One number for each picture, `(N,)`.

    Examples:
        >>> relative_square_error(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).tolist()
        [1.5625]
    """
    size = square_size(target) if size is None else size
    return _flat((value - target).square()).sum(1) / size


def total_variation(image: Tensor, *, power: Literal[1, 2] = 2) -> Tensor:
    r"""Return how much neighboring pixels differ, as a mean over neighbors.

    $$\mathrm{TV} = \overline{|x_{i+1,j} - x_{i,j}|^{p}} + \overline{|x_{i,j+1} - x_{i,j}|^{p}}$$

    Peers sum over pixels, which ties the weight to the size of the picture; the mean does not.

    Args:
        image: Pixels, `(N, C, H, W)`.
        power: 1 for the anisotropic form (Esedoglu & Osher 2004) of the total variation of Rudin et
            al. (1992), 2 for squared differences.

    Returns:
        One number for each picture, `(N,)`; 0 for a constant picture.

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
    r"""Return the Laplacian of a picture that is first averaged over cells: its lines.

    Each pixel's difference from its four neighbors, \(\sum_{q \sim p} (x_q - x_p)\), inside the
    border only. Where a picture has no more than two cells, there is nothing inside.

    Args:
        image: Pixels, `(N, C, H, W)`.
        pool: The side of a cell; what is left over at the right and lower border is dropped.

    Returns:
        `(N, C, H // pool - 2, W // pool - 2)`, at least 0 each.

    Examples:
        >>> image = torch.tensor([[0.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 0.0]])
        >>> laplacian(image[None, None]).tolist()
        [[[[-8.0]]]]
    """
    cells = F.avg_pool2d(image, pool) if min(image.shape[-2:]) >= pool else image[..., :0, :0]
    inside = cells[..., 1:-1, 1:-1]
    beside = cells[..., :-2, 1:-1] + cells[..., 2:, 1:-1]
    return beside + cells[..., 1:-1, :-2] + cells[..., 1:-1, 2:] - 4 * inside


def _flat(values: Tensor) -> Tensor:
    """Return what there is of each picture in a row, also where that is a single number."""
    return values.reshape(len(values), -1)
