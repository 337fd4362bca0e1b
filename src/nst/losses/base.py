"""Base classes of the losses."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from nst import functional
from nst._utils.checks import Checked, names_of, non_negative, normalized_blend
from nst._utils.device import at_least_single, plain_arithmetic, replace_inference_tensors
from nst._utils.plain import hooks_of

Features: TypeAlias = Mapping[str, Tensor]
"""Layer to feature map `(N, C, H, W)`; `"image"` to the pixels `(N, 3, H, W)`.

An optional `"mask"`, `(N, 1, H, W)` or `(1, 1, H, W)`, weights the pixels for a `StatisticLoss`,
and those of a `PointwiseLoss` if it is captured."""
Statistic: TypeAlias = Tensor | tuple[Tensor, ...]
"""Summary of a feature map; the first dimension of each tensor is the batch."""
Reference: TypeAlias = Literal["content", "style", "previous"] | None
Layers: TypeAlias = "Mapping[str, float] | Iterable[str]"
References: TypeAlias = Features | Sequence[Features]


class Loss(nn.Module, ABC):
    """Scores the features of the picture being optimized; lower is better.

    Subclass it for losses that are neither a `StatisticLoss` nor a `PointwiseLoss`.

    Args:
        weight: Non-negative factor that the loop applies to the loss; `forward` does not.

    Raises:
        ValueError: The weight is negative or not finite.

    Examples:
        >>> class RednessLoss(Loss):
        ...     def forward(self, features):
        ...         return features["image"][:, 0].mean()
        >>> float(RednessLoss(weight=2.0)({"image": torch.ones(1, 3, 4, 4)}))
        1.0
    """

    layers: tuple[str, ...] = ("image",)
    """Layers that `forward` and `capture` read from the features."""
    reference: ClassVar[Reference] = None
    """Whose features `capture` is called with; None if the loss has no target."""
    weight = Checked(non_negative)
    """Factor that the loop applies to the loss; it may be changed between runs."""
    # Methods that must be a kind's own for the parts of a layer to add up; none if they never do.
    _summing: ClassVar[tuple[Any, ...]] = ()

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if isinstance(vars(cls).get("layers"), str):
            cls.layers = (str(cls.layers),)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a name as `layers` is one layer."""
        if name == "layers" and isinstance(value, str):
            value = (value,)
        super().__setattr__(name, value)

    def capture(self, references: References, blend: Sequence[float] | None = None) -> None:
        """Store the target of `forward`; called once per scale. Does nothing by default.

        Args:
            references: Features of the content, or of one or more styles, of any sizes.
            blend: Weights of several references, of any sum; equal by default.

        Raises:
            ValueError: No references, or more than the loss can blend; weights that do not fit
                them, are negative or all zero; or a mask that the loss does not support.
        """

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Return the loss without its `weight`: a scalar, the mean over the batch.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: A layer is missing, or the features do not fit the captured ones.
        """

    @property
    def adds_up(self) -> bool:
        """Whether `share` and `compare` compute the loss: no subclass or hook changes it."""
        own = all(getattr(type(self), method.__name__) is method for method in self._summing)
        return bool(self._summing) and own and not hooks_of(self)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments by name; a subclass adds its own."""
        kind = next(k for k in type(self).__mro__ if k.__module__.split(".")[0] == "nst")
        return {name: getattr(self, name) for name in inspect.signature(kind).parameters}

    def extra_repr(self) -> str:
        """Show the settings in `print(loss)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())


def check_by_layer(argument: str, value: object) -> None:
    """Raise for anything but a mapping from layer to features."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{argument}` has a {type(value).__name__}; features by layer are needed. Pass "
            "extractor(images, loss.layers)."
        )


