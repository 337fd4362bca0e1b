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
Function = Callable[[Tensor, Tensor], Tensor]


class OfStatistic(StatisticLoss):
    def __init__(self, function: Function) -> None:
        super().__init__(LAYERS)
        self.function = function

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return self.function(feature, weight)


class OfError(PointwiseLoss):
    def __init__(self, function: Function) -> None:
        super().__init__(LAYERS)
        self.function = function

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return self.function(feature, target)


class OfImage(Loss):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: Features) -> Tensor:
        return self.function(features["image"])


class Persistent(ContentLoss):
    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        super().capture(references, blend)
        self.register_buffer("goal", torch.zeros(1))


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


def weighted_deviation(feature: Tensor, weight: Tensor) -> Tensor:
    mean = functional.mean(feature, weight)
    return (functional.second_moment(feature, weight) - mean.square()).clamp(min=0).sqrt()


def covariance(feature: Tensor, weight: Tensor) -> Tensor:
    gram = functional.gram_matrix(feature, weight)
    return functional.covariance(gram, functional.mean(feature, weight))


@pytest.mark.parametrize(
    "statistic",
    [
        pytest.param(lambda f, w: f.std(-1), id="standard deviation"),
        weighted_deviation,
        covariance,
        pytest.param(lambda f, w: f.mean(-1), id="weights ignored"),
        pytest.param(lambda f, w: (f * w).sum(-1) / w.sum(-1), id="normalized again"),
        pytest.param(lambda f, w: functional.gram_matrix(f * w, w), id="weighted twice"),
        pytest.param(lambda f, w: f * w, id="not summed"),
        # Linear in the weights, but not a sum over tiles.
        pytest.param(lambda f, w: ((f * w)[..., 1:] * f[..., :-1]).sum(-1), id="neighbors"),
    ],
)
def test_a_statistic_that_breaks_the_law_is_caught(statistic: Function) -> None:
    with pytest.raises(AssertionError, match="OfStatistic: a statistic must be linear in its"):
        check_loss(OfStatistic(statistic))


@pytest.mark.parametrize(
    ("loss", "promise"),
    [
        (
            OfStatistic(lambda f, w: f.mean(-1) * 2 if w.shape[-1] == 1 else (f * w).sum(-1)),
            "equal weights given as one number",
        ),
        (
            OfError(lambda f, t: (f - t).square().sum(0, keepdim=True).expand_as(f)),
            "the loss of a batch must be the mean",
        ),
        (OfError(lambda f, t: (f - t + 0.1).square()), "the loss must be zero at its own target"),
        (OfError(lambda f, t: f - t), "the gradient must be zero at its own target; it is"),
        (
            OfError(lambda f, t: (f - t).square().sum(1).sqrt()),
            "the gradient at its own target must be finite",
        ),
        (
            OfImage(lambda image: image.mean((-2, -1))),
            r"forward must return a scalar, not shape \(1, 3\)",
        ),
        (OfImage(lambda image: (image * image.detach()).mean()), "the gradient promises a slope"),
        (Persistent(LAYERS), r"state_dict\(\) must not hold targets"),
        (Stuck(LAYERS), ".* targets must be buffers"),
        (FirstOnly(LAYERS), "a style of weight 0 .* `capture` must use every reference"),
        (Unblended(LAYERS), "a style of weight 0 must not change a blend"),
    ],
)
def test_a_loss_that_breaks_a_promise_is_caught(loss: Loss, promise: str) -> None:
    with pytest.raises(AssertionError, match=f"^{type(loss).__name__}: {promise}"):
        check_loss(loss)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(OfError(lambda f, t: (f - t).abs()), id="absolute distance"),
        pytest.param(OfStatistic(lambda f, w: (f * w).sum((1, 2))), id="single number"),
    ],
)
def test_an_unusual_loss_that_keeps_its_promises_passes(loss: Loss) -> None:
    check_loss(loss)


def test_a_standard_deviation_computed_in_the_distance_passes() -> None:
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


def test_a_class_is_not_a_loss() -> None:
    with pytest.raises(TypeError, match=r"`loss` is <class .* must be an nst\.Loss"):
        check_loss(GramStyleLoss)  # type: ignore[arg-type]


def test_the_loss_itself_does_not_change() -> None:
    loss = GramStyleLoss(LAYERS)
    check_loss(loss)
    assert list(loss.buffers()) == []
