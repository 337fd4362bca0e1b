"""A loss of one picture, the part of the picture that it sees, and what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nst import functional
from nst.extractors.base import as_extractor
from nst.losses.base import Features, Loss, Statistic, StatisticLoss, parts_of
from nst.losses.content import PointwiseLoss

# Positions on which a loss is tried: enough to tell a mean from anything else.
_TRIED = 64


class Term:
    """A loss, the part of the picture that it sees, and its factor in the total.

    Args:
        loss: With or without targets.
        mask: Part of the picture that counts, `(1, 1, H, W)`; None for all of it.
        strength: Factor in the total, beside the loss's own weight.
    """

    def __init__(self, loss: Loss, mask: Tensor | None = None, strength: float = 1.0) -> None:
        self.loss, self.mask, self.strength = loss, mask, strength
        self._weights: dict[tuple[str, tuple[int, int]], Tensor] = {}

    @property
    def factor(self) -> float:
        """What the loss is multiplied with."""
        return self.strength * self.loss.weight

    @property
    def share(self) -> Any:
        """What some rows of a layer add to the loss's sums; see `StatisticLoss.share`."""
        loss: Any = self.loss
        return loss.share

    def weights(self, layer: str, shape: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the weights of all positions of a layer of this shape; nothing without a mask."""
        if self.mask is None:
            return ()
        if (layer, shape) not in self._weights:
            self._weights[layer, shape] = functional.mask_weight(self.mask, shape)
        return (self._weights[layer, shape],)

    def compare(self, sums: Mapping[str, Statistic]) -> Tensor:
        """Return the loss times its factor, from its sums over all rows."""
        loss: Any = self.loss
        value: Tensor = self.factor * loss.compare(sums)
        return value

    def value(self, name: str, features: Features) -> Tensor:
        """Return the loss times its factor, from whole features.

        Raises:
            ValueError: The loss is not a scalar.
        """
        value = self.loss(features if self.mask is None else {**features, "mask": self.mask})
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = tuple(getattr(value, "shape", ())) or type(value).__name__
            raise ValueError(
                f"`losses[{name!r}]` ({type(self.loss).__name__}) returned {shape}; "
                "a scalar tensor is needed. Reduce it, for example with .mean()."
            )
        return self.factor * value


def reads_pixels_only(loss: Loss) -> bool:
    """Tell whether a loss reads no layer of the network."""
    return set(loss.layers) <= {"image"}


def is_divisible(loss: Loss) -> bool:
    """Tell whether a loss can be computed in parts, or needs no part of the network at all."""
    return loss.adds_up or reads_pixels_only(loss)


def check_divisible(
    extractor: nn.Module, losses: Mapping[str, Loss], reason: str, remedy: str
) -> None:
    """Refuse to compute a picture in parts if the network or a loss needs all of it at once.

    Args:
        extractor: The network.
        losses: Name to loss.
        reason: Why parts are asked for, such as "`tile` is 64".
        remedy: What to use instead.

    Raises:
        ValueError: One of them needs all.
    """
    if not as_extractor(extractor).computes_in_tiles:
        raise ValueError(
            f"{reason}, but `extractor` is a {type(extractor).__name__}, which cannot be computed "
            f"in parts. Use FeatureExtractor, or {remedy}."
        )
    for name, loss in losses.items():
        if loss.weight > 0 and not is_divisible(loss):
            raise indivisible(name, loss, reason, remedy)


def indivisible(name: str, loss: Loss, reason: str, remedy: str) -> ValueError:
    """Return the error that a loss cannot be computed in parts."""
    return ValueError(
        f"{reason}, but the loss {name!r} ({type(loss).__name__}) is no sum over positions, which "
        f"alone can be computed in parts. Use {remedy}, or a StatisticLoss or PointwiseLoss that "
        "`nst.testing.check_loss` approves."
    )


@torch.no_grad()
def keeps_promise(loss: Loss, features: Features) -> bool:
    """Try on a few positions whether a loss adds up as its kind promises.

    One that does not would silently be another loss if it were computed in parts.
    """
    for layer in loss.layers:
        flat = features[layer].flatten(2)[..., :_TRIED]
        middle = flat.shape[-1] // 2
        if middle == 0:
            continue
        if isinstance(loss, StatisticLoss):
            weight = functional.uniform_weight(flat)
            halves = (loss.statistic(x, weight) for x in (flat[..., :middle], flat[..., middle:]))
            pairs = zip(*map(parts_of, halves), strict=True)
            whole, parts = loss.statistic(flat, weight), tuple(a + b for a, b in pairs)
        elif isinstance(loss, PointwiseLoss):
            target = loss.prepare(flat.flip(-1))
            whole = loss.error(flat, target)[..., :middle]
            parts = (loss.error(flat[..., :middle], target[..., :middle]),)
        if not all(map(_is_near, parts_of(whole), parts)):
            return False
    return True


def _is_near(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    tolerance = 1e-3 * float(a.abs().max()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-3, atol=tolerance, equal_nan=True)
