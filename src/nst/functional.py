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
from torch.autograd.function import once_differentiable

from nst._matching import (
    nearest_neighbor_error,
    relaxed_transport,
    sample_positions,
    self_similarity,
    sliced_wasserstein,
    sorted_error,
)

__all__ = [
    "covariance",
    "cross_gram",
    "gram_matrix",
    "laplacian",
    "mask_weight",
    "mean",
    "mean_square_error",
    "nearest_neighbor_error",
    "regularized",
    "relative_square_error",
    "relaxed_transport",
    "sample_positions",
    "second_moment",
    "self_similarity",
    "sliced_wasserstein",
    "sorted_error",
    "square_root",
    "squared_bures",
    "standard_deviation",
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
        product: Tensor = (gradient + gradient.mT) @ feature
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


def covariance(gram: Tensor, mean: Tensor) -> Tensor:
    r"""Return the covariance of the channels from raw moments, \(\Sigma = G - \mu \mu^\top\).

    Args:
        gram: Gram matrices of weights that sum to one, `(N, C, C)`.
        mean: Mean responses, `(N, C)`.

    Examples:
        >>> feature = torch.tensor([[[1.0, 3.0]]])
        >>> covariance(gram_matrix(feature), mean(feature)).tolist()
        [[[1.0]]]
    """
    return gram - mean[:, :, None] * mean[:, None]


def standard_deviation(mean: Tensor, second_moment: Tensor, floor: Tensor | float) -> Tensor:
    r"""Return the standard deviation of every channel, \(\sqrt{\max(m - \mu^2, 0) + \epsilon}\).

    Args:
        mean: `(N, C)`.
        second_moment: `(N, C)`; rounding may leave it a little below the squared mean.
        floor: \(\epsilon\), positive: without it a channel that never varies has no gradient.

    Examples:
        >>> standard_deviation(torch.tensor([[2.0]]), torch.tensor([[13.0]]), 0.0).tolist()
        [[3.0]]
    """
    return ((second_moment - mean.square()).clamp_min(0) + floor).sqrt()


def regularized(covariance: Tensor) -> Tensor:
    r"""Return \(\Sigma + \epsilon I\), with \(\epsilon\) a ten-thousandth of the mean variance.

    It makes singular matrices regular (of a channel that never responds, or of more channels than
    positions), as `squared_bures` needs them.

    Args:
        covariance: `(N, C, C)`.

    Examples:
        >>> round(float(regularized(torch.ones(1, 1, 1))), 6)
        1.0001
    """
    channels = covariance.shape[-1]
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    floor = (1e-4 * variance).clamp_min(torch.finfo(covariance.dtype).tiny)
    eye = torch.eye(channels, dtype=covariance.dtype, device=covariance.device)
    return covariance + floor[:, None, None] * eye


def square_root(matrix: Tensor) -> Tensor:
    r"""Return the symmetric square root of positive semidefinite matrices, without gradient.

    Args:
        matrix: Symmetric, `(N, C, C)`; eigenvalues that rounding left below 0 are taken for 0.

    Examples:
        >>> square_root(torch.tensor([[[4.0, 0.0], [0.0, 9.0]]])).tolist()
        [[[2.0, 0.0], [0.0, 3.0]]]
    """
    values, vectors = torch.linalg.eigh(_double(matrix.detach()))
    root: Tensor = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT
    return root.to(matrix)


def squared_bures(covariance: Tensor, root: Tensor) -> Tensor:
    r"""Return the squared Bures distance between covariances, given one's square root A.

    $$\operatorname{tr}(\Sigma + A^2 - 2 (A \Sigma A)^{1/2}), \qquad
    \frac{\partial}{\partial \Sigma} = I - A (A \Sigma A)^{-1/2} A$$

    It is what the squared Wasserstein distance between normal distributions adds to that of their
    means. Computed in float64.

    Args:
        covariance: `(N, C, C)`; a little is added to its diagonal, as `regularized` does to A^2 by
            the same amount.
        root: `square_root` of the target's, `(N, C, C)` or `(1, C, C)`.

    Returns:
        One number for each picture, `(N,)`.

    Examples:
        >>> four, nine = torch.full((1, 1, 1), 4.0), torch.full((1, 1, 1), 9.0)
        >>> round(float(squared_bures(four, square_root(regularized(nine)))), 2)  # (2 - 3)**2
        1.0
    """
    a, sigma = _double(root), _double(covariance)
    traces = torch.einsum("nij,nij->n", a, a)
    # The floor is the target's: the same for both, so that equal ones have distance 0.
    channels = a.shape[-1]
    floor = 1e-4 * traces / channels / (1 + 1e-4)
    eye = torch.eye(channels, dtype=a.dtype, device=a.device)
    sigma = sigma + floor.clamp_min(1e-300)[:, None, None] * eye
    product: Tensor = _TraceOfRoot.apply(sigma, a)
    distance: Tensor = sigma.diagonal(dim1=-2, dim2=-1).sum(-1) + traces - 2 * product
    return distance.to(covariance)


class _TraceOfRoot(torch.autograd.Function):
    """The trace of the square root of A S A, whose gradient for S is A (A S A)^(-1/2) A / 2."""

    @staticmethod
    def forward(ctx: Any, sigma: Tensor, a: Tensor) -> Tensor:
        product = a @ (sigma + sigma.mT) @ a / 2
        values, vectors = torch.linalg.eigh(product)
        largest = values[:, -1:].clamp_min(1e-300)
        # Rounding leaves eigenvalues of any sign; what is below it has no direction.
        roots = values.clamp_min(0).maximum(largest * 1e-15).sqrt()
        ctx.save_for_backward(a @ (vectors / roots[:, None]) @ vectors.mT @ a)
        trace: Tensor = roots.sum(-1)
        return trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradient[:, None, None] * slope / 2, None


def _double(matrix: Tensor) -> Tensor:
    return (matrix.cpu() if matrix.is_mps else matrix).double()


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
    return (value - target).square().flatten(1).mean(1)


def relative_square_error(value: Tensor, target: Tensor) -> Tensor:
    r"""Return \(\lVert x - \hat x \rVert^2 / \lVert \hat x \rVert^2\), which has no unit.

    It is 0 at the target and 1 for a value of zero, whatever the network's scale, the layer's
    number of channels or the picture's size. A target of zeros has no scale of its own and is
    compared absolutely.

    Args:
        value: `(N, ...)`.
        target: `(N, ...)`, or `(1, ...)` to compare every picture with the same target.

    Returns:
        One number for each picture, `(N,)`.

    Examples:
        >>> relative_square_error(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).tolist()
        [1.5625]
    """
    size = target.square().flatten(1).sum(1)
    return (value - target).square().flatten(1).sum(1) / torch.where(size > 0, size, 1)


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
