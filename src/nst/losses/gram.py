"""Style losses of Gram matrices: which channels respond together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import one_of
from nst.losses.base import Features, Layers, Statistic, StatisticLoss, StorableLoss, parts_of

STYLE_LAYERS: Mapping[str, float] = {f"relu{block}_1": 0.2 for block in range(1, 6)}
"""The style layers of Gatys et al. (2016), weighted equally."""

_Units: TypeAlias = Literal["relative", "mean", "gatys"]

# Features whose variance is below this share of their mean square are flat: a relative error would
# be divided by rounding, or by noise that nobody sees.
FLAT = 1e-3


class UnitsStyleLoss(StatisticLoss):
    """Compares a statistic in a choice of units."""

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
        """Return the divisor of a square error, `(N,)`; in relative units at least `floor`."""
        if self.units == "relative":
            return functional.square_size(target, floor)
        values = target[0].numel() * (4 if self.units == "gatys" else 1)
        return target.new_full((len(target),), values)


class GramStyleLoss(UnitsStyleLoss):
    r"""Transfers the style: which channels respond together, wherever they do.

    With \(G = F F^\top / P\) for C channels at P positions (`nst.functional.gram_matrix`):

    | `units` | the loss of a layer |
    |---|---|
    | `"relative"` | \(\lVert G - \hat G \rVert^2 / \lVert \hat G \rVert^2\); dimensionless |
    | `"mean"` | \(\lVert G - \hat G \rVert^2 / C^2\); Johnson et al. (2016), eq. 4 |
    | `"gatys"` | \(\lVert G - \hat G \rVert^2 / (4 C^2)\); Gatys et al. (2016), eq. 4 |

    The paper divides its sums over positions by their number squared, which is the same for a
    picture and a painting of equal size.

    Args:
        centered: Whether G is the covariance, which ignores how bright the channels are. The
            relative divisor is at least \(10^{-6}\) of the Gram matrix's, because the covariance of
            a flat style is rounding.

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

    @override
    def statistic(self, feature: Tensor, weight: Tensor) -> Statistic:
        gram = functional.gram_matrix(feature, weight)  # (N, C, C)
        return (gram, functional.mean(feature, weight)) if self.centered else gram

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        target, gram = _covariance(statistic), parts_of(statistic)[0]
        return target, self._size(target, FLAT**2 * gram.square().flatten(1).sum(1))

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        goal, size = target
        return functional.relative_square_error(_covariance(statistic), goal, size).mean()


class CrossLayerGramStyleLoss(StorableLoss):
    r"""Matches which channels of neighboring layers respond together.

    \(G = \bar F^{l} F^{m\top} / P\), the features of the shallower layer averaged over the pixels
    of each of the deeper layer's P positions, compared by
    \(\lVert G - \hat G \rVert^2 / \lVert \hat G \rVert^2\). Novak & Nikulin, "Improving the Neural
    Algorithm of Artistic Style" (2016), and Yeh et al. (WACV 2020), who enlarge the deeper layer
    instead, which is the same where the sides divide.

    Args:
        layers: At least two names of layers, shallow to deep, whose neighbors are compared and
            weighted equally; or layer to the weight of its pair with the layer before it.

    Examples:
        >>> loss = CrossLayerGramStyleLoss(["relu1_1", "relu2_1"])
        >>> features = {"relu1_1": torch.rand(1, 4, 8, 8), "relu2_1": torch.rand(1, 6, 4, 4)}
        >>> loss.capture(features)
        >>> float(loss(features))
        0.0
    """

    def __init__(self, layers: Layers = tuple(STYLE_LAYERS), *, weight: float = 1.0) -> None:
        if not isinstance(layers, (str, Mapping)):
            first, *others = list(layers) or [""]
            if others:  # otherwise refused below
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

    @override
    def summarize(self, features: Features) -> dict[str, Statistic]:
        summary: dict[str, Statistic] = {}
        for shallow, deep in zip(self.layers, self.layers[1:], strict=False):
            feature, weight = self._feature(deep, features), None
            shape = (feature.shape[-2], feature.shape[-1])
            averaged = F.adaptive_avg_pool2d(self._feature(shallow, features), shape).flatten(2)
            if "mask" in features:
                weight = functional.mask_weight(features["mask"], shape)
            summary[deep] = functional.cross_gram(averaged, feature.flatten(2), weight)
        return summary

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        (gram,) = parts_of(statistic)
        return gram, functional.square_size(gram)

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        (gram,), (goal, size) = parts_of(statistic), target
        return functional.relative_square_error(gram, goal, size).mean()


def _covariance(statistic: Statistic) -> Tensor:
    """Return the covariance of a Gram matrix and a mean; a Gram matrix alone as it is."""
    return functional.covariance(*statistic) if isinstance(statistic, tuple) else statistic
