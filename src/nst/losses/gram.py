"""Style losses that are means over positions: each a few lines over a formula."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import one_of
from nst.losses.kinds import (
    Features,
    Layers,
    Statistic,
    StatisticLoss,
    SummaryLoss,
    parts_of,
)

__all__ = [
    "STYLE_LAYERS",
    "CrossLayerGramStyleLoss",
    "GramStyleLoss",
    "MeanStdStyleLoss",
    "MomentStyleLoss",
    "WassersteinStyleLoss",
]

STYLE_LAYERS: Mapping[str, float] = {f"relu{block}_1": 0.2 for block in range(1, 6)}
"""The style layers of Gatys et al. (2016), weighted equally."""

_Units: TypeAlias = Literal["relative", "mean", "gatys"]

# What varies by less than this share of its mean square is flat: there, a relative error would be
# divided by rounding, or by noise that nobody sees.
_FLAT = 1e-3


class _UnitsStyleLoss(StatisticLoss):
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


class GramStyleLoss(_UnitsStyleLoss):
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
        return target, self._size(target, _FLAT**2 * gram.square().flatten(1).sum(1))

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        goal, size = target
        return functional.relative_square_error(self._compared(statistic), goal, size).mean()

    def _compared(self, statistic: Statistic) -> Tensor:
        return functional.covariance(*statistic) if isinstance(statistic, tuple) else statistic

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "centered": self.centered}


class MomentStyleLoss(_UnitsStyleLoss):
    r"""Matches the mean and the raw second moment of every channel: a style without correlations.

    A far smaller statistic than the Gram matrix (2C numbers for C channels), after the observation
    of Huang & Belongie (ICCV 2017) and Li et al. (IJCAI 2017) that first and second moments carry
    much of a style. The loss of a layer is the average of the two moments' distances:
    \(\lVert m - \hat m \rVert^2 / \lVert \hat m \rVert^2\) for `units="relative"`,
    \(\lVert m - \hat m \rVert^2 / C\) for `units="mean"`. The mean's relative divisor is no less
    than a thousandth of the sum of second moments: where features cancel, it is rounding.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the difference is normalized, see above.

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = MomentStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 2.0)}))  # (1**2 + 3**2) / 2
        5.0
    """

    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the raw second moment, `(N, C)` each."""
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        least = _FLAT * second.sum(1)
        return mean, second, self._size(mean, least), self._size(second)

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        return _mean_error(statistic, target[:2], target[2:])


class MeanStdStyleLoss(_UnitsStyleLoss):
    r"""Matches the mean and the standard deviation of every channel.

    The statistics of Huang & Belongie (ICCV 2017) and Li et al. (IJCAI 2017), from blended raw
    moments. The loss of a layer is the average of the distances of \(\mu\) and of
    \(\sigma = \sqrt{m - \mu^2 + \epsilon}\), in units as in `MomentStyleLoss`, with
    \(\epsilon\) a millionth of the style's mean square in this layer, so that a dead channel has a
    gradient. Both relative divisors are no less than a thousandth of the sum of second moments:
    the deviation of a flat style is rounding.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the difference is normalized, see above.

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = MeanStdStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 2.0)}))  # (1**2 + 0**2) / 2
        0.5
    """

    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the raw second moment, `(N, C)` each."""
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        floor = 1e-6 * second.mean(1, keepdim=True)
        deviation = functional.standard_deviation(mean, second, floor)
        least = _FLAT * second.sum(1)
        return mean, deviation, self._size(mean, least), self._size(deviation, least), floor

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        mean, second = statistic
        deviation = functional.standard_deviation(mean, second, target[4])
        return _mean_error((mean, deviation), target[:2], target[2:4])


class WassersteinStyleLoss(_UnitsStyleLoss):
    r"""Matches the features' distribution, as if it were normal: how far it must be moved.

    $$W_2^2 = \lVert \mu - \hat\mu \rVert^2
      + \operatorname{tr}\bigl(\Sigma + \hat\Sigma
      - 2 (\hat\Sigma^{1/2} \Sigma \hat\Sigma^{1/2})^{1/2}\bigr)$$

    divided by \(\lVert\hat\mu\rVert^2 + \operatorname{tr}\hat\Sigma\) for `units="relative"`, by
    the number of channels for `units="mean"`; a ten-thousandth of the style's mean square in this
    layer is added to each variance on both sides, as the formula needs regular matrices. Mroueh,
    "Wasserstein Style Transfer" (AISTATS 2020). Each layer's covariance takes an eigendecomposition
    in float64 each time.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the distance is normalized, see above.

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = WassersteinStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> round(float(loss({"relu1_1": torch.full((1, 8, 5, 7), 3.0)})), 5)  # the means' distance
        4.0
    """

    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gram matrix `(N, C, C)` and the mean `(N, C)`."""
        return functional.gram_matrix(feature, weight), functional.mean(feature, weight)

    @override
    def prepare(self, statistic: Statistic) -> Statistic:
        gram, mean = statistic
        second = gram.diagonal(dim1=-2, dim2=-1)
        # A share of the variance alone would be rounding, of any sign, where the style is flat.
        floor = (1e-4 * second.mean(1)).clamp_min(torch.finfo(gram.dtype).tiny)
        covariance = functional.regularized(functional.covariance(gram, mean), floor)
        return functional.square_root(covariance), mean, self._size(second.sqrt()), floor

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        (gram, mean), (root, goal, size, floor) = statistic, target
        covariance = functional.regularized(functional.covariance(gram, mean), floor)
        moved = functional.squared_bures(covariance, root, floor)
        moved = moved + (mean - goal).square().sum(1)
        return (moved / size).mean()


class CrossLayerGramStyleLoss(SummaryLoss):
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

    @override
    def summarize(self, features: Features) -> dict[str, Statistic]:
        summary: dict[str, Statistic] = {}
        for shallow, deep in zip(self.layers, self.layers[1:], strict=False):
            feature = self._feature(deep, features)
            shape = (feature.shape[-2], feature.shape[-1])
            averaged, weight = self._averaged(shallow, features, shape)
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

    def _averaged(
        self, layer: str, features: Features, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return a layer's features and weights at the positions of a deeper one."""
        feature = F.adaptive_avg_pool2d(self._feature(layer, features), shape).flatten(2)
        if "mask" in features:
            return feature, functional.mask_weight(features["mask"], shape)
        return feature, functional.uniform_weight(feature)


def _mean_error(
    values: Iterable[Tensor], goals: Iterable[Tensor], sizes: Iterable[Tensor]
) -> Tensor:
    """Return the mean of several parts' errors, a scalar."""
    parts = zip(values, goals, sizes, strict=True)
    return torch.stack([functional.relative_square_error(*part).mean() for part in parts]).mean()
