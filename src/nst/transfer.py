"""`StyleTransfer`: a checked configuration, and everything that can be done with it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from nst._batch.map import MapResult, map_pictures
from nst._engine.capture import capture_style
from nst._engine.configuration import ColorWhen, Configuration, RunOptions
from nst._engine.inputs import RunInputs
from nst._engine.run import Run, complete
from nst._engine.tiles import Tile, check_tile
from nst._record.describe import describe_run
from nst._record.replay import (
    check_same,
    network_difference,
    recorded_arguments,
    recorded_end,
    recorded_extractor,
    recorded_run,
)
from nst._record.snapshot import generators_set, restore_run, take_snapshots
from nst._utils.device import plain_arithmetic
from nst.callbacks.base import CallbackLike, as_callbacks
from nst.callbacks.checkpoint import Checkpoint, no_checkpoint, read_checkpoint
from nst.estimate import Estimate, estimate_run
from nst.images import ImageLike, read_picture, read_record
from nst.losses.kinds import Loss
from nst.optim.by_name import OptimizerLike
from nst.presets import preset
from nst.result import StyleTransferResult
from nst.styles.style import Style, StyleLike

__all__ = ["StyleTransfer"]

logger = logging.getLogger("nst")


@dataclass(frozen=True, eq=False, repr=False)
class StyleTransfer(Configuration):
    """Repaints a photograph in the style of a painting by optimizing its pixels.

    The objective is the weighted sum of the losses. Bounded L-BFGS or another optimizer minimizes
    it, starting from a copy of the photograph, first at a coarse scale, then at finer ones. The
    options cannot be changed afterwards; `dataclasses.replace` makes a changed copy.

    Args:
        extractor: A `FeatureExtractor`, or any module whose `forward(images, layers)` returns a
            mapping from layer to features. It is moved to the device. The default loads VGG19.
        losses: Losses by name; the names appear in logs, history and errors. The default is
            `{"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}`.
        optimizer: `"lbfgs"` (within [0, 1]), `"adam"` (learning rate 0.02), or a callable
            from the list of parameters to a `torch.optim.Optimizer`.
        size: Longer side of the result in pixels; a smaller photograph is not enlarged. None
            keeps every size.
        num_steps: Number of optimizer steps over all scales.
        num_scales: Number of scales, each twice as large as the one before; `"auto"` starts at 256
            pixels or more. At all but the last, losses that refer to the content count three
            times as much.
        average: Decay, below 1, of an exponential moving average over the steps of a scale, which
            then is the result: calmer than any single step, for optimizers that wander. 0.99 suits
            Adam; 0 returns the best picture of the run.
        normalize_gradients: Whether to scale the gradient of each loss, in every step, to a mean
            absolute value of its weight. Weights then say how strongly each loss pulls. The result
            is not the gradient of a function, so L-BFGS is refused.
        tile: Number of rows of every block of the network to compute at a time, so that memory
            grows with the width of the picture only. The gradient is exact and takes up to 1.5
            times as long. None computes whole pictures; `"auto"` does so if there is enough free
            memory, else 64 rows at a time, which is logged.
        device: `"auto"` (CUDA, else MPS, else CPU), or what `torch.device` takes.

    Raises:
        ValueError: An unknown name, a number out of range, unknown layers, no losses, losses whose
            weights are all 0, or `tile` with losses or a network that cannot be computed in parts.
        TypeError: A loss is not a `Loss`, or an argument has a wrong type.

    Examples:
        >>> from nst.testing import tiny_extractor
        >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
        >>> photo, painting = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
        >>> result = transfer.run(photo, painting)
        >>> tuple(result.image.shape), result.stop_reason
        ((1, 3, 32, 48), 'completed')
    """

    @classmethod
    def from_preset(
        cls, name: str = "default", extractor: nn.Module | None = None, **changes: Any
    ) -> StyleTransfer:
        """Create a `StyleTransfer` from a named preset.

        Args:
            name: `"default"`, the best picture found for the time, or `"gatys"`, the recipe of
                Gatys et al. (2016): relu4_2 and relu1_1 to relu5_1, Gram matrices in absolute
                units, one scale; with 500 steps of Adam from a copy of the content. The weights
                are those of the authors' own code, for the original network.
            extractor: As in `StyleTransfer`.
            **changes: Arguments of `StyleTransfer` that replace the preset's.

        Raises:
            ValueError: An unknown preset.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> StyleTransfer.from_preset("gatys", tiny_extractor(), num_steps=300).num_steps
            300
        """
        transfer = cls(**{**preset(name), "extractor": extractor, **changes})
        weights = getattr(transfer.extractor, "weights", "original")
        if name == "gatys" and weights == "torchvision":
            logger.warning(
                "the weights of preset 'gatys' are for the original VGG19, not %s", weights
            )
        return transfer

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any] | str | os.PathLike[str],
        extractor: nn.Module | None = None,
        **changes: Any,
    ) -> StyleTransfer:
        """Create the `StyleTransfer` that a picture was made with.

        Args:
            record: The saved picture, or what `nst.images.read_record` returned.
            extractor: Replaces the recorded network, which is found only if it is
                `FeatureExtractor`'s `"original"` or `"torchvision"`: paths in a record are not
                followed. A warning is logged if it differs from the recorded one.
            **changes: Arguments of `StyleTransfer` that replace the recorded ones. Custom losses,
                optimizers and networks are not in a record and must be passed.

        Raises:
            FileNotFoundError: There is no such picture.
            ValueError: It has no usable record; a custom part is not passed; or the network of the
                recorded name is a different one here.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> result = transfer.run(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40))
            >>> (path,) = result.save("out.png")
            >>> StyleTransfer.from_record(path, tiny_extractor()).num_steps
            3
        """
        record = record if isinstance(record, Mapping) else read_record(record)
        arguments = recorded_arguments(record, changes)
        if extractor is None:
            return cls(recorded_extractor(record), **arguments)
        difference = network_difference(record, extractor)
        if difference is not None:
            logger.warning("%s The result will not be the same.", difference)
        return cls(extractor, **arguments)

    @classmethod
    def rerun(
        cls,
        path: str | os.PathLike[str],
        inputs: Sequence[str | os.PathLike[str]] = (),
        *,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
        extractor: nn.Module | None = None,
        **changes: Any,
    ) -> StyleTransferResult:
        """Make a picture again, from its record and the files that it was made from.

        With the same versions, device and number of threads, it is bit-identical. The files are
        searched for beside the picture, in the current folder and in `inputs`, by name and
        content. A run that a callback stopped is stopped after the same number of steps. A run
        that Ctrl-C interrupted within a step may differ slightly, which is logged.

        Args:
            path: The saved picture.
            inputs: More folders to search, or files.
            callbacks: As in `run`.
            extractor: As in `from_record`.
            **changes: As in `from_record`. With another `num_steps`, the run is not stopped early.

        Raises:
            FileNotFoundError: There is no such picture, or a file is not found.
            ValueError: As in `from_record`; or a file has changed, or was a picture in memory.
        """
        record = read_record(path)
        places = [Path(os.fsdecode(path)).resolve().parent, Path.cwd(), *inputs]
        arguments = recorded_run(record, places)
        arguments["callbacks"] = as_callbacks(callbacks)
        if "num_steps" not in changes:
            arguments["callbacks"] += recorded_end(record)
        # Last, as the network may be a download.
        transfer = cls.from_record(record, extractor, **changes)
        return (
            transfer.run(**arguments)
            if "content" in arguments
            else transfer.synthesize(**arguments)
        )

    @classmethod
    @plain_arithmetic()
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
        extractor: nn.Module | None = None,
        losses: Mapping[str, Loss] | None = None,
        optimizer: OptimizerLike | None = None,
        tile: Tile | Literal["kept"] = "kept",
        device: str | torch.device | None = None,
    ) -> StyleTransferResult:
        """Resume a run from a file that `Checkpoint` wrote.

        With the same versions, device and number of threads, result, history and record are
        bit-identical to those of an uninterrupted run. The file contains everything but custom
        parts. A run that a callback stopped continues from there; a completed run returns its
        result at once.

        Args:
            path: The checkpoint.
            callbacks: As in `run`; they are not in the file. `EarlyStopping`, `LossHistory` and
                custom ones that override `Callback.on_resume` restore their state; others start
                anew. Without a `Checkpoint` among them, the run is saved to the same file.
            extractor: The run's network, unless it was `FeatureExtractor`'s `"original"` or
                `"torchvision"`: paths in the file are not followed.
            losses: The run's losses, if one of them is custom.
            optimizer: The run's optimizer, if it was a callable.
            tile: Replaces the run's, for less memory; the result is then equal up to rounding.
            device: Replaces the run's; the result is then not bit-identical.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not a checkpoint, or is damaged; or a custom part is not passed or
                differs from the run's.
            OSError: The path is not writable, and there is no other `Checkpoint`.

        Examples:
            >>> from nst import Checkpoint
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=5)
            >>> def power_cut(state):
            ...     if state.step == 4:
            ...         raise SystemExit
            >>> pictures = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
            >>> try:
            ...     transfer.run(*pictures, callbacks=[Checkpoint("run.ckpt", every=2), power_cut])
            ... except SystemExit:
            ...     result = StyleTransfer.resume("run.ckpt", extractor=tiny_extractor())
            >>> torch.equal(result.image, transfer.run(*pictures).image)
            True
        """
        started = time.perf_counter()
        followers = as_callbacks(callbacks)
        snapshot, every = read_checkpoint(path)
        if not any(isinstance(each, Checkpoint) for each in followers):
            followers.insert(0, Checkpoint(path, every))
        record = snapshot["record"]
        given: dict[str, Any] = {"losses": losses, "optimizer": optimizer, "device": device}
        changes = {name: value for name, value in given.items() if value is not None}
        if tile != "kept":
            changes["tile"] = check_tile(tile)
        arguments = recorded_arguments(record, changes)
        # Last, as the network may be a download.
        extractor = recorded_extractor(record) if extractor is None else extractor
        transfer: Configuration = cls(extractor, **arguments)
        if record.get("task") == "synthesize":
            transfer = transfer.without_content()
        check_same(record, transfer.extractor, transfer.losses)
        try:
            run = restore_run(snapshot, transfer, followers, started)
        except Exception as error:  # a forged file can raise nearly anything
            raise no_checkpoint(path, error) from error
        generators = snapshot["generators"]
        del snapshot  # its tensors are the run's now
        with generators_set(generators, torch.device(transfer.device)):
            return complete(run, take_snapshots())

    @plain_arithmetic()
    def run(
        self,
        content: ImageLike,
        style: StyleLike,
        *,
        strength: float = 1.0,
        preserve_color: str | None = None,
        color_when: ColorWhen = "after",
        where: ImageLike | None = None,
        init: ImageLike = "content",
        seed: int = 0,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
    ) -> StyleTransferResult:
        """Repaint a photograph.

        Args:
            content: The photograph: a path, PIL image, array or tensor (see `load_image`). The
                pictures of a batch `(N, 3, H, W)` are stylized together, each as if alone.
            style: The painting, a `Style`, or a list of either to blend.
            strength: Style strength: 0 returns the photograph, 1 uses the weights of the losses,
                more exaggerates. Losses that do not refer to the content are multiplied by its
                third power.
            preserve_color: Method to preserve the photograph's colors, a key of
                `nst.color.COLOR_METHODS`; None uses the colors of the style.
            color_when: Whether the styles get the photograph's colors `"before"` the run, the
                result `"after"` it, or `"both"`. Callbacks see what is being optimized.
            where: Mask of what to repaint: white is repainted, black stays as it is, gray is
                blended; `"alpha"` leaves transparent parts alone. None repaints everything.
            init: Picture to start from: `"content"`, `"style"` (the first), `"noise"` or
                `"pink-noise"` (1/f) in the style's colors, `"gray"`, or a picture, which is resized
                to the content's size.
            seed: Seed for random noise; global generators are not touched.
            callbacks: `Callback` objects, or functions of the state that are called each step; one
                or several.

        Returns:
            The best picture at the finest scale reached, with the history of the run. Ctrl-C ends
            the run early. So does an error after the first step; the result is then the error's
            attribute `result`.

        The processes of PyTorch's default group, if there is one, share the work: all must be given
        the same arguments, and all return the same result. Only the first calls the callbacks.

        Raises:
            FileNotFoundError: There is no file at a path.
            MemoryError: A picture or the run takes more memory than there is.
            ValueError: A picture cannot be read, has a wrong shape or range, or is too small for
                the deepest layer; a number is out of range, a name unknown; a captured style does
                not fit the transfer; a loss cannot be shared among processes.
            RuntimeError: A process that shares the work has ended.
            TypeError: A picture, style or callback has a wrong type.
        """
        started = time.perf_counter()
        options = RunOptions(init, seed, strength, preserve_color, color_when, where)
        self.check_losses()  # their weights may have changed
        followers = as_callbacks(callbacks)
        inputs = RunInputs.read(self, content, style, options)
        return complete(Run(inputs, followers, describe_run(inputs), started), take_snapshots())

    @plain_arithmetic()
    def check(self, content: ImageLike, style: StyleLike, **options: Any) -> None:
        """Check everything that `run` checks before the first step, and raise what it would raise.

        Pictures are read, but the network is not used.

        Args:
            content: As in `run`.
            style: As in `run`.
            **options: Other arguments of `run`, except `callbacks`.

        Raises:
            Exception: As in `run`.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor())
            >>> transfer.check(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40), strength=-1)
            Traceback (most recent call last):
            ValueError: `strength` is -1; it must be finite and not negative.
        """
        RunInputs.read(self, content, style, RunOptions.from_arguments("check", options))

    def map(
        self,
        contents: Iterable[ImageLike],
        style: StyleLike,
        *,
        executor: Executor | None = None,
        max_in_flight: int | None = None,
        num_threads: int = 1,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
        **arguments: Any,
    ) -> Generator[MapResult, None, None]:
        """Repaint many photographs in one style, and yield each as soon as it is finished.

        A picture that fails is reported, and the others continue. Each result is bit-identical to
        that of `run` with the same number of threads; but styles are captured only once for each
        size, if all style losses are `StatisticLoss`es.

        With an executor, its workers repaint the pictures, and results come in the order in which
        they are finished: `ProcessPoolExecutor` for one machine, Dask's `Client.get_executor()`
        for a cluster, whose machines need the same packages and folders. A task takes 600 bytes
        and a path, or the pixels of a picture in memory. Losses and styles, 5 MB with VGG19 and
        two scales, are sent with the first tasks, until each worker has them. A worker creates the
        network of `FeatureExtractor` itself if its weights have a name and are the same there;
        other networks are sent with the losses, 80 MB for VGG19.
        Close the generator to start no more pictures; those in progress are discarded.

        Args:
            contents: The photographs, as in `run`; taken one by one, when there is room.
            style: As in `run`.
            executor: Executor whose workers do the work; shut it down yourself. None does it in
                this process, one picture after another.
            max_in_flight: Number of pictures that are with the executor, or finished and not yet
                taken; by default twice the number of this machine's processors. Use twice the
                number of workers, so that none has to wait.
            num_threads: Number of PyTorch threads for each picture in another process. Those of
                this process are not changed.
            callbacks: As in `run`; only without an executor.
            **arguments: Other arguments of `run`, the same for all pictures.

        Yields:
            For each photograph its number, and a result or an error; see `MapResult`.

        Raises:
            FileNotFoundError: There is no file at the path of a style.
            ValueError: A style cannot be read; a number is out of range, a name unknown; callbacks
                with an executor.
            TypeError: An argument has a wrong type, or a part of the transfer cannot be pickled.
            concurrent.futures.BrokenExecutor: At the end, after an error for each picture that is
                not done: a worker was killed, or the executor was shut down.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> photos = [torch.rand(1, 3, 32, 48), "missing.jpg"]
            >>> for each in transfer.map(photos, torch.rand(1, 3, 40, 40)):
            ...     print(each.name, "done" if each.result else type(each.error).__name__)
            contents[0] done
            missing.jpg FileNotFoundError
        """
        return map_pictures(
            self,
            contents,
            style,
            arguments,
            executor=executor,
            callbacks=callbacks,
            max_in_flight=max_in_flight,
            num_threads=num_threads,
        )

    @plain_arithmetic()
    def synthesize(
        self,
        style: StyleLike,
        shape: Sequence[int] | None = None,
        *,
        init: ImageLike = "pink-noise",
        seed: int = 0,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
    ) -> StyleTransferResult:
        """Synthesize a texture: the style without a content (Gatys et al. 2015).

        Losses that refer to the content are left out.

        Args:
            style: As in `run`, but without regions.
            shape: Height and width in pixels; by default the first style's proportions at the
                transfer's `size`.
            init: As in `run`, except `"content"`.
            seed: Seed for random noise; another seed gives another texture.
            callbacks: As in `run`.

        Returns:
            As `run`.

        Raises:
            FileNotFoundError: There is no file at a path.
            ValueError: As in `run`; there is no style loss; `shape` is required.
            TypeError: A style or callback has a wrong type.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> tuple(transfer.synthesize(torch.rand(1, 3, 40, 40), (32, 64)).image.shape)
            (1, 3, 32, 64)
        """
        started = time.perf_counter()
        if isinstance(init, str) and init == "content":
            raise ValueError("`init` is 'content', but a texture has none. Use 'pink-noise'.")
        options, followers = RunOptions(init, seed), as_callbacks(callbacks)
        inputs = RunInputs.read_texture(self, style, shape, options)
        return complete(Run(inputs, followers, describe_run(inputs), started), take_snapshots())

    @plain_arithmetic()
    def estimate(self, content: ImageLike, style: StyleLike | None = None) -> Estimate:
        """Estimate the time and the memory of a run, by measuring one step.

        The step is taken at the coarsest scale or a smaller one; time and memory are taken to grow
        with the number of pixels. The time assumes a machine as busy as now, and leaves out
        callbacks and files. The memory is that of all tensors, without the temporary memory of
        PyTorch's operations. With VGG19 at 512 and 1024 pixels, both were within 20 % of actual
        runs.

        Args:
            content: As in `run`.
            style: As in `run`; by default, the photograph itself.

        Raises:
            FileNotFoundError: As in `run`.
            ValueError: As in `run`.
            TypeError: As in `run`.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> estimate = transfer.estimate(torch.rand(1, 3, 32, 48))
            >>> print(estimate)
            about 1 s and 1 MB
        """
        if style is None:
            style = read_picture(content, name="content").pixels[:1]
        return estimate_run(RunInputs.read(self, content, style))

    @plain_arithmetic()
    def capture(self, style: Style | ImageLike, sizes: Sequence[int] | None = None) -> Style:
        """Capture the statistics of a style that the losses compare with.

        The captured style takes the place of the painting in `run`, with bit-identical results,
        and can be saved to a file (`Style.save`).

        Args:
            style: The painting, or a `Style`.
            sizes: Longer sides, in pixels, of the pictures that it is for, at each scale; other
                sizes use the nearest, at most a factor of 1.41 away. By default the scales of a
                photograph as large as the transfer's `size`.

        Raises:
            ValueError: A style loss is not a `StatisticLoss`; `sizes` is required as `size` is
                None; the painting is too small; or as `load_image`.
            TypeError: The style has a wrong type.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> captured = transfer.capture(torch.rand(1, 3, 40, 40), sizes=[32])
            >>> tuple(transfer.run(torch.rand(1, 3, 32, 24), captured).image.shape)
            (1, 3, 32, 24)
        """
        style = style if isinstance(style, Style) else Style(style)
        return capture_style(self, style, sizes)

    def __repr__(self) -> str:
        """Document the configuration."""
        lines = [
            f"extractor={self.extractor.__class__.__name__}({self.extractor.extra_repr()})",
            *(f"{name}={loss!r}" for name, loss in self.losses.items()),
            f"optimizer={self.optimizer!r}, size={self.size}, num_steps={self.num_steps}, "
            f"num_scales={self.num_scales!r}, tile={self.tile!r}, device={str(self.device)!r}",
        ]
        return "StyleTransfer(\n  " + ",\n  ".join(lines) + ",\n)"
