"""Losses that preserve the content: the photograph's features, or how alike they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import at_least, one_of
from nst.losses.base import Features, LayerLoss, Layers, References
from nst.losses.matching import FeatureLoss

_Units: TypeAlias = Literal["relative", "mean", "gatys", "cosine"]

CONTENT_LAYERS: Mapping[str, float] = {"relu4_2": 1.0}
"""The content layer of Gatys et al. (2016)."""


class PointwiseLoss(LayerLoss):
    """Compares features position by position with those of the content.

    A subclass defines the error at a position; the base class takes the mean. Arguments and errors
    are those of `StatisticLoss`.

    Examples:
        >>> class AbsoluteLoss(PointwiseLoss):
        ...     def error(self, feature, target):
        ...         return (feature - target).abs()
        >>> loss = AbsoluteLoss(["image"])
        >>> loss.capture({"image": torch.zeros(1, 3, 4, 4)})
        >>> float(loss({"image": torch.ones(1, 3, 4, 4)}))
        1.0
    """

    reference: ClassVar[Literal["content", "style"] | None] = "content"

    @abstractmethod
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the error at each of P positions, `(N, P)`, or of each channel too, `(N, C, P)`.

        Of features `(N, C, P)` and the result of `prepare`, `(N, D, P)` or `(1, D, P)`.
        """

    def scale(self, target: Tensor) -> Tensor:
        """Return the divisor of the mean error, `(N,)`, for captured features; 1 by default."""
        return target.new_ones(len(target))

    def prepare(self, target: Tensor) -> Tensor:
        """Return the target for captured features `(N, C, P)`, any `(N, D, P)`; itself by default.

        Override it to compute once what `error` would compute each time.
        """
        return target

    @override
    @torch.no_grad()
    def capture(self, references: References, blend: Sequence[float] | None = None) -> None:
        ((features, _),) = self._references(references, blend, single=True)
        for layer in self.layers:
            feature = self._feature(layer, features)
            flat = feature.flatten(2)  # (N, C, P)
            prepared = self.prepare(flat)
            target = prepared.reshape(*prepared.shape[:2], *feature.shape[2:]).clone()
            self._store(layer, (target, self.scale(flat)), [feature.shape])

    @override
    def forward(self, features: Features) -> Tensor:
        sums = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            sums[layer] = self.share(layer, feature, 0, feature.shape[-2])
        return self.compare(sums)

    def share(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor:
        """Return what some rows `(N, C, h, W)` of a layer add to its mean error, a scalar.

        They begin at row `first` of the layer's `height` rows.
        """
        target, scale = self._target(layer)
        n, channels, rows, width = feature.shape
        self._check_fit(layer, [torch.Size((n, channels, height, width))])
        error = self.error(feature.flatten(2), target[..., first : first + rows, :].flatten(2))
        if error.ndim < 2 or len(error) != n:
            raise ValueError(
                f"`{type(self).__name__}.error` returned shape {tuple(error.shape)}; one value "
                f"for each position is needed, (N, P) or (N, C, P) with N = {n}."
            )
        share: Tensor = (error.flatten(1).mean(1) * (rows / height) / scale).mean()
        return share

    def compare(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the layers' mean errors, given the sums of their shares."""
        return self._weighted_sum(sums)

    @property
    def adds_up(self) -> bool:
        """Whether `share` and `compare` compute the loss, which a subclass or a hook may change."""
        return self._inherits(PointwiseLoss, "share", "compare", "forward", "capture")


class ContentLoss(PointwiseLoss):
    r"""Preserves the content: compares the picture's features with the photograph's.

    | `units` | the loss of a layer, C channels at P positions |
    |---|---|
    | `"relative"` | \(\lVert F - \hat F \rVert^2 / \lVert \hat F \rVert^2\); dimensionless |
    | `"mean"` | \(\lVert F - \hat F \rVert^2 / (C P)\); Johnson et al. (2016), eq. 2 |
    | `"gatys"` | \(\lVert F - \hat F \rVert^2 / 2\); Gatys et al. (2016), eq. 1 |
    | `"cosine"` | \(\lVert U - \hat U \rVert^2 / P\), U of length 1 at each position; from 0 to 4 |

    The cosine compares which channels respond (`nst.functional.unit_features`), not how strongly,
    as LPIPS does without its learned weights (Zhang et al., "The Unreasonable Effectiveness of Deep
    Features as a Perceptual Metric", CVPR 2018, eq. 1).

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


class SelfSimilarityLoss(FeatureLoss):
    r"""Preserves which parts of the photograph look alike, whatever they look like.

    \(D_{ij}\) is the cosine distance between the features at positions i and j, each column divided
    by its sum; the loss is \(\overline{\sum_i |D_{ij} - \hat D_{ij}|}\), between 0 and 2, its kink
    at the photograph smoothed: \(|x|\) is \(x^2 / (|x| + k)\), k a thousandth of the mean of D.
    Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity" (CVPR 2019),
    eq. 8.

    Args:
        max_positions: Largest number of positions of each layer; memory grows with its square.
        seed: Seed of the sampled positions. No global generator is touched.

    Examples:
        >>> loss = SelfSimilarityLoss(["relu3_1"])
        >>> photo = {"relu3_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(photo)
        >>> float(loss(photo))
        0.0
    """

    reference = "content"

    def __init__(
        self,
        layers: Layers = ("relu3_1", "relu4_1"),
        *,
        weight: float = 1.0,
        max_positions: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight)
        self.max_positions = at_least("max_positions", max_positions, 2)
        self.seed = at_least("seed", seed, 0)

    @override
    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        some = functional.sample_positions(feature.flatten(2), self.max_positions, self.seed)
        return (functional.self_similarity(some),)

    @override
    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        (goal,), (similarity,) = target, self._prepare(feature)
        # At a kink, the signs of rounding errors would make a gradient of full size.
        knee = 1e-3 / goal.shape[-1]
        apart = (similarity - goal).abs()
        return (apart.square() / (apart + knee)).sum(1).mean(1)