class LayerLoss(Loss):
    """A weighted sum over layers of a comparison with a captured target."""

    layers: tuple[str, ...] = Checked[tuple[str, ...]]()  # type: ignore[assignment]

    def __init__(self, layers: Layers, *, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        if not isinstance(layers, Mapping):
            names = names_of("layers", layers)
            layers = {name: 1 / len(names) for name in names}
        if not layers:
            raise ValueError("`layers` is empty; name at least one, such as {'relu4_2': 1.0}.")
        self.layer_weights: dict[str, float] = {
            str(name): non_negative(f"layers[{name!r}]", w) for name, w in layers.items()
        }
        if not any(self.layer_weights.values()):
            raise ValueError(
                f"`layers` is {self.layer_weights}; at least one weight must be positive."
            )
        self.layers = tuple(self.layer_weights)
        # Layer to the prefix of its buffers, whether the target is a tuple, and the shapes of the
        # captured features or statistics.
        self._targets: dict[str, tuple[str, bool, list[torch.Size]]] = {}

    def settings(self) -> dict[str, Any]:
        settings = super().settings()
        if "layers" in settings:  # not if the constructor leaves no choice
            settings["layers"] = dict(self.layer_weights)
        return settings

    def compare(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the layers' errors, given the sums of their shares."""
        return functional.added([*sums.values()], [self.layer_weights[layer] for layer in sums])

    def _references(
        self, references: References, blend: Sequence[float] | None, *, single: bool = False
    ) -> list[tuple[Features, float]]:
        """Return one or more references with weights that sum to one."""
        found = list(references) if isinstance(references, Sequence) else [references]
        for each in found:
            check_by_layer("references", each)
        weights = normalized_blend(blend, len(found))
        if single and len(found) > 1:
            raise ValueError(
                f"`references` has {len(found)} pictures, but {type(self).__name__} compares "
                "position by position and takes one. Pass a single one, or use a StatisticLoss."
            )
        return list(zip(found, weights, strict=True))

    def _store(self, layer: str, target: Statistic, shapes: list[torch.Size]) -> None:
        """Store a target as buffers, which follow `.to()` and stay out of `state_dict()`."""
        # By number: a layer may be called "features.3", which a buffer may not.
        prefix = f"_target_{self.layers.index(layer)}_"
        for name in [name for name in self._buffers if name.startswith(prefix)]:
            delattr(self, name)  # an earlier capture may have had more parts
        for i, part in enumerate(parts_of(target)):
            self.register_buffer(f"{prefix}{i}", part.detach(), persistent=False)
        self._targets[layer] = prefix, isinstance(target, tuple), shapes

    def _target(self, layer: str) -> Any:
        """Return the stored target, a tensor or a tuple of tensors."""
        if layer not in self._targets:
            name = type(self).__name__
            raise RuntimeError(f"{name} has no target for {layer!r}: call {name}.capture first.")
        prefix, is_tuple, _ = self._targets[layer]
        replace_inference_tensors(self)
        parts = tuple(part for name, part in self._buffers.items() if name.startswith(prefix))
        return parts if is_tuple else parts[0]

    def _feature(self, layer: str, features: Features) -> Tensor:
        check_by_layer("features", features)
        if layer not in features:
            raise ValueError(
                f"`features` has no {layer!r}, which {type(self).__name__} reads; it has "
                f"{', '.join(map(repr, features))}. Ask the extractor for `loss.layers`."
            )
        return at_least_single(features[layer])

    def _check_fit(self, layer: str, given: Sequence[torch.Size], dims: int | None = None) -> None:
        """Raise unless shapes agree with the captured ones in their first `dims`."""
        # Broadcasting would compare unrelated values.
        *_, captured = self._targets[layer]
        if len(given) != len(captured) or any(
            one[1:dims] != other[1:dims] or other[0] not in (1, one[0])  # a batch of 1 fits any
            for one, other in zip(given, captured, strict=True)
        ):
            shapes = [", ".join(str(tuple(shape)) for shape in some) for some in (captured, given)]
            raise ValueError(
                f"{type(self).__name__} captured {shapes[0]} at {layer!r} and is given "
                f"{shapes[1]}. Capture again from references that fit."
            )


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
        weights = normalized_blend(blend, len(summaries))
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
            self._store(layer, target, [part.shape for part in blended])

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
            feature, weight = self._feature(layer, features), None
            if "mask" in features:
                weight = functional.mask_weight(self._feature("mask", features), feature.shape[-2:])
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


def layers_of(losses: Iterable[Loss]) -> frozenset[str]:
    """Return the layers that any of some losses reads."""
    return frozenset(layer for loss in losses for layer in loss.layers)


def parts_of(statistic: Statistic) -> tuple[Tensor, ...]:
    """Return the tensors that a statistic consists of."""
    return statistic if isinstance(statistic, tuple) else (statistic,)
