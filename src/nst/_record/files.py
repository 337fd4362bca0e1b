"""Finds the files that a recorded run was given: by name and content, never by a path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from nst._record.values import mapping, text
from nst._utils.checks import file_path
from nst._utils.hashing import hash_file

__all__ = ["Described", "described_files", "find_files"]

_PICTURE = re.compile(r"content|where|init|style\[\d{1,9}\](\.region|\.mask)?")


class Described(NamedTuple):
    """What a record tells of a picture."""

    name: str | None
    """The file's, without its folder; None if it was in memory."""
    sha256: str
    """The hash of its content."""


def described_files(inputs: Any) -> dict[str, Described]:
    """Return what a record tells of the pictures of its run, by argument.

    Args:
        inputs: The record's; checked here.

    Raises:
        KeyError: A part is missing.
        TypeError: A part is of another type than it should.
        ValueError: No run has such an argument.
    """
    files: dict[str, Described] = {}
    for argument, source in mapping("inputs", inputs).items():
        if _PICTURE.fullmatch(argument) is None:
            raise ValueError(f"`inputs` has {argument!r}, which is no argument of a run.")
        name, expected = mapping(argument, source)["name"], source["sha256"]
        if name is not None:
            text(f"{argument}.name", name)
        files[argument] = Described(name, text(f"{argument}.sha256", expected))
    return files


def find_files(
    files: Mapping[str, Described], places: Iterable[str | os.PathLike[str]]
) -> dict[str, Path]:
    """Find the files that a run was given, and see that they are the same.

    A record names files without their folders, and no path in it is ever followed.

    Args:
        files: What `described_files` returned.
        places: Folders to look into, and files.

    Raises:
        FileNotFoundError: One is in none of the places.
        ValueError: One was not a file, or all of its name have another content.
    """
    folders = [file_path("inputs", place) for place in places]
    found: dict[str, Path] = {}
    for argument, (name, expected) in files.items():
        if name is None:
            raise ValueError(
                f"`{argument}` of this run was in memory, not a file, so it cannot be found. Make "
                "the transfer with StyleTransfer.from_record and call run with it."
            )
        name = PurePosixPath(name.replace("\\", "/")).name
        candidates = [path / name if path.is_dir() else path for path in folders]
        candidates = [path for path in candidates if path.name == name and _is_file(path)]
        same = [path for path in candidates if hash_file(path) == expected]
        if same:
            found[argument] = same[0]
        elif candidates:
            raise ValueError(
                f"`{argument}` was {name!r}, but {str(candidates[0])!r} has another content (its "
                f"SHA-256 should be {expected}). Put the original in its place."
            )
        else:
            raise FileNotFoundError(
                f"`{argument}` was {name!r}, which is not in "
                f"{', '.join(repr(str(place)) for place in folders)}. Name its folder in `inputs`."
            )
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file can have this name: it is too long, or has a zero
        return False
