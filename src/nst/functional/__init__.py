"""Formulas of the losses.

Features are `(N, C, P)`: P positions of C channels. The weights of positions are `(N, 1, P)`, or
`(N, 1, 1)` where all are equal; by default they are equal and sum to one. A *statistic* is a
weighted sum over positions. Because it is linear in its weights, styles and regions can be blended.
Distances are one number per picture, `(N,)`; a target whose first dimension is 1 serves them all.

Gatys et al. is "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), Johnson et
al. is "Perceptual Losses for Real-Time Style Transfer" (ECCV 2016).
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nst.functional.covariance import covariance, regularized, square_root, squared_bures
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
    "area_average",
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
    "square_error",
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
    share = area_average(mask, shape).flatten(2)
    return share / share.sum(-1, keepdim=True)


def area_average(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the mean over the pixels of each cell of a grid: `(N, C, H, W)` to `(N, C, *shape)`.

    Examples:
        >>> area_average(torch.tensor([[[[1.0, 3.0, 5.0]]]]), (1, 2)).tolist()
        [[[[2.0, 4.0]]]]
    """
    if not image.is_mps:
        return F.adaptive_avg_pool2d(image, (shape[0], shape[1]))
    # MPS supports only sizes that divide each other.
    down, across = (_averaging(*sizes, image) for sizes in zip(image.shape[2:], shape, strict=True))
    return down @ image @ across.mT


def _averaging(size: int, cells: int, like: Tensor) -> Tensor:
    """Return the matrix that averages values over cells, which may overlap: `(cells, size)`."""
    value = torch.arange(size, device=like.device)
    cell = torch.arange(cells, device=like.device)[:, None]
    inside = (value * cells < (cell + 1) * size) & ((value + 1) * cells > cell * size)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


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
    def forward(feature: Tensor) -> Tensor:
        return torch.bmm(feature, feature.mT)  # `@` takes several steps

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (feature,) = ctx.saved_tensors
        both = gradient + gradient.mT
        # In the features' own memory layout, which a network in `channels_last` needs.
        if feature.stride(1) == 1:
            return torch.bmm(feature.mT, both).mT
        return torch.bmm(both, feature)


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
    square = square_error(value, target)
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
    square = square_error(value, target)
    return square.reshape(len(square), -1).sum(1) / size


def square_error(value: Tensor, target: Tensor) -> Tensor:
    r"""Return \((x - \hat x)^2\), elementwise, in a single operation.

    Examples:
        >>> square_error(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 3.0]])).tolist()
        [[0.0, 4.0]]
    """
    if value.shape != target.shape:  # else `mse_loss` would warn
        value, target = torch.broadcast_tensors(value, target)  # type: ignore[no-untyped-call]
    return F.mse_loss(value, target, reduction="none")


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


def added(scalars: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of scalars in few operations.

    Examples:
        >>> added([torch.tensor(1.0), torch.tensor(2.0)], [3.0, 0.5])
        tensor(4.)
    """
    if len(scalars) == 1:
        return scalars[0] if weights[0] == 1 else weights[0] * scalars[0]
    together = torch.stack(list(scalars))
    return (together * _constants(tuple(weights), together.dtype, together.device)).sum()


@functools.lru_cache(64)
def _constants(
    values: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:  # copying them to the device at every step would wait for it
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
