"""Base classes of the losses whose targets a style file can store."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nst import functional
from nst._utils.checks import normalized_blend
from nst._utils.device import plain_arithmetic
from nst.losses.base import Features, LayerLoss, Loss, References, Statistic, parts_of


class StorableLoss(LayerLoss):
    """Compares with a blend of summaries of the styles, which a style file can store.

    Summaries are linear in the weights of positions.
    """

    reference = "style"

    @abstractmethod
    def summarize(self, features: Features) -> dict[str, Statistic]:
        """Return the statistic of each layer, weighted by `features["mask"]` if there is one."""

    def prepare(self, statistic: Statistic) -> Statistic:
        """Return the target that `distance` reuses, of any shapes; by default the statistic."""
        return statistic

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        """Compare a statistic with the result of `prepare`: a scalar, 0 where they agree.

        By default the mean square error, averaged over the parts of a tuple.
        """
        pairs = zip(parts_of(statistic), parts_of(target), strict=True)
        errors = [functional.mean_square_error(value, goal).mean() for value, goal in pairs]
        return torch.stack(errors).mean()

    @plain_arithmetic(gradients=False)
    def capture(self, references: References, blend: Sequence[float] | None = None) -> None:
        pairs = self._references(references, blend)
        self.capture_summaries([self.summarize(features) for features, _ in pairs], blend)

    @plain_arithmetic(gradients=False)
    def capture_summaries(
        self, summaries: Sequence[Mapping[str, Statistic]], blend: Sequence[float] | None = None
    ) -> None:
        """Store the blend of the references' summaries, as `capture` does."""
        weights, targets = normalized_blend(blend, len(summaries)), dict[str, Any]()
        for layer, first in summaries[0].items():
            if layer not in self.layers:  # captured for another loss as well
                continue
            columns = zip(*(parts_of(summary[layer]) for summary in summaries), strict=True)
            try:
                blended = tuple(
                    torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum(0)
                    for parts in columns
                )
                target = self.prepare(blended if isinstance(first, tuple) else blended[0])
            except (RuntimeError, TypeError, ValueError) as error:  # such as of a forged file
                raise ValueError(
                    f"{type(self).__name__} cannot use the statistics captured at {layer!r} "
                    f"({error}). Capture again from references that fit."
                ) from error
            targets[layer] = target, [part.shape for part in blended]
        self._store(targets)

    @plain_arithmetic(gradients=None)
    def forward(self, features: Features) -> Tensor:
        self._target(self.layers[-1])  # raises before anything is computed
        return self.compare(self.summarize(features))

    def compare(self, summary: Mapping[str, Statistic]) -> Tensor:
        """Return the loss, a scalar, of a result of `summarize` or of sums of shares by layer."""
        errors = {}
        for layer, statistic in summary.items():
            target = self._target(layer)
            self._check_fit(layer, [part.shape for part in parts_of(statistic)])
            error = errors[layer] = self.distance(statistic, target)
            if error.ndim != 0:
                raise ValueError(
                    f"`{type(self).__name__}.distance` returned shape {tuple(error.shape)}; "
                    "a scalar is needed. Reduce it, for example with .mean()."
                )
        return super().compare(errors)


class StatisticLoss(StorableLoss):
    """Compares one statistic of each layer with the styles' statistic.

    A subclass defines the statistic; blending of styles, regions, batches and tiles then work.
    **The statistic must be linear in its weights**, which `nst.testing.check_loss` verifies. A mean
    is linear; a standard deviation is not and belongs in `distance`, computed from blended moments.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: Non-negative factor that the loop applies to the loss.

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

        The weights are non-negative and sum to one over the picture: `(N, 1, P)`, or `(N, 1, 1)`
        where all are equal. Return a tensor or a tuple of tensors, with the batch first.
        """

    def summarize(self, features: Features) -> dict[str, Statistic]:
        summary = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            mask = self._mask(features, feature)
            weight = None if mask is None else functional.mask_weight(mask, feature.shape[-2:])
            summary[layer] = self.share(layer, feature, 0, feature.shape[-2], weight)
        return summary

    def share(
        self, layer: str, feature: Tensor, first: int, height: int, weight: Tensor | None = None
    ) -> Statistic:
        """Return the share of rows `(N, C, h, W)` in a layer's statistic.

        They begin at row `first` of the layer's `height` rows. The weights of all its positions sum
        to one, `(N, 1, height * W)` or `(1, 1, height * W)`; equal by default.
        """
        n, _, rows, width = feature.shape
        if weight is None:
            weight = feature.new_full((n, 1, 1), 1 / (height * width))
        else:
            weight = weight[..., first * width : (first + rows) * width]
        return self.statistic(feature.flatten(2), weight)

    _summing = (StorableLoss.capture, StorableLoss.forward, StorableLoss.compare, summarize, share)


def is_storable(loss: Loss) -> bool:
    """Return whether a loss compares with summaries of the styles, and captures nothing else."""
    return isinstance(loss, StorableLoss) and type(loss).capture is StorableLoss.capture
