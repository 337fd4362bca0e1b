"""A file is there whole or not at all."""

import errno
import itertools
import os
from collections.abc import Callable
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
    path, left = tmp_path / "file", list[Path]()
    write_whole(path, lambda _: left.extend(tmp_path.glob(".nst-*.tmp")), sole_writer=True)
    left[0].write_bytes(b"half of a longer file")
    write_whole(path, memoryview(b"new"), sole_writer=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_replaced_file_keeps_its_permissions_and_owner(mode: int, tmp_path: Path) -> None:
    path, seen = tmp_path / "file", list[int]()
    path.write_bytes(b"old")
    path.chmod(mode)
    if os.geteuid() == 0:  # an administrator
        os.chown(path, 4321, 1234)
    before = path.stat()
    write_whole(path, lambda file: seen.append(os.fstat(file.fileno()).st_mode & 0o777))
    after = path.stat()
    assert seen == [after.st_mode & 0o777] == [mode]  # also while it is written
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_the_old_file_stays_whichever_call_fails(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(call, failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left on device"):
        write_whole(path, memoryview(b"new"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def failing(code: int, after: int = 0) -> Callable[..., None]:
    calls = itertools.count()

    def fail(*_: object) -> None:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_that_cannot_sync_is_written(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", failing(code))
    write_whole(tmp_path / "file", memoryview(b"new"))
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EPERM])
def test_a_file_that_cannot_be_replaced_is_written_in_place(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer old file")
    before = path.stat().st_ino
    monkeypatch.setattr(Path, "replace", failing(code))
    write_whole(path, memoryview(b"new"))
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", before)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_in_place_is_safe_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", failing(errno.EBUSY))
    monkeypatch.setattr("os.fsync", failing(errno.ENOSPC, after=1))
    with pytest.raises(OSError, match=r"No space left on device; the content is in '.*\.tmp'"):
        write_whole(path, memoryview(b"new"))
    (beside,) = tmp_path.glob(".nst-*.tmp")
    assert beside.read_bytes() == b"new"
