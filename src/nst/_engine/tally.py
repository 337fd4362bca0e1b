"""A loss of features that are shown some rows at a time, and its gradient for the same rows.

A statistic is a sum over positions, and so is the mean error of a loss that compares position by
position. So one pass over the rows adds up what the loss's value is made of, and with its gradient
a second pass gives every row its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from nst import functional
from nst.losses import Features, Loss, PointwiseLoss, Statistic, StatisticLoss
from nst.losses.base import parts_of

__all__ = ["StatisticTally", "Tally", "adds_up", "tally"]

# Positions on which a loss is tried. Enough to tell a mean from what is none.
_TRIED = 64
_ROWS = 16


class Tally(ABC):
    """Adds up a loss over the rows of its layers."""

    @abstractmethod
    def add(
        self, layer: str, feature: Tensor, first: int, height: int, *, stays: bool = False
    ) -> None:
        """Take in some rows.

        Args:
            layer: One of the loss's.
            feature: `(N, C, h, W)`.
            first: Which row of the layer is the first of these.
            height: How many rows the layer has.
            stays: Whether `gradient` will be asked for just these rows.
        """

    @property
    @abstractmethod
    def sums(self) -> list[Tensor]:
        """What has been added up."""

    @abstractmethod
    def replace(self, sums: Sequence[Tensor]) -> None:
        """Go on with other sums, to which others have added theirs."""

    @abstractmethod
    def close(self) -> Tensor:
        """Return the loss times its factor, a scalar, when all rows have been added."""

    @abstractmethod
    def gradient(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor | None:
        """Return the gradient of that for some rows, after `close`; see `add`."""


def tally(loss: Loss, mask: Tensor | None = None, factor: float = 1.0) -> Tally:
    """Return what adds up a loss for which `adds_up` is true.

    Args:
        loss: Has its targets.
        mask: Which part of the picture it sees, `(1, 1, H, W)`; None for all of it.
        factor: What the loss is multiplied with.
    """
    if isinstance(loss, StatisticLoss):
        return StatisticTally(loss, mask, factor)
    assert isinstance(loss, PointwiseLoss)
    return _PointwiseTally(loss, factor)


class StatisticTally(Tally):
    """Adds up the statistics of layers.

    Args:
        loss: With or without targets, which only `close` and `gradient` need.
        mask: Which part of the picture counts, `(1, 1, H, W)`; None for all of it.
        factor: What the loss is multiplied with.
    """

    def __init__(
        self, loss: StatisticLoss, mask: Tensor | None = None, factor: float = 1.0
    ) -> None:
        self._loss, self._mask, self._factor = loss, mask, factor
        self._weights: dict[str, Tensor] = {}
        self._of_statistics: dict[str, tuple[Tensor, ...]] = {}
        self._graphs: dict[str, tuple[Tensor, tuple[Tensor, ...]]] = {}
        self.summary: dict[str, Statistic] = {}
        """Layer to what has been added."""

    def add(
        self, layer: str, feature: Tensor, first: int, height: int, *, stays: bool = False
    ) -> None:
        """Take in some rows; see `Tally`."""
        if stays and self._mask is None:
            feature = feature.detach().requires_grad_()
            with torch.enable_grad():
                share = self._share(layer, feature, first, height)
            self._graphs[layer] = feature, parts_of(share)
            share = _detached(share)
        else:  # weighted features would be kept with the graph
            share = self._share(layer, feature, first, height)
        self.summary[layer] = _sum(self.summary.get(layer), share)

    @property
    def sums(self) -> list[Tensor]:
        """What has been added up; see `Tally`."""
        return [part for layer in self._loss.layers for part in parts_of(self.summary[layer])]

    def replace(self, sums: Sequence[Tensor]) -> None:
        """Go on with other sums; see `Tally`."""
        left = iter(sums)
        for layer in self._loss.layers:
            own = self.summary[layer]
            parts = tuple(next(left) for _ in parts_of(own))
            self.summary[layer] = parts if isinstance(own, tuple) else parts[0]

    def close(self) -> Tensor:
        """Return the loss; see `Tally`."""
        leaves: dict[str, Statistic] = {}
        for layer in self._loss.layers:
            leaves[layer] = _detached(self.summary[layer])
            for part in parts_of(leaves[layer]):
                part.requires_grad_()
        with torch.enable_grad():
            value = self._factor * self._loss.compare(leaves)
        if value.requires_grad:
            for layer, statistic in leaves.items():
                self._of_statistics[layer] = torch.autograd.grad(
                    value,
                    parts_of(statistic),
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
        return value.detach()

    def gradient(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor | None:
        """Return the gradient for some rows; see `Tally`."""
        if layer not in self._of_statistics:
            return None
        if layer in self._graphs:
            feature, share = self._graphs.pop(layer)
        else:
            feature = feature.detach().requires_grad_()
            with torch.enable_grad():
                share = parts_of(self._share(layer, feature, first, height))
        pairs = [
            pair
            for pair in zip(share, self._of_statistics[layer], strict=True)
            if pair[0].requires_grad
        ]
        if not pairs:
            return None
        parts, gradients = zip(*pairs, strict=True)
        return torch.autograd.grad(parts, feature, gradients, allow_unused=True)[0]

    def _share(self, layer: str, feature: Tensor, first: int, height: int) -> Statistic:
        """Return what some rows have part in the statistic of all."""
        weight = None
        if self._mask is not None:
            if layer not in self._weights:
                self._weights[layer] = functional.mask_weight(
                    self._mask, (height, feature.shape[-1])
                )
            weight = self._weights[layer]
        return self._loss.share(layer, feature, first, height, weight)


class _PointwiseTally(Tally):
    """Adds up the errors of layers."""

    def __init__(self, loss: PointwiseLoss, factor: float) -> None:
        self._loss, self._factor = loss, factor
        self._means: dict[str, Tensor] = {}

    def add(
        self, layer: str, feature: Tensor, first: int, height: int, *, stays: bool = False
    ) -> None:
        mean = self._share(layer, feature, first, height)
        self._means[layer] = self._means[layer] + mean if layer in self._means else mean

    @property
    def sums(self) -> list[Tensor]:
        return [self._means[layer] for layer in self._loss.layers]

    def replace(self, sums: Sequence[Tensor]) -> None:
        self._means = dict(zip(self._loss.layers, sums, strict=True))

    def close(self) -> Tensor:
        return torch.stack([self._means[layer] for layer in self._loss.layers]).sum()

    def gradient(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor | None:
        # A few rows at a time: an error takes several times the memory of the features.
        found = torch.empty_like(feature)
        for start in range(0, feature.shape[-2], _ROWS):
            rows = feature[..., start : start + _ROWS, :].detach().requires_grad_()
            with torch.enable_grad():
                share = self._share(layer, rows, first + start, height)
            if not share.requires_grad:
                return None
            (found[..., start : start + _ROWS, :],) = torch.autograd.grad(share, rows)
        return found

    def _share(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor:
        """Return what some rows have part in the loss."""
        loss, rows = self._loss, feature.shape[-2]
        target, scale = loss._target(layer)
        error = loss.error(feature.flatten(2), target[..., first : first + rows, :].flatten(2))
        part = self._factor * loss.layer_weights[layer] * rows / height
        share: Tensor = (error.flatten(1).mean(1) * (part / scale)).mean()
        return share


def adds_up(loss: Loss, features: Features) -> bool:
    """Tell whether a loss can be shown its features some rows at a time.

    Whether it keeps its kind's promise is tried, for one that does not would be something else
    without a word.

    Args:
        loss: Any.
        features: Maps every layer of the loss to a few rows.
    """
    if not loss.adds_up:
        return False
    if isinstance(loss, StatisticLoss):
        return all(_is_sum(loss, features[layer]) for layer in loss.layers)
    assert isinstance(loss, PointwiseLoss)
    return all(_is_pointwise(loss, features[layer]) for layer in loss.layers)


@torch.no_grad()
def _is_sum(loss: StatisticLoss, feature: Tensor) -> bool:
    flat = feature.flatten(2)[..., :_TRIED]
    weight = functional.uniform_weight(flat)
    middle = flat.shape[-1] // 2
    whole = loss.statistic(flat, weight)
    halves = [loss.statistic(half, weight) for half in (flat[..., :middle], flat[..., middle:])]
    return middle == 0 or _near(whole, _sum(*halves))


@torch.no_grad()
def _is_pointwise(loss: PointwiseLoss, feature: Tensor) -> bool:
    flat = feature.flatten(2)[..., :_TRIED]
    target = loss.prepare(flat.flip(-1))
    middle = flat.shape[-1] // 2
    whole = loss.error(flat, target)
    return middle == 0 or _near(
        whole[..., :middle], loss.error(flat[..., :middle], target[..., :middle])
    )


def _near(a: Statistic, b: Statistic) -> bool:
    return all(
        x.shape == y.shape
        and torch.allclose(x, y, rtol=1e-3, atol=1e-3 * float(x.abs().max()), equal_nan=True)
        for x, y in zip(parts_of(a), parts_of(b), strict=True)
        if x.numel()
    )


def _detached(statistic: Statistic) -> Statistic:
    parts = tuple(part.detach() for part in parts_of(statistic))
    return parts if isinstance(statistic, tuple) else parts[0]


def _sum(a: Statistic | None, b: Statistic) -> Statistic:
    if a is None:
        return b
    parts = tuple(x + y for x, y in zip(parts_of(a), parts_of(b), strict=True))
    return parts if isinstance(b, tuple) else parts[0]
