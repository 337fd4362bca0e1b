"""Writing files: whole or not at all, where it was made sure beforehand that they can be."""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from nst._utils.checks import file_path

__all__ = ["check_place", "write_whole"]


def check_place(path: str | os.PathLike[str], *, name: str, example: str) -> Path:
    """Make sure that a file can be written at `path`, before the work that makes it.

    Args:
        path: Where the file shall go; it may have any suffix.
        name: The caller's argument, for error messages.
        example: What such a file may be called, for error messages.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: The path is a folder.
        NotADirectoryError: What should be the folder is a file.
        PermissionError: The folder or the existing file may not be written.
        ValueError: There is something else than a regular file, or no file can be called that.
    """
    path = file_path(name, path)
    what, folder = f"`{name}` is {str(path)!r}", path.resolve().parent
    if path.is_dir():
        raise IsADirectoryError(f"{what}, which is a folder. Add a file name, e.g. {example!r}.")
    if not folder.exists():
        raise FileNotFoundError(f"{what}, whose folder does not exist. Create {str(folder)!r}.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{what}, but {str(folder)!r} is not a folder. Choose another.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{what}, which is not a regular file. Choose another name.")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{what}, which exists and may not be written. Choose another name.")
    try:
        # Asking for permission would not do: an administrator is always told yes.
        _temporary(path.resolve()).unlink()
    except OSError as err:
        raise PermissionError(
            f"{what}, whose folder may not be written ({err.strerror}). Choose another folder."
        ) from err
    return path


def write_whole(
    path: Path, content: memoryview | Callable[[BinaryIO], object], *, alone: bool = False
) -> None:
    """Write a file that appears whole or not at all.

    Args:
        path: Where to; a symbolic link stays one, and what it points to is replaced.
        content: The bytes, or what writes them to a file that is open.
        alone: Whether nobody else writes this file, so that what a process left beside it that was
            killed is written over rather than left to lie.

    Raises:
        OSError: The file cannot be written. An existing one is then left as it was.
    """
    try:
        path = path.resolve()
        temporary = _temporary(path, alone=alone)
        try:
            with temporary.open("wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave the new name and no content
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise type(error)(
            f"`path` is {str(path)!r}, which could not be written ({error.strerror or error}). "
            "Make room, or choose another place."
        ) from error


def _temporary(path: Path, *, alone: bool = False) -> Path:
    """Make an empty file beside the path."""
    token = (
        hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16] if alone else secrets.token_hex(8)
    )
    temporary = path.with_name(f".nst-{token}.tmp")
    if alone:
        temporary.unlink(missing_ok=True)
    # `tempfile` would make it unreadable for others; "x" never follows a link laid in the way.
    temporary.open("xb").close()
    return temporary
