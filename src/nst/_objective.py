"""From a picture to its named losses: the one place that knows both the network and the losses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nst._losses import Features, Loss

__all__ = ["Extractor", "Objective"]

Extractor: TypeAlias = Callable[[Tensor, Iterable[str]], Mapping[str, Tensor]]


class Objective:
    """Scores a picture by several losses, with one pass through the network for all of them.

    The losses are copied, so captured targets stay within one objective.

    Args:
        extractor: Maps images `(N, 3, H, W)` and layers to features; `FeatureExtractor` or a
            module of its form.
        losses: Name to loss.
    """

    def __init__(self, extractor: Extractor, losses: Mapping[str, Loss]) -> None:
        self.extractor = extractor
        self.losses = {name: copy.deepcopy(loss) for name, loss in losses.items()}
        self._layers = _union(self.losses.values())

    @torch.no_grad()
    def capture(
        self,
        reference: Literal["content", "style"],
        images: Sequence[Tensor],
        blend: Sequence[float] | None = None,
    ) -> None:
        """Let every loss that refers to the content (or style) keep its target.

        Args:
            reference: Which losses.
            images: The pictures they compare with, `(1, 3, H, W)` each, of any sizes.
            blend: The pictures' weights; equal by default.
        """
        chosen = [loss for loss in self.losses.values() if loss.reference == reference]
        if chosen:
            layers = _union(chosen)
            features = [self._features(image, layers) for image in images]
            for loss in chosen:
                loss.capture(features, blend)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, each a scalar times its weight.

        Args:
            image: `(1, 3, H, W)`, sRGB in [0, 1].

        Raises:
            ValueError: A loss is not a scalar, or the extractor left out a layer.
        """
        features = self._features(image, self._layers)
        values = {}
        for name, loss in self.losses.items():
            value = loss(features)
            if value.ndim != 0:
                raise ValueError(
                    f"Loss {name!r} ({type(loss).__name__}) returned shape {tuple(value.shape)}; "
                    "a scalar is needed. Reduce it, for example with .mean()."
                )
            values[name] = loss.weight * value
        return values

    def copy(self) -> Objective:
        """Return an independent objective with the same targets."""
        return Objective(self.extractor, self.losses)

    def _features(self, image: Tensor, layers: frozenset[str]) -> Features:
        if not layers - {"image"}:
            return {"image": image}
        features = self.extractor(image, sorted(layers))
        missing = sorted(layers - set(features))
        if missing:
            raise ValueError(
                f"`extractor` returned no {missing[0]!r}, which the losses need. Its forward must "
                "return every layer asked for, and 'image'."
            )
        return features


def _union(losses: Iterable[Loss]) -> frozenset[str]:
    return frozenset(layer for loss in losses for layer in loss.layers)
