"""Checks of the files that a command reads and writes: no output overwrites an input."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatch
from pathlib import Path

from nst._utils.files import check_place
from nst._utils.hashing import hash_file
from nst.callbacks.checkpoint import check_replaceable, read_checkpoint_record
from nst.cli.derived import KNOWN_WORDS
from nst.cli.styles import paths_of
from nst.images import check_input, check_output, read_record


def check_files(options: argparse.Namespace) -> None:
    """Refuse inputs that cannot be read, and outputs that cannot be written or are inputs."""
    output, inputs = Path(options.output), check_inputs(options)
    if options.command == "capture":
        check_place(output, name="--output", example="style.nst")
    else:
        check_output(output, name="--output")
    for name, path in inputs:
        if _is_same(output, path):
            raise ValueError(
                f"`--output` is {str(output)!r}, which is also `{name}` and would be overwritten. "
                "Choose another name."
            )
    for name, read in (("picture", read_record), ("file", read_checkpoint_record)):
        made = getattr(options, name, None)
        # A record knows by its hash what a picture was made from.
        if made is not None and output.is_file() and hash_file(output) in json.dumps(read(made)):
            raise ValueError(
                f"`--output` is {str(output)!r}, which {made!r} was made from and which would be "
                "overwritten. Choose another name."
            )
    if getattr(options, "checkpoint", None) is not None:
        checkpoint = Path(options.checkpoint)
        if checkpoint.resolve() == output.resolve():
            raise ValueError(
                f"`--checkpoint` is {str(checkpoint)!r}, which is also `--output`. Choose another "
                "name."
            )
        check_replaceable(checkpoint, name="--checkpoint")  # which no input is
    if getattr(options, "save_every", None) is not None:
        _check_steps(steps_folder(output), inputs)


def check_inputs(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Refuse inputs that cannot be read, and return all of them: names and paths."""
    inputs = []
    for name in ("content", "picture", "file", "--config", "--where", "--init", "--weights"):
        key = name.removeprefix("--")
        path, words = getattr(options, key, None), KNOWN_WORDS.get(key, ())
        if path is not None and path not in words:
            try:
                check_input(path, name=name)
            except FileNotFoundError as error:
                if not words:
                    raise
                raise FileNotFoundError(f"{error} Or use {', '.join(words)}.") from error
            inputs.append((name, path))
    for i, spec in enumerate(getattr(options, "styles", [])):
        for part, path in paths_of(spec).items():
            inputs.append((f"style[{i}]" if part == "image" else f"style[{i}], {part}", path))
    return inputs + [("--inputs", path) for path in getattr(options, "inputs", [])]


def steps_folder(output: Path) -> Path:
    """Return the folder that `--save-every` writes to."""
    return output.with_name(f"{output.stem}-steps")


def _is_same(output: Path, path: str) -> bool:
    try:
        return output.samefile(path)
    except (OSError, ValueError):  # one of them does not exist
        return False


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
                "could be overwritten. Name another output, or copy it elsewhere."
            )
