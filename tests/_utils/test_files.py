"""A file is there whole or not at all."""

from pathlib import Path
from typing import BinaryIO

import pytest

from nst._utils.files import write_whole


def test_a_file_can_be_written_piece_by_piece_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(file: BinaryIO) -> None:
        for piece in (b"one", b"two"):
            file.write(piece)

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    write_whole(path, write)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_bytes() == b"onetwo"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    left: list[Path] = []

    def look(file: BinaryIO) -> None:
        left.extend(tmp_path.glob(".nst-*.tmp"))

    write_whole(path, look, sole_writer=True)
    left[0].write_bytes(b"half of a longer file")
    write_whole(path, memoryview(b"new"), sole_writer=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
