"""The Wasserstein distance between normal distributions of features."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst.losses.base import Statistic
from nst.losses.gram import UnitsStyleLoss

__all__ = ["WassersteinStyleLoss"]


class WassersteinStyleLoss(UnitsStyleLoss):
    r"""Matches the distribution of the features, approximated by a normal distribution.

    $$W_2^2 = \lVert \mu - \hat\mu \rVert^2
      + \operatorname{tr}\bigl(\Sigma + \hat\Sigma
      - 2 (\hat\Sigma^{1/2} \Sigma \hat\Sigma^{1/2})^{1/2}\bigr)$$

    divided by \(\lVert\hat\mu\rVert^2 + \operatorname{tr}\hat\Sigma\) for `units="relative"`, by
    the number of channels for `units="mean"`. Because the formula needs regular matrices, a
    ten-thousandth of the style's mean square in the layer is added to each variance. Takes an
    eigendecomposition in float64 per layer. Mroueh, "Wasserstein Style Transfer" (AISTATS 2020).

    Examples:
        >>> loss = WassersteinStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> round(float(loss({"relu1_1": torch.full((1, 8, 5, 7), 3.0)})), 5)  # the means' distance
        4.0
    """

    @override
    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return functional.gram_matrix(feature, weight), functional.mean(feature, weight)

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        gram, mean = statistic
        second = gram.diagonal(dim1=-2, dim2=-1)
        # A share of the variance would be rounding, of any sign, where the style is flat.
        floor = (1e-4 * second.mean(1)).clamp_min(torch.finfo(gram.dtype).tiny)
        covariance = functional.regularized(functional.covariance(gram, mean), floor)
        return functional.square_root(covariance), mean, self._size(second.sqrt()), floor

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        (gram, mean), (root, goal, size, floor) = statistic, target
        covariance = functional.regularized(functional.covariance(gram, mean), floor)
        moved = functional.squared_bures(covariance, root, floor)
        moved = moved + (mean - goal).square().sum(1)
        return (moved / size).mean()
