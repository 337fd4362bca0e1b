"""The options that several commands share."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.live_page import LivePage
from nst.cli.derived import add_parameters, parameters_of
from nst.cli.losses import LOSSES_BY_REFERENCE, add_losses
from nst.cli.styles import FORM
from nst.extractors.vgg import FeatureExtractor
from nst.presets import preset
from nst.transfer import StyleTransfer

BAD_INPUT = 2
"""Exit status for a request that cannot be fulfilled."""
RUN = parameters_of(StyleTransfer.run)
TRANSFER = parameters_of(StyleTransfer)
NETWORK = ("weights", "pooling", "padding", "winograd")
"""Parameters of `FeatureExtractor` that are options."""
REPLACEABLE = ("tile", "device")
"""Parameters of `StyleTransfer` that may replace what is recorded, on another machine."""
PORT: int = inspect.signature(LivePage).parameters["port"].default
"""Default port of the page that shows a run."""


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage; options cannot be abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with a message."""
        line = " ".join(message.split())
        self.exit(BAD_INPUT, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def add_options(
    parser: argparse.ArgumentParser,
    method: Callable[..., Any] = StyleTransfer.run,
    *,
    without: Collection[str] = (),
) -> None:
    """Add the options of a transfer and of the method that the command calls.

    `without` names those that have no effect in the command.
    """
    add_parameters(parser.add_argument_group("picture"), method, parameters_of(method))
    pictures = inspect.signature(method).parameters
    references = [name for name in LOSSES_BY_REFERENCE if name in pictures]
    add_losses(parser.add_argument_group("losses"), references, without)
    names = [name for name in TRANSFER if name not in without]
    of_preset = dict.fromkeys(preset("gatys"), "the preset's")
    add_parameters(parser.add_argument_group("optimization"), StyleTransfer, names, of_preset)
    add_parameters(parser.add_argument_group("network"), FeatureExtractor, NETWORK)


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add photograph and paintings, which `require_pictures` requires."""
    parser.epilog = f"STYLE is {FORM}."
    parser.add_argument("content", metavar="CONTENT", nargs="?", help="photograph")
    parser.add_argument("style", metavar="STYLE", nargs="*", help="one painting or more")
    add_style(parser, dest="more_styles")


def require_pictures(options: argparse.Namespace, *, needs_style: bool = True) -> None:
    """Collect the styles, however they are given, and refuse a command without its pictures."""
    options.styles = [*options.style, *options.more_styles]
    needed = {
        "CONTENT": options.content,
        "STYLE": options.styles or not needs_style,
        "-o/--output": options.output,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        options.parser.error(f"the following arguments are required: {', '.join(missing)}")


def add_style(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add `--style`."""
    about = "a painting, or a style file; may be repeated"
    settings = {"default": [], "metavar": "STYLE", "help": about, **settings}
    parser.add_argument("--style", action="append", **settings)


def add_output(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add `--output`."""
    settings = {"required": True, "metavar": "OUT", "help": "output file", **settings}
    parser.add_argument("-o", "--output", **settings)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add what makes a run resumable."""
    every = inspect.signature(Checkpoint).parameters["every"].default
    parser.add_argument("--checkpoint", metavar="FILE", help="store the run in FILE for nst resume")
    about = f"write the checkpoint every N steps (default: {every})"
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help=about)


def require_checkpoint(options: argparse.Namespace) -> None:
    """Refuse `--checkpoint-every` without a checkpoint."""
    if options.checkpoint_every is not None and options.checkpoint is None:
        options.parser.error("`--checkpoint-every` has no effect without `--checkpoint`")


def add_watching(parser: argparse.ArgumentParser) -> None:
    """Add what shows a run while it lasts."""
    about = "also save the picture every N steps, in OUT-steps/"
    parser.add_argument("--save-every", type=int, metavar="N", help=about)
    about = f"show the run in a browser on this machine (default: port {PORT})"
    parser.add_argument("--page", type=int, nargs="?", const=PORT, metavar="PORT", help=about)


def add_replacements(parser: argparse.ArgumentParser) -> None:
    """Add what may replace the recorded values."""
    parser.add_argument("--weights", metavar="FILE", help="weights (default: the recorded ones)")
    defaults = dict.fromkeys(REPLACEABLE, "the recorded one")
    add_parameters(parser, StyleTransfer, REPLACEABLE, defaults)
