"""Times, sizes and errors as text, and lines on standard output."""

from __future__ import annotations

import sys


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


def one_line(error: BaseException | None) -> str:
    """Return the message of an error in one line, or its type if there is no message."""
    return " ".join(str(error).split()) or type(error).__name__


def say(line: str) -> None:
    """Print a line; characters that the encoding of standard output lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
