"""Times, sizes and errors as people say them, and lines on standard output."""

from __future__ import annotations

import sys

__all__ = ["byte_count", "duration", "one_line", "say"]


def duration(seconds: float) -> str:
    """Say how long something takes, to a minute if it takes minutes.

    Args:
        seconds: Not negative.

    Examples:
        >>> duration(48.3), duration(200), duration(9000)
        ('48 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def byte_count(number: float) -> str:
    """Say how many bytes there are, in two digits or three.

    Args:
        number: Not negative.

    Examples:
        >>> byte_count(258_300_000), byte_count(3_260_000_000)
        ('260 MB', '3.3 GB')
    """
    if number < 995e6:
        digits = -1 if number >= 100e6 else 0
        return f"{round(number / 1e6, digits):.0f} MB"
    return f"{number / 1e9:.1f} GB"


def one_line(error: BaseException | None) -> str:
    r"""Say what is wrong in one line.

    Args:
        error: Its text may have several.

    Examples:
        >>> one_line(ValueError("one thing,\nand another")), one_line(MemoryError())
        ('one thing, and another', 'MemoryError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def say(line: str) -> None:
    """Write a line to standard output; what its encoding does not have is escaped.

    Args:
        line: May name files, whose names may be of another encoding.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
