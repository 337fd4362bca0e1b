"""Formulas of the losses.

Features are `(N, C, P)`: P positions of C channels. The weights of positions are `(N, 1, P)`, or
`(N, 1, 1)` where all are equal; by default they are equal and sum to one. A *statistic* is a
weighted sum over positions. Because it is linear in its weights, styles and regions can be blended.
Distances are one number per picture, `(N,)`; a target whose first dimension is 1 serves them all.

Gatys et al. is "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), Johnson et
al. is "Perceptual Losses for Real-Time Style Transfer" (ECCV 2016).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst.functional.flow import flow_reliability, long_term_weights, warp
from nst.functional.matching import (
    nearest_neighbor_error,
    relaxed_transport,
    sample_positions,
    self_similarity,
    sliced_wasserstein,
    sorted_error,
    unit_features,
    unit_floor,
)
from nst.functional.smoothness import laplacian, total_variation

__all__ = [
    "covariance",
    "cross_gram",
    "flow_reliability",
    "gram_matrix",
    "laplacian",
    "long_term_weights",
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
    "square_size",
    "squared_bures",
    "standard_deviation",
    "total_variation",
    "uniform_weight",
    "unit_features",
    "unit_floor",
    "warp",
]


def uniform_weight(feature: Tensor) -> Tensor:
    """Return equal weights that sum to one: `1 / P`, `(N, 1, 1)`.

    Examples:
        >>> uniform_weight(torch.ones(2, 3, 4)).flatten().tolist()
        [0.25, 0.25]
    """
    if feature.ndim != 3:
        shape = tuple(feature.shape)
        raise ValueError(f"`feature` is {shape}; it must be (N, C, P). Use feature.flatten(2).")
    return feature.new_full((len(feature), 1, 1), 1 / feature.shape[-1])


def mask_weight(mask: Tensor, shape: Sequence[int]) -> Tensor:
    r"""Return the weights `(N, 1, P)` of the positions of a layer of height and width `shape`.

    The mask, `(N, 1, H, W)`, non-negative, not all zero, is averaged over the pixels of a position,
    then divided by its sum. Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer"
    (CVPR 2017).

    Examples:
        >>> mask_weight(torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]]), (1, 2)).flatten().tolist()
        [0.6666666865348816, 0.3333333432674408]
    """
    share = F.interpolate(mask, tuple(shape), mode="area").flatten(2)
    return share / share.sum(-1, keepdim=True)


def gram_matrix(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the Gram matrix \(G_{ij} = \sum_p w_p F_{ip} F_{jp}\), `(N, C, C)`.

    It shows which channels respond together. With the default weights, \(w_p = 1/P\), it does not
    depend on the image size. Gatys et al. use \(w_p = 1\); Johnson et al. divide by C as well.

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
        # In the features' own memory layout, which a network in `channels_last` needs.
        product: Tensor = (feature.mT @ both).mT if feature.stride(1) == 1 else both @ feature
        return product


def mean(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the mean response of every channel, \(\mu_i = \sum_p w_p F_{ip}\), `(N, C)`.

    Examples:
        >>> mean(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[2.0]]
    """
    weight = uniform_weight(feature) if weight is None else weight
    if weight.shape[-1] == 1:
        return weight[..., 0] * feature.sum(-1)
    return (feature * weight).sum(-1)


