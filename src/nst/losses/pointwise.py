"""Losses that compare position by position."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from nst.losses.base import Features, LayerLoss, References

__all__ = ["PointwiseLoss"]


class PointwiseLoss(LayerLoss):
    """Compares features position by position with those of the content.

    A subclass defines the error at a position; the base class takes the mean. Arguments and errors
    are those of `StatisticLoss`.

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

    @abstractmethod
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the error at each of P positions, `(N, P)`, or of each channel too, `(N, C, P)`.

        Of features `(N, C, P)` and the result of `prepare`, `(N, D, P)` or `(1, D, P)`.
        """

    def scale(self, target: Tensor) -> Tensor:
        """Return the divisor of the mean error, `(N,)`, for captured features; 1 by default."""
        return target.new_ones(len(target))

    def prepare(self, target: Tensor) -> Tensor:
        """Return the target for captured features `(N, C, P)`, any `(N, D, P)`; itself by default.

        Override it to compute once what `error` would compute each time.
        """
        return target

    @override
    @torch.no_grad()
    def capture(self, references: References, blend: Sequence[float] | None = None) -> None:
        ((features, _),) = self._references(references, blend, single=True)
        for layer in self.layers:
            feature = self._feature(layer, features)
            flat = feature.flatten(2)  # (N, C, P)
            prepared = self.prepare(flat)
            target = prepared.reshape(*prepared.shape[:2], *feature.shape[2:]).clone()
            self._store(layer, (target, self.scale(flat)), [feature.shape])

    @override
    def forward(self, features: Features) -> Tensor:
        sums = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            sums[layer] = self.share(layer, feature, 0, feature.shape[-2])
        return self.compare(sums)

    def share(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor:
        """Return what some rows `(N, C, h, W)` of a layer add to its mean error, a scalar.

        They begin at row `first` of the layer's `height` rows.
        """
        target, scale = self._target(layer)
        n, channels, rows, width = feature.shape
        self._check_fit(layer, [torch.Size((n, channels, height, width))])
        error = self.error(feature.flatten(2), target[..., first : first + rows, :].flatten(2))
        if error.ndim < 2 or len(error) != n:
            raise ValueError(
                f"`{type(self).__name__}.error` returned shape {tuple(error.shape)}; one value "
                f"for each position is needed, (N, P) or (N, C, P) with N = {n}."
            )
        share: Tensor = (error.flatten(1).mean(1) * (rows / height) / scale).mean()
        return share

    def compare(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the layers' mean errors, given the sums of their shares."""
        return self._weighted_sum(sums)

    @property
    def adds_up(self) -> bool:
        """Whether `share` and `compare` compute the loss, which a subclass or a hook may change."""
        return self._inherits(PointwiseLoss, "share", "compare", "forward", "capture")
