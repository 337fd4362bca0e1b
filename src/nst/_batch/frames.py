"""Repaint the frames of a film, each in the manner of the one before."""

from __future__ import annotations

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
from nst._engine.objective import Previous
from nst._engine.reading import read_content
from nst._engine.run import Run, complete
from nst._record.repeat import Repeatable
from nst._record.snapshot import take_snapshot
from nst._utils.checks import at_least
from nst._utils.device import plain_arithmetic
from nst.callbacks.base import Callback, CallbackLike, as_callbacks
from nst.callbacks.checkpoint import Checkpoint
from nst.images import ImageLike, resize
from nst.losses.temporal import TemporalLoss
from nst.result import StyleTransferResult
from nst.styles.style import StyleLike, as_styles

TEMPORAL_WEIGHT = 5.0
"""The default weight of the temporal loss."""
# From this share of unreliable pixels, a frame begins a new scene.
_CUT = 0.6


@dataclass(frozen=True, eq=False, repr=False)
class FrameTransfer(Repeatable):
    """The method of `StyleTransfer` for films."""

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
        """Repaint the frames of a film so that the result follows the motion.

        The first frame and one after a cut are repainted as by `run`. Every other one starts from
        the previous result, moved along the optical flow, and from the photograph where the flow is
        unreliable; it has one scale, and a `TemporalLoss` more. A frame is a cut if most of the
        flow is unreliable. If all style losses are `StatisticLoss`es, styles are captured once.
        Memory does not grow with the number of frames. Ruder et al. (2016).

        Args:
            frames: Pictures, as in `run`, of one size; taken one by one.
            style: As in `run`.
            flow: Optical flow: `"dis"` (OpenCV's dense inverse search, `pip install 'nst[video]'`);
                None for a still camera; or a function of two frames `(1, 3, H, W)` that returns,
                for each pixel of the first, the way to its point in the second: `(H, W, 2)`, x and
                y in pixels.
            temporal_weight: Weight of the `TemporalLoss`, which compares `differences` if `flow` is
                None. More makes a calmer film; 0 leaves it out. The default is 5, or the losses of
                the transfer whose `reference` is `"previous"`.
            num_steps: Number of steps for a frame that follows another.
            first_steps: Number of steps for the first frame and after a cut; the transfer's by
                default.
            callbacks: As in `run`, for each frame; no `Checkpoint`.
            seed: As in `run`.
            previous: The last frame and the image of its result, to continue a film: the frames
                that follow are bit-identical to those of an uninterrupted film. Store the image
                without rounding, as float32.
            **arguments: Other arguments of `run`. `preserve_color` requires `color_when="before"`.

        Yields:
            The result of each frame. Ctrl-C ends the film with an unfinished one, whose
            `stop_reason` is `"interrupted"`.

        Raises:
            ImportError: `flow` is `"dis"`, and OpenCV is not installed.
            ValueError: As in `run`; a frame has another size than the previous one, or is a batch;
                `flow` returned another shape.
            TypeError: An argument has a wrong type.

        Examples:
            >>> from nst import StyleTransfer
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> film = torch.rand(1, 3, 32, 48).expand(3, -1, -1, -1).split(1)
            >>> painting = torch.rand(1, 3, 40, 40)
            >>> [result.num_steps for result in transfer.frames(film, painting, num_steps=2)]
            [3, 2, 2]
        """
        if isinstance(frames, (str, os.PathLike)) or not isinstance(frames, Iterable):
            raise TypeError(
                f"`frames` is {frames!r}; several pictures are needed, such as "
                "sorted(Path('film').glob('*.png'))."
            )
        self.check_losses()
        options = RunOptions.from_arguments("frames", {"seed": seed, **arguments})
        if options.recolors_result:
            raise ValueError(
                f"`color_when` is {options.color_when!r}, but a frame starts from the previous "
                "result, which must have the colors of the style. Use color_when='before', or "
                "nst.color.preserve_color on each result."
            )
        followers = as_callbacks(callbacks)
        if any(isinstance(each, Checkpoint) for each in followers):
            raise ValueError(
                "`callbacks` has a Checkpoint, but a frame cannot be resumed by itself. Save each "
                "result, and continue with `previous`."
            )
        num_steps = at_least("num_steps", num_steps, 1)
        first_steps = self.num_steps if first_steps is None else first_steps
        first = _first(self, at_least("first_steps", first_steps, 1))
        film = _Film(
            first=first,
            later=_later(self, num_steps, temporal_weight, flow is None),
            flow=as_flow(flow),
            shared=SharedStyles(first, as_styles(style), options),
            options=options,
            callbacks=followers,
        )
        if previous is not None:
            previous = film.read_previous(previous)
        return film.results(frames, previous)


def _first(transfer: Configuration, num_steps: int) -> Configuration:
    """Return the configuration of a frame without a previous one."""
    losses = {n: loss for n, loss in transfer.losses.items() if loss.reference != "previous"}
    return replace(transfer, num_steps=num_steps, losses=losses)


def _later(
    transfer: Configuration, num_steps: int, weight: float | None, differences: bool
) -> Configuration:
    """Return the configuration of a frame that follows another."""
    losses = dict(transfer.losses)
    if (own := transfer.active_losses("previous")) and weight is not None:
        raise ValueError(
            f"`temporal_weight` is {weight!r}, but the transfer has a temporal loss already: "
            f"{', '.join(map(repr, own))}. Leave one of them out."
        )
    if not own:
        weight = TEMPORAL_WEIGHT if weight is None else weight
        losses["temporal"] = TemporalLoss(weight=weight, differences=differences)
    return replace(transfer, num_steps=num_steps, num_scales=1, losses=losses)


@dataclass(frozen=True, eq=False)
class _Film:
    """The parts of one call of `StyleTransfer.frames`."""

    first: Configuration
    later: Configuration
    flow: Callable[[Tensor, Tensor], Any] | None
    shared: SharedStyles
    options: RunOptions
    callbacks: Sequence[Callback]

    @plain_arithmetic()
    def read_previous(self, previous: tuple[ImageLike, ImageLike]) -> tuple[Tensor, Tensor]:
        """Read the frame and the result that a film continues with."""
        try:
            content, result = previous
        except (TypeError, ValueError):
            raise TypeError(
                f"`previous` is a {type(previous).__name__}; the last frame and the image of its "
                "result are needed, such as (result.content, result.image)."
            ) from None
        like = self.first.like
        image = read_content(result, like, "previous[1]").pixels
        pixels = read_content(content, like, "previous[0]").pixels
        return resize(pixels, (image.shape[-2], image.shape[-1])), image

    def results(
        self, frames: Iterable[ImageLike], previous: tuple[Tensor, Tensor] | None
    ) -> Generator[StyleTransferResult, None, None]:
        """Yield the result of each frame."""
        for index, frame in enumerate(frames):
            result = self._result(index, frame, previous)
            previous = result.content, result.image
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
            seen = self._seen(index, content, previous)
            if float(seen.mask.mean()) > 1 - _CUT:
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

    def _seen(self, index: int, content: Tensor, previous: tuple[Tensor, Tensor]) -> Previous:
        before, result = (each.to(content) for each in previous)
        if not before.shape == result.shape == content.shape:
            shapes = [tuple(each.shape[-2:]) for each in (content, result)]
            raise ValueError(
                f"`frames[{index}]` gives a result of {shapes[0]}, but the previous one is "
                f"{shapes[1]}. All frames must have one size: resize them, or start another film."
            )
        return follow(self.flow, before, result, content)
