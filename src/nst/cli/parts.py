"""What the options of a command make: styles, the network, callbacks, the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from nst.callbacks.base import Callback
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.live_page import LivePage
from nst.callbacks.progress import ProgressBar
from nst.callbacks.save_images import SaveImages
from nst.cli.commands import CHECKPOINT_EVERY
from nst.cli.files import steps_folder
from nst.cli.style_spec import parse_style
from nst.extractors.vgg import FeatureExtractor
from nst.styles.style import Style

__all__ = ["load_network", "load_networks", "make_callbacks", "make_styles", "shown_page"]


def make_styles(options: argparse.Namespace) -> list[Style]:
    """Return the styles that are named.

    Args:
        options: Of a command that takes styles.

    Raises:
        ValueError: One is written in another way.
    """
    return [parse_style(spec, f"style[{i}]") for i, spec in enumerate(options.styles)]


def load_network(options: argparse.Namespace) -> FeatureExtractor:
    """Load the network that is asked for.

    Args:
        options: Of a command that uses it.
    """
    return FeatureExtractor(**_network_options(options))


def load_networks(cells: Sequence[argparse.Namespace]) -> list[FeatureExtractor]:
    """Load the network of each cell of a sheet; those that have the same share it.

    Args:
        cells: Their options.
    """
    make = cache(FeatureExtractor)
    return [make(**_network_options(cell)) for cell in cells]


def _network_options(options: argparse.Namespace) -> dict[str, Any]:
    names = ("weights", "pooling", "padding", "winograd")
    return {name: getattr(options, name) for name in names}


def make_callbacks(options: argparse.Namespace) -> list[Callback]:
    """Return the callbacks that are asked for.

    Args:
        options: Of a command that paints.
    """
    callbacks: list[Callback] = []
    if getattr(options, "save_every", None) is not None:
        callbacks.append(SaveImages(steps_folder(Path(options.output)), options.save_every))
    if getattr(options, "checkpoint", None) is not None:
        every = CHECKPOINT_EVERY if options.checkpoint_every is None else options.checkpoint_every
        callbacks.append(Checkpoint(options.checkpoint, every))
    if not options.quiet:  # last: what the others refuse should not follow a progress bar
        callbacks.append(ProgressBar())
    return callbacks


@contextmanager
def shown_page(options: argparse.Namespace) -> Iterator[list[Callback]]:
    """Show the run in the browser, if asked for, until the picture is saved.

    Args:
        options: Of a command that paints.

    Yields:
        The page as a callback, if there is one.
    """
    if options.page is None:
        yield []
        return
    with LivePage(options.page) as page:
        if not options.quiet:
            sys.stderr.write(f"nst: the run is shown at {page.url}\n")
        yield [page]
