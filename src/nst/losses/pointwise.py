"""Losses that compare position by position."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nst.losses.base import Features, LayerLoss, Layers

__all__ = ["PointwiseLoss"]


class PointwiseLoss(LayerLoss):
    """Compares features position by position with those of the content.

    A subclass says what the error at a position is; the base class takes the mean.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.

    Raises:
        ValueError: No layers, or weights that are negative, not finite or all zero.

    Examples:
        >>> class AbsoluteLoss(PointwiseLoss):
        ...     def error(self, feature, target):
        ...         return (feature - target).abs()
        >>> loss = AbsoluteLoss(["image"])
        >>> loss.capture({"image": torch.zeros(1, 3, 4, 4)})
        >>> float(loss({"image": torch.ones(1, 3, 4, 4)}))
        1.0
    """

    reference: ClassVar[Literal["content", "style"] | None] = "content"

    def __init__(self, layers: Layers, *, weight: float = 1.0) -> None:
        super().__init__(layers, weight=weight)
        self._channels: dict[str, int] = {}  # of the captured features

    @abstractmethod
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the error at each position, `(N, P)`, or of each channel too, `(N, C, P)`.

        Args:
            feature: `(N, C, P)`, P positions.
            target: What `prepare` made of the captured features, `(N, D, P)` or `(1, D, P)`.
        """

    def scale(self, target: Tensor) -> Tensor:
        """Return what a layer's mean error is divided by; computed once, 1 by default.

        Args:
            target: The captured features, `(N, C, P)`.

        Returns:
            One number for each picture, `(N,)`.
        """
        return target.new_ones(len(target))

    def prepare(self, target: Tensor) -> Tensor:
        """Return what is kept of a layer's captured features; themselves here.

        Override it for what `error` would else compute from the target each time.

        Args:
            target: The captured features, `(N, C, P)`.

        Returns:
            Any number of values for each position, `(N, D, P)`.
        """
        return target

    @torch.no_grad()
    def capture(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None = None
    ) -> None:
        """Keep the features of the reference.

        Args:
            references: The features of one picture (or batch of pictures).
            blend: At most one weight; positions of different pictures cannot be blended.

        Raises:
            ValueError: More than one reference.
        """
        features = self._only(references, blend)
        for layer in self.layers:
            feature = self._feature(layer, features)
            flat = feature.flatten(2)  # (N, C, P)
            prepared = self.prepare(flat)
            target = prepared.reshape(*prepared.shape[:2], *feature.shape[2:]).clone()
            self._keep(layer, (target, self.scale(flat)))
            self._channels[layer] = feature.shape[1]

    def forward(self, features: Features) -> Tensor:
        """Return the weighted sum of the layers' mean errors, a scalar.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features do not fit the captured ones.
        """
        sums = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            sums[layer] = self.share(layer, feature, 0, feature.shape[-2])
        return self.compare(sums)

    def share(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor:
        """Return what some rows of a layer add to its mean error, a scalar.

        Args:
            layer: One of `layers`.
            feature: The rows, `(N, C, h, W)`.
            first: Index of the first of them in the layer.
            height: Number of rows of the layer.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features do not fit the captured ones.
        """
        error, scale = self.errors(layer, feature, first, height)
        return (error.flatten(1).mean(1) * (feature.shape[-2] / height) / scale).mean()

    def compare(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the layers' mean errors, a scalar.

        Args:
            sums: Layer to the sum of its `share` over all rows.
        """
        return self._weighted_sum(sums)

    @property
    def adds_up(self) -> bool:
        """Whether `forward` compares the sum of `share` over parts."""
        return self._inherits(PointwiseLoss, "errors", "share", "compare", "forward", "capture")

    def errors(self, layer: str, feature: Tensor, first: int, height: int) -> tuple[Tensor, Tensor]:
        """Return the errors of some rows of a layer, and what their mean is divided by.

        Args:
            layer: One of `layers`.
            feature: `(N, C, h, W)`.
            first: Which row of the layer is the first of these.
            height: How many rows the layer has.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features do not fit the captured ones.
        """
        target, scale = self._kept(layer)
        n, channels, rows, width = feature.shape
        captured = len(target), self._channels[layer], *target.shape[2:]
        self._check_fit(layer, (n, channels, height, width), captured)
        goal = target[..., first : first + rows, :]
        error = self.error(feature.flatten(2), goal.flatten(2))
        if error.ndim < 2 or len(error) != n:
            raise ValueError(
                f"`{type(self).__name__}.error` returned shape {tuple(error.shape)}; one value "
                f"for each position is needed, (N, P) or (N, C, P) with N = {n}."
            )
        return error, scale
