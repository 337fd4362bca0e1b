"""Base classes of the losses."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from nst import functional
from nst._utils.checks import Checked, names_of, non_negative, normalized_blend
from nst._utils.device import at_least_single, replace_inference_tensors
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
        """Return the constructor's arguments by name.

        Those that a subclass adds are found if they are attributes that are numbers or text; for
        others, it extends this method.
        """
        kind = next(k for k in type(self).__mro__ if k.__module__.split(".")[0] == "nst")
        settings = {name: getattr(self, name) for name in inspect.signature(kind).parameters}
        for name in inspect.signature(type(self)).parameters:
            value = getattr(self, name, None)
            if isinstance(value, np.generic):  # such as an element of `np.arange`
                value = value.item()
            if isinstance(value, (bool, int, float, str)):
                settings.setdefault(name, value)
        return settings

    def extra_repr(self) -> str:
        """Show the settings in `print(loss)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())

    def _feature(self, layer: str, features: Features) -> Tensor:
        """Return the features of a layer, at least in single precision; raise if there are none."""
        check_by_layer("features", features)
        if layer not in features:
            raise ValueError(
                f"`features` has no {layer!r}, which {type(self).__name__} reads; it has "
                f"{', '.join(map(repr, features))}. Ask the extractor for `loss.layers`."
            )
        feature = features[layer]
        if not (isinstance(feature, Tensor) and feature.ndim == 4 and feature.is_floating_point()):
            kind = getattr(feature, "dtype", type(feature).__name__)
            shape = getattr(feature, "shape", ())
            raise ValueError(
                f"`features[{layer!r}]` is {kind} of shape {tuple(shape)}; a floating tensor "
                "(N, C, H, W) is needed."
            )
        return at_least_single(feature)


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
            if isinstance(layers, (set, frozenset)) or len(names) > len({*names}):
                raise ValueError(
                    f"`layers` is {layers!r}; it must be names in an order, each of them once. "
                    "Pass a list, or a mapping from layer to weight."
                )
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

    def _store(self, targets: Mapping[str, tuple[Statistic, list[torch.Size]]]) -> None:
        """Store targets as buffers, which follow `.to()` and stay out of `state_dict()`."""
        for layer, (target, shapes) in targets.items():
            # By number: a layer may be called "features.3", which a buffer may not.
            prefix = f"_target_{self.layers.index(layer)}_"
            for name in [name for name in self._buffers if name.startswith(prefix)]:
                delattr(self, name)  # an earlier capture may have had more parts
            for i, part in enumerate(parts_of(target)):
                self.register_buffer(f"{prefix}{i}", part.detach(), persistent=False)
            self._targets[layer] = prefix, isinstance(target, tuple), shapes

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; targets that depend on it have to be captured again."""
        super().__setattr__(name, value)
        is_setting = isinstance(getattr(type(self), name, None), Checked) and name != "weight"
        if is_setting and vars(self).get("_targets"):
            self._targets = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and convert all tensors, but no target to half precision, in which it overflows."""
        wide = {name: part for name, part in self._buffers.items() if name.startswith("_target_")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, part in wide.items():
            found = self._buffers[name]
            if part is not None and found is not None and at_least_single(found) is not found:
                self._buffers[name] = at_least_single(part).to(found.device)
        return self

    def _target(self, layer: str) -> Any:
        """Return the stored target, a tensor or a tuple of tensors."""
        if layer not in self._targets:
            name = type(self).__name__
            raise RuntimeError(f"{name} has no target for {layer!r}: call {name}.capture first.")
        prefix, is_tuple, _ = self._targets[layer]
        replace_inference_tensors(self)
        parts = tuple(part for name, part in self._buffers.items() if name.startswith(prefix))
        return parts if is_tuple else parts[0]

    def _mask(self, features: Features, like: Tensor) -> Tensor | None:
        """Return the mask of the pixels, `(N, 1, H, W)`, in the type of features, if any."""
        if "mask" not in features:
            return None
        mask = features["mask"].to(like)
        if mask.ndim != 4 or mask.shape[1] != 1 or len(mask) not in (1, len(like)):
            raise ValueError(
                f"`features['mask']` has shape {tuple(mask.shape)}; it must be (1, 1, H, W) or "
                f"({len(like)}, 1, H, W)."
            )
        return mask

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


def layers_of(losses: Iterable[Loss]) -> frozenset[str]:
    """Return the layers that any of some losses reads."""
    return frozenset(layer for loss in losses for layer in loss.layers)


def parts_of(statistic: Statistic) -> tuple[Tensor, ...]:
    """Return the tensors that a statistic consists of."""
    return statistic if isinstance(statistic, tuple) else (statistic,)
