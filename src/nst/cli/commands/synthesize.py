"""`nst synthesize`: make a texture from a style."""

from __future__ import annotations

import argparse
from typing import Any

from nst.cli import arguments, build
from nst.cli.check import Stop, weightless
from nst.cli.files import check_files
from nst.cli.styles import FORM, parse_styles
from nst.transfer import StyleTransfer


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "synthesize",
        help="make a texture: a style without a photograph",
        description="Make a texture in the style of STYLE; several styles are blended.",
        epilog=f"STYLE is {FORM.replace('[@REGION]', '')}.",
    )
    parser.add_argument("styles", metavar="STYLE", nargs="+", help="one painting or more")
    arguments.add_output(parser)
    for name in ("--height", "--width"):
        about = "in pixels (default: the style's proportions)"
        parser.add_argument(name, type=int, metavar="N", help=about)
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
