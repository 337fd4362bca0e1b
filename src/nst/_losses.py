"""The three kinds of loss.

`StatisticLoss` compares means over positions, `PointwiseLoss` position by position, `Loss` is
anything else. Losses see *features*, a mapping from layer to tensor that also holds `"image"`; they
know neither the network nor the loop, so they serve any training loop as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from nst import functional
from nst._checks import non_negative, normalized_blend

__all__ = [
    "Features",
    "LayerLoss",
    "Layers",
    "Loss",
    "PointwiseLoss",
    "Statistic",
    "StatisticLoss",
    "SummaryLoss",
    "mean_over_parts",
]

Features: TypeAlias = Mapping[str, Tensor]
"""Layer to feature map `(N, C, H, W)`; `"image"` to the pixels `(N, 3, H, W)`.

Where only a part of the picture counts, `"mask"` says how much each pixel does, `(N, 1, H, W)` or
`(1, 1, H, W)`; a `StatisticLoss` heeds it in `capture` and `forward`."""
Statistic: TypeAlias = Tensor | tuple[Tensor, ...]
"""What summarizes a feature map; the first dimension of each tensor is the batch."""
Layers: TypeAlias = "Mapping[str, float] | Iterable[str]"


class Loss(nn.Module, ABC):
    """Scores the features of the picture being optimized; lower is better.

    Subclass it for what neither of the two other kinds can say: `forward` returns a scalar, and
    `capture`, if the loss compares with something, keeps what it compares with.

    Args:
        weight: What the loop multiplies the loss with; non-negative. `forward` leaves it out, so
            a subclass cannot forget it, and both values can be reported.

    Raises:
        ValueError: The weight is negative or not finite.

    Examples:
        >>> class RednessLoss(Loss):
        ...     layers = ("image",)
        ...     def forward(self, features):
        ...         return features["image"][:, 0].mean()
        >>> float(RednessLoss(weight=2.0)({"image": torch.ones(1, 3, 4, 4)}))
        1.0
    """

    layers: tuple[str, ...] = ("image",)
    """What `forward` and `capture` read from the features."""
    reference: ClassVar[Literal["content", "style"] | None] = None
    """Whose features `capture` is called with; None if the loss compares with nothing."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = non_negative("weight", weight)

    def capture(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None = None
    ) -> None:
        """Keep what `forward` compares with. Called once for each scale; does nothing here.

        Args:
            references: The features of the content, or of each style.
            blend: The weights of several references; equal by default.
        """

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Return the loss without its `weight`: a scalar, the mean over the batch.

        Args:
            features: Maps every layer of `layers` to its features.
        """

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {"weight": self.weight}

    def extra_repr(self) -> str:
        """Show the settings in `print(loss)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())


class LayerLoss(Loss):
    """A weighted sum over layers of a comparison with a captured target."""

    layer_weights: dict[str, float]

    def __init__(self, layers: Layers, *, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        self.layer_weights = _layer_weights(layers)
        self.layers = tuple(self.layer_weights)

    def settings(self) -> dict[str, Any]:
        return {"layers": dict(self.layer_weights), **super().settings()}

    def _weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.layer_weights[layer] * terms[layer] for layer in terms]).sum()

    def _keep(self, layer: str, target: Statistic) -> None:
        parts = _parts(target)
        for i, part in enumerate(parts):
            # Buffers follow `.to()`; a target is no part of what a checkpoint should hold.
            self.register_buffer(self._buffer(layer, i), part.detach(), persistent=False)
        stale = len(parts)
        while self._buffer(layer, stale) in self._buffers:  # an earlier capture had more parts
            delattr(self, self._buffer(layer, stale))
            stale += 1

    def _target(self, layer: str, part: int = 0) -> Tensor:
        target = self._buffers.get(self._buffer(layer, part))
        if target is None:
            name = type(self).__name__
            raise RuntimeError(f"{name} has no target for {layer!r}: call {name}.capture first.")
        return target

    def _feature(self, layer: str, features: Features) -> Tensor:
        if layer not in features:
            raise ValueError(
                f"`features` has no {layer!r}, which {type(self).__name__} reads; it has "
                f"{', '.join(map(repr, features))}. Ask the extractor for `loss.layers`."
            )
        return features[layer]

    def _fitting(self, layer: str, value: Tensor, target: Tensor) -> Tensor:
        # Broadcasting would compare what does not belong together, and `F.mse_loss` only warns.
        if value.shape[1:] != target.shape[1:] or len(target) not in (1, len(value)):
            raise self._misfit(layer, value.shape, target.shape)
        return target

    def _misfit(self, layer: str, given: Sequence[int], captured: Sequence[int]) -> ValueError:
        return ValueError(
            f"{type(self).__name__} captured {tuple(captured)} at {layer!r} and is given "
            f"{tuple(given)}. Capture again from references that fit."
        )

    def _only(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None
    ) -> Features:
        """Return the one reference of a loss that cannot blend several."""
        references = [references] if isinstance(references, Mapping) else list(references)
        normalized_blend(blend, len(references))
        if len(references) > 1:
            raise ValueError(
                f"`references` has {len(references)} pictures, but {type(self).__name__} compares "
                "position by position and takes one. Pass a single one, or use a StatisticLoss."
            )
        return references[0]

    def _buffer(self, layer: str, part: int) -> str:
        # By number: a layer of another network may be called "features.3", which no buffer may.
        return f"_target_{self.layers.index(layer)}_{part}"


class SummaryLoss(LayerLoss):
    """Compares summaries of layers, means over positions, with the styles' blended ones.

    What `StatisticLoss` is made of; a subclass says how features are summarized.
    """

    reference = "style"

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        """Compare a statistic with its target: a scalar, 0 where they agree.

        The mean square by default, averaged over the parts of a tuple.

        Args:
            statistic: Of the picture.
            target: What `prepare` returned.
        """
        return mean_over_parts(functional.mean_square_error, statistic, target)

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
            parts = zip(*(_parts(summary[layer]) for summary in summaries), strict=True)
            blended = tuple(_weighted_sum(shares, part) for part in parts)
            self._keep(layer, self.prepare(blended if isinstance(first, tuple) else blended[0]))

    def forward(self, features: Features) -> Tensor:
        """Return the weighted sum of the layers' distances, a scalar.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features do not fit the captured ones.
        """
        self._target(self.layers[-1])  # refuses before anything is computed
        return self._compare(self.summarize(features))

    @abstractmethod
    def summarize(self, features: Features) -> dict[str, Statistic]:
        """Return each layer's statistic; under `features["mask"]`, of that part alone.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            ValueError: A layer is missing.
        """

    def prepare(self, statistic: Statistic) -> Statistic:
        """Return what is kept of a layer's blended statistic, in the same shapes; itself here.

        Override it for what `distance` would else compute from the target each time.

        Args:
            statistic: Of the styles, blended.
        """
        return statistic

    def _compare(self, summary: Mapping[str, Statistic]) -> Tensor:
        terms = {}
        for layer, statistic in summary.items():
            targets = tuple(
                self._fitting(layer, part, self._target(layer, i))
                for i, part in enumerate(_parts(statistic))
            )
            target = targets if isinstance(statistic, tuple) else targets[0]
            terms[layer] = self.distance(statistic, target)
            if terms[layer].ndim != 0:
                raise ValueError(
                    f"{type(self).__name__}.distance returned shape {tuple(terms[layer].shape)}; "
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

    reference = "content"

    @abstractmethod
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the error at each position, `(N, P)`, or of each channel too, `(N, C, P)`.

        Args:
            feature: `(N, C, P)`, P positions.
            target: The captured features, `(N, C, P)` or `(1, C, P)`.
        """

    def scale(self, target: Tensor) -> Tensor:
        """Return what a layer's mean error is divided by; computed once, 1 by default.

        Args:
            target: The captured features, `(N, C, P)`.

        Returns:
            One number for each picture, `(N,)`.
        """
        return target.new_ones(len(target))

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
            target = self._feature(layer, features)
            self._keep(layer, (target.clone(), self.scale(target.flatten(2))))

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
            target = self._fitting(layer, feature, self._target(layer))
            error = self.error(feature.flatten(2), target.flatten(2))
            if error.ndim < 2 or len(error) != len(feature):
                raise ValueError(
                    f"{type(self).__name__}.error returned shape {tuple(error.shape)}; one value "
                    f"for each position is needed, (N, P) or (N, C, P) with N = {len(feature)}."
                )
            terms[layer] = (error.flatten(1).mean(1) / self._target(layer, 1)).mean()
        return self._weighted_sum(terms)


def mean_over_parts(
    error: Callable[[Tensor, Tensor], Tensor], statistic: Statistic, target: Statistic
) -> Tensor:
    """Return the mean of an error over the parts of a statistic and over the batch, a scalar.

    Args:
        error: Maps a part and its target to one number for each picture, `(N,)`.
        statistic: Of the picture.
        target: Of the styles, blended.
    """
    pairs = zip(_parts(statistic), _parts(target), strict=True)
    return torch.stack([error(value, goal).mean() for value, goal in pairs]).mean()


def _layer_weights(layers: Layers) -> dict[str, float]:
    if isinstance(layers, str):
        layers = [layers]
    if not isinstance(layers, Mapping):
        names = list(layers)
        layers = {name: 1 / len(names) for name in names}
    weights = {str(name): non_negative(f"layers[{name!r}]", w) for name, w in layers.items()}
    if not weights:
        raise ValueError("`layers` is empty; name at least one, such as {'relu4_2': 1.0}.")
    if not any(weights.values()):
        raise ValueError(f"`layers` is {weights}; at least one weight must be positive.")
    return weights


def _weighted_sum(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    terms = [weight * part for weight, part in zip(weights, parts, strict=True)]
    return torch.stack(terms).sum(0)


def _parts(statistic: Statistic) -> tuple[Tensor, ...]:
    return statistic if isinstance(statistic, tuple) else (statistic,)
