"""The files of a command line: what is read is there, and what is written harms none of it."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from nst._hashes import hash_file
from nst._options import KNOWN_WORDS
from nst._style_spec import paths_of
from nst.images import check_input, check_output, read_record

__all__ = ["check_files", "steps_folder"]


def check_files(options: argparse.Namespace) -> None:
    """Refuse files that cannot be read, and a place that cannot be written or is one of them.

    Args:
        options: A command line, parsed.

    Raises:
        OSError: A file is missing, may not be read, or has no place to go to.
        ValueError: It is no regular file; or what is written would replace what is read.
    """
    if options.command == "samples":  # looks for itself
        return
    output, inputs = Path(options.output), list(_inputs(options))
    if options.command == "capture":
        _check_place(output)
    else:
        check_output(output, name="--output")
    for name, path in inputs:
        if _is_same(output, path):
            raise ValueError(
                f"`--output` is {str(output)!r}, which is also `{name}` and would be written over. "
                "Choose another name."
            )
    if options.command == "rerun":
        _check_record(options.picture, output)
    if getattr(options, "save_every", None) is not None:
        _check_steps(steps_folder(output), inputs)


def steps_folder(output: Path) -> Path:
    """Return where `--save-every` writes to.

    Args:
        output: Where the result goes.
    """
    return output.with_name(f"{output.stem}-steps")


def _inputs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Find what is read, each with its name; all but styles is checked to be there."""
    given = vars(options)
    for name in ("content", "picture", "--config", "--where", "--init", "--weights"):
        path = given.get(name.removeprefix("--"))
        known = KNOWN_WORDS.get(name.removeprefix("--"), ())
        if path is not None and path not in known:
            _check_readable(path, name, list(known))
            yield name, path
    for i, spec in enumerate(given.get("styles", [])):
        for part, path in paths_of(spec).items():
            yield f"style[{i}]" if part == "image" else f"style[{i}], {part}", path
    for path in given.get("inputs", []):
        yield "--inputs", path


def _check_readable(path: str, name: str, known: list[str]) -> None:
    try:
        check_input(path, name=name)
    except FileNotFoundError as error:
        if not known:
            raise
        *others, last = map(repr, known)
        names = f"{', '.join(others)} or {last}" if others else last
        raise FileNotFoundError(f"{error} Or use {names}.") from error


def _is_same(output: Path, path: str) -> bool:
    try:
        return output.samefile(path)
    except (OSError, ValueError):  # one of them is not there
        return False


def _check_record(picture: str, output: Path) -> None:
    """Refuse to replace what a picture was made from, which its record names by content alone."""
    if output.is_file() and hash_file(output) in json.dumps(read_record(picture)):
        raise ValueError(
            f"`--output` is {str(output)!r}, which {picture!r} was made from and which would be "
            "written over. Choose another name."
        )


def _check_steps(folder: Path, inputs: list[tuple[str, str]]) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"`--save-every` writes into {str(folder)!r}, which is a file. Name another output, or "
            "move it away."
        )
    for name, path in inputs:
        file = Path(path).resolve()
        if file.parent == folder.resolve() and fnmatch(file.name, "step-*.png"):
            raise ValueError(
                f"`--save-every` writes into {str(folder)!r}, where `{name}` is, {path!r}, which "
                "could be written over. Name another output, or copy it elsewhere."
            )


def _check_place(path: Path) -> None:
    """Do for a style file, which may have any suffix, what `check_output` does for a picture."""
    what, folder = f"`--output` is {str(path)!r}", path.resolve().parent
    if path.is_dir():
        raise IsADirectoryError(f"{what}, which is a folder. Add a file name, e.g. 'style.nst'.")
    if not folder.exists():
        raise FileNotFoundError(f"{what}, whose folder does not exist. Create {str(folder)!r}.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{what}, but {str(folder)!r} is not a folder. Choose another.")
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        raise PermissionError(f"{what}, which exists and may not be written. Choose another name.")
    try:
        # Asking for permission would not do: an administrator is always told yes.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"{what}, whose folder may not be written ({error.strerror}). Choose another folder."
        ) from error
