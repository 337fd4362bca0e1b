"""Find the files of a recorded run by name and content, never by a path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from nst._utils.checks import file_path
from nst._utils.hashing import hash_file

__all__ = ["find_files"]


def find_files(
    inputs: Mapping[str, Mapping[str, Any]], places: Iterable[str | os.PathLike[str]]
) -> dict[str, Path]:
    """Return the path of each file that was passed to a run.

    Args:
        inputs: Argument to the name and SHA-256 of its file; the name of a picture that was in
            memory is None, and it is refused.
        places: Folders to search, and files.
    """
    paths = [file_path("inputs", place) for place in places]
    return {
        argument: _find(argument, source["name"], source["sha256"], paths)
        for argument, source in inputs.items()
    }


def _find(argument: str, name: str | None, sha256: str, places: Sequence[Path]) -> Path:
    if name is None:
        raise ValueError(
            f"`{argument}` of this run was in memory, not a file, so it cannot be found. Use "
            "StyleTransfer.from_record, and pass it to run."
        )
    name = PurePosixPath(name.replace("\\", "/")).name
    candidates = [place / name if place.is_dir() else place for place in places]
    candidates = [path for path in candidates if path.name == name and _is_file(path)]
    for path in candidates:
        if hash_file(path) == sha256:
            return path
    if candidates:
        raise ValueError(
            f"`{argument}` was {name!r}, but {str(candidates[0])!r} has another content (its "
            f"SHA-256 should be {sha256}). Put the original there."
        )
    raise FileNotFoundError(
        f"`{argument}` was {name!r}, which is not in {', '.join(repr(str(p)) for p in places)}. "
        "Pass its folder in `inputs`."
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file can have this name: too long, or with a zero character
        return False
