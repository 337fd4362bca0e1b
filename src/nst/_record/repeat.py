"""Repeat a run from the record in its picture, or resume it from a checkpoint."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from typing_extensions import Self

from nst._engine.configuration import Configuration, Tile, check_count
from nst._engine.run import complete
from nst._record import replay
from nst._record.snapshot import restore_run, take_snapshot
from nst._utils.device import generators_restored, plain_arithmetic
from nst._utils.text import logger
from nst.callbacks.base import CallbackLike, as_callbacks
from nst.callbacks.checkpoint import CHECKPOINT_FILE, Checkpoint
from nst.images import read_record
from nst.losses.base import Loss
from nst.optim import OptimizerLike
from nst.result import StyleTransferResult


class Repeatable(Configuration):
    """The methods of `StyleTransfer` that repeat or resume runs."""

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any] | str | os.PathLike[str],
        extractor: nn.Module | None = None,
        **changes: Any,
    ) -> Self:
        """Create the `StyleTransfer` that a picture was made with.

        Args:
            record: The saved picture, or the record that `nst.images.read_record` returned.
            extractor: Network to use; required unless the recorded weights are `"original"` or
                `"torchvision"`. A warning is logged if it differs.
            **changes: Other arguments to replace; required for custom losses and optimizers.

        Raises:
            ValueError: There is no usable record, a custom part is not passed, or weights differ.

        Examples:
            >>> from nst import StyleTransfer
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> result = transfer.run(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40))
            >>> (path,) = result.save("out.png")
            >>> StyleTransfer.from_record(path, tiny_extractor()).num_steps
            3
        """
        record = record if isinstance(record, Mapping) else read_record(record)
        arguments = replay.recorded_arguments(record, changes)
        if extractor is None:
            extractor = replay.recorded_extractor(record)
        elif difference := replay.network_difference(record, extractor):
            logger.warning("%s The result will not be the same.", difference)
        return cls(extractor, **arguments)

    @classmethod
    def rerun(
        cls,
        path: str | os.PathLike[str],
        inputs: Sequence[str | os.PathLike[str]] = (),
        *,
        callbacks: CallbackLike | Iterable[CallbackLike] | None = (),
        extractor: nn.Module | None = None,
        **changes: Any,
    ) -> StyleTransferResult:
        """Repeat the run of a picture, from its record and its input files.

        With the same versions, device and number of threads, the result is bit-identical, unless
        Ctrl-C or an error ended the run. Files are found by name and content beside the picture, in
        the current folder and in `inputs`. The run stops at the recorded step.

        Args:
            path: The saved picture.
            inputs: More files, or folders to search.
            callbacks: As in `run`.
            extractor: As in `from_record`.
            **changes: As in `from_record`, or arguments of `run`, such as `strength`. With another
                `num_steps`, the run is not stopped early.

        Raises:
            FileNotFoundError: A file is not found.
            ValueError: As in `from_record`; or a file has changed, or a picture was in memory.
        """
        if isinstance(inputs, (str, bytes, os.PathLike)):
            raise TypeError(
                f"`inputs` is {inputs!r}; a list of paths is needed. Pass [{inputs!r}]."
            )
        record = read_record(path)
        places = [Path(os.fsdecode(path)).resolve().parent, Path.cwd(), *inputs]
        arguments = replay.recorded_run(record, places)
        arguments |= {name: changes.pop(name) for name in arguments.keys() & changes.keys()}
        arguments["callbacks"] = as_callbacks(callbacks)
        if "num_steps" not in changes:
            arguments["callbacks"] += replay.recorded_end(record)
        # Last, as the network may be a download.
        transfer: Any = cls.from_record(record, extractor, **changes)  # the subclass has `run`
        method = transfer.run if "content" in arguments else transfer.synthesize
        result: StyleTransferResult = method(**arguments)
        return result

    @classmethod
    @plain_arithmetic()
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        callbacks: CallbackLike | Iterable[CallbackLike] | None = (),
        extractor: nn.Module | None = None,
        losses: Mapping[str, Loss] | None = None,
        optimizer: OptimizerLike | None = None,
        tile: Tile | Literal["kept"] = "kept",
        device: str | torch.device | None = None,
    ) -> StyleTransferResult:
        """Resume a run from a file that `Checkpoint` wrote.

        With the same versions, device and number of threads, result, history and record are
        bit-identical to those of an uninterrupted run. A completed run returns its result at once.

        Args:
            path: The checkpoint, which contains everything but callbacks and custom parts.
            callbacks: As in `run`. `EarlyStopping`, `LossHistory` and callbacks that override
                `on_resume` restore their state. The default `Checkpoint` saves to the same file.
            extractor: The run's network, unless its weights are `"original"` or `"torchvision"`.
            losses: The run's losses, if one of them is custom.
            optimizer: The run's optimizer, if it was a callable.
            tile: Replaces the run's, for less memory; the result is then equal up to rounding.
            device: Replaces the run's; the result is then not bit-identical.

        Raises:
            ValueError: It is not a valid checkpoint, or a custom part is missing or differs.
            OSError: The path is not writable, and there is no other `Checkpoint`.
        """
        started = time.perf_counter()
        followers = as_callbacks(callbacks)
        snapshot = CHECKPOINT_FILE.read(path)
        if not any(isinstance(each, Checkpoint) for each in followers):
            followers.insert(0, Checkpoint(path, snapshot["every"], metadata="all"))
        record = snapshot["record"]
        given: dict[str, Any] = {"losses": losses, "optimizer": optimizer, "device": device}
        changes = {name: value for name, value in given.items() if value is not None}
        if tile != "kept":
            changes["tile"] = check_count("tile", tile, None, "auto")
        transfer: Configuration = cls.from_record(record, extractor, **changes)
        transfer = transfer.without("previous")
        if record.get("task") == "synthesize":
            transfer = transfer.without("content")
        replay.check_same(record, transfer.extractor, transfer.losses)
        try:
            run = restore_run(snapshot, transfer, followers, started)
        except Exception as error:  # a forged file can raise nearly anything
            raise CHECKPOINT_FILE.refusal(path, error) from error
        keepers = [each for each in followers if isinstance(each, Checkpoint)]
        for each in keepers:
            each.resumed_run = snapshot["status"]["run"]  # which it may replace
        del snapshot  # the run owns its tensors now
        try:
            with generators_restored(run.device):
                return complete(run, take_snapshot)
        finally:
            for each in keepers:
                each.resumed_run = None  # the run may have failed before it started them