def second_moment(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the raw second moments \(m_i = \sum_p w_p F_{ip}^2\), `(N, C)`: the Gram diagonal.

    Examples:
        >>> second_moment(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[5.0]]
    """
    return mean(feature.square(), weight)


def cross_gram(feature: Tensor, other: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return \(\sum_p w_p F_{ip} H_{jp}\), `(N, C, D)`, of layers `(N, C, P)` and `(N, D, P)`.

    Examples:
        >>> cross_gram(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 4.0]]])).tolist()
        [[[7.0]]]
    """
    weight = uniform_weight(feature) if weight is None else weight
    if weight.shape[-1] == 1:
        return weight * (feature @ other.mT)
    return (feature * weight) @ other.mT


def mean_square_error(value: Tensor, target: Tensor) -> Tensor:
    r"""Return the mean of \((x - \hat x)^2\) over all dimensions but the batch, `(N,)`.

    Examples:
        >>> mean_square_error(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 3.0]])).tolist()
        [2.0]
    """
    square = (value - target).square()
    return square.reshape(len(square), -1).mean(1)


def square_size(target: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    r"""Return the divisor of a relative error, \(\max(\lVert \hat x \rVert^2, \epsilon)\), `(N,)`.

    It is 1 where that is 0. `floor`, \(\epsilon\), `(N,)`, is for targets that may be rounding.

    Examples:
        >>> square_size(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [25.0, 1.0]
    """
    size = target.square().reshape(len(target), -1).sum(1)
    size = size.maximum(torch.as_tensor(floor, dtype=size.dtype, device=size.device))
    return torch.where(size > 0, size, 1)


def relative_square_error(value: Tensor, target: Tensor, size: Tensor | None = None) -> Tensor:
    r"""Return \(\lVert x - \hat x \rVert^2 / \lVert \hat x \rVert^2\), dimensionless, `(N,)`.

    0 at the target and 1 for a value of zero. `size`, the divisor, is `square_size(target)` by
    default, so a target of zeros is compared absolutely.

    Examples:
        >>> relative_square_error(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).tolist()
        [1.5625]
    """
    size = square_size(target) if size is None else size
    square = (value - target).square()
    return square.reshape(len(square), -1).sum(1) / size


def covariance(gram: Tensor, mean: Tensor) -> Tensor:
    r"""Return the covariance of the channels, \(\Sigma = G - \mu \mu^\top\), `(N, C, C)`.

    From Gram matrices `(N, C, C)` and means `(N, C)` of weights that sum to one.

    Examples:
        >>> covariance(torch.tensor([[[5.0]]]), torch.tensor([[2.0]])).tolist()  # of 1 and 3
        [[[1.0]]]
    """
    return gram - mean[:, :, None] * mean[:, None]


def standard_deviation(mean: Tensor, second_moment: Tensor, floor: Tensor | float) -> Tensor:
    r"""Return the standard deviation of every channel, \(\sqrt{\max(m - \mu^2, 0) + \epsilon}\).

    Where that is 0, so is the gradient. All are `(N, C)`. `floor`, \(\epsilon\), bounds the slope
    of channels that hardly vary; it must be well above the rounding of the second moment.

    Examples:
        >>> standard_deviation(torch.tensor([[2.0]]), torch.tensor([[13.0]]), 0.0).tolist()
        [[3.0]]
    """
    variance = (second_moment - mean.square()).clamp_min(0) + floor
    none = variance == 0
    # The root of 1 in place of 0, where its slope is infinite.
    return torch.where(none, 0, torch.where(none, 1, variance).sqrt())


def regularized(covariance: Tensor, floor: Tensor) -> Tensor:
    r"""Return \(\Sigma + \epsilon I\), `(N, C, C)`, which is regular, as `squared_bures` requires.

    `floor`, \(\epsilon\), `(N,)` or `(1,)`, must be well above the rounding of the Gram matrix.

    Examples:
        >>> regularized(torch.ones(1, 2, 2), torch.tensor([0.5])).tolist()
        [[[1.5, 1.0], [1.0, 1.5]]]
    """
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return covariance + floor[:, None, None] * eye


def square_root(matrix: Tensor) -> Tensor:
    r"""Return the symmetric root of positive semidefinite matrices `(N, C, C)`, without gradient.

    Examples:
        >>> square_root(torch.tensor([[[4.0, 0.0], [0.0, 9.0]]])).tolist()
        [[[2.0, 0.0], [0.0, 3.0]]]
    """
    values, vectors = _eigen(_double(matrix.detach()))
    root: Tensor = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT  # below 0: rounding
    return root.to(matrix)


def squared_bures(covariance: Tensor, root: Tensor, floor: Tensor) -> Tensor:
    r"""Return the squared Bures distance between covariances, given one's square root A, `(N,)`.

    $$\operatorname{tr}(\Sigma + A^2 - 2 (A \Sigma A)^{1/2}), \qquad
    \frac{\partial}{\partial \Sigma} = I - A (A \Sigma A)^{-1/2} A$$

    Plus the squared distance of the means, it is the squared Wasserstein distance between normal
    distributions. Computed in float64.

    Args:
        covariance: Result of `regularized`, `(N, C, C)`.
        root: `square_root` of the regularized target, `(N, C, C)` or `(1, C, C)`.
        floor: The `floor` of `regularized`, `(N,)` or `(1,)`; a quarter of it is the lower limit
            of the variance in any direction.

    Examples:
        >>> four, nine = torch.full((1, 1, 1), 4.0), torch.full((1, 1, 1), 9.0)
        >>> squared_bures(four, square_root(nine), torch.tensor([1e-4])).tolist()  # (2 - 3)**2
        [1.0]
    """
    a, sigma = _double(root), _double(covariance)
    traces = sigma.diagonal(dim1=-2, dim2=-1).sum(-1) + a.square().flatten(1).sum(1)
    product: Tensor = _TraceOfRoot.apply(sigma, a, _double(floor))
    distance: Tensor = traces - 2 * product
    return distance.to(covariance)


class _TraceOfRoot(torch.autograd.Function):
    """The trace of the square root of A S A, whose gradient for S is A (A S A)^(-1/2) A / 2."""

    @staticmethod
    def forward(ctx: Any, sigma: Tensor, a: Tensor, floor: Tensor) -> Tensor:
        values, vectors = _eigen(a @ (sigma + sigma.mT) @ a / 2)
        moved = a @ vectors
        # Without rounding, v'ASAv is at least the floor times |Av|^2. A quarter of that as limit
        # does not act at the target.
        least = floor[:, None] / 4 * moved.square().sum(1)
        roots = values.maximum(least).clamp_min(1e-300).sqrt()
        ctx.save_for_backward((moved / roots[:, None]) @ moved.mT)
        return roots.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient[:, None, None] * slope / 2, None, None


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors; eigenvalues of NaN where the matrix is not finite."""
    finite = matrix.isfinite().flatten(1).all(1)
    # The solver would raise an error, but a run should end with the reason that it diverged.
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrix, 0))
    return torch.where(finite[:, None], values, torch.nan), vectors


def _double(matrix: Tensor) -> Tensor:
    return (matrix.cpu() if matrix.is_mps else matrix).double()
