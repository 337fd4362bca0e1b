"""The pictures of a folder: which are to be repainted, and where each goes."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from nst.cli.files import check_inputs
from nst.images import check_output, read_picture

__all__ = ["Batch", "find_pictures", "stand_ins"]

logger = logging.getLogger("nst")

_SIDE = 512
# Among so many of a folder's first pictures, different proportions are looked for.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Batch:
    """What `nst batch` has to do."""

    outputs: Mapping[Path, Path]
    """The pictures to repaint, each with the file to write."""
    num_there: int
    """How many more there are whose files were there already."""


def find_pictures(options: argparse.Namespace) -> Batch:
    """Find the pictures of a folder, and make the folder that theirs go to.

    Args:
        options: Of `nst batch`.

    Raises:
        OSError: A folder or a file is missing, or cannot be read or written.
        ValueError: There are no pictures, or one would be written over.
    """
    folder, target = Path(options.folder), Path(options.output)
    inputs = check_inputs(options)
    _check_folders(folder, target)
    pictures = _pictures(folder)
    sources: dict[Path, Path] = {}
    for picture in pictures:
        output = target / f"{picture.stem}.{options.format}"
        twin = sources.setdefault(output, picture)
        if twin != picture:
            raise ValueError(
                f"`FOLDER` has {twin.name!r} and {picture.name!r}, which would both be written to "
                f"{str(output)!r}. Give one of them another name."
            )
    outputs = {picture: output for output, picture in sources.items()}
    target.mkdir(exist_ok=True)
    read = {_identity(Path(path)): name for name, path in inputs}
    read.update({_identity(picture): picture.name for picture in pictures})
    to_do = {p: o for p, o in outputs.items() if options.overwrite or not o.exists()}
    for output in to_do.values():
        check_output(output, name="--output")
        if output.exists() and _identity(output) in read:
            raise ValueError(
                f"`--output`: {str(output)!r} is also `{read[_identity(output)]}` and would be "
                "written over. Choose another folder."
            )
    return Batch(to_do, len(outputs) - len(to_do))


def _check_folders(folder: Path, target: Path) -> None:
    for name, path in (("FOLDER", folder), ("--output", target)):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"`{name}` is {str(path)!r}, which is a file. Name a folder.")
    if not folder.exists():
        raise FileNotFoundError(
            f"`FOLDER` is {str(folder)!r}, which does not exist. Check the path."
        )
    if not target.exists() and not target.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"`--output` is {str(target)!r}, whose folder does not exist. Create "
            f"{str(target.absolute().parent)!r}."
        )
    if target.exists() and target.samefile(folder):
        raise ValueError(
            f"`--output` is {str(target)!r}, the folder of the pictures themselves. Choose another."
        )


def _pictures(folder: Path) -> list[Path]:
    """Return the files whose names are those of pictures, sorted; tell of others."""
    formats = Image.registered_extensions()  # also loads Pillow's plug-ins, which fill Image.OPEN
    suffixes = {suffix for suffix, name in formats.items() if name in Image.OPEN}
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    pictures = sorted(path for path in files if path.suffix.lower() in suffixes)
    others = sorted(path.name for path in files if path.suffix.lower() not in suffixes)
    if not pictures:
        raise ValueError(
            f"`FOLDER` is {str(folder)!r}, which has no pictures in it. Check the path."
        )
    if others:
        logger.warning("left out what is no picture by its name: %s", ", ".join(others))
    return pictures


def _identity(path: Path) -> tuple[int, int]:
    """Return what a file has in common with all links to it."""
    status = path.stat()
    return status.st_dev, status.st_ino


def stand_ins(pictures: Sequence[Path]) -> Iterator[Tensor]:
    """Yield gray pictures in the different proportions of a folder's first pictures.

    What a rehearsal refuses with all of them is wrong for all, not only with a single picture.

    Args:
        pictures: The files.
    """
    seen = set()
    for path in pictures[:_LOOKED_AT]:
        try:
            height, width = read_picture(path).pixels.shape[-2:]
        except (OSError, ValueError, MemoryError):
            continue
        longer = max(height, width)
        shape = max(1, round(height * _SIDE / longer)), max(1, round(width * _SIDE / longer))
        if shape not in seen:
            seen.add(shape)
            yield torch.full((1, 3, *shape), 0.5)
    if not seen:
        yield torch.full((1, 3, _SIDE, _SIDE), 0.5)
