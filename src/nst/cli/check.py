"""A rehearsal: a command is done without the network up to its first step.

What the library would refuse is refused then, before weights are loaded or even downloaded.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from nst._utils.hashing import hash_network
from nst.callbacks.base import Callback, RunState
from nst.cli.derived import given
from nst.extractors.vgg import FeatureExtractor, Padding, Pooling
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style

Act: TypeAlias = Callable[[nn.Module, list[Style], list[Callback]], object]
"""What a command does with a network, styles and callbacks."""


class Understudy(FeatureExtractor):
    """Stands in for VGG19: it has the same layers, but no weights to load.

    Args:
        pooling: As in `FeatureExtractor`.
        padding: As in `FeatureExtractor`.
    """

    def __init__(self, pooling: Pooling = "max", padding: Padding = "zeros") -> None:
        nn.Module.__init__(self)  # not FeatureExtractor's, which loads the weights
        self.weights, self.pooling, self.padding = "none", pooling, padding
        self.winograd = False
        self.stands_in = True  # for a network that can be computed in tiles

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the pictures in gray, as large as each layer's features would be.

        Args:
            images: `(N, 3, H, W)`.
            layers: The layers' names.
        """
        gray = images.mean(1, keepdim=True)
        sizes = {layer: self.smallest_side([layer]) for layer in layers if layer != "image"}
        return {"image": images, **{name: F.avg_pool2d(gray, size) for name, size in sizes.items()}}


def rehearse(act: Act, styles: Sequence[Style], options: argparse.Namespace) -> None:
    """Do something without the network, up to the first step.

    Args:
        act: What to do.
        styles: Its styles.
        options: Of the network.

    Raises:
        OSError: As the library does.
        TypeError: As the library does.
        ValueError: As the library does.
    """
    network = Understudy(**given(options, ("pooling", "padding")))
    with _silence():  # what is worth a warning is said again by the act itself
        act(network, [_captured_with(network, style) for style in styles], [_End()])


class _End(Callback):
    def on_start(self, state: RunState) -> None:
        state.stop("rehearsed")


def _captured_with(network: nn.Module, style: Style) -> Style:
    """Pass a captured style off as this network's; whether it is the real one's is seen later."""
    if not isinstance(style.image, StyleStatistics):
        return style
    return replace(style, image=replace(style.image, network=hash_network(network)))


@contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger("nst")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
