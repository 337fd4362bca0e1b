"""Style losses of the mean and the variance of every channel."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst.losses.base import Statistic
from nst.losses.gram import FLAT, UnitsStyleLoss

__all__ = ["MeanStdStyleLoss", "MomentStyleLoss"]


class _ChannelStyleLoss(UnitsStyleLoss):
    """Compares the channels' means and another moment."""

    @override
    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    def _error(self, values: tuple[Tensor, ...], target: tuple[Tensor, ...]) -> Tensor:
        """Return the mean error of two moments against their targets, which precede two sizes."""
        parts = zip(values, target[:2], target[2:4], strict=True)
        errors = [functional.relative_square_error(*part).mean() for part in parts]
        return torch.stack(errors).mean()


class MomentStyleLoss(_ChannelStyleLoss):
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
    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        least = FLAT * second.sum(1)
        return mean, second, self._size(mean, least), self._size(second)

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        return self._error(tuple(statistic), tuple(target))


class MeanStdStyleLoss(_ChannelStyleLoss):
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
        return self._error((mean, deviation), tuple(target))
