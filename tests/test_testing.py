"""`check_loss` must catch a loss that breaks a promise, and say which."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nst import (
    ContentLoss,
    GramStyleLoss,
    HistogramStyleLoss,
    Loss,
    PointwiseLoss,
    StatisticLoss,
    functional,
)
from nst.losses import Features, Statistic
from nst.testing import check_loss

LAYERS = ["relu1_1", "relu2_1"]


class StandardDeviation(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return feature.std(-1)


class WeightedStandardDeviation(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        mean = functional.mean(feature, weight)
        return (functional.second_moment(feature, weight) - mean.square()).clamp(min=0).sqrt()


class Covariance(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        mean = functional.mean(feature, weight)
        return functional.gram_matrix(feature, weight) - mean[:, :, None] * mean[:, None, :]


class WeightIgnored(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return feature.mean(-1)


class Renormalized(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature * weight).sum(-1) / weight.sum(-1)


class WeightedTwice(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return functional.gram_matrix(feature * weight, weight)


class Unsummed(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return feature * weight


class Neighbors(StatisticLoss):
    """Products of neighboring positions: linear in the weights, but not a sum over tiles."""

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        weighted = feature * weight
        return (weighted[..., 1:] * feature[..., :-1]).sum(-1)


class Averaged(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        if weight.shape[-1] == 1:
            return feature.mean(-1) * 2
        return (feature * weight).sum(-1)


class Mixed(PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square().sum(0, keepdim=True).expand_as(feature)


class Unreduced(Loss):
    def forward(self, features: Features) -> Tensor:
        return features["image"].mean((-2, -1))


class Persistent(ContentLoss):
    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references, blend)
        self.register_buffer("goal", torch.zeros(1))


class Detached(Loss):
    def forward(self, features: Features) -> Tensor:
        image = features["image"]
        return (image * image.detach()).mean()


class Shifted(PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target + 0.1).square()


class Signed(PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return feature - target


class Root(PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square().sum(1).sqrt()


class Stuck(ContentLoss):
    def scale(self, target: Tensor) -> Tensor:
        self.factor = torch.ones(3, 1, 1, dtype=torch.float64)
        return super().scale(target)

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return super().error(feature, target) * self.factor.mean().expand(1, 1, 1)


class FirstOnly(GramStyleLoss):
    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references if isinstance(references, dict) else references[0])


class Unblended(HistogramStyleLoss):
    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references)


LAW = "a statistic must be linear in its weights"


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (StandardDeviation, LAW),
        (WeightedStandardDeviation, LAW),
        (Covariance, LAW),
        (WeightIgnored, LAW),
        (Renormalized, LAW),
        (WeightedTwice, LAW),
        (Unsummed, LAW),
        (Neighbors, LAW),
        (Averaged, "equal weights given as one number"),
        (Mixed, "the loss of a batch must be the mean"),
        (Unreduced, r"forward must return a scalar, not shape \(1, 3\)"),
        (Persistent, r"state_dict\(\) must not hold targets"),
        (Detached, "the gradient promises a slope"),
        (Shifted, "the loss must be zero at its own target"),
        (Signed, "the gradient must be zero at its own target; it is"),
        (Root, "the gradient at its own target must be finite"),
        (Stuck, ".* targets must be buffers"),
        (FirstOnly, "a style of weight 0 .* `capture` must use every reference"),
        (Unblended, "a style of weight 0 must not change a blend"),
    ],
)
def test_a_loss_that_breaks_a_promise_is_caught(kind: Callable[..., Loss], promise: str) -> None:
    loss = kind() if kind in (Unreduced, Detached) else kind(LAYERS)
    with pytest.raises(AssertionError, match=f"^{type(loss).__name__}: {promise}"):
        check_loss(loss)


def test_a_standard_deviation_computed_in_the_distance_is_fine() -> None:
    class MeanStd(StatisticLoss):
        def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            return functional.mean(feature, weight), functional.second_moment(feature, weight)

        def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
            (mean, second), (mean_goal, second_goal) = statistic, target
            std, std_goal = (
                (m2 - m.square()).clamp(min=1e-8).sqrt()
                for m2, m in ((second, mean), (second_goal, mean_goal))
            )
            return (mean - mean_goal).square().mean() + (std - std_goal).square().mean()

    check_loss(MeanStd(LAYERS))


def test_an_absolute_distance_rests_at_its_own_target() -> None:
    class Absolute(PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).abs()

    check_loss(Absolute(LAYERS))


def test_a_class_is_not_a_loss() -> None:
    with pytest.raises(TypeError, match=r"`loss` is <class .* must be an nst\.Loss"):
        check_loss(GramStyleLoss)  # type: ignore[arg-type]


def test_the_loss_itself_is_left_as_it_was() -> None:
    loss = GramStyleLoss(LAYERS)
    check_loss(loss)
    assert list(loss.buffers()) == []


def test_a_statistic_may_be_a_single_number() -> None:
    class Sum(StatisticLoss):
        def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
            return (feature * weight).sum((1, 2))

    check_loss(Sum(LAYERS))
