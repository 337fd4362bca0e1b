"""A small network without weights to load, and a check of losses, for tests."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.losses import Features, Loss, Statistic, StatisticLoss
from nst.losses.base import StorableLoss, parts_of

__all__ = ["check_loss", "tiny_extractor"]


def tiny_extractor(seed: int = 0) -> FeatureExtractor:
    """Return a VGG19 with few channels and random weights: same layers, no file, fast.

    Args:
        seed: Seed of the weights. No global generator is touched.

    Examples:
        >>> features = tiny_extractor()(torch.rand(1, 3, 16, 16), ["relu1_1", "relu5_1"])
        >>> tuple(features["relu5_1"].shape)
        (1, 8, 1, 1)
    """
    channels = (4, 6, 8, 8, 8)  # of each block; VGG19 has 64, 128, 256, 512 and 512
    generator = torch.Generator().manual_seed(seed)
    tensors, inputs = {}, 3
    for name in CONVOLUTIONS:
        outputs = channels[int(name[4]) - 1]
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator)
        # He et al. (2015): preserves the size of the features from layer to layer.
        tensors[f"{name}.weight"] = kernel * (2 / (9 * inputs)) ** 0.5
        tensors[f"{name}.bias"] = torch.rand(outputs, generator=generator) * 0.1
        inputs = outputs
    return FeatureExtractor(Weights(tensors, f"tiny, seed {seed}"))


def check_loss(loss: Loss, extractor: nn.Module | None = None) -> None:
    """Check that a loss keeps the promises of its kind; call it in your own tests.

    For every loss: a finite scalar; a finite gradient that is not zero and agrees with finite
    differences; no target in `state_dict()`; the loss of a batch is the mean of its pictures'; it
    follows `.to()` to other types and devices. With a reference: the loss is zero at its own
    target, and the gradient with respect to the features there is at most a millionth of that for
    another picture. If the reference is the styles: a blend of two equal ones equals that one, and
    one of weight 0 changes nothing. For a `StatisticLoss`: **the statistic is linear in its
    weights**, which blending relies on.

    Args:
        loss: The loss, captured or not; it is not changed.
        extractor: Network that computes the features; by default one with VGG19's layers.

    Raises:
        AssertionError: A promise is broken; the message says which.
        TypeError: It is not a loss but, for example, a class that was not instantiated.

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
    check = _Check(copy.deepcopy(loss).double(), extractor)
    if isinstance(check.loss, StatisticLoss):
        features = check.features(pictures)
        for layer in loss.layers:
            check.linear(check.loss.statistic, layer, features[layer].flatten(2))
    if isinstance(check.loss, StorableLoss):
        check.halves(check.loss, pictures)
    check.value_and_gradient(pictures[:1], other[:1])
    check.batch(pictures, other)
    if loss.reference == "style":
        check.blend(pictures[:1], other[:1], other[1:])
    if loss.reference is not None:
        check.own_target(other[:1], pictures[:1])
    check.moves(pictures[:1].float(), other[:1].float())


