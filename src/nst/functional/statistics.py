"""Statistics, which are weighted sums over positions, and errors; see `nst.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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
