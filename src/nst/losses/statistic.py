"""Losses that compare means over positions."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst.losses.base import Features, Statistic, StorableLoss, parts_of

__all__ = ["StatisticLoss"]


class StatisticLoss(StorableLoss):
    """Compares one statistic of each layer with that of the styles.

    A subclass defines the statistic; blending of styles, regions, batches and tiles then work. The
    one law: **a statistic is linear in its weights**, which `nst.testing.check_loss` proves. A mean
    is linear; a standard deviation is not and belongs in `distance`, computed from blended moments.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: Factor by which the loop multiplies the loss; non-negative.

    Raises:
        ValueError: No layers, or weights that are negative, not finite or all zero.

    Examples:
        >>> class MeanLoss(StatisticLoss):
        ...     def statistic(self, feature, weight):
        ...         return (feature * weight).sum(-1)
        >>> loss = MeanLoss({"relu1_1": 1.0})
        >>> loss.capture({"relu1_1": torch.zeros(1, 2, 4, 4)})
        >>> float(loss({"relu1_1": torch.ones(1, 2, 3, 3)}))
        1.0
    """

    @abstractmethod
    def statistic(self, feature: Tensor, weight: Tensor) -> Statistic:
        """Summarize features `(N, C, P)` linearly in the weights of their P positions.

        The weights are not negative and sum to one over the picture: `(N, 1, P)`, or `(N, 1, 1)`
        where all are equal. Return a tensor or a tuple of tensors, with the batch first.
        """

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        """Return the target for a blended statistic, tensors of any shapes; itself by default.

        Override it to compute once what `distance` would compute each time.
        """
        return statistic

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        """Compare a statistic with the result of `prepare`: a scalar, 0 where they agree.

        By default the mean square error, averaged over the parts of a tuple.
        """
        pairs = zip(parts_of(statistic), parts_of(target), strict=True)
        errors = [functional.mean_square_error(value, goal).mean() for value, goal in pairs]
        return torch.stack(errors).mean()

    @override
    def summarize(self, features: Features) -> dict[str, Statistic]:
        summary = {}
        for layer in self.layers:
            feature, weight = self._feature(layer, features), None
            if "mask" in features:
                weight = functional.mask_weight(features["mask"], feature.shape[-2:])
            summary[layer] = self.share(layer, feature, 0, feature.shape[-2], weight)
        return summary

    def share(
        self, layer: str, feature: Tensor, first: int, height: int, weight: Tensor | None = None
    ) -> Statistic:
        """Return what some rows `(N, C, h, W)` of a layer add to its statistic.

        They begin at row `first` of the layer's `height` rows. The weights of all its positions sum
        to one, `(N, 1, height * W)` or `(1, 1, height * W)`; equal by default.
        """
        n, _, rows, width = feature.shape
        if weight is None:
            weight = feature.new_full((n, 1, 1), 1 / (height * width))
        else:
            weight = weight[..., first * width : (first + rows) * width]
        return self.statistic(feature.flatten(2), weight)

    @property
    def adds_up(self) -> bool:
        """Whether `share` and `compare` compute the loss, which a subclass or a hook may change."""
        return self._inherits(StatisticLoss, "summarize", "share", "compare", "forward", "capture")
