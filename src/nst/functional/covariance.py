"""Covariances of the channels and the distance between them; see `nst.functional`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def covariance(gram: Tensor, mean: Tensor) -> Tensor:
    r"""Return the covariance of the channels, \(\Sigma = G - \mu \mu^\top\), `(N, C, C)`.

    From Gram matrices `(N, C, C)` and means `(N, C)` of weights that sum to one.

    Examples:
        >>> covariance(torch.tensor([[[5.0]]]), torch.tensor([[2.0]])).tolist()  # of 1 and 3
        [[[1.0]]]
    """
    return gram - mean[:, :, None] * mean[:, None]


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
    product, _ = _TraceOfRoot.apply(sigma, a, _double(floor))
    distance: Tensor = traces - 2 * product
    return distance.to(covariance)


class _TraceOfRoot(torch.autograd.Function):
    """The trace of the square root of A S A, whose gradient for S is A (A S A)^(-1/2) A / 2."""

    @staticmethod
    def forward(sigma: Tensor, a: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = _eigen(a @ (sigma + sigma.mT) @ a / 2)
        moved = a @ vectors
        # Without rounding, v'ASAv is at least the floor times |Av|^2. A quarter of that as limit
        # does not act at the target.
        least = floor[:, None] / 4 * moved.square().sum(1)
        roots = values.maximum(least).clamp_min(1e-300).sqrt()
        return roots.sum(-1), (moved / roots[:, None]) @ moved.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: object, output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # its gradient is None, not a matrix of zeros

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
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
