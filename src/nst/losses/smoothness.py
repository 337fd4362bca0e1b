"""Losses that keep the picture smooth, or its lines."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import at_least, one_of
from nst.losses.base import Features, Loss
from nst.losses.content import PhotographLoss

__all__ = ["LaplacianLoss", "TotalVariationLoss"]


class LaplacianLoss(PhotographLoss):
    r"""Keeps the photograph's lines: the Laplacian of the picture, averaged over small cells.

    \(\lVert \Delta P x - \Delta P \hat x \rVert^2 / \lVert \Delta P \hat x \rVert^2\) with P the
    mean over cells of `pool` pixels. The divisor is no less than a millionth of the photograph's
    mean square for each of its values, for where there are no lines, it is rounding. Li et al.,
    "Laplacian-Steered Neural Style Transfer" (ACM MM 2017).

    Args:
        weight: What the loop multiplies the loss with; non-negative.
        pool: The side of a cell in pixels: what is smaller is left to the style.

    Raises:
        ValueError: A bad weight, or `pool` below 1.

    Examples:
        >>> loss = LaplacianLoss(pool=2)
        >>> loss.capture({"image": torch.rand(1, 3, 8, 8)})
        >>> round(float(loss({"image": torch.zeros(1, 3, 8, 8)})), 6)
        1.0
    """

    def __init__(self, *, weight: float = 1.0, pool: int = 4) -> None:
        super().__init__(["image"], weight=weight)
        self.pool = at_least("pool", pool, 1)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {"weight": self.weight, "pool": self.pool}

    def _seen(self, feature: Tensor) -> Tensor:
        return functional.laplacian(feature, self.pool)

    def _difference(self, seen: Tensor, target: Tensor) -> Tensor:
        return (seen - target).square().flatten(1).sum(1)

    @override
    def _size(self, target: Tensor, feature: Tensor) -> Tensor:
        brightness = feature.square().flatten(1).mean(1)
        return functional.square_size(target, 1e-6 * brightness * target[0].numel())


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
