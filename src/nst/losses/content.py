"""Losses that preserve the content, and the one that smooths the picture."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from nst import functional
from nst._utils.checks import Checked, at_least, one_of
from nst._utils.device import plain_arithmetic
from nst.losses.base import (
    Features,
    LayerLoss,
    Layers,
    Loss,
    Reference,
    References,
    Statistic,
)
from nst.losses.matching import FeatureLoss, SamplingLoss

CONTENT_LAYERS: Mapping[str, float] = {"relu4_2": 1.0}
"""The content layer of Gatys et al. (2016)."""
_Units: TypeAlias = Literal["relative", "mean", "gatys", "cosine"]


class PointwiseLoss(LayerLoss):
    """Compares features with the content's features, position by position.

    A subclass defines the error at a position; the base class takes the mean. A `"mask"` among the
    captured features multiplies the errors, averaged over the pixels of a position; it is not
    divided by its sum. Arguments and errors are those of `StatisticLoss`.

    Examples:
        >>> class AbsoluteLoss(PointwiseLoss):
        ...     def error(self, feature, target):
        ...         return (feature - target).abs()
        >>> loss = AbsoluteLoss(["image"])
        >>> loss.capture({"image": torch.zeros(1, 3, 4, 4)})
        >>> float(loss({"image": torch.ones(1, 3, 4, 4)}))
        1.0
    """

    reference: ClassVar[Reference] = "content"

    @abstractmethod
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the error at each of P positions, `(N, P)`, or of each channel too, `(N, C, P)`.

        Features are `(N, C, P)`; the target, from `prepare`, is `(N, D, P)` or `(1, D, P)`.
        """

    def scale(self, target: Tensor) -> Tensor:
        """Return the divisor of the mean error, `(N,)`, for captured features; 1 by default."""
        return target.new_ones(len(target))

    def prepare(self, target: Tensor) -> Tensor:
        """Return `error`'s target, any `(N, D, P)`, for features `(N, C, P)`; by default these."""
        return target

    @plain_arithmetic(gradients=False)
    def capture(self, references: References, blend: Sequence[float] | None = None) -> None:
        ((features, _),) = self._references(references, blend, single=True)
        targets = dict[str, tuple[Statistic, list[torch.Size]]]()
        for layer in self.layers:
            feature, weight = self._compared(layer, features), tuple[Tensor, ...]()
            flat = feature.flatten(2)  # (N, C, P)
            target = torch.unflatten(self.prepare(flat), 2, feature.shape[2:]).clone()
            mask = self._mask(features, feature)
            if mask is not None:
                weight = (F.interpolate(mask, feature.shape[2:], mode="area"),)
            targets[layer] = (target, self.scale(flat), *weight), [feature.shape]
        self._store(targets)

    # Returns the features of the reference that a layer's are compared with.
    _compared = LayerLoss._feature

    @plain_arithmetic(gradients=None)
    def forward(self, features: Features) -> Tensor:
        sums = {}
        for layer in self.layers:
            feature = self._feature(layer, features)
            sums[layer] = self.share(layer, feature, 0, feature.shape[-2])
        return self.compare(sums)

    def share(self, layer: str, feature: Tensor, first: int, height: int) -> Tensor:
        """Return the share of some rows in the mean error, a scalar; see `StatisticLoss.share`."""
        target, scale, *weight = self._target(layer)
        n, channels, rows, width = feature.shape
        self._check_fit(layer, [torch.Size((n, channels, height, width))])
        error = self.error(feature.flatten(2), target[..., first : first + rows, :].flatten(2))
        if error.ndim < 2 or len(error) != n:
            raise ValueError(
                f"`{type(self).__name__}.error` returned shape {tuple(error.shape)}; one value "
                f"for each position is needed, (N, P) or (N, C, P) with N = {n}."
            )
        if weight:
            rowwise = weight[0][..., first : first + rows, :].flatten(2)
            error = error * (rowwise if error.ndim > 2 else rowwise[:, 0])
        mean: Tensor = error.flatten(1).mean(1)
        share: Tensor = ((mean if rows == height else mean * (rows / height)) / scale).mean()
        return share

    _summing = (share, LayerLoss.compare, forward, capture)


