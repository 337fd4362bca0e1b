"""What the losses are shown of a picture: all features at once, or some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nst._engine.processes import Share
from nst._network.segment import See
from nst._network.sweep import Sweep
from nst.losses import Features

__all__ = ["Extractor", "View"]

Extractor: TypeAlias = Callable[[Tensor, Iterable[str]], Mapping[str, Tensor]]


class View:
    """A network, and how much of a picture it is given at a time.

    Args:
        extractor: As in `Objective`.
        tile: How many rows of each block of the network are computed at a time; None for all.
    """

    def __init__(self, extractor: Extractor, tile: int | None) -> None:
        self.extractor, self.tile = extractor, tile
        self.share: Share | None = None
        """Which rows of pictures are given, if other processes have others."""

    def own(self, image: Tensor) -> Share:
        """Return which rows of a picture these are.

        Args:
            image: `(N, 3, H, W)`.
        """
        return Share.of_all(image.shape[-2]) if self.share is None else self.share

    def pass_by(
        self,
        image: Tensor,
        share: Share,
        layers: Collection[str],
        see: See,
        *,
        tracing: bool = False,
    ) -> Sweep | None:
        """Let the features of a picture's rows pass by; return their way, if there are any.

        Args:
            image: `(N, 3, H, W)`.
            share: Which rows these are.
            layers: What is to be seen.
            see: Is shown it.
            tracing: Whether there will be a backward pass.
        """
        if "image" in layers:
            see("image", image, share.first, share.height, tracing)
        if not set(layers) - {"image"}:
            return None
        make: Any = self.extractor
        sweep: Sweep = make.sweep(image, layers, tile=self.tile, share=share)
        sweep.forward(see, tracing=tracing)
        return sweep

    def features(self, image: Tensor, layers: frozenset[str], *, in_rows: bool) -> Features:
        """Return whole features, and the picture with them.

        Args:
            image: `(N, 3, H, W)`, all of it.
            layers: Of which.
            in_rows: Whether the network can be given some rows at a time, where that is wanted.

        Raises:
            ValueError: The extractor left out a layer.
        """
        wanted = layers - {"image"}
        divided = self.share is not None and self.share.divided
        if (self.tile is not None or divided) and in_rows and wanted:
            return {**self._gathered(image, wanted), "image": image}
        found = self.extractor(image, sorted(wanted)) if wanted else {}
        missing = sorted(wanted - set(found))
        if missing:
            raise ValueError(
                f"`extractor` returned no {missing[0]!r}, which the losses need. Its forward must "
                "return every layer asked for."
            )
        return {**found, "image": image}

    def _gathered(self, image: Tensor, layers: frozenset[str]) -> dict[str, Tensor]:
        """Return whole features that were computed some rows at a time."""
        features: dict[str, Tensor] = {}
        share = self.own(image)

        def see(layer: str, feature: Tensor, first: int, height: int, stays: bool) -> None:
            n, channels, rows, width = feature.shape
            if layer not in features:
                features[layer] = feature.new_empty(n, channels, height, width).contiguous(
                    memory_format=torch.channels_last
                )
            features[layer][..., first : first + rows, :] = feature

        self.pass_by(share.own(image), share, layers, see)
        for layer, feature in sorted(features.items()):
            level = share.at(feature.shape[-2])
            features[layer] = level.whole(level.own(feature), "targets")
        return features
