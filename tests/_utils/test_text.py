"""Times, sizes and errors as text."""

import subprocess
import sys
from pathlib import Path

import pytest

from nst._utils.text import one_line


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
