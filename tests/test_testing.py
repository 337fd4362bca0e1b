"""`check_loss` must catch a loss that breaks a promise, and say which."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "loss",
    [
        StandardDeviation,
        WeightedStandardDeviation,
        Covariance,
        WeightIgnored,
        Renormalized,
        WeightedTwice,
        Unsummed,
        Neighbors,
    ],
)
def test_a_statistic_that_breaks_the_law_is_caught(loss: type[StatisticLoss]) -> None:
    with pytest.raises(AssertionError, match=f"{loss.__name__}: a statistic must be linear in its"):
        check_loss(loss(LAYERS))


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


def test_equal_weights_must_count_as_one_number() -> None:
    class Averaged(StatisticLoss):
        def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
            if weight.shape[-1] == 1:
                return feature.mean(-1) * 2
            return (feature * weight).sum(-1)

    with pytest.raises(AssertionError, match="equal weights given as one number"):
        check_loss(Averaged(LAYERS))


def test_a_batch_that_is_mixed_is_caught() -> None:
    class Summed(PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).square().sum(0, keepdim=True).expand_as(feature)

    with pytest.raises(AssertionError, match="the loss of a batch must be the mean"):
        check_loss(Summed(LAYERS))


def test_a_loss_that_is_no_scalar_is_caught() -> None:
    class Unreduced(Loss):
        def forward(self, features: Features) -> Tensor:
            return features["image"].mean((-2, -1))

    with pytest.raises(AssertionError, match=r"forward must return a scalar, not shape \(1, 3\)"):
        check_loss(Unreduced())


def test_a_target_in_the_checkpoint_is_caught() -> None:
    class Persistent(ContentLoss):
        def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
            super().capture(references, blend)
            self.register_buffer("goal", torch.zeros(1))

    with pytest.raises(AssertionError, match=r"state_dict\(\) must not hold targets"):
        check_loss(Persistent(LAYERS))


def test_a_wrong_gradient_is_caught() -> None:
    class Detached(Loss):
        def forward(self, features: Features) -> Tensor:
            image = features["image"]
            return (image * image.detach()).mean()

    with pytest.raises(AssertionError, match="the gradient promises a slope"):
        check_loss(Detached())


def test_a_loss_that_is_not_zero_at_its_own_target_is_caught() -> None:
    class Shifted(PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target + 0.1).square()

    with pytest.raises(AssertionError, match="must be zero at its own target"):
        check_loss(Shifted(LAYERS))


def test_a_gradient_that_is_not_zero_at_its_own_target_is_caught() -> None:
    class Signed(PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return feature - target

    with pytest.raises(AssertionError, match="the gradient must be zero at its own target; it is"):
        check_loss(Signed(LAYERS))


def test_a_gradient_that_is_not_finite_at_its_own_target_is_caught() -> None:
    class Root(PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).square().sum(1).sqrt()

    with pytest.raises(AssertionError, match="the gradient at its own target must be finite"):
        check_loss(Root(LAYERS))


def test_an_absolute_distance_rests_at_its_own_target() -> None:
    class Absolute(PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).abs()

    check_loss(Absolute(LAYERS))


def test_a_target_that_does_not_move_is_caught() -> None:
    class Stuck(ContentLoss):
        def scale(self, target: Tensor) -> Tensor:
            self.factor = torch.ones(3, 1, 1, dtype=torch.float64)
            return super().scale(target)

        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return super().error(feature, target) * self.factor.mean().expand(1, 1, 1)

    with pytest.raises(AssertionError, match="targets must be buffers"):
        check_loss(Stuck(LAYERS))


def test_a_capture_that_forgets_the_blend_is_caught() -> None:
    class FirstOnly(GramStyleLoss):
        def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
            super().capture(references if isinstance(references, dict) else references[0])

    with pytest.raises(AssertionError, match="`capture` must use every reference"):
        check_loss(FirstOnly(LAYERS))


def test_a_plain_style_loss_that_forgets_the_blend_is_caught() -> None:
    class Summed(HistogramStyleLoss):
        def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
            super().capture(references)

    with pytest.raises(AssertionError, match="a style of weight 0 must not change a blend"):
        check_loss(Summed(LAYERS))


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
