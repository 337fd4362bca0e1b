"""A run kept in a file, so that it can be taken up again after it was killed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

from nst._utils.archive import check_values, read_archive, read_values, write_archive
from nst._utils.checks import at_least, file_path
from nst._utils.files import check_place, write_whole
from nst._utils.memory import is_exhausted
from nst.callbacks.base import Callback, RunState

__all__ = [
    "Checkpoint",
    "Kept",
    "check_replaceable",
    "no_checkpoint",
    "read_checkpoint",
    "read_checkpoint_record",
]

logger = logging.getLogger("nst")

_FORMAT, _VERSION = "nst checkpoint", 1


class Checkpoint(Callback):
    """Keeps the run in a file, from which `StyleTransfer.resume` goes on with it.

    The file is written every few steps and after the last one, whole or not at all: whenever the
    process is killed, what was written before is there, and at most `every` steps are lost. It
    holds everything: the pictures that the run was given, what the optimizer remembers, the
    losses so far. With L-BFGS that is up to 43 times the picture in 32-bit numbers, 135 MB at
    512x512 pixels; with Adam about 5 times. Nothing in it is pickled, and no path is kept.

    Wherever it stands among the callbacks, it is called after the others, so that what they keep
    (`Callback.state_dict`) is as after the same step. If the file cannot be written, the log has a
    warning, the run goes on, and the previous file stays.

    Args:
        path: The file; the suffix is yours to choose. A checkpoint that is there is replaced, once
            the run has come as far; anything else is refused.
        every: Write after each so many steps; at least 1.

    Raises:
        ValueError: `every` is below 1; when the run starts: there is a file that is no checkpoint.
        OSError: When the run starts: the path cannot be written.
        TypeError: After the first step: the optimizer or a callback keeps what is neither a plain
            value nor a tensor.

    Examples:
        >>> import torch
        >>> from nst import StyleTransfer
        >>> from nst.testing import tiny_extractor
        >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
        >>> pictures = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
        >>> result = transfer.run(*pictures, callbacks=Checkpoint("run.ckpt", every=2))
        >>> again = StyleTransfer.resume("run.ckpt", extractor=tiny_extractor())
        >>> torch.equal(again.image, result.image)
        True
    """

    called_last: ClassVar[bool] = True
    sees_image: ClassVar[bool] = False

    def __init__(self, path: str | os.PathLike[str] = "run.ckpt", every: int = 10) -> None:
        self.path, self.every = file_path("path", path), at_least("every", every, 1)
        self._checked = False

    def on_start(self, state: RunState) -> None:
        """Find out whether the path can be written, before any work."""
        self._checked = False
        check_replaceable(self.path)

    def on_step(self, state: RunState) -> None:
        """Write the file if it is due."""
        if not self._checked:  # rather than when it is due, which may be hours later
            check_values("snapshot", state.snapshot())
            self._checked = True
        if state.stop_reason or state.progress == 1 or state.step % self.every == 0:
            self._write(state)

    def _write(self, state: RunState) -> None:
        kept = {
            "format": _FORMAT,
            "version": _VERSION,
            "every": self.every,
            "snapshot": state.snapshot(),
        }
        try:
            write_whole(self.path, lambda file: write_archive(file, kept), alone=True)
        except OSError as error:
            logger.warning(
                "the checkpoint %r could not be written after step %d (%s); an earlier one is "
                "left as it was",
                str(self.path),
                state.step,
                getattr(error.__cause__, "strerror", None) or error,
            )


def check_replaceable(path: Path, *, name: str = "path") -> None:
    """Make sure that a checkpoint can be written at a path, where nothing else is.

    Args:
        path: Where it shall go.
        name: The caller's argument, for error messages.

    Raises:
        OSError: As in `check_place`.
        ValueError: There is a file that is no checkpoint.
    """
    check_place(path, name=name, example="run.ckpt")
    if path.exists() and path.stat().st_size > 0:
        try:
            read_checkpoint_record(path)
        except ValueError as error:
            raise ValueError(
                f"`{name}` is {str(path)!r}, which exists and is no checkpoint that could be "
                "replaced. Choose another name, or move it away."
            ) from error


class Kept(NamedTuple):
    """What is in the file of a `Checkpoint`."""

    snapshot: dict[str, Any]
    """See `RunState.snapshot`."""
    every: int
    """See `Checkpoint`."""


def read_checkpoint(path: str | os.PathLike[str]) -> Kept:
    """Read what a `Checkpoint` wrote.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: It is no checkpoint, of another version, or damaged.
    """
    kept = _read(path, read_archive)
    return Kept(kept["snapshot"], kept["every"])


def read_checkpoint_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings of a run that a `Checkpoint` kept, without its pictures.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: It is no checkpoint, of another version, or damaged.
    """
    record: dict[str, Any] = _read(path, read_values)["snapshot"]["record"]
    return record


def _read(path: str | os.PathLike[str], read: Callable[[BinaryIO], Any]) -> dict[str, Any]:
    path = file_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` is {str(path)!r}, which is not a file. Check the path.")
    try:
        with path.open("rb") as file:
            kept: dict[str, Any] = read(file)
        if (kept["format"], kept["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"version {kept['version']} of {kept['format']!r}")
        at_least("every", kept["every"], 1)
        kept["snapshot"]["record"].keys()
    except PermissionError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise no_checkpoint(path, error) from error
    return kept


def no_checkpoint(path: str | os.PathLike[str], error: Exception) -> ValueError | MemoryError:
    """Return what to raise for a file from which no run can go on.

    Args:
        path: The file.
        error: What is wrong with it.
    """
    if isinstance(error, MemoryError) or is_exhausted(error):
        return MemoryError(
            f"`path` is {str(path)!r}, which needs more memory than is free. Use a machine that "
            "has it, or run fewer programs beside."
        )
    return ValueError(
        f"`path` is {str(path)!r}, which is no checkpoint of version {_VERSION}, or is damaged "
        f"({error}). Use a file that nst.Checkpoint wrote, or start the run anew."
    )
