"""The three kinds of loss.

`StatisticLoss` compares means over positions, `PointwiseLoss` position by position, `Loss` is
anything else. Losses see *features*, a mapping from layer to tensor that also holds `"image"`; they
know neither the network nor the loop, so they serve any training loop as well.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import normalized_blend
from nst.losses.base import Features, LayerLoss, Layers, Loss, Statistic, parts_of

__all__ = [
    "Features",
    "LayerLoss",
    "Layers",
    "Loss",
    "PointwiseLoss",
    "Statistic",
    "StatisticLoss",
    "SummaryLoss",
    "parts_of",
]


class SummaryLoss(LayerLoss):
    """Compares summaries of layers, means over positions, with the styles' blended ones.

    What `StatisticLoss` is made of; a subclass says how features are summarized.
    """

    reference = "style"

    def __init__(self, layers: Layers, *, weight: float = 1.0) -> None:
        super().__init__(layers, weight=weight)
        self._shapes: dict[str, list[torch.Size]] = {}

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        """Compare a statistic with its target: a scalar, 0 where they agree.

        The mean square by default, averaged over the parts of a tuple.

        Args:
            statistic: Of the picture.
            target: What `prepare` returned.
        """
        pairs = zip(parts_of(statistic), parts_of(target), strict=True)
        errors = [functional.mean_square_error(value, goal).mean() for value, goal in pairs]
        return torch.stack(errors).mean()

    @torch.no_grad()
    def capture(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None = None
    ) -> None:
        """Keep the blended statistics of the references.

        Args:
            references: The features of a style, or of several; of any sizes.
            blend: A weight for each reference, of any sum; equal by default.

        Raises:
            ValueError: No references, or weights that do not match them, are negative or all zero.
        """
        references = [references] if isinstance(references, Mapping) else list(references)
        normalized_blend(blend, len(references))  # refuses before anything is computed
        self.capture_summaries([self.summarize(features) for features in references], blend)

    @torch.no_grad()
    def capture_summaries(
        self, summaries: Sequence[Mapping[str, Statistic]], blend: Sequence[float] | None = None
    ) -> None:
        """Keep the blended statistics of references that were summarized before.

        Args:
            summaries: What `summarize` returned for each reference.
            blend: A weight for each reference, of any sum; equal by default.

        Raises:
            ValueError: As in `capture`.
        """
        shares = normalized_blend(blend, len(summaries))
        for layer, first in summaries[0].items():
            if layer not in self.layers:  # captured for more than this loss needs
                continue
            parts = zip(*(parts_of(summary[layer]) for summary in summaries), strict=True)
            try:
                blended = tuple(_weighted_sum(shares, part) for part in parts)
                target = self.prepare(blended if isinstance(first, tuple) else blended[0])
            except (RuntimeError, TypeError, ValueError) as error:  # such as of a forged file
                raise ValueError(
                    f"{type(self).__name__} cannot keep what was captured at {layer!r} ({error}). "
                    "Capture again from references that fit."
                ) from error
            self._keep(layer, target)
            self._shapes[layer] = [part.shape for part in blended]

    def forward(self, features: Features) -> Tensor:
        """Return the weighted sum of the layers' distances, a scalar.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features do not fit the captured ones.
        """
        self._kept(self.layers[-1])  # refuses before anything is computed
        return self.compare(self.summarize(features))

    @abstractmethod
    def summarize(self, features: Features) -> dict[str, Statistic]:
        """Return each layer's statistic; under `features["mask"]`, of that part alone.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            ValueError: A layer is missing.
        """

    def prepare(self, statistic: Statistic) -> Statistic:
        """Return what is kept of a layer's blended statistic, tensors of any shapes; itself here.

        Override it for what `distance` would else compute from the target each time.

        Args:
            statistic: Of the styles, blended.
        """
        return statistic

    def compare(self, summary: Mapping[str, Statistic]) -> Tensor:
        """Return the weighted sum of the layers' distances, a scalar.

        Args:
            summary: What `summarize` returned for the picture.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The summary does not fit the captured ones.
        """
        terms = {}
        for layer, statistic in summary.items():
            target = self._kept(layer)
            parts, shapes = parts_of(statistic), self._shapes[layer]
            if len(parts) != len(shapes):
                raise self._misfit(layer, [len(parts)], [len(shapes)])
            for part, captured in zip(parts, shapes, strict=True):
                self._check_fit(layer, part.shape, captured)
            terms[layer] = self.distance(statistic, target)
            if terms[layer].ndim != 0:
                raise ValueError(
                    f"`{type(self).__name__}.distance` returned shape {tuple(terms[layer].shape)}; "
                    "a scalar is needed. Reduce it, for example with .mean()."
                )
        return self._weighted_sum(terms)


class StatisticLoss(SummaryLoss):
    """Compares one statistic of each layer with that of the styles.

    A subclass says what the statistic is, and gets blending of styles, regions and batches for
    nothing. The one law: **a statistic is linear in its weights**. A mean and a Gram matrix are; a
    standard deviation is not, and belongs in `distance`, computed from blended moments.
    `nst.testing.check_loss` proves the law.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.

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
        """Summarize one layer's features, linearly in the weights.

        Args:
            feature: `(N, C, P)`, P positions.
            weight: Non-negative, summing to one over the picture: `(N, 1, P)`, or `(N, 1, 1)`
                where all positions weigh the same.

        Returns:
            A tensor, or a tuple of tensors, with the batch first.
        """

    @override
    def summarize(self, features: Features) -> dict[str, Statistic]:
        summary = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            flat = feature.flatten(2)  # (N, C, P)
            if "mask" in features:
                weight = functional.mask_weight(features["mask"], feature.shape[-2:])
            else:
                weight = functional.uniform_weight(flat)
            summary[layer] = self.statistic(flat, weight)
        return summary


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
        terms = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            error, scale = self.errors(layer, feature, 0, feature.shape[-2])
            terms[layer] = (error.flatten(1).mean(1) / scale).mean()
        return self._weighted_sum(terms)

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


def _weighted_sum(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    terms = [weight * part for weight, part in zip(weights, parts, strict=True)]
    return torch.stack(terms).sum(0)
