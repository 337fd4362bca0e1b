"""Style losses of statistics: Gram matrices, means, variances and covariances of the channels."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nst import functional
from nst._utils.checks import Checked, non_negative, one_of
from nst.losses.base import (
    Features,
    LayerLoss,
    Layers,
    Statistic,
    parts_of,
)
from nst.losses.storable import StatisticLoss, StorableLoss

STYLE_LAYERS: Mapping[str, float] = {f"relu{block}_1": 0.2 for block in range(1, 6)}
"""The style layers of Gatys et al. (2016), weighted equally."""
Units: TypeAlias = Literal["relative", "mean"]

# Features whose variance is below this share of their mean square are flat: a relative error would
# be divided by rounding, or by invisible noise.
_FLAT = 1e-3


def style_layers(motifs: float = 0.01) -> dict[str, float]:
    """Return the weights of the style layers, which sum to 1, with more or fewer motifs.

    relu1_1 to relu4_1 carry colors, strokes and textures, relu5_1 the painting's motifs: swirls
    and tiles, but also its figures and its composition.

    Args:
        motifs: Weight of relu5_1 relative to each of the others: 1 gives `STYLE_LAYERS`, which
            paints figures into the sky; 0.2 paints swirls; at 0 the layer is left out.

    Raises:
        ValueError: The number is not from 0 to 1.

    Examples:
        >>> style_layers(0)
        {'relu1_1': 0.25, 'relu2_1': 0.25, 'relu3_1': 0.25, 'relu4_1': 0.25}
    """
    *others, deepest = STYLE_LAYERS
    weights = dict.fromkeys(others, 1.0)
    if non_negative("motifs", motifs, 1) > 0:
        weights[deepest] = motifs
    return {layer: weight / sum(weights.values()) for layer, weight in weights.items()}


class UnitsLoss(LayerLoss):
    """Compares with the styles in a choice of units."""

    known_units: ClassVar[tuple[str, ...]] = get_args(Units)
    units = Checked[str](partial(one_of, choices=known_units))

    def __init__(
        self, layers: Layers = STYLE_LAYERS, *, weight: float = 1.0, units: Units = "relative"
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = units

    def _size(self, target: Tensor, floor: Tensor | float = 0.0) -> Tensor:
        """Return the divisor of a square error, `(N,)`; in relative units at least `floor`."""
        if self.units == "relative":
            return functional.square_size(target, floor)
        values = target[0].numel() * (4 if self.units == "gatys" else 1)
        return target.new_full((len(target),), values)


class GramStyleLoss(UnitsLoss, StatisticLoss):
    r"""Transfers the style: which channels respond together, at any position.

    With \(G = F F^\top / P\) for C channels at P positions (`nst.functional.gram_matrix`):

    | `units` | the loss of a layer |
    |---|---|
    | `"relative"` | \(\lVert G - \hat G \rVert^2 / \lVert \hat G \rVert^2\); dimensionless |
    | `"mean"` | \(\lVert G - \hat G \rVert^2 / C^2\); Johnson et al. (2016), eq. 4 |
    | `"gatys"` | \(\lVert G - \hat G \rVert^2 / (4 C^2)\); Gatys et al. (2016), eq. 4 |

    The paper's sums over positions are equivalent if picture and painting are of equal size.

    Args:
        centered: Whether G is the covariance, which ignores the channels' means. The relative
            divisor is at least \(10^{-6}\) of the Gram matrix's.

    Examples:
        >>> loss = GramStyleLoss(["relu1_1"])
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 2.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 0.0)}))
        1.0
    """

    known_units = ("relative", "mean", "gatys")
    units = Checked[str](partial(one_of, choices=known_units))

    def __init__(
        self,
        layers: Layers = STYLE_LAYERS,
        *,
        weight: float = 1.0,
        units: Literal["relative", "mean", "gatys"] = "relative",
        centered: bool = False,
    ) -> None:
        super().__init__(layers, weight=weight, units=units)  # type: ignore[arg-type]  # "gatys"
        self.centered = bool(centered)

    def statistic(self, feature: Tensor, weight: Tensor) -> Statistic:
        gram = functional.gram_matrix(feature, weight)  # (N, C, C)
        return (gram, functional.mean(feature, weight)) if self.centered else gram

    def prepare(self, statistic: Statistic) -> Statistic:
        target, gram = _covariance(statistic), parts_of(statistic)[0]
        return target, self._size(target, _FLAT**2 * gram.square().flatten(1).sum(1))

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        errors = functional.relative_square_error(_covariance(statistic), *target)
        return errors[0] if len(errors) == 1 else errors.mean()


def _covariance(statistic: Statistic) -> Tensor:
    """Return the covariance of a Gram matrix and a mean; return a Gram matrix alone unchanged."""
    return functional.covariance(*statistic) if isinstance(statistic, tuple) else statistic


class CrossLayerGramStyleLoss(StorableLoss):
    r"""Matches which channels of neighboring layers respond together.

    \(\lVert G - \hat G \rVert^2 / \lVert \hat G \rVert^2\), \(G = \bar F^{l} F^{m\top} / P\): the
    shallower layer is averaged over the pixels of each of the deeper layer's P positions. Novak &
    Nikulin, "Improving the Neural Algorithm of Artistic Style" (2016); Yeh et al. (WACV 2020), who
    enlarge the deeper layer instead, which is equivalent where the sides divide.

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
        if not isinstance(layers, (str, Mapping, set, frozenset)):
            layers = list(layers)
            if len({*layers}) == len(layers) > 1:  # otherwise refused below
                pair_weight = 1 / (len(layers) - 1)
                layers = {name: pair_weight if i else 0.0 for i, name in enumerate(layers)}
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
        summary: dict[str, Statistic] = {}
        for shallow, deep in zip(self.layers, self.layers[1:], strict=False):
            feature = self._feature(deep, features)
            shape = (feature.shape[-2], feature.shape[-1])
            averaged = functional.area_average(self._feature(shallow, features), shape)
            mask = self._mask(features, feature)
            weight = None if mask is None else functional.mask_weight(mask, shape)
            summary[deep] = functional.cross_gram(
                averaged.flatten(2).to(feature), feature.flatten(2), weight
            )
        return summary

    def prepare(self, statistic: Statistic) -> Statistic:
        (gram,) = parts_of(statistic)
        return gram, functional.square_size(gram)

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        return functional.relative_square_error(*parts_of(statistic), *target).mean()


