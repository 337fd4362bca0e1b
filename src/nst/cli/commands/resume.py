"""`nst resume`: resume a run from its checkpoint."""

from __future__ import annotations

import argparse
from typing import Any

from nst._record.replay import recorded_extractor
from nst.callbacks.checkpoint import read_checkpoint_record
from nst.cli import arguments, build
from nst.cli.derived import given
from nst.cli.files import check_files
from nst.cli.output import save_result
from nst.transfer import StyleTransfer


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "resume",
        help="resume a killed run from its checkpoint",
        description="Resume the run stored in FILE, with the result of an uninterrupted run; FILE "
        "is kept up to date.",
    )
    parser.add_argument("file", metavar="FILE", help="checkpoint written by --checkpoint")
    arguments.add_output(parser)
    arguments.add_replacements(parser)
    arguments.add_watching(parser)


def run(options: argparse.Namespace) -> None:
    """Resume the run."""
    check_files(options)
    record, weights = read_checkpoint_record(options.file), options.weights
    extractor = None if weights is None else recorded_extractor(record, weights)
    with build.live_page(options) as page:
        result = StyleTransfer.resume(
            options.file,
            callbacks=[*page, *build.make_callbacks(options)],
            extractor=extractor,
            **given(options, arguments.REPLACEABLE),
        )
        save_result(result, options)
