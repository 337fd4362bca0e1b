"""Style losses of moments: means, variances and covariances of the channels."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst.losses.base import Statistic
from nst.losses.gram import FLAT, UnitsStyleLoss


class MomentStyleLoss(UnitsStyleLoss):
    r"""Matches the mean and the raw second moment of every channel, without correlations.

    A far smaller statistic than the Gram matrix, 2C numbers for C channels; Huang & Belongie (ICCV
    2017) and Li et al. (IJCAI 2017) observed that it carries much of a style. The loss of a layer
    is the average of the two moments' distances:
    \(\lVert m - \hat m \rVert^2 / \lVert \hat m \rVert^2\) for `units="relative"`,
    \(\lVert m - \hat m \rVert^2 / C\) for `units="mean"`. The mean's relative divisor is at least
    a thousandth of the sum of second moments: where features cancel, it is rounding.

    Examples:
        >>> loss = MomentStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 2.0)}))  # (1**2 + 3**2) / 2
        5.0
    """

    @override
    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        least = FLAT * second.sum(1)
        return mean, second, self._size(mean, least), self._size(second)

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        parts = zip(statistic, target[:2], target[2:4], strict=True)  # the sizes come last
        errors = [functional.relative_square_error(*part).mean() for part in parts]
        return torch.stack(errors).mean()


class MeanStdStyleLoss(MomentStyleLoss):
    r"""Matches the mean and the standard deviation of every channel.

    The statistics of Huang & Belongie (ICCV 2017) and Li et al. (IJCAI 2017). The loss of a layer
    is the average of the distances of \(\mu\) and \(\sigma = \sqrt{m - \mu^2 + \epsilon}\), in
    the units of `MomentStyleLoss`. A millionth of the style's mean square in the layer, as
    \(\epsilon\), gives dead channels a gradient. Both relative divisors are at least a thousandth
    of the sum of second moments: the deviation of a flat style is rounding.

    Examples:
        >>> loss = MeanStdStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 2.0)}))  # (1**2 + 0**2) / 2
        0.5
    """

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        floor = 1e-6 * second.mean(1, keepdim=True)
        deviation = functional.standard_deviation(mean, second, floor)
        least = FLAT * second.sum(1)
        return mean, deviation, self._size(mean, least), self._size(deviation, least), floor

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        mean, second = statistic
        deviation = functional.standard_deviation(mean, second, target[4])
        return super().distance((mean, deviation), target)


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
