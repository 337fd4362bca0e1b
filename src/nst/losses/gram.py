"""Style losses that are means over positions: each a few lines over a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import normalized_blend, one_of
from nst.losses.base import Features, LayerLoss, Layers, Statistic, parts_of
from nst.losses.statistic import StatisticLoss

__all__ = ["STYLE_LAYERS", "CrossLayerGramStyleLoss", "GramStyleLoss"]

STYLE_LAYERS: Mapping[str, float] = {f"relu{block}_1": 0.2 for block in range(1, 6)}
"""The style layers of Gatys et al. (2016), weighted equally."""

_Units: TypeAlias = Literal["relative", "mean", "gatys"]

# What varies by less than this share of its mean square is flat: there, a relative error would be
# divided by rounding, or by noise that nobody sees.
FLAT = 1e-3


class UnitsStyleLoss(StatisticLoss):
    """A statistic compared in units of choice; subclasses say which statistic."""

    known_units: ClassVar[tuple[str, ...]] = ("relative", "mean")

    def __init__(
        self,
        layers: Layers = tuple(STYLE_LAYERS),
        *,
        weight: float = 1.0,
        units: _Units = "relative",
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = one_of("units", units, self.known_units)

    def _size(self, target: Tensor, floor: Tensor | float = 0.0) -> Tensor:
        """Return what the square error against a target is divided by, `(N,)`.

        Args:
            target: What is compared with.
            floor: The least of it in relative units, `(N,)`.
        """
        if self.units == "relative":
            return functional.square_size(target, floor)
        values = target[0].numel() * (4 if self.units == "gatys" else 1)
        return target.new_full((len(target),), values)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "units": self.units}


class GramStyleLoss(UnitsStyleLoss):
    r"""Paints in the manner of the style: which channels respond together, wherever they do.

    With \(G = F F^\top / P\), the mean over the P positions of the outer product of the C channels
    (`nst.functional.gram_matrix`), which does not depend on the pictures' sizes:

    | `units` | the loss of a layer |
    |---|---|
    | `"relative"` | \(\lVert G - \hat G \rVert^2 / \lVert \hat G \rVert^2\); has no unit |
    | `"mean"` | \(\lVert G - \hat G \rVert^2 / C^2\); Johnson et al. (2016), eq. 4 |
    | `"gatys"` | \(\lVert G - \hat G \rVert^2 / (4 C^2)\); Gatys et al. (2016), eq. 4 |

    The paper sums over positions and divides by their number squared, which is the same where
    picture and painting have equally many.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the difference is normalized, see above.
        centered: Whether the mean is taken out first, which makes G the covariance: then what
            channels do together counts, and not how bright they are. The relative divisor is no
            less than \(10^{-6}\) of the Gram matrix's, as a flat style's covariance is rounding.

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = GramStyleLoss(["relu1_1"])
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 2.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 0.0)}))
        1.0
    """

    known_units = ("relative", "mean", "gatys")

    def __init__(
        self,
        layers: Layers = tuple(STYLE_LAYERS),
        *,
        weight: float = 1.0,
        units: _Units = "relative",
        centered: bool = False,
    ) -> None:
        super().__init__(layers, weight=weight, units=units)
        self.centered = bool(centered)

    def statistic(self, feature: Tensor, weight: Tensor) -> Statistic:
        """Return the Gram matrix, `(N, C, C)`; if centered, the mean `(N, C)` as well."""
        gram = functional.gram_matrix(feature, weight)
        return (gram, functional.mean(feature, weight)) if self.centered else gram

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        target, gram = self._compared(statistic), parts_of(statistic)[0]
        return target, self._size(target, FLAT**2 * gram.square().flatten(1).sum(1))

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        goal, size = target
        return functional.relative_square_error(self._compared(statistic), goal, size).mean()

    def _compared(self, statistic: Statistic) -> Tensor:
        return functional.covariance(*statistic) if isinstance(statistic, tuple) else statistic

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "centered": self.centered}


class CrossLayerGramStyleLoss(LayerLoss):
    r"""Matches which channels of neighboring layers respond together.

    \(G = \bar F^{l} F^{m\top} / P\), the features of the shallower layer averaged over the pixels
    of each of the deeper layer's P positions; in units of
    \(\lVert G - \hat G \rVert^2 / \lVert \hat G \rVert^2\). Novak & Nikulin, "Improving the Neural
    Algorithm of Artistic Style" (2016), and Yeh et al. (WACV 2020), who enlarge the deeper layer
    instead, which is the same where the sides divide.

    Args:
        layers: Two names of layers or more, shallow to deep, each compared with the next and the
            pairs weighted equally; or layer to weight, of its pair with the layer before it.
        weight: What the loop multiplies the loss with; non-negative.

    Raises:
        ValueError: Fewer than two layers, bad weights, or none on a pair.

    Examples:
        >>> loss = CrossLayerGramStyleLoss(["relu1_1", "relu2_1"])
        >>> features = {"relu1_1": torch.rand(1, 4, 8, 8), "relu2_1": torch.rand(1, 6, 4, 4)}
        >>> loss.capture(features)
        >>> float(loss(features))
        0.0
    """

    reference = "style"

    def __init__(self, layers: Layers = tuple(STYLE_LAYERS), *, weight: float = 1.0) -> None:
        if not isinstance(layers, (str, Mapping)):
            first, *others = list(layers) or [""]
            if others:  # else it is refused below
                layers = {first: 0.0, **{name: 1 / len(others) for name in others}}
        super().__init__(layers, weight=weight)
        if len(self.layers) < 2:
            raise ValueError(
                f"`layers` is {self.layers}; at least two are needed, such as "
                "['relu1_1', 'relu2_1']."
            )
        if not any(self.layer_weights[deep] for deep in self.layers[1:]):
            raise ValueError(
                f"`layers` is {self.layer_weights}, which weighs no pair: a layer's weight is that "
                "of its pair with the layer before it, and the first has none before it. Give a "
                "later layer a positive weight."
            )

    def summarize(self, features: Features) -> dict[str, Statistic]:
        """Return the Gram matrix of each layer with the one before; see `StatisticLoss`."""
        summary: dict[str, Statistic] = {}
        for shallow, deep in zip(self.layers, self.layers[1:], strict=False):
            feature = self._feature(deep, features)
            shape = (feature.shape[-2], feature.shape[-1])
            averaged = F.adaptive_avg_pool2d(self._feature(shallow, features), shape).flatten(2)
            weight = None
            if "mask" in features:
                weight = functional.mask_weight(features["mask"], shape)
            summary[deep] = functional.cross_gram(averaged, feature.flatten(2), weight)
        return summary

    @torch.no_grad()
    def capture(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None = None
    ) -> None:
        """Store the blended Gram matrices of the references; see `StatisticLoss.capture`."""
        references = [references] if isinstance(references, Mapping) else list(references)
        normalized_blend(blend, len(references))  # refuses before anything is computed
        self.capture_summaries([self.summarize(features) for features in references], blend)

    @torch.no_grad()
    def capture_summaries(
        self, summaries: Sequence[Mapping[str, Statistic]], blend: Sequence[float] | None = None
    ) -> None:
        """Store the blend of what `summarize` returned for each reference."""

        def prepare(statistic: Statistic) -> tuple[Tensor, Tensor]:
            (gram,) = parts_of(statistic)
            return gram, functional.square_size(gram)

        self._store_blends(summaries, blend, prepare)

    def forward(self, features: Features) -> Tensor:
        """Return the weighted sum of the pairs' relative errors, a scalar."""
        self._kept(self.layers[-1])  # refuses before anything is computed
        errors = {}
        for layer, statistic in self.summarize(features).items():
            self._check_statistic(layer, statistic)
            (gram,), (goal, size) = parts_of(statistic), self._kept(layer)
            errors[layer] = functional.relative_square_error(gram, goal, size).mean()
        return self._weighted_sum(errors)
