"""What keeps the photograph recognizable, and the picture smooth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from nst import functional
from nst._utils.checks import at_least, one_of
from nst.losses.base import Features, LayerLoss, Layers
from nst.losses.pointwise import PointwiseLoss

__all__ = ["CONTENT_LAYERS", "ContentLoss", "SelfSimilarityLoss"]

_Units: TypeAlias = Literal["relative", "mean", "gatys", "cosine"]

CONTENT_LAYERS: Mapping[str, float] = {"relu4_2": 1.0}
"""The content layer of Gatys et al. (2016)."""


class ContentLoss(PointwiseLoss):
    r"""Keeps what is depicted: the features of the picture against those of the photograph.

    | `units` | the loss of a layer, C channels at P positions |
    |---|---|
    | `"relative"` | \(\lVert F - \hat F \rVert^2 / \lVert \hat F \rVert^2\); has no unit |
    | `"mean"` | \(\lVert F - \hat F \rVert^2 / (C P)\); Johnson et al. (2016), eq. 2 |
    | `"gatys"` | \(\lVert F - \hat F \rVert^2 / 2\); Gatys et al. (2016), eq. 1 |
    | `"cosine"` | \(\lVert U - \hat U \rVert^2 / P\), U of length 1 at each position; from 0 to 4 |

    By cosine, only what responds at a position counts, not how strongly: twice the mean cosine
    distance, as in LPIPS without its learned weights (Zhang et al., "The Unreasonable Effectiveness
    of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1). See `nst.functional.unit_features`.

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
        # The photograph's floor serves the picture as well: an error must not depend on what else
        # is seen of the picture.
        floor = functional.unit_floor(target)
        unit = functional.unit_features(target, floor)
        return torch.cat([unit, floor.expand(-1, -1, target.shape[-1])], dim=1)

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        """Return the squared difference, `(N, C, P)`."""
        if self.units == "cosine":
            feature, target = functional.unit_features(feature, target[:, -1:]), target[:, :-1]
        return (feature - target).square()

    def scale(self, target: Tensor) -> Tensor:
        """Return what the mean square is divided by, for the chosen units, `(N,)`."""
        if self.units == "relative":
            size = target.square().flatten(1).mean(1)
            return torch.where(size > 0, size, 1)  # a target of zeros is compared absolutely
        channels, positions = target.shape[1:]
        values = {"mean": 1, "gatys": channels * positions / 2, "cosine": channels}[self.units]
        return target.new_full((len(target),), 1 / values)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "units": self.units}


class PhotographLoss(LayerLoss):
    """Compares, layer by layer, something that is seen of the picture and of the photograph."""

    reference = "content"

    @torch.no_grad()
    def capture(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None = None
    ) -> None:
        """Keep what is seen of the photograph.

        Args:
            references: The features of one picture (or batch of pictures).
            blend: At most one weight.

        Raises:
            ValueError: More than one reference.
        """
        features = self._only(references, blend)
        for layer in self.layers:
            feature = self._feature(layer, features)
            seen = self._seen(feature)
            self._keep(layer, (seen, self._size(seen, feature)))

    def forward(self, features: Features) -> Tensor:
        """Return the weighted sum of the layers' differences, a scalar.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features do not fit the captured ones.
        """
        terms = {}
        for layer in self.layers:
            target, size = self._kept(layer)
            seen = self._seen(self._feature(layer, features))
            self._check_fit(layer, seen.shape, target.shape)
            terms[layer] = (self._difference(seen, target) / size).mean()
        return self._weighted_sum(terms)

    @abstractmethod
    def _seen(self, feature: Tensor) -> Tensor:
        """Return what is compared of a layer's features `(N, C, H, W)`, with the batch first."""

    @abstractmethod
    def _difference(self, seen: Tensor, target: Tensor) -> Tensor:
        """Compare what is seen of the picture with what was of the photograph, `(N,)`."""

    def _size(self, target: Tensor, feature: Tensor) -> Tensor:
        """Return what the difference is divided by, `(N,)`; 1 by default.

        Args:
            target: What is seen of the photograph.
            feature: The features it is seen of, `(N, C, H, W)`.
        """
        return target.new_ones(len(target))


class SelfSimilarityLoss(PhotographLoss):
    r"""Keeps which parts of the photograph look alike, whatever they look like.

    \(D_{ij}\) is the cosine distance between the features at positions i and j, each column divided
    by its sum; the loss is \(\overline{\sum_i |D_{ij} - \hat D_{ij}|}\), between 0 and 2, its kink
    at the photograph smoothed: \(|x|\) is \(x^2 / (|x| + k)\), k a thousandth of the mean of D.
    Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity" (CVPR 2019),
    eq. 8.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        max_positions: On at most how many positions of each layer, drawn once; memory grows with
            its square.
        seed: Draws the positions. No global generator is touched.

    Raises:
        ValueError: No layers, bad weights, or fewer than 2 positions.

    Examples:
        >>> loss = SelfSimilarityLoss(["relu3_1"])
        >>> photo = {"relu3_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(photo)
        >>> float(loss(photo))
        0.0
    """

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

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "max_positions": self.max_positions, "seed": self.seed}

    def _seen(self, feature: Tensor) -> Tensor:
        chosen = functional.sample_positions(feature.flatten(2), self.max_positions, self.seed)
        return functional.self_similarity(chosen)

    def _difference(self, seen: Tensor, target: Tensor) -> Tensor:
        # At a kink, the signs of what rounding leaves would make a gradient of full size.
        knee = 1e-3 / target.shape[-1]
        apart = (seen - target).abs()
        return (apart.square() / (apart + knee)).sum(1).mean(1)
