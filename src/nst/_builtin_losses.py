"""The built-in losses: each a few lines over its kind and a formula of `nst.functional`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._checks import one_of
from nst._losses import (
    Features,
    Layers,
    Loss,
    PointwiseLoss,
    Statistic,
    StatisticLoss,
    mean_over_parts,
)

__all__ = [
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "ContentLoss",
    "GramStyleLoss",
    "MomentStyleLoss",
    "TotalVariationLoss",
]

Units: TypeAlias = Literal["relative", "mean", "gatys"]

CONTENT_LAYERS: Mapping[str, float] = {"relu4_2": 1.0}
"""The content layer of Gatys et al. (2016)."""
STYLE_LAYERS: Mapping[str, float] = {f"relu{block}_1": 0.2 for block in range(1, 6)}
"""The style layers of Gatys et al. (2016), weighted equally."""


class ContentLoss(PointwiseLoss):
    r"""Keeps what is depicted: the features of the picture against those of the photograph.

    | `units` | the loss of a layer, C channels at P positions |
    |---|---|
    | `"relative"` | \(\lVert F - \hat F \rVert^2 / \lVert \hat F \rVert^2\); has no unit |
    | `"mean"` | \(\lVert F - \hat F \rVert^2 / (C P)\); Johnson et al. (2016), eq. 2 |
    | `"gatys"` | \(\lVert F - \hat F \rVert^2 / 2\); Gatys et al. (2016), eq. 1 |

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the difference is normalized, see above.

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = ContentLoss({"relu4_2": 1.0})
        >>> loss.capture({"relu4_2": torch.full((1, 8, 4, 4), 2.0)})
        >>> float(loss({"relu4_2": torch.full((1, 8, 4, 4), 3.0)}))
        0.25
    """

    def __init__(
        self,
        layers: Layers = tuple(CONTENT_LAYERS),
        *,
        weight: float = 1.0,
        units: Units = "relative",
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = one_of("units", units, get_args(Units))

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the squared difference, `(N, C, P)`."""
        return (feature - target).square()

    def scale(self, target: Tensor) -> Tensor:
        """Return what the mean square is divided by, for the chosen units, `(N,)`."""
        if self.units == "relative":
            size = target.square().flatten(1).mean(1)
            return torch.where(size > 0, size, 1)  # a target of zeros is compared absolutely
        values = 1 if self.units == "mean" else target[0].numel() / 2
        return target.new_full((len(target),), 1 / values)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "units": self.units}


class _UnitsStyleLoss(StatisticLoss):
    """A statistic compared in units of choice; subclasses say which statistic."""

    known_units: ClassVar[tuple[str, ...]] = ("relative", "mean")

    def __init__(
        self,
        layers: Layers = tuple(STYLE_LAYERS),
        *,
        weight: float = 1.0,
        units: Units = "relative",
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = one_of("units", units, self.known_units)

    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        """Compare a statistic with its target in the chosen units."""
        if self.units == "relative":
            return mean_over_parts(functional.relative_square_error, statistic, target)
        return mean_over_parts(functional.mean_square_error, statistic, target)

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

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = GramStyleLoss(["relu1_1"])
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 2.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 0.0)}))
        1.0
    """

    known_units = ("relative", "mean", "gatys")

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        """Return the Gram matrix, `(N, C, C)`."""
        return functional.gram_matrix(feature, weight)

    @override
    def distance(self, statistic: Statistic, target: Statistic) -> Tensor:
        distance = super().distance(statistic, target)
        return distance / 4 if self.units == "gatys" else distance


class MomentStyleLoss(_UnitsStyleLoss):
    r"""Matches the mean and the raw second moment of every channel: a style without correlations.

    A far smaller statistic than the Gram matrix (2C numbers for C channels), after the observation
    of Huang & Belongie (ICCV 2017) and Li et al. (IJCAI 2017) that first and second moments carry
    much of a style. The loss of a layer is the average of the two moments' distances:
    \(\lVert m - \hat m \rVert^2 / \lVert \hat m \rVert^2\) for `units="relative"`,
    \(\lVert m - \hat m \rVert^2 / C\) for `units="mean"`.

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


class TotalVariationLoss(Loss):
    """Smooths the picture: how much neighboring pixels differ (`nst.functional.total_variation`).

    Args:
        weight: What the loop multiplies the loss with; non-negative.
        power: 1 keeps edges and flattens the rest, 2 softens everything.

    Raises:
        ValueError: A bad weight or power.

    Examples:
        >>> float(TotalVariationLoss()({"image": torch.ones(1, 3, 4, 4)}))
        0.0
    """

    def __init__(self, *, weight: float = 1.0, power: Literal[1, 2] = 2) -> None:
        super().__init__(weight=weight)
        self.power: Literal[1, 2] = one_of("power", power, (1, 2))

    def forward(self, features: Features) -> Tensor:
        """Return the total variation of `features["image"]`, a scalar."""
        return functional.total_variation(features["image"], power=self.power).mean()

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "power": self.power}
