"""For tests on small tensors: a network with no weights to load, and a check for losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.losses import Features, Loss, Statistic, StatisticLoss
from nst.losses.base import StorableLoss

__all__ = ["check_loss", "tiny_extractor"]

# Channels of each block; VGG19 has 64, 128, 256, 512 and 512.
_TINY_CHANNELS = (4, 6, 8, 8, 8)
# The largest gradient at its own target, of that for another picture: rounding in float64, and no
# more of a gradient than an optimizer could follow.
_REST = 1e-6


def tiny_extractor(seed: int = 0) -> FeatureExtractor:
    """Return VGG19 with a few channels and random weights: same layers, no file, no time.

    Args:
        seed: Makes the weights; the same seed gives the same network. No global generator is
            touched.

    Examples:
        >>> features = tiny_extractor()(torch.rand(1, 3, 16, 16), ["relu1_1", "relu5_1"])
        >>> tuple(features["relu5_1"].shape)
        (1, 8, 1, 1)
    """
    generator = torch.Generator().manual_seed(seed)
    tensors, inputs = {}, 3
    for name in CONVOLUTIONS:
        outputs = _TINY_CHANNELS[int(name[4]) - 1]
        # He et al. (2015): keeps the size of the features from layer to layer.
        deviation = (2 / (9 * inputs)) ** 0.5
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator) * deviation
        tensors[f"{name}.weight"] = kernel
        tensors[f"{name}.bias"] = torch.rand(outputs, generator=generator) * 0.1
        inputs = outputs
    return FeatureExtractor(Weights(tensors, f"tiny, seed {seed}"))


def check_loss(loss: Loss, extractor: nn.Module | None = None) -> None:
    """Check that a loss keeps the promises of its kind; call it in your own tests.

    For every loss: a finite scalar; a finite gradient that is not zero and that agrees with finite
    differences; no target in `state_dict()`; a batch counts as the mean of its pictures; it follows
    `.to()` to other types and devices. If it has a reference, it is zero at its own target, and so
    is its gradient there with respect to the features: at most a millionth of that for another
    picture. If the reference is the styles: a blend of two equal ones equals that one, and one of
    weight 0 changes nothing. For a `StatisticLoss`: **the statistic is linear in its weights**,
    which blending stands on.

    The loss itself is not changed.

    Args:
        loss: The loss, captured or not.
        extractor: Where its features come from, if not from layers named as in VGG19.

    Raises:
        AssertionError: A promise is broken; the message says which.
        TypeError: It is no loss; a class that was not instantiated, for example.

    Examples:
        >>> from nst import GramStyleLoss
        >>> check_loss(GramStyleLoss(["relu1_1", "relu3_1"]))
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"`loss` is {loss!r}; it must be an nst.Loss (an instance).")
    extractor = (tiny_extractor() if extractor is None else copy.deepcopy(extractor)).double()
    generator = torch.Generator().manual_seed(0)
    pictures, other = (
        torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    checked = _Checked(copy.deepcopy(loss).double(), extractor)
    if isinstance(loss, StatisticLoss):
        checked.check_linear(pictures)
    if isinstance(loss, StorableLoss):
        checked.check_parts(pictures)
    checked.check_value_and_gradient(pictures[:1], other[:1])
    checked.check_batch(pictures, other)
    checked.check_blend(pictures, other)
    checked.check_own_target(other[:1], pictures[:1])
    checked.check_moves(pictures[:1].float(), other[:1].float())


class _Checked:
    """A loss under examination, and the network that feeds it."""

    def __init__(self, loss: Loss, extractor: nn.Module) -> None:
        self.loss, self.extractor, self.name = loss, extractor, type(loss).__name__

    def features(self, image: Tensor) -> Features:
        layers = [layer for layer in self.loss.layers if layer != "image"]
        return {**self.extractor(image, layers), "image": image}

    def captured(self, *references: Tensor, blend: Sequence[float] | None = None) -> Loss:
        loss = copy.deepcopy(self.loss)
        if loss.reference is not None:
            loss.capture([self.features(image) for image in references], blend)
        return loss

    def require(self, condition: bool | Tensor, promise: str) -> None:
        if not condition:
            raise AssertionError(f"{self.name}: {promise}")

    def check_linear(self, pictures: Tensor) -> None:
        law = "a statistic must be linear in its weights"
        assert isinstance(self.loss, StatisticLoss)
        for layer, raw in self.features(pictures).items():
            if layer not in self.loss.layers:
                continue
            feature = raw.flatten(2)
            n, _, positions = feature.shape
            some = torch.linspace(0, 1, positions, dtype=feature.dtype).expand(n, 1, -1)
            rest = 1 - some
            whole = self.loss.statistic(feature, some + rest)
            a, b = self.loss.statistic(feature, some), self.loss.statistic(feature, rest)
            self.require(
                _close(whole, _combine(a, b, 1, 1)),
                f"{law}: statistic(f, a + b) differs from statistic(f, a) + statistic(f, b) at "
                f"{layer!r}. Return raw moments and compute what is not linear, such as a "
                "standard deviation, in `distance`.",
            )
            self.require(
                _close(self.loss.statistic(feature, 3 * some), _combine(a, a, 3, 0)),
                f"{law}: statistic(f, 3 w) differs from 3 statistic(f, w) at {layer!r}. Multiply "
                "each position by `weight` exactly once and do not normalize by it.",
            )
            half = max(positions // 2, 1)
            tiles = (
                _combine(
                    self.loss.statistic(feature[..., :half], some[..., :half]),
                    self.loss.statistic(feature[..., half:], some[..., half:]),
                    1,
                    1,
                )
                if half < positions
                else a
            )
            self.require(
                _close(a, tiles),
                f"{law}: the statistic of a picture differs from the sum over its tiles at "
                f"{layer!r}. Let each position contribute by itself.",
            )
            number = torch.full((n, 1, 1), 1 / positions, dtype=feature.dtype)
            self.require(
                _close(
                    self.loss.statistic(feature, number),
                    self.loss.statistic(feature, number.expand(-1, -1, positions)),
                ),
                f"equal weights given as one number, (N, 1, 1), must count as that number at every "
                f"position; they do not at {layer!r}. Sum over positions, do not take their mean.",
            )

    def check_parts(self, pictures: Tensor) -> None:
        assert isinstance(self.loss, StorableLoss)
        features = self.features(pictures)
        mask = torch.zeros_like(pictures[:1, :1])
        mask[..., : mask.shape[-1] // 2] = 1
        whole = self.loss.summarize(features)
        left = self.loss.summarize({**features, "mask": mask})
        right = self.loss.summarize({**features, "mask": 1 - mask})
        for layer, summary in whole.items():
            self.require(
                _close(summary, _combine(left[layer], right[layer], 0.5, 0.5)),
                f"a picture's summary must be the mean of its halves'; it is not at {layer!r}.",
            )

    def check_value_and_gradient(self, picture: Tensor, other: Tensor) -> None:
        loss = self.captured(other)
        image = picture.clone().requires_grad_()
        value = loss(self.features(image))
        self.require(
            value.ndim == 0, f"forward must return a scalar, not shape {tuple(value.shape)}."
        )
        self.require(value.isfinite(), f"the loss of a random picture is {float(value.detach())}.")
        self.require(
            value.requires_grad, "the loss must depend on the picture; it has no gradient."
        )
        (gradient,) = torch.autograd.grad(value, image)
        self.require(gradient.isfinite().all(), "the gradient must be finite everywhere.")
        self.require(gradient.any(), "the gradient is zero everywhere for a random picture.")
        self.check_gradient_numerically(loss, picture, gradient)
        added = loss.state_dict().keys() - self.loss.state_dict().keys()
        self.require(
            not added,
            f"state_dict() must not hold targets, but capture added {sorted(added)}. Register "
            "them with persistent=False.",
        )

    def check_gradient_numerically(self, loss: Loss, picture: Tensor, gradient: Tensor) -> None:
        # Along the gradient itself: a sum over all pixels is well above rounding.
        direction = gradient / gradient.norm()
        eps = 1e-6
        with torch.no_grad():
            after = loss(self.features(picture + eps * direction))
            before = loss(self.features(picture - eps * direction))
        slope, promised = float((after - before) / (2 * eps)), float(gradient.norm())
        self.require(
            abs(slope - promised) <= 1e-3 * promised,
            f"the gradient promises a slope of {promised:.6g}; the loss changes by {slope:.6g}.",
        )

    def check_batch(self, pictures: Tensor, references: Tensor) -> None:
        of_each = self.loss.reference == "content"
        together = self.captured(references if of_each else references[:1])
        alone = []
        for picture, reference in zip(_each(pictures), _each(references), strict=True):
            own = reference if of_each else references[:1]
            alone.append(self.captured(own)(self.features(picture)))
        self.require(
            _close(together(self.features(pictures)), torch.stack(alone).mean()),
            "the loss of a batch must be the mean of its pictures' losses. Reduce over everything "
            "but the batch first.",
        )

    def check_blend(self, pictures: Tensor, references: Tensor) -> None:
        if self.loss.reference != "style":
            return
        features = self.features(pictures[:1])
        one, other = references[:1], references[1:]
        self.require(
            _close(
                self.captured(one, one, blend=[0.3, 0.7])(features), self.captured(one)(features)
            ),
            "a blend of two equal styles must equal that style.",
        )
        self.require(
            _close(
                self.captured(one, other, blend=[0.0, 1.0])(features),
                self.captured(other)(features),
            ),
            "a style of weight 0 must not change a blend; `capture` must use every reference and "
            "its weight.",
        )

    def check_own_target(self, picture: Tensor, other: Tensor) -> None:
        if self.loss.reference is None:
            return
        loss = self.captured(picture)
        value, slope = self.value_and_slope(loss, picture)
        self.require(
            abs(value) <= 1e-9, f"the loss must be zero at its own target; it is {value:.3g}."
        )
        self.require(math.isfinite(slope), "the gradient at its own target must be finite.")
        _, elsewhere = self.value_and_slope(loss, other)
        self.require(
            slope <= _REST * elsewhere,
            f"the gradient must be zero at its own target; it is {slope:.3g} there, "
            f"{elsewhere:.3g} for another picture. Compare by something smooth, such as a square.",
        )

    def value_and_slope(self, loss: Loss, picture: Tensor) -> tuple[float, float]:
        """Return the loss and the length of its gradient with respect to the features."""
        found = self.features(picture)
        features = {layer: found[layer].detach().requires_grad_() for layer in loss.layers}
        value = loss({**found, **features})
        gradients = torch.autograd.grad(value, list(features.values()), materialize_grads=True)
        return float(value.detach()), math.hypot(*(float(g.norm()) for g in gradients))

    def check_moves(self, picture: Tensor, other: Tensor) -> None:
        exact = self.captured(other.double())(self.features(picture.double()))
        moved = self.captured(other.double()).float()
        single = _Checked(self.loss, copy.deepcopy(self.extractor).float())
        for device in _devices():
            single.extractor.to(device)
            value = moved.to(device)(single.features(picture.to(device))).detach()
            self.require(
                value.device.type == device and value.dtype == torch.float32,
                f"on {device} in float32 the loss is {value.dtype} on {value.device}; targets "
                "must be buffers, so that .to() moves them.",
            )
            self.require(
                torch.isclose(value.double().cpu(), exact, rtol=1e-3, atol=1e-5),
                f"the loss in float32 on {device} is {float(value):.6g}, in float64 "
                f"{float(exact):.6g}.",
            )


def _each(pictures: Tensor) -> list[Tensor]:
    return [pictures[i : i + 1] for i in range(len(pictures))]


def _devices() -> list[str]:
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def _combine(a: Statistic, b: Statistic, x: float, y: float) -> Statistic:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return tuple(x * p + y * q for p, q in zip(a, b, strict=True))
    assert isinstance(a, Tensor) and isinstance(b, Tensor)
    return x * a + y * b


def _close(a: Statistic, b: Statistic) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_close, a, b))
    assert isinstance(a, Tensor) and isinstance(b, Tensor)
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12)
