"""What a person sees of a run: how far it is, and the picture as it becomes what it will be."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

from PIL import Image

from nst._utils.checks import at_least, file_path
from nst._utils.files import write_whole
from nst._utils.text import duration
from nst.callbacks.base import Callback, RunState
from nst.images import check_output, save_image, side_by_side, to_pil

__all__ = ["ProgressBar", "SaveImages"]


class ProgressBar(Callback):
    """Shows how much of the work is done, the steps, the loss and the time left.

    The time left counts what each scale costs, so that it is as true at the coarsest as at the
    finest. With tqdm (extra `progress`), also in notebooks; without it, one line on standard error
    that is kept up to date.

    Examples:
        >>> bar = ProgressBar()
        >>> # transfer.run(content, style, callbacks=[bar])
    """

    _bar: Any = None
    _start = 0.0
    _done_before = 0.0

    def on_start(self, state: RunState) -> None:
        """Open the bar."""
        self._start, self._done_before = monotonic(), 0.0
        if importlib.util.find_spec("tqdm") is not None:
            from tqdm.auto import tqdm

            # tqdm's own time left takes all steps for equal; ours is in the postfix. `miniters` is
            # left to the clock: what a step adds is a fraction.
            form = "{l_bar}{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=1.0, bar_format=form, miniters=0, dynamic_ncols=True)
        else:
            self._bar = _PlainBar()

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Open the bar; the time left is told from the steps to come."""
        self.on_start(state)
        self._done_before = state.progress

    def on_step(self, state: RunState) -> None:
        """Advance it."""
        self._show(state)

    def on_end(self, state: RunState) -> None:
        """Close it."""
        if self._bar is not None:
            if state.step > 0:
                self._show(state)
            self._bar.close()

    def _show(self, state: RunState) -> None:
        height, width = state.image.shape[-2:]
        parts = [f"{state.step}/{state.num_steps} steps", f"loss={state.loss:.4g}"]
        if state.stop_reason is None:
            parts.insert(1, f"{duration(self._seconds_left(state.progress))} left")
        self._bar.set_description(f"{width}x{height}", refresh=False)
        self._bar.set_postfix_str(", ".join(parts), refresh=False)
        self._bar.update(state.progress - self._bar.n)

    def _seconds_left(self, progress: float) -> float:
        return (monotonic() - self._start) * (1 - progress) / (progress - self._done_before)


class _PlainBar:
    """The few methods of tqdm that `ProgressBar` uses, on one line of standard error."""

    def __init__(self) -> None:
        self.n = 0.0
        self._description = self._postfix = ""

    def set_description(self, description: str, refresh: bool) -> None:
        self._description = description

    def set_postfix_str(self, postfix: str, refresh: bool) -> None:
        self._postfix = postfix

    def update(self, more: float) -> None:
        self.n += more
        line = f"{self._description}: {self.n:.0%}, {self._postfix}"
        # Blanks, as the line before may have been longer.
        sys.stderr.write(f"\r{line:<79}")
        sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.write("\n")


class SaveImages(Callback):
    """Saves the picture every few steps: as files in a folder, or as one animation.

    A path that ends in `.gif` or `.webp` becomes an animation of the transformation; any other is
    a folder, made if need be, that gets `step-0050.png` and so on. A batch is saved side by side.

    Args:
        path: The folder or the animation.
        every: Save after each so many steps, and at the end; at least 1.
        frame_ms: How long the animation shows each picture, in milliseconds.

    Raises:
        ValueError: `every` or `frame_ms` is below 1, or the path ends like another kind of picture.
        OSError: When the run starts: the path cannot be written.

    Examples:
        >>> save_steps = SaveImages("steps", every=50)
        >>> save_animation = SaveImages("evolution.gif", every=5)
    """

    def __init__(
        self, path: str | os.PathLike[str] = "steps", every: int = 50, *, frame_ms: int = 120
    ) -> None:
        self.path, self.every = file_path("path", path), at_least("every", every, 1)
        self.frame_ms = at_least("frame_ms", frame_ms, 1)
        self._animate = self.path.suffix.lower() in {".gif", ".webp"}
        suffix = self.path.suffix.lower()
        # Older Pillows know a format without a suffix.
        if suffix and not self._animate and suffix in Image.registered_extensions():
            raise ValueError(
                f"`path` is {str(path)!r}, which is neither a folder nor an animation. Name a "
                "folder for single pictures, or a file that ends in .gif or .webp."
            )
        self._frames: list[Image.Image] = []

    def on_start(self, state: RunState) -> None:
        """Find out whether the path can be written, before any work."""
        self._frames = []
        if self._animate:
            check_output(self.path)
            self._add_frame(state)
        else:
            if self.path.exists() and not self.path.is_dir():
                raise NotADirectoryError(
                    f"`path` is {str(self.path)!r}, which is a file. Name a folder, or an "
                    "animation that ends in .gif or .webp."
                )
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise type(error)(
                    f"`path` is {str(self.path)!r}, a folder that cannot be made "
                    f"({error.strerror}). Choose another."
                ) from error
            check_output(self.path / "step.png")

    def on_step(self, state: RunState) -> None:
        """Save the picture if it is due."""
        if state.step % self.every == 0:
            self._save(state)

    def on_end(self, state: RunState) -> None:
        """Save the result, and write the animation; nothing if there was no step."""
        if state.step == 0:
            return
        self._save(state)
        if self._animate:
            self._write_animation()

    def _save(self, state: RunState) -> None:
        if self._animate:
            self._add_frame(state)
        else:
            save_image(side_by_side(state.image), self.path / f"step-{state.step:04d}.png")

    def _add_frame(self, state: RunState) -> None:
        # As 8-bit pictures: a long run keeps many frames.
        self._frames.append(to_pil(side_by_side(state.image)))

    def _write_animation(self) -> None:
        # Frames of coarse scales are brought to the size of the last.
        size = self._frames[-1].size
        frames = [frame.resize(size, Image.Resampling.BICUBIC) for frame in self._frames]
        buffer = io.BytesIO()
        frames[0].save(
            buffer,
            format=self.path.suffix[1:],
            save_all=True,
            append_images=frames[1:],
            duration=self.frame_ms,
            loop=0,
            quality=95,  # of WebP, as for single pictures
        )
        write_whole(self.path, buffer.getbuffer())
        self._frames = []