class _Check:
    """The promises of one loss; each method checks one."""

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

    def linear(self, statistic: Callable[..., Statistic], layer: str, feature: Tensor) -> None:
        law = "a statistic must be linear in its weights"
        n, _, positions = feature.shape
        some = torch.linspace(0, 1, positions, dtype=feature.dtype).expand(n, 1, -1)
        part = statistic(feature, some)
        self.require(
            _close(statistic(feature, some + (1 - some)), _sum(part, statistic(feature, 1 - some))),
            f"{law}: statistic(f, a + b) differs from statistic(f, a) + statistic(f, b) at "
            f"{layer!r}. Return raw moments and compute what is not linear, such as a "
            "standard deviation, in `distance`.",
        )
        self.require(
            _close(statistic(feature, 3 * some), _sum(part, part, part)),
            f"{law}: statistic(f, 3 w) differs from 3 statistic(f, w) at {layer!r}. Multiply "
            "each position by `weight` exactly once and do not normalize by it.",
        )
        tiles = zip(feature.tensor_split(2, -1), some.tensor_split(2, -1), strict=True)
        self.require(
            positions == 1 or _close(part, _sum(*(statistic(*tile) for tile in tiles))),
            f"{law}: the statistic of a picture differs from the sum over its tiles at "
            f"{layer!r}. Let each position contribute by itself.",
        )
        number = torch.full((n, 1, 1), 1 / positions, dtype=feature.dtype)
        self.require(
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
            self.require(
                _close(_sum(whole[layer], whole[layer]), _sum(left[layer], right[layer])),
                f"a picture's summary must be the mean of its halves'; it is not at {layer!r}.",
            )

    def value_and_gradient(self, picture: Tensor, other: Tensor) -> None:
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
        # Along the gradient itself, where the change of the loss is well above rounding.
        step = 1e-6 * gradient / gradient.norm()
        with torch.no_grad():
            change = loss(self.features(picture + step)) - loss(self.features(picture - step))
        slope, promised = float(change / 2e-6), float(gradient.norm())
        self.require(
            abs(slope - promised) <= 1e-3 * promised,
            f"the gradient promises a slope of {promised:.6g}; the loss changes by {slope:.6g}.",
        )
        added = loss.state_dict().keys() - self.loss.state_dict().keys()
        self.require(
            not added,
            f"state_dict() must not hold targets, but capture added {sorted(added)}. Register "
            "them with persistent=False.",
        )

    def batch(self, pictures: Tensor, references: Tensor) -> None:
        if self.loss.reference != "content":
            references = references[:1]
        together = self.captured(references)(self.features(pictures))
        pairs = zip(torch.split(pictures, 1), references.expand_as(pictures), strict=True)
        alone = [self.captured(one[None])(self.features(picture)) for picture, one in pairs]
        self.require(
            _close(together, torch.stack(alone).mean()),
            "the loss of a batch must be the mean of its pictures' losses. Reduce over everything "
            "but the batch first.",
        )

    def blend(self, picture: Tensor, one: Tensor, other: Tensor) -> None:
        features = self.features(picture)
        twice = self.captured(one, one, blend=[0.3, 0.7])
        self.require(
            _close(twice(features), self.captured(one)(features)),
            "a blend of two equal styles must equal that style.",
        )
        second = self.captured(one, other, blend=[0.0, 1.0])
        self.require(
            _close(second(features), self.captured(other)(features)),
            "a style of weight 0 must not change a blend; `capture` must use every reference and "
            "its weight.",
        )

    def own_target(self, picture: Tensor, other: Tensor) -> None:
        loss = self.captured(picture)
        value, slope = self.value_and_slope(loss, picture)
        self.require(
            abs(value) <= 1e-9, f"the loss must be zero at its own target; it is {value:.3g}."
        )
        self.require(math.isfinite(slope), "the gradient at its own target must be finite.")
        _, elsewhere = self.value_and_slope(loss, other)
        self.require(
            # Above rounding in float64, below what an optimizer could follow.
            slope <= 1e-6 * elsewhere,
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

    def moves(self, picture: Tensor, other: Tensor) -> None:
        exact = self.captured(other.double())(self.features(picture.double()))
        moved = self.captured(other.double()).float()
        single = _Check(self.loss, copy.deepcopy(self.extractor).float())
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        for device in ["cpu", *(name for name, there in available.items() if there)]:
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


def _sum(*statistics: Statistic) -> Statistic:
    sums = tuple(sum(parts) for parts in zip(*map(parts_of, statistics), strict=True))
    return sums if isinstance(statistics[0], tuple) else sums[0]


def _close(a: Statistic, b: Statistic) -> bool:
    return len(parts_of(a)) == len(parts_of(b)) and all(
        x.shape == y.shape and torch.allclose(x, y, rtol=1e-9, atol=1e-12)
        for x, y in zip(parts_of(a), parts_of(b), strict=True)
    )
