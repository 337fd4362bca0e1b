"""A small network with random weights, and a check of losses, for tests."""

import copy
import math
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nst._engine.passing import check_definition, copied, keeps_promise
from nst._utils.device import plain_arithmetic
from nst._utils.text import one_line
from nst.extractors.base import Extractor, as_extractor
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.losses.base import Features, Loss, Statistic, parts_of
from nst.losses.content import PointwiseLoss
from nst.losses.storable import StatisticLoss, StorableLoss

__all__ = ["check_loss", "tiny_extractor"]

_COPY = "Other losses read it: use operations that return new tensors, or .clone() it."


def tiny_extractor(seed: int = 0) -> FeatureExtractor:
    """Return a fast VGG19 with few channels and random weights, which needs no file.

    Args:
        seed: Seed of the weights; global generators are not used.

    Examples:
        >>> features = tiny_extractor()(torch.rand(1, 3, 16, 16), ["relu1_1", "relu5_1"])
        >>> tuple(features["relu5_1"].shape)
        (1, 8, 1, 1)
    """
    channels = (4, 6, 8, 8, 8)  # of each block; VGG19 has 64, 128, 256, 512 and 512
    generator = torch.Generator("cpu").manual_seed(seed)
    kind: Any = {"generator": generator, "device": "cpu", "dtype": torch.float32}
    tensors, inputs = {}, 3
    for name in CONVOLUTIONS:
        outputs = channels[int(name[4]) - 1]
        kernel = torch.randn(outputs, inputs, 3, 3, **kind)
        # He et al. (2015): preserves the scale of the features from layer to layer.
        tensors[f"{name}.weight"] = kernel * (2 / (9 * inputs)) ** 0.5
        tensors[f"{name}.bias"] = torch.rand(outputs, **kind) * 0.1
        inputs = outputs
    return FeatureExtractor(Weights(tensors, f"tiny, seed {seed}"))