class MomentStyleLoss(UnitsLoss, StatisticLoss):
    r"""Matches the mean and the raw second moment of every channel, without correlations.

    These 2C numbers for C channels carry much of a style: Huang & Belongie (ICCV 2017), Li et al.
    (IJCAI 2017). The loss of a layer is the average of the two moments' distances,
    \(\lVert m - \hat m \rVert^2 / \lVert \hat m \rVert^2\) for `units="relative"`,
    \(\lVert m - \hat m \rVert^2 / C\) for `units="mean"`. The mean's relative divisor is at least
    a thousandth of the sum of second moments.

    Examples:
        >>> loss = MomentStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 2.0)}))  # (1**2 + 3**2) / 2
        5.0
    """

    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return functional.mean(feature, weight), functional.second_moment(feature, weight)

    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        return mean, second, self._size(mean, _FLAT * second.sum(1)), self._size(second)

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        parts = zip(statistic, target[:2], target[2:4], strict=True)  # the sizes come last
        errors = [functional.relative_square_error(*part).mean() for part in parts]
        return torch.stack(errors).mean()


class MeanStdStyleLoss(MomentStyleLoss):
    r"""Matches the mean and the standard deviation of every channel.

    The loss of a layer is the average of the distances of \(\mu\) and
    \(\sigma = \sqrt{m - \mu^2 + \epsilon}\), in the units of `MomentStyleLoss`, with both relative
    divisors limited alike. \(\epsilon\), a millionth of the style's mean square in the layer, gives
    dead channels a gradient. Huang & Belongie (ICCV 2017), Li et al. (IJCAI 2017).

    Examples:
        >>> loss = MeanStdStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 2.0)}))  # (1**2 + 0**2) / 2
        0.5
    """

    def prepare(self, statistic: Statistic) -> Statistic:
        mean, second = statistic
        floor = 1e-6 * second.mean(1, keepdim=True)
        deviation = functional.standard_deviation(mean, second, floor)
        least = _FLAT * second.sum(1)
        return mean, deviation, self._size(mean, least), self._size(deviation, least), floor

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        mean, second = statistic
        deviation = functional.standard_deviation(mean, second, target[4])
        return super().distance((mean, deviation), target)


class WassersteinStyleLoss(UnitsLoss, StatisticLoss):
    r"""Matches the distribution of the features, approximated by a normal distribution.

    $$W_2^2 = \lVert \mu - \hat\mu \rVert^2
      + \operatorname{tr}\bigl(\Sigma + \hat\Sigma
      - 2 (\hat\Sigma^{1/2} \Sigma \hat\Sigma^{1/2})^{1/2}\bigr)$$

    divided by \(\lVert\hat\mu\rVert^2 + \operatorname{tr}\hat\Sigma\) for `units="relative"`, by
    the number of channels for `units="mean"`. Because the formula needs regular matrices, a
    ten-thousandth of the style's mean square in the layer is added to each variance. Takes an
    eigendecomposition in float64 per layer. Mroueh, "Wasserstein Style Transfer" (AISTATS 2020).

    Examples:
        >>> loss = WassersteinStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> round(float(loss({"relu1_1": torch.full((1, 8, 5, 7), 3.0)})), 5)  # the means' distance
        4.0
    """

    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return functional.gram_matrix(feature, weight), functional.mean(feature, weight)

    def prepare(self, statistic: Statistic) -> Statistic:
        gram, mean = statistic
        second = gram.diagonal(dim1=-2, dim2=-1)
        # A share of the variance would be rounding, of any sign, where the style is flat.
        floor = (1e-4 * second.mean(1)).clamp_min(torch.finfo(gram.dtype).tiny)
        covariance = functional.regularized(functional.covariance(gram, mean), floor)
        return functional.square_root(covariance), mean, self._size(second.sqrt()), floor

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        (gram, mean), (root, goal, size, floor) = statistic, target
        covariance = functional.regularized(functional.covariance(gram, mean), floor)
        spread = functional.squared_bures(covariance, root, floor)
        return ((spread + (mean - goal).square().sum(1)) / size).mean()
