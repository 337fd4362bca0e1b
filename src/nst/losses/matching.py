"""Losses that compare features themselves rather than their means."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nst import functional
from nst._utils.checks import Checked, at_least, check_seed
from nst._utils.device import plain_arithmetic
from nst.losses.base import Features, LayerLoss, Layers, Reference, References
from nst.losses.statistics import STYLE_LAYERS, Units, UnitsLoss


class FeatureLoss(LayerLoss):
    """Compares features with those of each reference, and blends the losses."""

    @plain_arithmetic(gradients=False)
    def capture(self, references: References, blend: Sequence[float] | None = None) -> None:
        pairs = self._references(references, blend, single=self.reference != "style")
        if self.reference != "previous" and any("mask" in features for features, _ in pairs):
            raise ValueError(
                f"`references` has a mask, but {type(self).__name__} is not a mean over positions "
                "that could be taken over a part. Use a StatisticLoss, or leave the mask out."
            )
        pairs = [(features, weight) for features, weight in pairs if weight > 0]
        found = {layer: [self._feature(layer, each) for each, _ in pairs] for layer in self.layers}
        targets = {
            layer: (
                tuple(part for feature in some for part in self._prepare(feature)),
                [feature.shape for feature in some],
            )
            for layer, some in found.items()
        }
        self._store(targets)
        self._blend = [weight for _, weight in pairs]

    @plain_arithmetic(gradients=None)
    def forward(self, features: Features) -> Tensor:
        terms, dims = {}, 2 if self.reference == "style" else None
        for layer in self.layers:
            target, feature = self._target(layer), self._feature(layer, features)
            self._check_fit(layer, [feature.shape] * len(self._blend), dims)
            size = len(target) // len(self._blend)
            errors = [
                weight * self._error(feature, *target[i * size : (i + 1) * size]).mean()
                for i, weight in enumerate(self._blend)
            ]
            terms[layer] = torch.stack(errors).sum()
        return self.compare(terms)

    @abstractmethod
    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Return the target for a reference's features, `(1, C, H, W)`."""

    @abstractmethod
    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        """Return the error of features `(N, C, H, W)` against a target, `(N,)`."""


class HistogramStyleLoss(UnitsLoss, FeatureLoss):
    r"""Matches the whole histogram of every channel, not only its mean and deviation.

    \(\overline{(F - H(F))^2}\), where \(H(F)\) has the style's histogram in each channel; divided
    by the mean square of the style's features for `units="relative"`. Risser et al., "Stable and
    Controllable Neural Texture Synthesis and Style Transfer Using Histogram Losses" (2017).

    Examples:
        >>> loss = HistogramStyleLoss(["relu1_1"], units="mean")
        >>> loss.capture({"relu1_1": torch.full((1, 8, 4, 4), 1.0)})
        >>> float(loss({"relu1_1": torch.full((1, 8, 5, 7), 3.0)}))
        4.0
    """

    reference = "style"

    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        target = feature.flatten(2).sort(-1).values
        if self.units == "mean":
            return target, target.new_ones(len(target))
        size = target.square().flatten(1).mean(1)
        return target, torch.where(size > 0, size, 1)

    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        values, size = target
        return functional.sorted_error(feature.flatten(2), values) / size


class SlicedWassersteinStyleLoss(HistogramStyleLoss):
    r"""Matches the whole distribution of the features, projected on many directions.

    `nst.functional.sliced_wasserstein`, divided by the mean square of the projected style for
    `units="relative"`. Heitz et al. (CVPR 2021). Sorting takes longer than the network and several
    times the memory of a layer's features; fewer directions take less of both.

    Args:
        num_directions: Number of directions; None for as many as channels, as in the paper.
        seed: Seed of the directions, which are drawn once. No global generator is touched.

    Examples:
        >>> loss = SlicedWassersteinStyleLoss(["relu1_1"])
        >>> style = {"relu1_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(style)
        >>> float(loss(style))
        0.0
    """

    num_directions = Checked(lambda name, value: None if value is None else at_least(name, value))
    seed = Checked(check_seed)

    def __init__(
        self,
        layers: Layers = STYLE_LAYERS,
        *,
        weight: float = 1.0,
        units: Units = "relative",
        num_directions: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight, units=units)
        self.num_directions, self.seed = num_directions, seed

    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        shape = (self.num_directions or feature.shape[1], feature.shape[1])
        generator = torch.Generator("cpu").manual_seed(self.seed)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
        directions = (drawn / drawn.norm(dim=1, keepdim=True)).to(feature)
        return *super()._prepare(directions @ feature.flatten(2)), directions

    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        values, size, directions = target
        return functional.sliced_wasserstein(feature.flatten(2), values, directions) / size


class SamplingLoss(FeatureLoss):
    """Compares sampled positions, because there are too many pairs."""

    reference: ClassVar[Reference] = "style"
    max_positions, seed = Checked(at_least), Checked(check_seed)

    def __init__(
        self,
        layers: Layers = STYLE_LAYERS,
        *,
        weight: float = 1.0,
        max_positions: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(layers, weight=weight)
        self.max_positions, self.seed = max_positions, seed

    def _sampled(self, feature: Tensor) -> Tensor:
        return functional.sample_positions(feature.flatten(2), self.max_positions, self.seed)

    def _prepare(self, feature: Tensor) -> tuple[Tensor, ...]:
        return (self._sampled(feature).clone(memory_format=torch.contiguous_format),)


class NearestNeighborStyleLoss(SamplingLoss):
    r"""Makes every part of the picture similar to some part of the style.

    `nst.functional.nearest_neighbor_error`, after Kolkin et al., "Neural Neighbor Style Transfer"
    (2022), and Li & Wand (CVPR 2016), whose patches are the features' receptive fields here. Zero
    at the style itself, unless it has more positions than are searched.

    Args:
        max_positions: Largest number of the style's positions to search in each layer; time grows
            with it. All positions of the picture are compared.
        seed: Seed of the sampled positions. No global generator is touched.

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

    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        return functional.nearest_neighbor_error(feature.flatten(2), *target)


class RelaxedTransportStyleLoss(SamplingLoss):
    r"""Moves the features of the picture to those of the style, and covers all of the style.

    `nst.functional.relaxed_transport` between sampled positions of both: Kolkin et al. (CVPR 2019),
    STROTSS. The larger receptive fields of deeper layers cover the other positions.

    Args:
        max_positions: Largest number of positions of each layer, for picture and style each.
        seed: Seed of the sampled positions. No global generator is touched.

    Examples:
        >>> loss = RelaxedTransportStyleLoss(["relu3_1"])
        >>> style = {"relu3_1": torch.rand(1, 8, 4, 4)}
        >>> loss.capture(style)
        >>> float(loss(style))
        0.0
    """

    def _error(self, feature: Tensor, *target: Tensor) -> Tensor:
        return functional.relaxed_transport(self._sampled(feature), *target)
