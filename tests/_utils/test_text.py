"""Times, sizes and errors as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nst._utils.checks import normalized_blend
from nst._utils.text import byte_count, duration, one_line


def test_durations_have_two_or_three_digits_and_a_unit() -> None:
    assert [duration(48.3), duration(200), duration(9000)] == ["48 s", "3 min", "2.5 h"]


def test_byte_counts_have_two_or_three_digits_and_a_unit() -> None:
    assert [byte_count(258_300_000), byte_count(3_260_000_000)] == ["260 MB", "3.3 GB"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one thing,\nand another"), "one thing, and another"),
        (MemoryError(), "MemoryError"),
        (ValueError("a\x1b]0;title\x07\x9b2J\u202e.png"), r"a\x1b]0;title\x07\x9b2J\u202e.png"),
    ],
)
def test_an_error_has_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_a_blend_is_normalized() -> None:
    assert normalized_blend([3, 1], 2) == [0.75, 0.25]
    assert normalized_blend(None, 4) == [0.25] * 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("redirect", [">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&-"])
def test_a_line_that_cannot_be_printed_changes_no_exit_status(redirect: str) -> None:
    code = (
        "from nst._utils.text import say, silence_dead_streams; silence_dead_streams(); "
        "say('a'); say('b', 'stderr'); open('/dev/null', 'w').fileno() > 2 or exit(3); "
        "silence_dead_streams()"
    )
    command = f'"{sys.executable}" -c "{code}" {redirect}'
    ran = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ("a\n" if redirect.startswith("2") else "")
