"""The content loss: features position by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import one_of
from nst.losses.base import Layers
from nst.losses.pointwise import PointwiseLoss

__all__ = ["CONTENT_LAYERS", "ContentLoss"]

_Units: TypeAlias = Literal["relative", "mean", "gatys", "cosine"]

CONTENT_LAYERS: Mapping[str, float] = {"relu4_2": 1.0}
"""The content layer of Gatys et al. (2016)."""


class ContentLoss(PointwiseLoss):
    r"""Preserves the content: compares the picture's features with the photograph's.

    | `units` | the loss of a layer, C channels at P positions |
    |---|---|
    | `"relative"` | \(\lVert F - \hat F \rVert^2 / \lVert \hat F \rVert^2\); dimensionless |
    | `"mean"` | \(\lVert F - \hat F \rVert^2 / (C P)\); Johnson et al. (2016), eq. 2 |
    | `"gatys"` | \(\lVert F - \hat F \rVert^2 / 2\); Gatys et al. (2016), eq. 1 |
    | `"cosine"` | \(\lVert U - \hat U \rVert^2 / P\), U of length 1 at each position; from 0 to 4 |

    The cosine compares which channels respond at a position, not how strongly: it is twice the mean
    cosine distance, as in LPIPS without its learned weights (Zhang et al., "The Unreasonable
    Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1). See
    `nst.functional.unit_features`.

    Examples:
        >>> loss = ContentLoss({"relu4_2": 1.0})
        >>> loss.capture({"relu4_2": torch.full((1, 8, 4, 4), 2.0)})
        >>> float(loss({"relu4_2": torch.full((1, 8, 4, 4), 3.0)}))
        0.25
    """

    known_units: ClassVar[tuple[str, ...]] = get_args(_Units)

    def __init__(
        self,
        layers: Layers = tuple(CONTENT_LAYERS),
        *,
        weight: float = 1.0,
        units: _Units = "relative",
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = one_of("units", units, self.known_units)

    @override
    def prepare(self, target: Tensor) -> Tensor:
        if self.units != "cosine":
            return target
        # The picture uses the photograph's floor as well: the error at a position must not depend
        # on which other positions are computed with it.
        floor = functional.unit_floor(target)
        unit = functional.unit_features(target, floor)
        return torch.cat([unit, floor.expand(-1, -1, target.shape[-1])], dim=1)

    @override
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        if self.units == "cosine":
            feature, target = functional.unit_features(feature, target[:, -1:]), target[:, :-1]
        return (feature - target).square()

    @override
    def scale(self, target: Tensor) -> Tensor:
        if self.units == "relative":
            size = target.square().flatten(1).mean(1)
            return torch.where(size > 0, size, 1)  # a target of zeros is compared absolutely
        channels, positions = target.shape[1:]
        values = {"mean": 1, "gatys": channels * positions / 2, "cosine": channels}[self.units]
        return target.new_full((len(target),), 1 / values)
