"""Stylize the frames of a video so that each follows the previous one."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from nst._batch.flow import FlowLike, as_flow, follow
from nst._batch.styles import SharedStyles
from nst._engine.configuration import Configuration, RunOptions
from nst._engine.inputs import RunInputs, plan_run
from nst._engine.reading import read_content
from nst._engine.run import Run, complete
from nst._record.repeat import Repeatable
from nst._record.snapshot import take_snapshot
from nst._utils.checks import at_least
from nst._utils.device import plain_arithmetic
from nst.callbacks.base import Callback, CallbackLike, as_callbacks
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.save_images import SaveImages
from nst.images import ImageLike, resize
from nst.losses.temporal import TemporalLoss
from nst.result import StyleTransferResult
from nst.styles.style import StyleLike, as_styles


class FrameTransfer(Repeatable):
    """The method of `StyleTransfer` for videos."""

    def frames(
        self,
        frames: Iterable[ImageLike],
        style: StyleLike,
        *,
        flow: FlowLike = "dis",
        temporal_weight: float | None = None,
        num_steps: int = 25,
        first_steps: int | None = None,
        callbacks: CallbackLike | Iterable[CallbackLike] | None = (),
        seed: int = 0,
        previous: tuple[ImageLike, ImageLike] | None = None,
        **arguments: Any,
    ) -> Generator[StyleTransferResult, None, None]:
        """Stylize the frames of a video so that the result follows the motion (Ruder et al. 2016).

        A frame starts from the previous result, moved along the optical flow, and from the
        photograph where that shows something else; it has one scale and a `TemporalLoss`. The first
        frame and one after a cut, where most of the flow is unreliable, are stylized as by `run`.
        `StatisticLoss`es capture the styles once. Memory does not grow with the number of frames.

        Args:
            frames: Pictures of one size, as in `run`; taken one by one.
            style: As in `run`.
            flow: `"dis"` (OpenCV's dense inverse search, `pip install 'nst[video]'`); None for a
                still camera; or a function of two frames `(1, 3, H, W)` that returns the way from
                each pixel of the first to its point in the second, `(H, W, 2)`: x, y in pixels.
            temporal_weight: Weight of the `TemporalLoss`, 5 by default; more makes a calmer video,
                and 0 leaves it out. Losses of the transfer with `reference = "previous"` replace
                it. Without a flow, it compares `differences`.
            num_steps: Number of steps for a frame that follows another.
            first_steps: Number of steps for the others; by default the transfer's.
            callbacks: As in `run`, for each frame; no `Checkpoint` or `SaveImages`.
            seed: As in `run`.
            previous: The last frame and the image of its result (float32, not rounded), to continue
                a video bit for bit as if it had not been interrupted.
            **arguments: Other arguments of `run`; `preserve_color` requires `color_when="before"`.

        Yields:
            The result of each frame. Ctrl-C ends the video with an unfinished frame, whose
            `stop_reason` is `"interrupted"`.

        Raises:
            ImportError: `flow` is `"dis"`, and OpenCV is not installed.
            ValueError: As in `run`; a frame is a batch or has another size than the previous one;
                `flow` returned another shape.
            TypeError: An argument has a wrong type.

        Examples:
            >>> from nst import StyleTransfer
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> video = [torch.rand(1, 3, 32, 48)] * 3
            >>> results = transfer.frames(video, torch.rand(1, 3, 40, 40), num_steps=2)
            >>> [result.num_steps for result in results]
            [3, 2, 2]
        """
        if isinstance(frames, (str, os.PathLike)) or not isinstance(frames, Iterable):
            raise TypeError(
                f"`frames` is {frames!r}; several pictures are needed, such as "
                "sorted(Path('video').glob('*.png'))."
            )
        self.check_parts()
        options = RunOptions.from_arguments("frames", {"seed": seed, **arguments})
        if options.recolors("after"):
            raise ValueError(
                f"`color_when` is {options.color_when!r}, but a frame starts from the previous "
                "result in the colors of the style. Use color_when='before', or "
                "nst.color.preserve_color on each result."
            )
        remedy = "Save each result, and continue with `previous`."
        followers = callbacks_of_many(callbacks, remedy)
        first_steps = self.num_steps if first_steps is None else first_steps
        first_steps = at_least("first_steps", first_steps, 1)
        first = replace(self.without("previous"), num_steps=first_steps)
        losses = _with_temporal(self, temporal_weight, flow is None)
        later = replace(self, num_steps=num_steps, num_scales=1, losses=losses)
        shared = SharedStyles(first, as_styles(style), options)
        video = _Frames(first, later, as_flow(flow), shared, options, followers)
        return video.results(frames, None if previous is None else video.read(previous))


def callbacks_of_many(
    callbacks: CallbackLike | Iterable[CallbackLike] | None, remedy: str
) -> list[Callback]:
    """Return the callbacks of several runs; raise for one whose files a run would replace."""
    followers = as_callbacks(callbacks)
    for each in followers:
        if isinstance(each, Checkpoint | SaveImages):
            what = f"`callbacks` has a {type(each).__name__}"
            raise ValueError(f"{what}, but it can store only one of several runs. {remedy}")
    return followers


def _with_temporal(
    transfer: Configuration, weight: float | None, differences: bool
) -> dict[str, Any]:
    """Return the losses of a frame that follows another."""
    if not (own := transfer.active_losses("previous")):
        if (same := transfer.losses.get("temporal")) and same.reference != "previous":
            raise ValueError(
                f"`losses['temporal']` is a {type(same).__name__}, but frames adds a TemporalLoss "
                "of this name. Rename yours."
            )
        temporal = TemporalLoss(weight=5.0 if weight is None else weight, differences=differences)
        return {**transfer.losses, "temporal": temporal}
    if weight is not None:
        raise ValueError(
            f"`temporal_weight` is {weight!r}, but the transfer has a temporal loss already: "
            f"{', '.join(map(repr, own))}. Leave one of them out."
        )
    return dict(transfer.losses)


@dataclass(frozen=True, eq=False)
class _Frames:
    """The parts of one call of `StyleTransfer.frames`."""

    first: Configuration
    later: Configuration
    flow: Callable[[Tensor, Tensor], Any] | None
    shared: SharedStyles
    options: RunOptions
    callbacks: Sequence[Callback]

    @plain_arithmetic()
    def read(self, previous: tuple[ImageLike, ImageLike]) -> tuple[Tensor, Tensor]:
        """Read the frame and the result that a video continues with."""
        if not isinstance(previous, Sequence) or len(previous) != 2:
            raise TypeError(
                f"`previous` is a {type(previous).__name__}; pass the last frame and the image of "
                "its result, such as (result.content, result.image)."
            )
        names = ("previous[0]", "previous[1]")
        content, image = (
            read_content(each, self.first.like, name).pixels
            for each, name in zip(previous, names, strict=True)
        )
        return resize(content, (image.shape[-2], image.shape[-1])), image

    def results(
        self, frames: Iterable[ImageLike], previous: tuple[Tensor, Tensor] | None
    ) -> Generator[StyleTransferResult, None, None]:
        """Yield the result of each frame."""
        for index, frame in enumerate(frames):
            result = self._result(index, frame, previous)
            previous = result.content.clone(), result.image.clone()  # the caller may draw on them
            yield result
            if result.stop_reason == "interrupted":
                return

    @plain_arithmetic()
    def _result(
        self, index: int, frame: ImageLike, previous: tuple[Tensor, Tensor] | None
    ) -> StyleTransferResult:
        started = time.perf_counter()
        styles, sizes = self.shared.for_picture(frame)
        inputs = RunInputs.read(self.first, frame, styles, self.options)
        pixels = inputs.content.pixels
        content = resize(pixels, inputs.shape)
        if len(content) != 1:
            raise ValueError(f"`frames[{index}]` is a batch of {len(content)}; pass them singly.")
        if previous is not None:
            if previous[1].shape != content.shape:
                raise ValueError(
                    f"`frames[{index}]` gives a result of {tuple(inputs.shape)}, but the previous "
                    f"one is {tuple(previous[1].shape[-2:])}. Resize the frames to one size."
                )
            before, result = (each.to(content) for each in previous)
            if (seen := follow(self.flow, before, result, content)) is not None:
                start = content.lerp(seen.image, seen.mask)
                size, sources = max(inputs.shape), inputs.sources[0]
                inputs = replace(
                    inputs,
                    configuration=self.later,
                    options=replace(self.options, init=start),
                    scales=plan_run(self.later, pixels.shape[-2:], inputs.styles, sources, size),
                    start=start,
                    previous=seen,
                )
        run = Run(inputs, list(self.callbacks), started)
        return self.shared.restore(complete(run, take_snapshot), sizes)
