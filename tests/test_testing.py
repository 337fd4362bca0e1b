"""`check_loss` must catch a loss that breaks a promise, and say which."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import ContentLoss, GramStyleLoss, HistogramStyleLoss, Loss, PointwiseLoss, StatisticLoss
from nst.testing import check_loss, tiny_extractor

LAYERS = ["relu1_1", "relu2_1"]
Function = Callable[..., Any]


def broken(kind: Any, method: str, function: Function) -> Loss:
    own: Any = type("Broken", (kind,), {method: staticmethod(function)})
    made: Loss = own() if kind is Loss else own(LAYERS)
    return made


of_statistic = partial(broken, StatisticLoss, "statistic")
of_error = partial(broken, PointwiseLoss, "error")
of_forward = partial(broken, Loss, "forward")


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
    mean = nst.functional.mean(feature, weight)
    return (nst.functional.second_moment(feature, weight) - mean.square()).clamp(min=0).sqrt()


def covariance(feature: Tensor, weight: Tensor) -> Tensor:
    gram = nst.functional.gram_matrix(feature, weight)
    return nst.functional.covariance(gram, nst.functional.mean(feature, weight))


@pytest.mark.parametrize(
    "statistic",
    [
        pytest.param(lambda f, w: f.std(-1), id="standard deviation"),
        weighted_deviation,
        covariance,
        pytest.param(lambda f, w: f.mean(-1), id="weights ignored"),
        pytest.param(lambda f, w: (f * w).sum(-1) / w.sum(-1), id="normalized again"),
        pytest.param(lambda f, w: nst.functional.gram_matrix(f * w, w), id="weighted twice"),
        pytest.param(lambda f, w: f * w, id="not summed"),
        # Linear in the weights, but not a sum over tiles.
        pytest.param(lambda f, w: ((f * w)[..., 1:] * f[..., :-1]).sum(-1), id="neighbors"),
    ],
)
def test_a_statistic_that_breaks_the_law_is_caught(statistic: Function) -> None:
    with pytest.raises(AssertionError, match="Broken: a statistic must be linear in its"):
        check_loss(of_statistic(statistic))


class Referring(Loss):
    """Refers to a photograph by a function that prepares the features."""

    reference = "content"

    def __init__(self, prepare: Function, reference: Any = "content") -> None:
        super().__init__()
        self.prepare, self.reference = prepare, reference  # type: ignore[misc]

    def capture(self, references, blend=None):  # type: ignore[no-untyped-def]
        self.register_buffer("goal", self.prepare(references).clone(), persistent=False)

    def forward(self, features):  # type: ignore[no-untyped-def]
        return (features["image"] - self.goal).square().mean()


class Bare(Loss):
    def __init__(self) -> None:
        pass

    def forward(self, features):  # type: ignore[no-untyped-def]
        return features["image"].mean()


@pytest.mark.parametrize(
    ("loss", "promise"),
    [
        (
            of_statistic(lambda f, w: f.mean(-1) * 2 if w.shape[-1] == 1 else (f * w).sum(-1)),
            "equal weights given as one number",
        ),
        (
            of_error(lambda f, t: (f - t).square().sum(0, keepdim=True).expand_as(f)),
            "the loss of a batch must be the mean",
        ),
        (of_error(lambda f, t: (f - t + 0.1).square()), "the loss must be zero at its own target"),
        (
            of_error(lambda f, t: (f - f.mean(-1, True) - t + t.mean(-1, True)).square()),
            "error must compare each position by itself",
        ),
        (of_error(lambda f, t: f - t), "the gradient must be zero at its own target; it is"),
        (of_error(lambda f, t: (f - t).square().sum(1).sqrt()), "the gradient .* must be finite"),
        (of_forward(lambda f: f["image"].mean((-2, -1))), r"forward must .*, not shape \(1, 3\)"),
        (of_forward(lambda f: (f["image"] * f["image"].detach()).mean()), "the gradient promises"),
        (Persistent(LAYERS), r"state_dict\(\) must not hold targets"),
        (Stuck(LAYERS), ".* targets must be buffers"),
        (FirstOnly(LAYERS), "a style of weight 0 .* `capture` must use every reference"),
        (Unblended(LAYERS), "a style of weight 0 must not change a blend"),
        (of_forward(lambda f: f["image"].mean().item()), ".*a scalar, not float"),
        (of_forward(lambda f: None), ".*a scalar, not NoneType"),
        (of_forward(lambda f: f["relu2_1"].mean()), ".*it reads 'relu2_1', but its"),
        (of_forward(lambda f: f["image"].detach().mean()), ".*it has no gradient"),
        (of_forward(lambda f: f["image"].mul_(2).mean()), ".*forward changes 'image'"),
        (Referring(lambda f: f["image"], "photo"), ".*reference 'photo'; it must be 'content'"),
        (Referring(lambda f: f["image"], None), ".*capture is never called"),
        (Referring(lambda f: f["relu1_1"]), ".*it reads 'relu1_1', but its `layers`"),
        (Referring(lambda f: f["image"].view(7)), ".*capture raised RuntimeError: shape"),
        (of_statistic(lambda f, w: None), ".*statistic must return a tensor"),
        (of_error(lambda f, t: 3), ".*share raised AttributeError"),
        (Bare(), r".*call super\(\).__init__"),
        (GramStyleLoss(["relu9_9"]), ".*'relu9_9', which VGG19 lacks"),
    ],
)
def test_a_loss_that_breaks_a_promise_is_caught(loss: Loss, promise: str) -> None:
    with pytest.raises(AssertionError, match=f"^{type(loss).__name__}: {promise}"):
        check_loss(loss)


def test_a_capture_that_changes_its_references_is_named() -> None:
    class Halved(Referring):
        def forward(self, features):  # type: ignore[no-untyped-def]
            return (features["image"] / 2 - self.goal).square().mean()

    check_loss(Halved(lambda f: f["image"].div(2)))
    with pytest.warns(UserWarning, match="Halved.capture changes 'image', which it receives"):
        check_loss(Halved(lambda f: f["image"].div_(2)))


def test_an_unusual_loss_that_keeps_its_promises_passes_and_does_not_change() -> None:
    absolute, single = lambda f, t: (f - t).abs(), lambda f, w: (f * w).sum((1, 2))
    for loss in (of_error(absolute), of_statistic(single), GramStyleLoss(LAYERS)):
        check_loss(loss)
        assert list(loss.buffers()) == []
    mixed = tiny_extractor()
    mixed.dtype = "bfloat16"
    check_loss(GramStyleLoss(LAYERS), mixed)
    with pytest.raises(TypeError, match="`extractor` is 'vgg'; it must be a network"):
        check_loss(GramStyleLoss(LAYERS), "vgg")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`loss` is <class .* must be an nst\.Loss"):
        check_loss(GramStyleLoss)  # type: ignore[arg-type]
