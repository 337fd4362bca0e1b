"""What every loss has: a weight, layers, targets that are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from nst._utils.checks import non_negative, normalized_blend

__all__ = [
    "Features",
    "LayerLoss",
    "Layers",
    "Loss",
    "Statistic",
    "StorableLoss",
    "parts_of",
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

    @property
    def adds_up(self) -> bool:
        """Whether the loss can be computed from parts of its layers, which `share` sums up."""
        return False

    def _inherits(self, kind: Any, *methods: str) -> bool:
        """Return whether the loss keeps these methods of its kind and has no hooks."""
        own = all(getattr(type(self), name) is getattr(kind, name) for name in methods)
        return own and not self._forward_hooks and not self._forward_pre_hooks

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {"weight": self.weight}

    def extra_repr(self) -> str:
        """Show the settings in `print(loss)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())


@runtime_checkable
class StorableLoss(Protocol):
    """A loss whose target can be stored without the picture: it is made of linear summaries."""

    def summarize(self, features: Features) -> Mapping[str, Statistic]:
        """Return what the loss compares of a picture, linear in the weights of its positions."""

    def capture_summaries(
        self, summaries: Sequence[Mapping[str, Statistic]], blend: Sequence[float] | None = None
    ) -> None:
        """Store a blend of what `summarize` returned for each reference as the target."""


class LayerLoss(Loss):
    """A weighted sum over layers of a comparison with a captured target."""

    layer_weights: dict[str, float]

    def __init__(self, layers: Layers, *, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        self.layer_weights = _layer_weights(layers)
        self.layers = tuple(self.layer_weights)
        self._num_parts: dict[str, int | None] = {}  # of a tuple
        self._shapes: dict[str, list[torch.Size]] = {}  # of blended statistics

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {"layers": dict(self.layer_weights), **super().settings()}

    def _weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.layer_weights[layer] * terms[layer] for layer in terms]).sum()

    def _store_blends(
        self,
        summaries: Sequence[Mapping[str, Statistic]],
        blend: Sequence[float] | None,
        prepare: Callable[[Statistic], Statistic],
    ) -> None:
        """Store as targets what `prepare` makes of each layer's blended statistic."""
        weights = normalized_blend(blend, len(summaries))
        for layer, first in summaries[0].items():
            if layer not in self.layers:  # captured for more than this loss needs
                continue
            columns = zip(*(parts_of(summary[layer]) for summary in summaries), strict=True)
            try:
                blended = tuple(
                    torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum(0)
                    for parts in columns
                )
                target = prepare(blended if isinstance(first, tuple) else blended[0])
            except (RuntimeError, TypeError, ValueError) as error:  # such as of a forged file
                raise ValueError(
                    f"{type(self).__name__} cannot keep what was captured at {layer!r} ({error}). "
                    "Capture again from references that fit."
                ) from error
            self._keep(layer, target)
            self._shapes[layer] = [part.shape for part in blended]

    def _check_statistic(self, layer: str, statistic: Statistic) -> None:
        parts, shapes = parts_of(statistic), self._shapes[layer]
        if len(parts) != len(shapes):
            raise self._misfit(layer, [len(parts)], [len(shapes)])
        for part, captured in zip(parts, shapes, strict=True):
            self._check_fit(layer, part.shape, captured)

    def _keep(self, layer: str, target: Statistic) -> None:
        parts = parts_of(target)
        self._num_parts[layer] = len(parts) if isinstance(target, tuple) else None
        for i, part in enumerate(parts):
            # Buffers follow `.to()`; a target is no part of what a checkpoint should hold.
            self.register_buffer(self._buffer(layer, i), part.detach(), persistent=False)
        stale = len(parts)
        while self._buffer(layer, stale) in self._buffers:  # an earlier capture had more parts
            delattr(self, self._buffer(layer, stale))
            stale += 1

    def _kept(self, layer: str) -> Statistic:
        """Return what `_keep` was given, in the same form."""
        if layer not in self._num_parts:
            name = type(self).__name__
            raise RuntimeError(f"{name} has no target for {layer!r}: call {name}.capture first.")
        count = self._num_parts[layer]
        parts = (self.get_buffer(self._buffer(layer, i)) for i in range(count or 1))
        return next(parts) if count is None else tuple(parts)

    def _feature(self, layer: str, features: Features) -> Tensor:
        if layer not in features:
            raise ValueError(
                f"`features` has no {layer!r}, which {type(self).__name__} reads; it has "
                f"{', '.join(map(repr, features))}. Ask the extractor for `loss.layers`."
            )
        return features[layer]

    def _check_fit(self, layer: str, given: Sequence[int], captured: Sequence[int]) -> None:
        # Broadcasting would compare what does not belong together, and `F.mse_loss` only warns.
        if tuple(given[1:]) != tuple(captured[1:]) or captured[0] not in (1, given[0]):
            raise self._misfit(layer, given, captured)

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


def parts_of(statistic: Statistic) -> tuple[Tensor, ...]:
    """Return the tensors that a statistic consists of."""
    return statistic if isinstance(statistic, tuple) else (statistic,)
