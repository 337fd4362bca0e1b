"""`StyleTransfer`: takes and checks what is asked for, and hands it over to a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from nst._batch.map import MapResult, map_pictures
from nst._engine.capture import capture_style
from nst._engine.config import ColorWhen, Handles, Recipe, check_losses
from nst._engine.inputs import Job
from nst._engine.run import follow
from nst._engine.scales import NumScales
from nst._engine.tiles import Tile, check_tile, refuse_tiles
from nst._record.describe import describe_inputs
from nst._record.replay import (
    check_same,
    network_difference,
    recorded_arguments,
    recorded_end,
    recorded_extractor,
    recorded_run,
)
from nst._record.snapshot import generators_set, restore
from nst._utils.checks import at_least, non_negative, one_of
from nst._utils.device import plain_arithmetic, resolve_device
from nst.callbacks.base import CallbackLike, as_callbacks
from nst.callbacks.checkpoint import CHECKPOINT_FILE, Checkpoint, read_checkpoint
from nst.estimate import Estimate, estimate_run
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.vgg import FeatureExtractor
from nst.images import ImageLike, read_picture, read_record
from nst.losses.kinds import Loss
from nst.optim.by_name import OptimizerLike, optimizer_factory
from nst.presets import preset
from nst.result import StyleTransferResult
from nst.styles.style import Style, StyleLike

__all__ = ["StyleTransfer"]

logger = logging.getLogger("nst")


class StyleTransfer:
    """Repaints a photograph in the manner of a painting, by optimizing the picture itself.

    The objective is the sum of the losses, each times its weight. Bounded L-BFGS or another
    optimizer lowers it from a clone of the photograph, first at a coarse scale, then at finer ones.

    Args:
        extractor: A `FeatureExtractor`, or any module whose `forward(images, layers)` returns a
            mapping from layer to features. It is moved to the device. The default loads VGG19.
        losses: Name to loss; the names appear in logs, history and errors. The default is
            `{"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}`.
        optimizer: `"lbfgs"` (within [0, 1]), `"adam"` (learning rate 0.02), or a callable
            from the list of parameters to a `torch.optim.Optimizer`.
        size: The longer side of the result in pixels; a smaller photograph keeps its own size.
            None keeps every size.
        num_steps: Optimizer steps over all scales.
        num_scales: How many scales, each twice as large as the one before; `"auto"` starts at 256
            pixels or more. At all but the last, losses that refer to the content count three
            times as much.
        average: The decay, below 1, of an exponential moving average over the steps of a scale,
            which then is the result: calmer than any single step, for optimizers that wander.
            0.99 suits Adam; 0 takes the best picture seen.
        normalize_gradients: Whether each loss's gradient, in every step, is first brought to the
            mean absolute value of its weight, so that weights say how strongly each loss pulls
            rather than what it counts. That is the gradient of no function: L-BFGS refuses it.
        tile: How many rows of every block of the network are computed at a time, so that memory
            goes with the picture's width. The gradient is the exact one and takes up to half as
            long again. None computes whole pictures; `"auto"` does so if the free memory is
            enough, else 64 rows at a time, which the log tells.
        device: `"auto"` (CUDA, else MPS, else CPU), or what `torch.device` takes.

    Raises:
        ValueError: An unknown name, a number out of range, unknown layers, no losses, losses
            that all weigh 0, or `tile` with losses or a network that cannot be seen in parts.
        TypeError: A loss is not a `Loss`, or an argument is of a wrong type.

    Examples:
        >>> from nst.testing import tiny_extractor
        >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
        >>> photo, painting = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
        >>> result = transfer.run(photo, painting)
        >>> tuple(result.image.shape), result.stop_reason
        ((1, 3, 32, 48), 'completed')
    """

    def __init__(
        self,
        extractor: nn.Module | None = None,
        losses: Mapping[str, Loss] | None = None,
        *,
        optimizer: OptimizerLike = "lbfgs",
        size: int | None = 512,
        num_steps: int = 120,
        num_scales: NumScales = "auto",
        average: float = 0.0,
        normalize_gradients: bool = False,
        tile: Tile = "auto",
        device: str | torch.device = "auto",
    ) -> None:
        self.optimizer = optimizer
        optimizer_factory(optimizer)  # refuses a wrong one now rather than when it is run
        self.size = None if size is None else at_least("size", size, 1)
        self.num_steps = at_least("num_steps", num_steps, 1)
        if isinstance(num_scales, str):
            one_of("num_scales", num_scales, ["auto"])
        else:
            num_scales = at_least("num_scales", num_scales, 1)
        self.num_scales = num_scales
        self.tile = check_tile(tile)
        self.average = non_negative("average", average)
        if self.average >= 1:
            raise ValueError(f"`average` is {average!r}; it must be below 1. 0.99 is usual.")
        self.normalize_gradients = bool(normalize_gradients)
        if self.normalize_gradients and optimizer == "lbfgs":
            raise ValueError(
                "`normalize_gradients` is True, which leaves no function for L-BFGS to follow. "
                "Use optimizer='adam'."
            )
        self.device = resolve_device(device)
        self.losses = check_losses(preset("default")["losses"] if losses is None else losses)
        extractor = FeatureExtractor() if extractor is None else extractor
        if not isinstance(extractor, nn.Module):
            raise TypeError(
                f"`extractor` is {extractor!r}; it must be a FeatureExtractor, or a module with "
                "forward(images, layers) that returns features by layer."
            )
        self.extractor = extractor.to(self.device)
        if isinstance(self.extractor, (BackboneExtractor, FeatureExtractor)):
            for loss in self.losses.values():
                self.extractor.check_layers(loss.layers)
        if isinstance(self.tile, int):
            refuse_tiles(self.tile, self.extractor, self.losses)

    @classmethod
    def from_preset(
        cls, name: str = "default", extractor: nn.Module | None = None, **changes: Any
    ) -> StyleTransfer:
        """Make a `StyleTransfer` from a named recipe.

        Args:
            name: `"default"`, the best picture found for the time, or `"gatys"`, the recipe of
                Gatys et al. (2016): relu4_2 and relu1_1 to relu5_1, Gram matrices in absolute
                units, one scale; with 500 steps of Adam from a clone of the content. The weights
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
        transfer = cls(extractor, **{**preset(name), **changes})
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
        """Make the `StyleTransfer` that a picture was made with.

        Args:
            record: The picture as it was saved, or what `nst.images.read_record` returned.
            extractor: In place of the recorded network, which is found only if it is
                `FeatureExtractor`'s `"original"` or `"torchvision"`: a record's paths are not
                followed. If it is another, the log has a warning.
            **changes: Arguments of `StyleTransfer` that replace the recorded ones; those that a
                record cannot hold are needed: a loss, optimizer or network of your own.

        Raises:
            FileNotFoundError: There is no such picture.
            ValueError: It has no record that can be used; a part is not nst's own, and no other
                given; or the network of the recorded name is another one here.

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

        With the same versions, device and number of threads, it is the same to the bit. The files
        are looked for beside the picture, in the current folder and in `inputs`, by name and
        content. Where a callback had stopped the run, it is stopped again, after as many steps;
        what Ctrl-C ended within a step may come out a little different, and the log says so.

        Args:
            path: The picture as it was saved.
            inputs: More folders to look into, or files.
            callbacks: As in `run`.
            extractor: As in `from_record`.
            **changes: As in `from_record`. With another `num_steps`, the run goes to its end.

        Raises:
            FileNotFoundError: There is no such picture, or a file is not found.
            ValueError: As in `from_record`; or a file has changed, or was a picture in memory.
        """
        record = read_record(path)
        places = [Path(os.fsdecode(path)).resolve().parent, Path.cwd(), *inputs]
        arguments = recorded_run(record, places)
        followers = as_callbacks(callbacks)
        if "num_steps" not in changes:
            followers += recorded_end(record)
        # Last of all, as the network may be a download.
        transfer = cls.from_record(record, extractor, **changes)
        if "content" in arguments:
            return transfer.run(**arguments, callbacks=followers)
        return transfer.synthesize(**arguments, callbacks=followers)

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
        """Go on with a run that was kept by `Checkpoint`, as if it had never stopped.

        With the same versions, device and number of threads, the result is the same to the bit, and
        so are history and record. The file is all that is needed, but for parts that are not nst's
        own. What a callback stopped goes on from where it was stopped; a run that was done returns
        its result at once.

        Args:
            path: The file.
            callbacks: As in `run`; they are not kept. `EarlyStopping`, `LossHistory` and those of
                yours that override `Callback.on_resume` take up what they knew, others begin anew.
                Without a `Checkpoint` among them, the run is kept in the same file as before.
            extractor: The run's network, where that is not `FeatureExtractor`'s `"original"` or
                `"torchvision"`: no path in the file is followed.
            losses: The run's losses, where one of them is not nst's own.
            optimizer: The run's optimizer, where that was a callable.
            tile: Another than the run's, where the memory is not enough any more; the result is
                then the same up to rounding.
            device: Another than the run's; the result is then not the same to the bit.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no checkpoint, or is damaged; or a part that is needed is not given,
                or is another than the run's.
            OSError: The path may not be written, and there is no other `Checkpoint`.

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
        start = time.perf_counter()
        followers = as_callbacks(callbacks)
        snapshot = read_checkpoint(path)
        if not any(isinstance(each, Checkpoint) for each in followers):
            followers.insert(0, Checkpoint(path, snapshot["every"]))
        record = snapshot["record"]
        given: dict[str, Any] = {"losses": losses, "optimizer": optimizer, "device": device}
        changes = {name: value for name, value in given.items() if value is not None}
        if tile != "kept":
            changes["tile"] = check_tile(tile)
        arguments = recorded_arguments(record, changes)
        # Last of all, as the network may be a download.
        transfer = cls(recorded_extractor(record) if extractor is None else extractor, **arguments)
        recipe = transfer._recipe(texture=record.get("task") == "synthesize")
        check_same(record, recipe.extractor, recipe.losses)
        try:
            resumed = restore(snapshot, recipe)
        except Exception as error:  # a file made by somebody else can raise nearly anything
            raise CHECKPOINT_FILE.refusal(path, error) from error
        del snapshot  # the tensors that were read are the run's now
        with generators_set(resumed.generators, transfer.device):
            start -= resumed.seconds
            return follow(resumed.job, recipe, followers, start, resumed.callbacks)

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

        The transfer itself is not changed: it can be run again, with other pictures.

        Args:
            content: The photograph: a path, PIL image, array or tensor (see `load_image`). The
                pictures of a batch `(N, 3, H, W)` are stylized together, each as if alone.
            style: The painting, a `Style`, or a list of either to blend.
            strength: How strongly the style shows: 0 is the photograph, 1 what the losses' weights
                say, more is more. All losses that do not refer to the content are multiplied by
                its third power.
            preserve_color: The way to keep the photograph's colors, a key of
                `nst.color.COLOR_METHODS`; None paints with the style's.
            color_when: Whether the styles get the photograph's colors `"before"` the run, the
                result `"after"` it, or `"both"`. Callbacks are shown what is being optimized.
            where: A picture whose white parts are repainted and whose black parts are left as they
                are, gray in part; `"alpha"` leaves the transparent part alone. None repaints all.
            init: What the picture starts as: `"content"`, `"style"` (the first), `"noise"` or
                `"pink-noise"` (1/f) in the style's colors, `"gray"`, or a picture, which is brought
                to the content's size.
            seed: Makes the noise; no global generator is touched.
            callbacks: `Callback` objects, or functions of the state that are called each step; one
                or several.

        Returns:
            The best picture seen at the finest scale reached, and how it came about. Ctrl-C ends
            the run early with that as the reason. So does an error after the first step, whatever
            raised it: what would have been returned is then its attribute `result`.

        The processes of PyTorch's default group, if there is one, share the picture: all must be
        given the same, and return the same.

        Raises:
            FileNotFoundError: There is no file at a path.
            MemoryError: A picture or the run takes more memory than there is; with `tile="auto"`
                it goes on in tiles if it can.
            ValueError: A picture cannot be read, has a wrong shape or range, or is too small for
                the deepest layer; a number is out of range, a name unknown; a captured style does
                not fit the transfer; a part of it cannot be shared among processes.
            RuntimeError: A process that shares the picture has ended.
            TypeError: A picture, style or callback is of a wrong type.
        """
        start = time.perf_counter()
        handles = Handles(init, seed, strength, preserve_color, color_when, where)
        check_losses(self.losses)  # their weights may have been changed
        followers = as_callbacks(callbacks)
        recipe = self._recipe()
        job = Job.prepare(content, style, handles, recipe)
        job.inputs = describe_inputs(content, job.styles, handles.pictures)
        return follow(job, recipe, followers, start)

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

        A picture that fails does not stop the others. Each is to the bit what `run` makes of it,
        with as many threads; but styles are captured once for each size, where all style losses
        are `StatisticLoss`es.

        With an executor, pictures are repainted by its workers and come in the order in which they
        are finished: `ProcessPoolExecutor` for one machine, Dask's `Client.get_executor()` for a
        cluster, whose machines need the same packages and folders. A task takes 600 bytes and a
        path, or the pixels of what is in memory. Losses and styles, with VGG19 and two scales 5 MB,
        are sent with the first tasks, until each worker has them. The network of `FeatureExtractor`
        is made by the worker, if its weights have a name and are the same there; any other is sent
        with the losses, 80 MB for VGG19.
        Close the generator to begin no more pictures; those that workers are at are given up.

        Args:
            contents: The photographs, as in `run`; taken one by one, when there is room.
            style: As in `run`.
            executor: Whose workers do the work; shut it down yourself. None does it here, one
                picture after another.
            max_in_flight: How many pictures are with the executor or finished and not yet taken;
                by default twice the number of this machine's processors. Use twice the number of
                workers, so that none has to wait.
            num_threads: How many threads PyTorch uses for each picture in another process. In this
                process they are as you set them.
            callbacks: As in `run`; only without an executor.
            **arguments: The others of `run`, which are the same for all pictures.

        Yields:
            For each photograph its number, and a result or an error; see `MapResult`.

        Raises:
            FileNotFoundError: There is no file at the path of a style.
            ValueError: A style cannot be read; a number is out of range, a name unknown; callbacks
                with an executor.
            TypeError: An argument is of a wrong type, or a part of the transfer cannot be pickled.
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
        check_losses(self.losses)
        return map_pictures(
            self,
            self._recipe(),
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
        """Make a texture: the style with no content (Gatys et al. 2015).

        Losses that refer to the content are left out.

        Args:
            style: As in `run`, but without regions.
            shape: Height and width in pixels; by default the first style's proportions at the
                transfer's `size`.
            init: As in `run`, except `"content"`.
            seed: Makes the noise; another seed makes another texture.
            callbacks: As in `run`.

        Returns:
            As `run`.

        Raises:
            FileNotFoundError: There is no file at a path.
            ValueError: As in `run`; there is no style loss; `shape` is needed.
            TypeError: A style or callback is of a wrong type.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> tuple(transfer.synthesize(torch.rand(1, 3, 40, 40), (32, 64)).image.shape)
            (1, 3, 32, 64)
        """
        start = time.perf_counter()
        if isinstance(init, str) and init == "content":
            raise ValueError("`init` is 'content', but a texture has none. Use 'pink-noise'.")
        check_losses(self.losses)
        followers = as_callbacks(callbacks)
        handles = Handles(init, seed)
        recipe = self._recipe(texture=True)
        job = Job.prepare_texture(style, shape, handles, recipe)
        job.inputs = describe_inputs(None, job.styles, handles.pictures)
        return follow(job, recipe, followers, start)

    @plain_arithmetic()
    def estimate(self, content: ImageLike, style: StyleLike | None = None) -> Estimate:
        """Tell how long a run would take, and how much memory, from a step that is measured.

        That takes a moment: it is a step at the coarsest scale or a smaller one. Time and memory
        are taken to grow with the pixels from there.

        The time is that of a machine as busy as now: of the steps, and of the beginnings of the
        scales, but not of callbacks and files. A run that ends early takes less. The memory is that
        of all tensors: the features, their gradients and what else a step computes; the targets;
        what the optimizer remembers; the pictures; and what the network keeps from its first use
        to its last, unless it was used before. It leaves out what PyTorch's operations need inside.
        With VGG19 at 512 and 1024 pixels, both were within 20 % of what runs took.

        Args:
            content: As in `run`.
            style: As in `run`. Without it, the photograph itself stands in.

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
        check_losses(self.losses)
        if style is None:
            style = read_picture(content, name="content").pixels[:1]
        recipe = self._recipe()
        return estimate_run(Job.prepare(content, style, Handles(), recipe), recipe)

    @plain_arithmetic()
    def capture(self, style: Style | ImageLike, sizes: Sequence[int] | None = None) -> Style:
        """Keep of a style what the losses compare with, so that it need not be computed again.

        What comes back takes the style's place in `run`, with the same result to the bit, and can
        be saved to a file (`Style.save`) without the painting.

        Args:
            style: The painting, or a `Style`.
            sizes: For pictures of which longer sides in pixels, at each scale; others use the
                nearest, at most a factor of 1.41 away. By default the scales of a photograph as
                large as the transfer's `size`.

        Raises:
            ValueError: A style loss is not a `StatisticLoss`; `sizes` is needed as `size` is None;
                the painting is too small; or as `load_image`.
            TypeError: The style is of a wrong type.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> captured = transfer.capture(torch.rand(1, 3, 40, 40), sizes=[32])
            >>> tuple(transfer.run(torch.rand(1, 3, 32, 24), captured).image.shape)
            (1, 3, 32, 24)
        """
        style = style if isinstance(style, Style) else Style(style)
        return capture_style(style, sizes, self._recipe())

    def _recipe(self, *, texture: bool = False) -> Recipe:
        losses = {n: x for n, x in self.losses.items() if not texture or x.reference != "content"}
        return Recipe(
            self.extractor,
            losses,
            self.device,
            self.size,
            self.num_steps,
            self.num_scales,
            self.average,
            self.optimizer,
            self.normalize_gradients,
            self.tile,
        )

    def __repr__(self) -> str:
        """Document the recipe."""
        lines = [
            f"extractor={self.extractor.__class__.__name__}({self.extractor.extra_repr()})",
            *(f"{name}={loss!r}" for name, loss in self.losses.items()),
            f"optimizer={self.optimizer!r}, size={self.size}, num_steps={self.num_steps}, "
            f"num_scales={self.num_scales!r}, tile={self.tile!r}, device={str(self.device)!r}",
        ]
        return "StyleTransfer(\n  " + ",\n  ".join(lines) + ",\n)"
