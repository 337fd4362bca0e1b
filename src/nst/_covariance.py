"""The formulas of the channels' variances and covariances; see `nst.functional`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "covariance",
    "regularized",
    "square_root",
    "squared_bures",
    "standard_deviation",
]


def covariance(gram: Tensor, mean: Tensor) -> Tensor:
    r"""Return the covariance of the channels from raw moments, \(\Sigma = G - \mu \mu^\top\).

    Args:
        gram: Gram matrices of weights that sum to one, `(N, C, C)`.
        mean: Mean responses, `(N, C)`.

    Examples:
        >>> covariance(torch.tensor([[[5.0]]]), torch.tensor([[2.0]])).tolist()  # of 1 and 3
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
