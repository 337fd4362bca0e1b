"""Times, sizes and errors as text, and lines on standard output."""

import logging
import os
import sys
from pathlib import Path
from typing import Literal

logger = logging.getLogger("nst")


def duration(seconds: float) -> str:
    """Return a duration as text: "48 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def byte_count(number: float) -> str:
    """Return a number of bytes as text: "260 MB", "3.3 GB"."""
    if number < 995e6:
        digits = -1 if number >= 100e6 else 0
        return f"{round(number / 1e6, digits):.0f} MB"
    return f"{number / 1e9:.1f} GB"


def one_line(error: BaseException | str | None) -> str:
    """Return a message, or that of an error, in one line; if it is empty, its type."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    r"""Escape control characters, which could act on a terminal; names of files may have them.

    Examples:
        >>> printable("caf\xe9\x1b[2J.png")
        'café\\x1b[2J.png'
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def say(line: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
    """Print a line; control characters, and those that the stream lacks, are escaped.

    After a stream could not be written, such as a broken pipe, nothing more is printed on it.
    """
    out = getattr(sys, stream)
    if out is None:  # as in a process without a console
        return
    encoding, line = getattr(out, "encoding", None) or "utf-8", printable(line)
    try:
        out.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        out.flush()
    except (OSError, ValueError) as error:
        _silence(stream, error)


def silence_dead_streams() -> None:
    """Replace missing or unwritable standard streams, which would fail at any time, or at exit."""
    for stream in ("stdout", "stderr"):
        out = getattr(sys, stream)
        try:
            if out is None:
                _silence(stream)  # also takes its descriptor, which another file could get
            else:
                out.flush()
        except (OSError, ValueError) as error:
            _silence(stream, error)


def _silence(stream: str, error: Exception | None = None) -> None:
    setattr(sys, stream, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    if error is not None:
        logger.warning("nothing more is printed on %s (%s)", stream, one_line(error))
