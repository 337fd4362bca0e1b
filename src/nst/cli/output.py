"""What a command has painted is saved, and said."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nst._utils.group import Group
from nst._utils.text import say
from nst.result import StyleTransferResult

__all__ = ["deliver", "keep", "tell"]

T = TypeVar("T")


def deliver(result: StyleTransferResult, options: argparse.Namespace) -> None:
    """Save a result and say so; of several processes, the first does.

    Args:
        result: What was painted.
        options: Say where it goes, and whether anything is said.

    Raises:
        OSError: As `keep`.
    """
    if Group.current().rank > 0:
        return
    saved = keep(result.save, options.output)
    if not options.quiet:
        say(_summary(result))
    for path in saved:
        tell(options, path)


def keep(save: Callable[[Path], T], output: str) -> T:
    """Save what took its time: in another place if it cannot be here any more.

    Args:
        save: Writes it to a path.
        output: The path.

    Returns:
        What `save` does.

    Raises:
        OSError: It is in another place; the message says in which.
    """
    try:
        return save(Path(output))
    except OSError as error:
        place = Path(tempfile.mkdtemp(prefix="nst-")) / Path(output).name
        save(place)
        raise OSError(f"{error} The picture is in {str(place)!r} instead.") from error


def tell(options: argparse.Namespace, path: Path) -> None:
    """Say where something was saved, on standard output.

    Args:
        options: Whether anything is said.
        path: Of the file.
    """
    if not options.quiet:
        say(str(path.resolve()))


def _summary(result: StyleTransferResult) -> str:
    height, width = result.image.shape[-2:]
    return (
        f"{width}x{height} pixels, {result.num_steps} steps in {result.seconds:.0f} s "
        f"({result.stop_reason}), VGG19 weights: {result.settings['extractor']['weights']}"
    )
