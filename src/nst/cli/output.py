"""Saving and reporting results."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nst._utils.group import Group
from nst._utils.text import say
from nst.result import StyleTransferResult

T = TypeVar("T")


def save_result(result: StyleTransferResult, options: argparse.Namespace) -> None:
    """Save a result and report it. Of several processes, only the first does."""
    if Group.current().rank > 0:
        return
    saved = save_or_rescue(result.save, options.output)
    height, width = result.image.shape[-2:]
    if not options.quiet:
        say(
            f"{width}x{height} pixels, {result.num_steps} steps in {result.seconds:.0f} s "
            f"({result.stop_reason}), VGG19 weights: {result.settings['extractor']['weights']}"
        )
    for path in saved:
        report_path(path, options)


def save_or_rescue(save: Callable[[Path], T], output: str) -> T:
    """Save to `output`, or to a folder that the error names: the picture took its time."""
    try:
        return save(Path(output))
    except OSError as error:
        place = Path(tempfile.mkdtemp(prefix="nst-")) / Path(output).name
        save(place)
        raise OSError(f"{error} The picture is in {str(place)!r} instead.") from error


def report_path(path: Path, options: argparse.Namespace) -> None:
    """Print the path of a file that was written."""
    if not options.quiet:
        say(str(path.resolve()))
