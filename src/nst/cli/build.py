"""What the options of a command describe: the network, the transfer, callbacks; and the run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from nst.callbacks.base import Callback
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.live_page import LivePage
from nst.callbacks.progress import ProgressBar
from nst.callbacks.save_images import SaveImages
from nst.cli.arguments import NETWORK, RUN, TRANSFER
from nst.cli.derived import given
from nst.cli.files import steps_folder
from nst.cli.losses import change_losses
from nst.cli.output import save_result
from nst.extractors.vgg import FeatureExtractor
from nst.presets import preset
from nst.result import StyleTransferResult
from nst.transfer import StyleTransfer


def load_network(options: argparse.Namespace) -> FeatureExtractor:
    """Load the network, which may be a download."""
    return FeatureExtractor(**given(options, NETWORK))


def load_networks(cells: Sequence[argparse.Namespace]) -> list[FeatureExtractor]:
    """Load the network of each cell of a contact sheet; equal ones are shared."""
    load = cache(FeatureExtractor)
    return [load(**given(cell, NETWORK)) for cell in cells]


def make_transfer(options: argparse.Namespace, network: nn.Module) -> StyleTransfer:
    """Return the transfer: the preset, changed by the options that were given."""
    arguments = preset(options.preset)
    arguments["losses"] = change_losses(arguments["losses"], options)
    return StyleTransfer(network, **{**arguments, **given(options, TRANSFER)})


def run_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a run, except the pictures and callbacks."""
    return given(options, RUN)


def make_callbacks(options: argparse.Namespace) -> list[Callback]:
    """Return the callbacks that a command which paints asks for."""
    callbacks: list[Callback] = []
    if getattr(options, "save_every", None) is not None:
        callbacks.append(SaveImages(steps_folder(Path(options.output)), options.save_every))
    if getattr(options, "checkpoint", None) is not None:
        every = [] if options.checkpoint_every is None else [options.checkpoint_every]
        callbacks.append(Checkpoint(options.checkpoint, *every))
    if not options.quiet:  # last, so that no error of the others follows a progress bar
        callbacks.append(ProgressBar())
    return callbacks


@contextmanager
def live_page(options: argparse.Namespace) -> Iterator[list[Callback]]:
    """Serve the page of a run, if requested, and yield the callback that updates it."""
    if options.page is None:
        yield []
        return
    with LivePage(options.page) as page:
        if not options.quiet:
            sys.stderr.write(f"nst: the run is shown at {page.url}\n")
        yield [page]


def paint(
    options: argparse.Namespace, method: Callable[..., StyleTransferResult], *pictures: Any
) -> None:
    """Call a method of the transfer, and save its result."""
    callbacks = make_callbacks(options)
    with live_page(options) as page:
        transfer, callbacks = make_transfer(options, load_network(options)), [*page, *callbacks]
        result = method(transfer, *pictures, callbacks=callbacks, **run_arguments(options))
        save_result(result, options)