class ContentLoss(PointwiseLoss):
    r"""Preserves the content: compares the picture's features with the photograph's.

    | `units` | the loss of a layer, C channels at P positions |
    |---|---|
    | `"relative"` | \(\lVert F - \hat F \rVert^2 / \lVert \hat F \rVert^2\); dimensionless |
    | `"mean"` | \(\lVert F - \hat F \rVert^2 / (C P)\); Johnson et al. (2016), eq. 2 |
    | `"gatys"` | \(\lVert F - \hat F \rVert^2 / 2\); Gatys et al. (2016), eq. 1 |
    | `"cosine"` | \(\lVert U - \hat U \rVert^2 / P\), U of length 1 at each position; from 0 to 4 |

    The cosine ignores how strongly channels respond (`nst.functional.unit_features`), like LPIPS
    without its learned weights: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a
    Perceptual Metric" (CVPR 2018), eq. 1.

    Examples:
        >>> loss = ContentLoss({"relu4_2": 1.0})
        >>> loss.capture({"relu4_2": torch.full((1, 8, 4, 4), 2.0)})
        >>> float(loss({"relu4_2": torch.full((1, 8, 4, 4), 3.0)}))
        0.25
    """

    known_units: ClassVar[tuple[str, ...]] = get_args(_Units)
    units = Checked[str](partial(one_of, choices=known_units))

    def __init__(
        self, layers: Layers = CONTENT_LAYERS, *, weight: float = 1.0, units: _Units = "relative"
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = units

    def prepare(self, target: Tensor) -> Tensor:
        if self.units != "cosine":
            return target
        # The picture uses the photograph's floor, so the error at a position does not depend on
        # the other positions that are computed with it.
        floor = functional.unit_floor(target)
        unit = functional.unit_features(target, floor)
        return torch.cat([unit, floor.expand(-1, -1, target.shape[-1])], dim=1)

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        if self.units == "cosine":
            feature, target = functional.unit_features(feature, target[:, -1:]), target[:, :-1]
        return functional.square_error(feature, target)

    def scale(self, target: Tensor) -> Tensor:
        if self.units == "relative":
            size = target.square().flatten(1).mean(1)
            return torch.where(size > 0, size, 1)  # a target of zeros is compared absolutely
        channels, positions = target.shape[1:]
        values = {"mean": 1, "gatys": channels * positions / 2, "cosine": channels}[self.units]
        return target.new_full((len(target),), 1 / values)


class SelfSimilarityLoss(SamplingLoss):
    r"""Preserves which parts of the photograph look alike, but not how they look.

    \(\overline{\sum_i |D_{ij} - \hat D_{ij}|}\), from 0 to 2, where D is
    `nst.functional.self_similarity`. To smooth the kink at the photograph, \(|x|\) is
    \(x^2 / (|x| + k)\), k a thousandth of the mean of D. Kolkin et al., "Style Transfer by Relaxed
    Optimal Transport and Self-Similarity" (CVPR 2019), eq. 8.

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
    max_positions = Checked(partial(at_least, lowest=2))

    def __init__(
        self,
        layers: Layers = ("relu3_1", "relu4_1"),
        *,
        weight: float = 1.0,
        max_positions: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight, max_positions=max_positions, seed=seed)

    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        return (functional.self_similarity(self._sampled(feature)),)

    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        (goal,), (similarity,) = target, self._prepare(feature)
        # At a kink, the signs of rounding errors would make a gradient of full size.
        knee = 1e-3 / goal.shape[-1]
        apart = (similarity - goal).abs()
        return (apart.square() / (apart + knee)).sum(1).mean(1)


class LaplacianLoss(FeatureLoss):
    r"""Preserves the photograph's lines: the Laplacian of the picture, averaged over small cells.

    \(\lVert \Delta P x - \Delta P \hat x \rVert^2 / \lVert \Delta P \hat x \rVert^2\) with P the
    mean over cells. The divisor is at least a millionth of the photograph's mean square per value.
    Li et al., "Laplacian-Steered Neural Style Transfer" (ACM MM 2017).

    Args:
        pool: Side of a cell in pixels, at least 1; smaller details are left to the style.

    Examples:
        >>> loss = LaplacianLoss(pool=2)
        >>> loss.capture({"image": torch.rand(1, 3, 8, 8)})
        >>> round(float(loss({"image": torch.zeros(1, 3, 8, 8)})), 6)
        1.0
    """

    reference = "content"
    pool = Checked(at_least)

    def __init__(self, *, weight: float = 1.0, pool: int = 4) -> None:
        super().__init__(["image"], weight=weight)
        self.pool = pool

    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        lines = functional.laplacian(feature, self.pool)
        brightness = feature.square().flatten(1).mean(1)
        return lines, functional.square_size(lines, 1e-6 * brightness * lines[0].numel())

    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        return functional.relative_square_error(functional.laplacian(feature, self.pool), *target)


class TotalVariationLoss(Loss):
    """Smooths the picture: the difference of neighboring pixels (`functional.total_variation`).

    Args:
        power: 1 preserves edges and flattens the rest, 2 softens everything.

    Examples:
        >>> float(TotalVariationLoss()({"image": torch.ones(1, 3, 4, 4)}))
        0.0
    """

    power = Checked[Literal[1, 2]](partial(one_of, choices=get_args(Literal[1, 2])))

    def __init__(self, *, weight: float = 1.0, power: Literal[1, 2] = 2) -> None:
        super().__init__(weight=weight)
        self.power = power

    def forward(self, features: Features) -> Tensor:
        image = self._feature("image", features)
        return functional.total_variation(image, power=self.power).mean()
