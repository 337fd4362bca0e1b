"""`nst synthesize`: make a texture from a style."""

from __future__ import annotations

import argparse

from nst.cli import arguments, build
from nst.cli.check import Stop, check_files, weightless
from nst.cli.styles import FORM, parse_styles
from nst.transfer import StyleTransfer

HELP = "make a texture: a style without a photograph"
DESCRIPTION = "Make a texture in the style of STYLE; several styles are blended."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = f"STYLE is {FORM.replace('[@REGION]', '')}."
    parser.add_argument("styles", metavar="STYLE", nargs="+", help="one painting or more")
    arguments.add_output(parser)
    about = "in pixels (default: the style's proportions)"
    parser.add_argument("--height", type=int, metavar="N", help=about)
    parser.add_argument("--width", type=int, metavar="N", help=about)
    arguments.add_checkpoint(parser)
    arguments.add_watching(parser)
    arguments.add_options(parser, StyleTransfer.synthesize)


def complete(options: argparse.Namespace) -> None:
    """Refuse a contradictory command line."""
    arguments.require_checkpoint(options)
    if (options.height is None) != (options.width is None):
        options.parser.error("`--height` and `--width` go together; give both or neither")
    if options.height is not None and "size" in options:
        options.parser.error("`--size` has no effect with `--height` and `--width`; leave it out")


def run(options: argparse.Namespace) -> None:
    """Make the texture."""
    check_files(options)
    styles = parse_styles(options.styles)
    shape = None if options.height is None else (options.height, options.width)
    with weightless(options, styles) as (transfer, adopted):
        others = build.run_arguments(options)
        transfer.synthesize(adopted, shape, callbacks=Stop(), **others)
    build.paint(options, StyleTransfer.synthesize, styles, shape)
