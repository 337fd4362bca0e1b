"""Save the picture during the run, as files or as an animation."""

import io
import mimetypes
import os
from pathlib import Path

from PIL import Image

from nst._utils.checks import Checked, at_least, file_path
from nst._utils.files import write_whole
from nst.callbacks.base import Callback, RunState
from nst.images import check_output, save_image, side_by_side, to_pil


class SaveImages(Callback):
    """Saves the picture every few steps, as files or an animation; a batch side by side.

    Args:
        path: Path of an animation (`.gif` or `.webp`), or of a folder for `step-0050.png` and so
            on, created if necessary.
        every: Number of steps between pictures; at least 1. The result is always saved.
        frame_ms: Duration of each frame of the animation in milliseconds; at least 1.

    Raises:
        ValueError: `every` or `frame_ms` is below 1, or the suffix is that of another image format.
        OSError: When the run starts: the path cannot be written.

    Examples:
        >>> save_steps = SaveImages("steps", every=50)
        >>> save_animation = SaveImages("evolution.gif", every=5)
    """

    path, every, frame_ms = Checked[Path](), Checked(at_least), Checked(at_least)

    def __init__(
        self, path: str | os.PathLike[str] = "steps", every: int = 50, *, frame_ms: int = 120
    ) -> None:
        self.path, self.every, self.frame_ms = file_path("path", path), every, frame_ms
        suffix = self.path.suffix.lower()
        self._animate = suffix in {".gif", ".webp"}
        # In older Pillows, one format has an empty suffix.
        is_film = str(mimetypes.guess_type(self.path.name)[0]).startswith("video/")
        is_file = is_film or suffix in Image.registered_extensions()
        if suffix and not self._animate and is_file:
            what = f"`path` is {str(path)!r}, which is neither a folder nor an animation"
            remedy = "Name a folder for single pictures, or a file that ends in .gif or .webp."
            raise ValueError(f"{what}. {remedy}")
        self._frames: list[Image.Image] = []

    def on_start(self, state: RunState) -> None:
        self._frames = []
        if self._animate:
            check_output(self.path)
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
            first, *others = [each.resize(size, Image.Resampling.BICUBIC) for each in self._frames]
            # The quality is for WebP, as for single pictures.
            options = {"duration": self.frame_ms, "loop": 0, "quality": 95, "save_all": True}
            buffer = io.BytesIO()
            first.save(buffer, self.path.suffix[1:], append_images=others, **options)
            write_whole(self.path, buffer.getbuffer())
            self._frames = []

    def _save(self, state: RunState) -> None:
        picture = side_by_side(state.image)
        if self._animate:
            self._frames.append(to_pil(picture))  # 8 bits, as a long run has many frames
        else:
            save_image(picture, self.path / f"step-{state.step:04d}.png")
