"""Save the picture during the run, as files, an animation or a video."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from nst._utils.checks import Checked, at_least, file_path
from nst.callbacks.base import Callback, RunState
from nst.images import check_output, load_image, save_image, side_by_side, to_pil
from nst.video import write_video
from nst.video.pictures import numbered
from nst.video.read import LOWEST_RATE
from nst.video.write import check_video_output, is_one_file

_LONGEST_MS = int(1000 / LOWEST_RATE)  # of a frame of an animation or video


def _duration(argument: str, value: Any) -> int:
    if (number := at_least(argument, value)) > _LONGEST_MS:
        raise ValueError(f"`{argument}` is {number}; it must be at most {_LONGEST_MS}.")
    return number


class SaveImages(Callback):
    """Saves the picture every few steps, as files, an animation or a video; a batch side by side.

    Args:
        path: Path of an animation (`.gif` or `.webp`), of a video (`.mp4`, `.mov`, `.mkv` or
            `.webm`; extra `video`), or of a folder for `step-0050.png` and so on, created if
            necessary.
        every: Number of steps between pictures; at least 1. The result is always saved.
        frame_ms: Duration of each frame of the animation or video in milliseconds, 1 to 600000.

    Raises:
        ValueError: `every` or `frame_ms` is out of range, the suffix is that of another format, or
            the path is a pattern.
        ImportError: The path is that of a video, and PyAV is not installed.
        OSError: When the run starts: the path cannot be written.

    Examples:
        >>> save_steps = SaveImages("steps", every=50)
        >>> save_animation = SaveImages("evolution.gif", every=5)
    """

    path, every, frame_ms = Checked[Path](), Checked(at_least), Checked(_duration)

    def __init__(
        self, path: str | os.PathLike[str] = "steps", every: int = 50, *, frame_ms: int = 120
    ) -> None:
        self.path, self.every, self.frame_ms = file_path("path", path), every, frame_ms
        self._animate = is_one_file(self.path)
        is_plain = self._animate or self.path.exists() or numbered(self.path, 1) == self.path
        if not is_plain:
            what = f"`path` is {str(self.path)!r}, a pattern"
            raise ValueError(f"{what}. Name a folder; its files are numbered by steps.")
        self._frames: list[Image.Image] = []

    def on_start(self, state: RunState) -> None:
        self._frames = []
        if self._animate:
            check_video_output(self.path)
            self._save(state)
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kind = NotADirectoryError if isinstance(error, FileExistsError) else type(error)
            what = f"`path` is {str(self.path)!r}, a folder that cannot be created"
            remedy = "Name another, or an animation that ends in .gif or .webp."
            raise kind(f"{what} ({error.strerror}). {remedy}") from error
        check_output(self.path / "step.png")

    def on_step(self, state: RunState) -> None:
        if state.step % self.every == 0:
            self._save(state)

    def on_end(self, state: RunState) -> None:
        if state.step == 0:
            return
        self._save(state)
        if self._animate:
            size = self._frames[-1].size  # frames of coarse scales are enlarged
            frames = (each.resize(size, Image.Resampling.BICUBIC) for each in self._frames)
            write_video(map(load_image, frames), self.path, rate=Fraction(1000, self.frame_ms))
            self._frames = []

    def _save(self, state: RunState) -> None:
        picture = side_by_side(state.image)
        if self._animate:
            self._frames.append(to_pil(picture))  # 8 bits, as a long run has many frames
        else:
            save_image(picture, self.path / f"step-{state.step:04d}.png")
