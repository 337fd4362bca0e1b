"""`nst stylize`: stylize a photograph."""

from __future__ import annotations

import argparse

from nst._utils.text import say
from nst.cli import arguments, build
from nst.cli.check import check_files, check_run
from nst.cli.styles import parse_styles
from nst.transfer import StyleTransfer

HELP = "stylize a photograph"
DESCRIPTION = "Repaint CONTENT in the style of STYLE; several styles are blended."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    arguments.add_pictures(parser)
    parser.add_argument("--content", dest="photograph", help=argparse.SUPPRESS)  # for --config
    arguments.add_output(parser, required=False)  # --config may have it
    about = "options in a TOML file; those on the command line win"
    parser.add_argument("--config", metavar="FILE", help=about)
    about = "estimate time and memory, then exit"
    parser.add_argument("--estimate", action="store_true", help=about)
    arguments.add_checkpoint(parser)
    arguments.add_watching(parser)
    arguments.add_options(parser)


def complete(options: argparse.Namespace) -> None:
    """Collect the pictures and refuse a contradictory command line."""
    options.content = options.content or options.photograph
    arguments.require_pictures(options)
    arguments.require_checkpoint(options)
    if options.estimate and options.quiet:
        options.parser.error("`--quiet` would suppress the estimate; leave it out")


def run(options: argparse.Namespace) -> None:
    """Stylize the photograph, or estimate how long that would take."""
    check_files(options)
    styles = parse_styles(options.styles)
    check_run(options, options.content, styles)
    if options.estimate:
        transfer = build.make_transfer(options, build.load_network(options))
        say(str(transfer.estimate(options.content, styles)))
    else:
        build.paint(options, StyleTransfer.run, options.content, styles)
