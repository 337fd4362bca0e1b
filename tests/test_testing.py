"""`check_loss` must catch a loss that breaks a promise, and name the promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nst import (
    ContentLoss,
    Features,
    GramStyleLoss,
    HistogramStyleLoss,
    Loss,
    PointwiseLoss,
    Statistic,
    StatisticLoss,
    functional,
)
from nst.testing import check_loss

LAYERS = ["relu1_1", "relu2_1"]

# Statistics that are not linear in their weights, or not a sum over positions


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


NOT_LINEAR = [
    StandardDeviation,
    WeightedStandardDeviation,
    Covariance,
    WeightIgnored,
    Renormalized,
    WeightedTwice,
    Unsummed,
    Neighbors,
]


@pytest.mark.parametrize("loss", NOT_LINEAR)
def test_a_statistic_that_is_not_linear_is_caught(loss: type[StatisticLoss]) -> None:
    with pytest.raises(AssertionError, match=f"{loss.__name__}: a statistic must be linear in its"):
        check_loss(loss(LAYERS))


# Other broken promises: each class has the message that is expected as `broken`.


class Averaged(StatisticLoss):
    broken = "equal weights given as one number"

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return feature.mean(-1) * 2 if weight.shape[-1] == 1 else (feature * weight).sum(-1)


class MixedBatch(PointwiseLoss):
    broken = "the loss of a batch must be the mean"

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square().sum(0, keepdim=True).expand_as(feature)


class Unreduced(Loss):
    broken = r"forward must return a scalar, not shape \(1, 3\)"

    def forward(self, features: Features) -> Tensor:
        return features["image"].mean((-2, -1))


class Persistent(ContentLoss):
    broken = r"state_dict\(\) must not hold targets"

    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references, blend)
        self.register_buffer("goal", torch.zeros(1))


class Detached(Loss):
    broken = "the gradient promises a slope"

    def forward(self, features: Features) -> Tensor:
        return (features["image"] * features["image"].detach()).mean()


class Shifted(PointwiseLoss):
    broken = "must be zero at its own target"

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target + 0.1).square()


class Signed(PointwiseLoss):
    broken = "the gradient must be zero at its own target; it is"

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return feature - target


class Root(PointwiseLoss):
    broken = "the gradient at its own target must be finite"

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square().sum(1).sqrt()


class Stuck(ContentLoss):
    broken = "targets must be buffers"

    def scale(self, target: Tensor) -> Tensor:
        self.factor = torch.ones(3, 1, 1, dtype=torch.float64)
        return super().scale(target)

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return super().error(feature, target) * self.factor.mean().expand(1, 1, 1)


class FirstOnly(GramStyleLoss):
    broken = "`capture` must use every reference"

    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references if isinstance(references, dict) else references[0])


class BlendIgnored(HistogramStyleLoss):
    broken = "a style of weight 0 must not change a blend"

    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references)


BROKEN = [Averaged, MixedBatch, Unreduced, Persistent, Detached, Shifted, Signed, Root, Stuck]


@pytest.mark.parametrize("kind", [*BROKEN, FirstOnly, BlendIgnored])
def test_a_loss_that_breaks_a_promise_is_caught(kind: Any) -> None:
    loss = kind() if kind in (Unreduced, Detached) else kind(LAYERS)
    with pytest.raises(AssertionError, match=kind.broken):
        check_loss(loss)


# Losses that hold their promises


class MeanStd(StatisticLoss):
    """Computes standard deviations in the distance."""

    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        (mean, second), (mean_goal, second_goal) = statistic, target
        std, std_goal = (
            (m2 - m.square()).clamp(min=1e-8).sqrt()
            for m2, m in ((second, mean), (second_goal, mean_goal))
        )
        return (mean - mean_goal).square().mean() + (std - std_goal).square().mean()


class SingleNumber(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature * weight).sum((1, 2))


class Absolute(PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).abs()


@pytest.mark.parametrize("kind", [MeanStd, SingleNumber, Absolute, GramStyleLoss])
def test_a_good_loss_passes_and_is_left_as_it_was(kind: Any) -> None:
    loss = kind(LAYERS)
    check_loss(loss)
    assert list(loss.buffers()) == []


def test_a_class_is_not_a_loss() -> None:
    with pytest.raises(TypeError, match=r"`loss` is <class .* must be an nst\.Loss"):
        check_loss(GramStyleLoss)  # type: ignore[arg-type]
