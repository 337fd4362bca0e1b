"""Losses of the pixels alone: smoothness, and the photograph's lines."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import at_least, one_of
from nst.losses.base import Features, Loss
from nst.losses.matching import FeatureLoss


class LaplacianLoss(FeatureLoss):
    r"""Preserves the photograph's lines: the Laplacian of the picture, averaged over small cells.

    \(\lVert \Delta P x - \Delta P \hat x \rVert^2 / \lVert \Delta P \hat x \rVert^2\) with P the
    mean over cells. The divisor is at least a millionth of the photograph's mean square per value,
    because without lines it is rounding. Li et al., "Laplacian-Steered Neural Style Transfer" (ACM
    MM 2017).

    Args:
        pool: Side of a cell in pixels, at least 1; smaller details are left to the style.

    Examples:
        >>> loss = LaplacianLoss(pool=2)
        >>> loss.capture({"image": torch.rand(1, 3, 8, 8)})
        >>> round(float(loss({"image": torch.zeros(1, 3, 8, 8)})), 6)
        1.0
    """

    reference = "content"

    def __init__(self, *, weight: float = 1.0, pool: int = 4) -> None:
        super().__init__(["image"], weight=weight)
        self.pool = at_least("pool", pool, 1)

    @override
    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        lines = functional.laplacian(feature, self.pool)
        brightness = feature.square().flatten(1).mean(1)
        return lines, functional.square_size(lines, 1e-6 * brightness * lines[0].numel())

    @override
    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        lines, size = target
        difference = functional.laplacian(feature, self.pool) - lines
        return difference.square().flatten(1).sum(1) / size


class TotalVariationLoss(Loss):
    """Smooths the picture: the difference of neighboring pixels (`functional.total_variation`).

    Args:
        power: 1 preserves edges and flattens the rest, 2 softens everything.

    Examples:
        >>> float(TotalVariationLoss()({"image": torch.ones(1, 3, 4, 4)}))
        0.0
    """

    def __init__(self, *, weight: float = 1.0, power: Literal[1, 2] = 2) -> None:
        super().__init__(weight=weight)
        self.power: Literal[1, 2] = one_of("power", power, (1, 2))

    @override
    def forward(self, features: Features) -> Tensor:
        return functional.total_variation(features["image"], power=self.power).mean()
