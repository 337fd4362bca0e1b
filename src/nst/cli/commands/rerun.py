"""`nst rerun`: make a picture again from its record."""

from __future__ import annotations

import argparse
from typing import Any

from nst._record.replay import recorded_extractor
from nst.cli import arguments, build
from nst.cli.derived import given
from nst.cli.files import check_files
from nst.cli.output import save_result
from nst.images import read_record
from nst.transfer import StyleTransfer


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rerun",
        help="make a picture again from its record",
        description="Make PICTURE again, from its record and the files it was made from.",
    )
    parser.add_argument("picture", metavar="PICTURE", help="picture that nst saved")
    arguments.add_output(parser)
    about = "folder to search, or a file; may be repeated"
    parser.add_argument("--inputs", metavar="PATH", action="append", default=[], help=about)
    arguments.add_replacements(parser)


def run(options: argparse.Namespace) -> None:
    """Make the picture again."""
    check_files(options)
    record, weights = read_record(options.picture), options.weights
    extractor = None if weights is None else recorded_extractor(record, weights)
    result = StyleTransfer.rerun(
        options.picture,
        options.inputs,
        callbacks=build.make_callbacks(options),
        extractor=extractor,
        **given(options, arguments.REPLACEABLE),
    )
    save_result(result, options)