@plain_arithmetic()
def check_loss(loss: Loss, extractor: nn.Module | None = None) -> None:
    """Check that a loss fulfills the requirements of its kind; call it in your own tests.

    Every loss must be a finite scalar, with a nonzero gradient that agrees with finite differences,
    and the mean over the pictures of a batch; read only its `layers` and change none; support
    `.to()`; and leave targets out of `state_dict()`. With a reference, loss and gradient must
    vanish at its own target. With `reference = "style"`, a blend of two equal styles must equal
    that style, and a style of weight 0 change nothing. The statistic of a `StatisticLoss` must be
    **linear in its weights**, and a `PointwiseLoss` must compare each position by itself.

    Args:
        loss: The loss, captured or not; it is not changed.
        extractor: Network that computes the features; by default `tiny_extractor()`.

    Raises:
        AssertionError: A requirement is violated, or a method fails; the message names it.

    Warns:
        UserWarning: `capture` changes the features that it receives. A run passes copies, but
            other training loops may not.

    Examples:
        >>> from nst import GramStyleLoss
        >>> check_loss(GramStyleLoss(["relu1_1", "relu3_1"]))
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"`loss` is {loss!r}; it must be an nst.Loss (an instance).")
    if not isinstance(extractor, nn.Module | None):
        raise TypeError(f"`extractor` is {extractor!r}; it must be a network (an nn.Module).")
    network = as_extractor(tiny_extractor() if extractor is None else copy.deepcopy(extractor))
    network = network.in_full_precision().double().eval()  # rounding is none of the loss's faults
    generator, kind = torch.Generator("cpu").manual_seed(0), torch.float64
    pictures, other = torch.rand(2, 2, 3, 32, 32, generator=generator, dtype=kind, device="cpu")
    try:
        check_definition("loss", loss)
        _Check(copied("loss", loss).double(), network).all(pictures, other)
    except Exception as error:  # a user's methods may raise anything
        promise = _explained(error)
        raise AssertionError(f"{type(loss).__name__}: {promise}") from error


def _explained(error: Exception) -> str:
    """Return the message of an error, and the method of the loss that raised it."""
    codes = [
        frame.f_code
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if isinstance(frame.f_locals.get("self"), Loss)
    ]
    own = [code.co_name for code in codes if code.co_filename != nn.modules.module.__file__]
    if isinstance(error, AssertionError) or not own:
        return one_line(error)
    return f"{own[-1]} raised {type(error).__name__}: {one_line(error)}"


def _require(holds: bool | Tensor, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)


class _Declared(dict[str, Tensor]):
    """Features of the layers that a loss declares."""

    def __missing__(self, layer: str) -> Tensor:
        raise AssertionError(
            f"it reads {layer!r}, but its `layers` are {tuple(self)}. Add the layer."
        )


@dataclass(frozen=True)
class _Check:
    """The requirements of one loss, by kind."""

    loss: Loss
    extractor: Extractor

    def all(self, pictures: Tensor, other: Tensor) -> None:
        overrides = type(self.loss).capture is not Loss.capture
        _require(
            self.loss.reference is not None or not overrides,
            "capture is never called, as `reference` is None. Set it to 'content' or 'style'.",
        )
        if isinstance(self.loss, StatisticLoss):
            features = self.features(pictures)
            for layer in self.loss.layers:
                self.linear(self.loss.statistic, layer, features[layer].flatten(2))
        if isinstance(self.loss, StorableLoss):
            self.halves(self.loss, pictures)
        self.value_and_gradient(pictures[:1], other[:1])
        self.batch(pictures, other)
        if isinstance(self.loss, PointwiseLoss):
            _require(
                keeps_promise(self.captured(other), self.features(pictures)),
                "error must compare each position by itself: of half of the positions, it must "
                "return half of the values.",
            )
        if self.loss.reference == "style":
            self.blend(pictures[:1], other[:1], other[1:])
        if self.loss.reference is not None:
            self.own_target(other[:1], pictures[:1])
        self.moves(pictures[:1].float(), other[:1].float())

    def features(self, image: Tensor) -> Features:
        layers = [layer for layer in self.loss.layers if layer != "image"]
        # A copy, as a loss may change it; in place, PyTorch itself would refuse to change a leaf.
        found = {**self.extractor(image, layers), "image": image.clone()}
        return _Declared({layer: found[layer] for layer in self.loss.layers})

    def captured(self, *references: Tensor, blend: Sequence[float] | None = None) -> Loss:
        loss, given = copied("loss", self.loss), [self.features(image) for image in references]
        originals = copy.deepcopy(given)
        if loss.reference == "style":
            loss.capture(given, blend)
        elif loss.reference is not None:
            loss.capture(given[0])
        for each, original in zip(given, originals, strict=True):
            for layer in _changed(each, original):
                what = f"{type(loss).__name__}.capture changes {layer!r}, which it receives."
                warnings.warn(f"{what} {_COPY}", stacklevel=2)
        return loss

    def value(self, loss: Loss, features: Features) -> Tensor:
        """Return the loss, a scalar, of features that it must not change."""
        before = {layer: feature.detach().clone() for layer, feature in features.items()}
        value: Tensor = loss(features)
        is_tensor = isinstance(value, Tensor)
        found = f"shape {tuple(value.shape)}" if is_tensor else type(value).__name__
        rule = f"forward must return a scalar, not {found}. Reduce it by .mean()."
        _require(is_tensor and value.ndim == 0, rule)
        for layer in _changed(features, before):
            _require(False, f"forward changes {layer!r}, which it receives. {_COPY}")
        return value

    def linear(self, statistic: Callable[..., Statistic], layer: str, feature: Tensor) -> None:
        law = "a statistic must be linear in its weights"
        n, _, positions = feature.shape
        some = torch.linspace(0, 1, positions, dtype=feature.dtype, device="cpu").expand(n, 1, -1)
        part, rest = statistic(feature, some), statistic(feature, 1 - some)
        rule = f"statistic must return a tensor or a tuple of tensors, not {type(part).__name__}."
        _require(all(isinstance(each, Tensor) for each in parts_of(part)), rule)
        _require(
            _close(statistic(feature, some + (1 - some)), _sum(part, rest)),
            f"{law}: statistic(f, a + b) differs from statistic(f, a) + statistic(f, b) at "
            f"{layer!r}. Return raw moments, and compute nonlinear terms, such as a standard "
            "deviation, in `distance`.",
        )
        _require(
            _close(statistic(feature, 3 * some), _sum(part, part, part)),
            f"{law}: statistic(f, 3 w) differs from 3 statistic(f, w) at {layer!r}. Multiply "
            "each position by `weight` exactly once and do not normalize by it.",
        )
        tiles = zip(feature.tensor_split(2, -1), some.tensor_split(2, -1), strict=True)
        _require(
            positions == 1 or _close(part, _sum(*(statistic(*tile) for tile in tiles))),
            f"{law}: the statistic of a picture differs from the sum over its tiles at {layer!r}. "
            "Let each position contribute by itself.",
        )
        number = feature.new_full((n, 1, 1), 1 / positions)
        _require(
            _close(statistic(feature, number), statistic(feature, number.expand_as(some))),
            f"equal weights given as one number, (N, 1, 1), must count as that number at every "
            f"position; they do not at {layer!r}. Sum over positions, do not take their mean.",
        )

    def halves(self, loss: StorableLoss, pictures: Tensor) -> None:
        features = self.features(pictures)
        mask = torch.zeros_like(pictures[:1, :1])
        mask[..., : mask.shape[-1] // 2] = 1
        whole = loss.summarize(features)
        left, right = (loss.summarize({**features, "mask": each}) for each in (mask, 1 - mask))
        for layer in whole:
            same = _close(_sum(whole[layer], whole[layer]), _sum(left[layer], right[layer]))
            rule = "a picture's summary must be the mean of its halves'"
            _require(same, f"{rule}; not at {layer!r}.")

    def value_and_gradient(self, picture: Tensor, other: Tensor) -> None:
        loss = self.captured(other)
        image = picture.clone().requires_grad_()
        value = self.value(loss, self.features(image))
        _require(value.isfinite(), f"the loss of a random picture is {float(value.detach())}.")
        rule = "the loss must depend on the picture; it has no gradient. Do not detach features."
        _require(value.requires_grad, rule)
        (gradient,) = torch.autograd.grad(value, image, allow_unused=True)
        _require(gradient is not None, rule)
        _require(gradient.isfinite().all(), "the gradient must be finite everywhere.")
        _require(gradient.any(), "the gradient is zero everywhere for a random picture.")
        # Along the gradient itself, where the change of the loss is well above rounding.
        step = 1e-6 * gradient / gradient.norm()
        with torch.no_grad():
            above, below = self.features(picture + step), self.features(picture - step)
            change = self.value(loss, above) - self.value(loss, below)
        slope, expected = float(change / 2e-6), float(gradient.norm())
        agree = abs(slope - expected) <= 1e-3 * expected
        rule = f"the gradient promises a slope of {expected:.6g}; the loss changes by {slope:.6g}."
        _require(agree, rule)
        added = sorted(loss.state_dict().keys() - self.loss.state_dict().keys())
        rule = f"state_dict() must not hold targets, but capture added {added}"
        _require(not added, f"{rule}. Register them with persistent=False.")

    def batch(self, pictures: Tensor, references: Tensor) -> None:
        if self.loss.reference in ("style", None):
            references = references[:1]
        together = self.value(self.captured(references), self.features(pictures))
        pairs = zip(torch.split(pictures, 1), references.expand_as(pictures), strict=True)
        alone = [self.value(self.captured(own[None]), self.features(one)) for one, own in pairs]
        rule = "the loss of a batch must be the mean of its pictures' losses"
        same = _close(together, torch.stack(alone).mean())
        _require(same, f"{rule}. Reduce over everything but the batch first.")

    def blend(self, picture: Tensor, one: Tensor, other: Tensor) -> None:
        features = self.features(picture)
        twice = self.captured(one, one, blend=[0.3, 0.7])(features)
        same = _close(twice, self.captured(one)(features))
        _require(same, "a blend of two equal styles must equal that style.")
        second = self.captured(one, other, blend=[0.0, 1.0])(features)
        same = _close(second, self.captured(other)(features))
        rule = "a style of weight 0 must not change a blend"
        _require(same, f"{rule}; `capture` must use every reference and its weight.")

    def own_target(self, picture: Tensor, other: Tensor) -> None:
        loss = self.captured(picture)
        value, slope = self.value_and_slope(loss, picture)
        _require(abs(value) <= 1e-9, f"the loss must be zero at its own target; it is {value:.3g}.")
        _require(math.isfinite(slope), "the gradient at its own target must be finite.")
        _, elsewhere = self.value_and_slope(loss, other)
        _require(
            # Above rounding in float64, below what an optimizer could follow.
            slope <= 1e-6 * elsewhere,
            f"the gradient must be zero at its own target; it is {slope:.3g} there, "
            f"{elsewhere:.3g} for another picture. Compare by something smooth, such as a square.",
        )

    def value_and_slope(self, loss: Loss, picture: Tensor) -> tuple[float, float]:
        """Return the loss and the norm of its gradient with respect to the features."""
        found = self.features(picture)
        features = {layer: found[layer].detach().requires_grad_() for layer in loss.layers}
        value = self.value(loss, _Declared(features))
        if not value.requires_grad:  # a constant there
            return float(value), 0.0
        gradients = torch.autograd.grad(value, list(features.values()), materialize_grads=True)
        return float(value.detach()), math.hypot(*(float(g.norm()) for g in gradients))

    def moves(self, picture: Tensor, other: Tensor) -> None:
        exact = self.captured(other.double())(self.features(picture.double()))
        moved = self.captured(other.double()).float()
        single = _Check(self.loss, copy.deepcopy(self.extractor).float())
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        remedy = "targets must be buffers, so that .to() moves them."
        for device in ["cpu", *(name for name, there in available.items() if there)]:
            single.extractor.to(device)
            try:
                value = moved.to(device)(single.features(picture.to(device))).detach()
            except Exception as error:  # PyTorch's, for two dtypes or devices
                raise AssertionError(f"`loss.to()`: {_explained(error)}; {remedy}") from error
            found = f"on {device} in float32 the loss is {value.dtype} on {value.device}"
            right = value.device.type == device and value.dtype == torch.float32
            _require(right, f"{found}; {remedy}")
            near = torch.isclose(value.cpu().double(), exact, rtol=1e-3, atol=1e-5)
            values = f"{float(value):.6g}, in float64 {float(exact):.6g}"
            _require(near, f"the loss in float32 on {device} is {values}.")


def _changed(features: Features, before: Features) -> list[str]:
    return [layer for layer in features if not torch.equal(features[layer], before[layer])]


def _sum(*statistics: Statistic) -> Statistic:
    return tuple(sum(parts) for parts in zip(*map(parts_of, statistics), strict=True))


def _close(a: Statistic, b: Statistic) -> bool:
    return len(parts_of(a)) == len(parts_of(b)) and all(
        x.shape == y.shape and torch.allclose(x, y, rtol=1e-9, atol=1e-12)
        for x, y in zip(parts_of(a), parts_of(b), strict=True)
    )
