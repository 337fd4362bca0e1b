"""Statistics, which are weighted sums over positions, and their distances; see `nst.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def uniform_weight(feature: Tensor) -> Tensor:
    """Return equal weights that sum to one: `1 / P`, `(N, 1, 1)`.

    Examples:
        >>> uniform_weight(torch.ones(2, 3, 4)).flatten().tolist()
        [0.25, 0.25]
    """
    n, _, positions = feature.shape
    return feature.new_full((n, 1, 1), 1 / positions)


def mask_weight(mask: Tensor, shape: Sequence[int]) -> Tensor:
    r"""Return the weights of a layer's positions under a mask of the picture's pixels, `(N, 1, P)`.

    The mask, `(N, 1, H, W)`, non-negative, not all zero, is averaged over the pixels of each
    position, then divided by its sum, as by Gatys et al., "Controlling Perceptual Factors in Neural
    Style Transfer" (CVPR 2017). `shape` is height and width of the layer.

    Examples:
        >>> mask_weight(torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]]), (1, 2)).flatten().tolist()
        [0.6666666865348816, 0.3333333432674408]
    """
    share = F.interpolate(mask, tuple(shape), mode="area").flatten(2)
    return share / share.sum(-1, keepdim=True)


def gram_matrix(feature: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the Gram matrix, `(N, C, C)`: which channels respond together.

    $$G_{ij} = \sum_p w_p F_{ip} F_{jp}$$

    With the default weights, \(w_p = 1/P\), it does not depend on the size of the picture. Gatys et
    al. sum instead (\(w_p = 1\)); Johnson et al. divide by C as well.

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
    r"""Return the raw second moment of every channel, \(m_i = \sum_p w_p F_{ip}^2\), `(N, C)`.

    The diagonal of the Gram matrix. Unlike standard deviations, raw moments may be averaged.

    Examples:
        >>> second_moment(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[5.0]]
    """
    return mean(feature.square(), weight)


def cross_gram(feature: Tensor, other: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return which channels of two layers respond together, \(\sum_p w_p F_{ip} H_{jp}\).

    From features at the same positions, `(N, C, P)` and `(N, D, P)`; `(N, C, D)`.

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

    Where that is 0, it is 1: a target of zeros has no scale of its own. `floor`, \(\epsilon\),
    `(N,)`, is for a target that may consist of rounding errors.

    Examples:
        >>> square_size(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [25.0, 1.0]
    """
    size = target.square().reshape(len(target), -1).sum(1)
    size = size.maximum(torch.as_tensor(floor).to(size))
    return torch.where(size > 0, size, 1)


def relative_square_error(value: Tensor, target: Tensor, size: Tensor | None = None) -> Tensor:
    r"""Return \(\lVert x - \hat x \rVert^2 / \lVert \hat x \rVert^2\), dimensionless, `(N,)`.

    0 at the target and 1 for a value of zero. A target of zeros is compared absolutely. `size`, the
    divisor, is `square_size(target)` by default.

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
    r"""Return \(\Sigma + \epsilon I\), as `squared_bures` requires it.

    It makes singular matrices `(N, C, C)` regular. `floor`, \(\epsilon\), `(N,)` or `(1,)`, must be
    well above the rounding of the Gram matrix.

    Examples:
        >>> regularized(torch.ones(1, 2, 2), torch.tensor([0.5])).tolist()
        [[[1.5, 1.0], [1.0, 1.5]]]
    """
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return covariance + floor[:, None, None] * eye


def square_root(matrix: Tensor) -> Tensor:
    r"""Return the symmetric square root of positive semidefinite matrices `(N, C, C)`.

    Without gradient; eigenvalues below 0, which are rounding, are treated as 0.

    Examples:
        >>> square_root(torch.tensor([[[4.0, 0.0], [0.0, 9.0]]])).tolist()
        [[[2.0, 0.0], [0.0, 3.0]]]
    """
    values, vectors = _eigen(_double(matrix.detach()))
    root: Tensor = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT
    return root.to(matrix)


def squared_bures(covariance: Tensor, root: Tensor, floor: Tensor) -> Tensor:
    r"""Return the squared Bures distance between covariances, given one's square root A, `(N,)`.

    $$\operatorname{tr}(\Sigma + A^2 - 2 (A \Sigma A)^{1/2}), \qquad
    \frac{\partial}{\partial \Sigma} = I - A (A \Sigma A)^{-1/2} A$$

    Plus the squared distance of the means, it is the squared Wasserstein distance between normal
    distributions. Computed in float64.

    Args:
        covariance: Result of `regularized`, `(N, C, C)`.
        root: `square_root` of the target's, regularized alike, `(N, C, C)` or `(1, C, C)`.
        floor: The `floor` of `regularized`, `(N,)` or `(1,)`; variances that rounding left below a
            quarter of it, in any direction, are raised to that.

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
        product = a @ (sigma + sigma.mT) @ a / 2
        values, vectors = _eigen(product)
        moved = a @ vectors
        # Without rounding, v'ASAv is at least the floor times |Av|^2. A quarter of that as limit
        # does not act at the target.
        least = floor[:, None] / 4 * moved.square().sum(1)
        roots = values.maximum(least).clamp_min(1e-300).sqrt()
        ctx.save_for_backward((moved / roots[:, None]) @ moved.mT)
        trace: Tensor = roots.sum(-1)
        return trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient[:, None, None] * slope / 2, None, None


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors; eigenvalues of NaN where the matrix is not finite."""
    finite = matrix.isfinite().flatten(1).all(1)
    # The solver would raise an error, where a run should end with the reason that it diverged.
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrix, 0))
    return torch.where(finite[:, None], values, torch.nan), vectors


def _double(matrix: Tensor) -> Tensor:
    return (matrix.cpu() if matrix.is_mps else matrix).double()
