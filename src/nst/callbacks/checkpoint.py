"""Checkpoints: the state of a run in a file, from which a killed run resumes."""

import os
import secrets
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

from nst._utils.checks import Checked, at_least, file_path, one_of
from nst._utils.files import check_place, reserve
from nst._utils.schema import whole
from nst._utils.tensors import FileFormat, check_values
from nst._utils.text import logger
from nst.callbacks.base import Callback, RunState
from nst.images.metadata import MetadataChoice, carried_over

CHECKPOINT_FILE = FileFormat(
    "checkpoint",
    2,
    {"every": whole, "record": {}, "status": {"run": str, "finished": bool}},
    "Use a file that nst.Checkpoint wrote, or start the run again.",
)
"""The value of `RunState.snapshot`, `every` of the `Checkpoint`, and the status of its run."""


class Checkpoint(Callback):
    """Stores a run in a file, from which `StyleTransfer.resume` continues it.

    The file is replaced atomically every few steps, when a scale stalls, and after the last step.
    It holds the pictures passed to the run, the optimizer state and the losses: with L-BFGS up to
    43 times the picture in 32-bit numbers, 135 MB at 512x512 pixels; with Adam about 5 times.
    Reading it executes nothing, and it contains no paths. If the file cannot be written, a warning
    is logged, the run continues, and the previous file stays.

    Args:
        path: Path of the file; any suffix. The checkpoint of a finished run is replaced at the
            first write; that of an unfinished run, and any other file, is refused.
        every: Number of steps between writes; at least 1.
        metadata: Metadata of the photograph to store for the resumed run, as in
            `StyleTransferResult.save`.

    Raises:
        ValueError: At the start: the file exists and is not a checkpoint, or is that of another
            unfinished run.
        OSError: At the start: the path cannot be written, or another run is using it.
        TypeError: After the first step: the state of the optimizer or of a callback holds anything
            but plain values and tensors.

    Examples:
        >>> from nst import StyleTransfer
        >>> from nst.testing import tiny_extractor
        >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
        >>> pictures = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
        >>> result = transfer.run(*pictures, callbacks=Checkpoint("run.ckpt", every=2))
        >>> again = StyleTransfer.resume("run.ckpt", extractor=tiny_extractor())
        >>> torch.equal(again.image, result.image)
        True
    """

    called_last: ClassVar[bool] = True  # the others' `state_dict` is then of the same step

    path, every = Checked(file_path), Checked(at_least)
    metadata = Checked(partial(one_of, choices=get_args(MetadataChoice)))

    def __init__(
        self,
        path: str | os.PathLike[str] = "run.ckpt",
        every: int = 10,
        *,
        metadata: MetadataChoice = "default",
    ) -> None:
        self.path, self.every, self.metadata = path, every, metadata
        self._checked, self._reserved = False, ExitStack()
        self.resumed_run: str | None = None

    def on_start(self, state: RunState) -> None:
        run, self.resumed_run = self.resumed_run or secrets.token_hex(8), None
        check_replaceable(self.path)
        what = f"`path` is {str(self.path)!r}, which"
        with ExitStack() as stack:
            try:
                stack.callback(reserve(self.path))
            except BlockingIOError as error:
                remedy = "Wait until it ends, or choose another name."
                raise BlockingIOError(f"{what} another run is using. {remedy}") from error
            if read_unfinished(self.path) not in (None, run):
                raise ValueError(
                    f"{what} holds an unfinished run. Resume it with StyleTransfer.resume(path), "
                    "choose another name, or delete the file."
                )
            self._reserved = stack.pop_all()  # until the end of the run
        self._run, self._plan, self._checked = run, state.plan, False

    def on_end(self, state: RunState) -> None:
        self._reserved.close()

    def on_step(self, state: RunState) -> None:
        if not self._checked:  # the first write may be hours later
            check_values("snapshot", state.snapshot())
            self._checked = True
        finished, stalled, self._plan = state.progress == 1, state.plan != self._plan, state.plan
        if not (state.stop_reason or finished or stalled or state.step % self.every == 0):
            return
        try:
            status, value = {"run": self._run, "finished": finished}, state.snapshot()
            exif = carried_over(bytes.fromhex(value["exif"]) or None, self.metadata) or b""
            value |= {"every": self.every, "status": status, "exif": exif.hex()}
            CHECKPOINT_FILE.write(self.path, value, sole_writer=True)
        except OSError as error:
            logger.warning(
                f"the checkpoint {str(self.path)!r} could not be written after step {state.step} "
                f"({getattr(error.__cause__, 'strerror', None) or error}); the previous one is "
                "unchanged"
            )


def check_replaceable(path: Path, *, name: str = "path") -> None:
    """Raise if a checkpoint cannot be written at a path, or would replace another file."""
    check_place(path, name=name, example="run.ckpt")
    if path.exists() and path.stat().st_size > 0:
        try:
            read_checkpoint_record(path)
        except ValueError as error:
            what = f"`{name}` is {str(path)!r}, which exists and is not a checkpoint"
            raise ValueError(f"{what}. Choose another name, or move the file away.") from error


def read_unfinished(path: Path) -> str | None:
    """Return the name of the run in a checkpoint; None if there is none, or it is finished."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    status: dict[str, Any] = CHECKPOINT_FILE.read(path, part="status")
    return None if status["finished"] else str(status["run"])


def read_checkpoint_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the record in a checkpoint, without reading its pictures."""
    record: dict[str, Any] = CHECKPOINT_FILE.read(path, part="record")
    return record
