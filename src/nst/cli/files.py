"""The files of a command line: what is read is there, and what is written harms none of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nst._utils.files import check_place
from nst._utils.hashing import hash_file
from nst.callbacks.checkpoint import check_replaceable, read_checkpoint_record
from nst.cli.options import KNOWN_WORDS
from nst.cli.style_spec import paths_of
from nst.images import check_input, check_output, read_record

__all__ = ["check_files", "check_inputs", "steps_folder"]


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
    output, inputs = Path(options.output), check_inputs(options)
    if options.command == "capture":
        check_place(output, name="--output", example="style.nst")
    else:
        check_output(output, name="--output")
    for name, path in inputs:
        if _is_same(output, path):
            raise ValueError(
                f"`--output` is {str(output)!r}, which is also `{name}` and would be written over. "
                "Choose another name."
            )
    if options.command == "rerun":
        _check_record(options.picture, read_record(options.picture), output)
    if options.command == "resume":
        _check_record(options.file, read_checkpoint_record(options.file), output)
    if getattr(options, "checkpoint", None) is not None:
        _check_checkpoint(Path(options.checkpoint), output)
    if getattr(options, "save_every", None) is not None:
        _check_steps(steps_folder(output), inputs)


def check_inputs(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Refuse files that cannot be read.

    Args:
        options: A command line, parsed.

    Returns:
        What is read: names and paths.

    Raises:
        OSError: A file is missing, or may not be read.
        ValueError: It is no regular file.
    """
    return list(_inputs(options))


def steps_folder(output: Path) -> Path:
    """Return where `--save-every` writes to.

    Args:
        output: Where the result goes.
    """
    return output.with_name(f"{output.stem}-steps")


def _inputs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Find what is read, each with its name; all but styles is checked to be there."""
    given = vars(options)
    for name in ("content", "picture", "file", "--config", "--where", "--init", "--weights"):
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


def _check_record(made: str, record: Mapping[str, Any], output: Path) -> None:
    """Refuse to replace what a file was made from, which its record names by content alone."""
    if output.is_file() and hash_file(output) in json.dumps(record):
        raise ValueError(
            f"`--output` is {str(output)!r}, which {made!r} was made from and which would be "
            "written over. Choose another name."
        )


def _check_checkpoint(path: Path, output: Path) -> None:
    if path.resolve() == output.resolve():
        raise ValueError(
            f"`--checkpoint` is {str(path)!r}, which is also `--output`. Choose another name."
        )
    check_replaceable(path, name="--checkpoint")  # so that no input is written over either


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
