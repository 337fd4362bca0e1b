"""Style losses that compare with the style's features themselves rather than with their means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from nst import functional
from nst._utils.checks import at_least, normalized_blend, one_of
from nst.losses.base import Features, LayerLoss, Layers, parts_of
from nst.losses.gram import STYLE_LAYERS

__all__ = [
    "HistogramStyleLoss",
    "NearestNeighborStyleLoss",
    "RelaxedTransportStyleLoss",
    "SlicedWassersteinStyleLoss",
]

_Units = Literal["relative", "mean"]


class _MatchingLoss(LayerLoss):
    """The blend of the errors against each style, as features of several cannot be averaged."""

    reference = "style"

    @torch.no_grad()
    def capture(
        self, references: Features | Sequence[Features], blend: Sequence[float] | None = None
    ) -> None:
        """Keep the features of the references.

        Args:
            references: The features of a style, or of several; of any sizes.
            blend: A weight for each reference, of any sum; equal by default.

        Raises:
            ValueError: No references, weights that do not match them, are negative or all zero,
                or a part of a picture: only a `StatisticLoss` can leave positions out.
        """
        references = [references] if isinstance(references, Mapping) else list(references)
        shares = normalized_blend(blend, len(references))
        if any("mask" in features for features in references):
            raise ValueError(
                f"`references` has a mask, but {type(self).__name__} is not a mean over positions "
                "that could be taken over a part. Use a StatisticLoss, or leave the mask out."
            )
        # What weighs nothing is not kept: the targets are as large as the features.
        pairs = [pair for pair in zip(shares, references, strict=True) if pair[0] > 0]
        found = {
            layer: [self._feature(layer, features) for _, features in pairs]
            for layer in self.layers
        }
        self._shares = [share for share, _ in pairs]
        self._shapes = {layer: [feature.shape for feature in found[layer]] for layer in found}
        for layer, some in found.items():
            prepared = (self._prepared(feature.flatten(2)) for feature in some)
            self._keep(layer, tuple(part for parts in prepared for part in parts))

    def forward(self, features: Features) -> Tensor:
        """Return the weighted sum of the layers' errors, a scalar.

        Args:
            features: Maps every layer of `layers` to `(N, C, H, W)`.

        Raises:
            RuntimeError: `capture` has not been called.
            ValueError: The features have other channels than the captured ones, or are another
                number of pictures where several were captured at once.
        """
        terms = {}
        for layer in self.layers:
            kept = parts_of(self._kept(layer))  # refuses before anything is computed
            feature = self._feature(layer, features)
            self._check_shape(layer, feature)
            each = len(kept) // len(self._shares)  # so many parts belong to each style
            errors = [
                share * self._error(feature.flatten(2), kept[i * each : (i + 1) * each]).mean()
                for i, share in enumerate(self._shares)
            ]
            terms[layer] = torch.stack(errors).sum()
        return self._weighted_sum(terms)

    @abstractmethod
    def _prepared(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Return what is kept of a style's features, `(1, C, P)`."""

    @abstractmethod
    def _error(self, feature: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the error of features `(N, C, P)` against what `_prepared` returned, `(N,)`."""

    def _check_shape(self, layer: str, feature: Tensor) -> None:
        for captured in self._shapes[layer]:  # heights and widths may differ
            if captured[1] != feature.shape[1] or captured[0] not in (1, len(feature)):
                raise self._misfit(layer, feature.shape, captured)


class _SortingLoss(_MatchingLoss):
    """Compares sorted values, in units of choice."""

    known_units: ClassVar[tuple[str, ...]] = get_args(_Units)

    def __init__(
        self,
        layers: Layers = tuple(STYLE_LAYERS),
        *,
        weight: float = 1.0,
        units: _Units = "relative",
    ) -> None:
        super().__init__(layers, weight=weight)
        self.units = one_of("units", units, self.known_units)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "units": self.units}

    def _size(self, target: Tensor) -> Tensor:
        """Return what the error against sorted values is divided by, `(N,)`."""
        if self.units == "mean":
            return target.new_ones(len(target))
        size = target.square().flatten(1).mean(1)
        return torch.where(size > 0, size, 1)


class HistogramStyleLoss(_SortingLoss):
    r"""Matches the histogram of every channel: not only its mean and deviation.

    \(\overline{(F - H(F))^2}\), where \(H(F)\) has the style's histogram in each channel; over the
    mean square of the style's features for `units="relative"`. Risser et al., "Stable and
    Controllable Neural Texture Synthesis and Style Transfer Using Histogram Losses" (2017), who add
    it to the Gram loss.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the error is normalized, see above.

    Raises:
        ValueError: No layers, bad weights, or unknown units.

    Examples:
        >>> loss = HistogramStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 3.0)}))
        4.0
    """

    def _prepared(self, feature: Tensor) -> tuple[Tensor, ...]:
        target = feature.sort(-1).values
        return target, self._size(target)

    def _error(self, feature: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        target, size = kept
        return functional.sorted_error(feature, target) / size


class SlicedWassersteinStyleLoss(_SortingLoss):
    r"""Matches the features' whole distribution, seen along many directions.

    `nst.functional.sliced_wasserstein`, over the mean square of the projected style for
    `units="relative"`. Heitz et al. (CVPR 2021). The directions are drawn once, so that an
    optimizer sees one function. Sorting takes longer than the network does, and several times the
    memory of a layer's features; fewer directions take less of both.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        units: How the error is normalized, see above.
        num_directions: How many; None for as many as the layer has channels, as in the paper.
        seed: Draws them. No global generator is touched.

    Raises:
        ValueError: No layers, bad weights, unknown units, or no directions.

    Examples:
        >>> loss = SlicedWassersteinStyleLoss(["relu1_1"])
        >>> style = {"relu1_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(style)
        >>> float(loss(style))
        0.0
    """

    def __init__(
        self,
        layers: Layers = tuple(STYLE_LAYERS),
        *,
        weight: float = 1.0,
        units: _Units = "relative",
        num_directions: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight, units=units)
        self.num_directions = (
            None if num_directions is None else at_least("num_directions", num_directions, 1)
        )
        self.seed = at_least("seed", seed, 0)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        own = {"num_directions": self.num_directions, "seed": self.seed}
        return {**super().settings(), **own}

    def _directions(self, feature: Tensor) -> Tensor:
        channels = feature.shape[1]
        generator = torch.Generator().manual_seed(self.seed)
        count = self.num_directions or channels
        drawn = torch.randn(count, channels, generator=generator, dtype=torch.float64)
        directions: Tensor = drawn / drawn.norm(dim=1, keepdim=True)
        return directions.to(feature)

    def _prepared(self, feature: Tensor) -> tuple[Tensor, ...]:
        directions = self._directions(feature)
        target = (directions @ feature).sort(-1).values
        return target, self._size(target), directions

    def _error(self, feature: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        target, size, directions = kept
        return functional.sliced_wasserstein(feature, target, directions) / size


class _SamplingLoss(_MatchingLoss):
    """Compares pairs of positions, of which there would else be too many."""

    def __init__(
        self, layers: Layers, *, weight: float = 1.0, max_positions: int, seed: int = 0
    ) -> None:
        super().__init__(layers, weight=weight)
        self.max_positions = at_least("max_positions", max_positions, 1)
        self.seed = at_least("seed", seed, 0)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this loss again."""
        return {**super().settings(), "max_positions": self.max_positions, "seed": self.seed}

    def _sampled(self, feature: Tensor) -> Tensor:
        return functional.sample_positions(feature, self.max_positions, self.seed)

    def _prepared(self, feature: Tensor) -> tuple[Tensor, ...]:
        return (self._sampled(feature).contiguous(),)


class NearestNeighborStyleLoss(_SamplingLoss):
    r"""Makes every part of the picture like some part of the style.

    `nst.functional.nearest_neighbor_error`: one minus the cosine between each centered feature and
    the nearest of the style's. After Kolkin et al., "Neural Neighbor Style Transfer" (2022), and Li
    & Wand (CVPR 2016), whose patches are the features' receptive fields here. Zero at the style
    itself, unless it has more positions than are searched.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        max_positions: At most how many of the style's positions are searched in each layer; time
            grows with it. The picture's all are compared.
        seed: Draws them. No global generator is touched.

    Raises:
        ValueError: No layers, bad weights, or no positions.

    Examples:
        >>> loss = NearestNeighborStyleLoss(["relu3_1"])
        >>> style = {"relu3_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(style)
        >>> float(loss(style))
        0.0
    """

    def __init__(
        self,
        layers: Layers = ("relu2_1", "relu3_1", "relu4_1"),
        *,
        weight: float = 1.0,
        max_positions: int = 4096,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight, max_positions=max_positions, seed=seed)

    def _error(self, feature: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        return functional.nearest_neighbor_error(feature, *kept)


class RelaxedTransportStyleLoss(_SamplingLoss):
    r"""Moves the features of the picture to those of the style, and no style left out.

    `nst.functional.relaxed_transport`, between positions drawn once of both: Kolkin et al. (CVPR
    2019), STROTSS. What lies between the positions of a shallow layer is left to the deeper ones,
    which see farther.

    Args:
        layers: Layer to weight, or names of layers to be weighted equally (summing to one).
        weight: What the loop multiplies the loss with; non-negative.
        max_positions: At most how many positions of each layer, of picture and style each.
        seed: Draws them. No global generator is touched.

    Raises:
        ValueError: No layers, bad weights, or no positions.

    Examples:
        >>> loss = RelaxedTransportStyleLoss(["relu3_1"])
        >>> style = {"relu3_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(style)
        >>> float(loss(style))
        0.0
    """

    def __init__(
        self,
        layers: Layers = tuple(STYLE_LAYERS),
        *,
        weight: float = 1.0,
        max_positions: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight, max_positions=max_positions, seed=seed)

    def _error(self, feature: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        return functional.relaxed_transport(self._sampled(feature), *kept)
