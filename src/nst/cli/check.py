"""Checks before the weights are loaded, which may be a download, by a network of one channel."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from nst._utils.hashing import hash_network
from nst.callbacks.base import Callback, RunState
from nst.cli import build
from nst.cli.derived import given
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.images import ImageLike
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style
from nst.transfer import StyleTransfer


@contextmanager
def weightless(
    options: argparse.Namespace, styles: Sequence[Style]
) -> Iterator[tuple[StyleTransfer, list[Style]]]:
    """Yield the transfer with a network of one channel, and the styles as if captured with it."""
    tensors = {}
    for i, name in enumerate(CONVOLUTIONS):
        tensors[f"{name}.weight"] = torch.ones(1, 1 if i else 3, 3, 3) / 9
        tensors[f"{name}.bias"] = torch.zeros(1)
    network = FeatureExtractor(Weights(tensors, "none"), **given(options, ("pooling", "padding")))
    adopted = list(styles)
    for i, style in enumerate(styles):
        if isinstance(style.image, StyleStatistics):
            adopted[i] = replace(style, image=replace(style.image, network=hash_network(network)))
    logger = logging.getLogger("nst")
    before, logger.disabled = logger.disabled, True  # the command itself will warn
    try:
        yield build.make_transfer(options, network), adopted
    finally:
        logger.disabled = before


class Stop(Callback):
    """Ends a run before its first step."""

    def on_start(self, state: RunState) -> None:
        """Stop the run."""
        state.stop("checked")


def check_run(options: argparse.Namespace, content: ImageLike, styles: Sequence[Style]) -> None:
    """Check everything about a run, without the network."""
    with weightless(options, styles) as (transfer, adopted):
        transfer.check(content, adopted, **build.run_arguments(options))
