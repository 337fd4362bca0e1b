"""How unlikely one picture's features are for the other: a style loss after Yeh et al. (2020).

Their effectiveness statistic is the symmetric Kullback-Leibler divergence of normal distributions,
fitted to projected features. Here every channel has one of its own.
"""

from nst import StatisticLoss, functional


class SymmetricKLLoss(StatisticLoss):
    """Compare each channel's normal distribution with the style's."""

    def statistic(self, feature, weight):
        # Raw moments, which are linear in the weights. The variance is not: it comes later.
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    def distance(self, statistic, target):
        # A channel that hardly varies would count without limit.
        floor = 0.01 * target[1].mean(-1, keepdim=True)
        mean, variance = self._normal(statistic, floor)
        goal, spread = self._normal(target, floor)
        gap = (mean - goal).square()
        divergence = (variance + gap) / spread + (spread + gap) / variance - 2
        return divergence.mean() / 4

    def _normal(self, moments, floor):
        mean, second = moments
        return mean, (second - mean.square()).clamp_min(0) + floor
