"""A video, of which each kind decodes its own frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from torch import Tensor

from nst._utils.text import logger

Decoded: TypeAlias = Iterator[tuple[int, Callable[[], Tensor]]]
"""Index of each frame, and a function that returns its pixels."""


class DamagedVideo(ValueError):
    """Raised after the frames that can be decoded if later frames cannot."""


class Frame(NamedTuple):
    """A frame, `(1, 3, H, W)`, sRGB in [0, 1], its time in seconds, and its number from 0."""

    pixels: Tensor
    time: Fraction
    number: int


@dataclass(frozen=True)
class Video:
    """A video or a part of it; iterating over it decodes the pixels of one frame at a time.

    Examples:
        >>> from nst.video import open_video, write_video
        >>> path = write_video(torch.rand(5, 1, 3, 8, 12), "noise.gif", rate=10)
        >>> video = open_video("noise.gif", every=2)
        >>> len(video), [tuple(pixels.shape) for pixels in video][0]
        (3, (1, 3, 8, 12))
    """

    path: Path
    shape: tuple[int, int]
    """Height and width in pixels, upright."""
    rate: Fraction
    """Frames per second; the mean, if the rate varies."""
    all_times: tuple[Fraction, ...]
    """Time in seconds of each frame of the whole video."""
    end: Fraction
    """Seconds of the whole video at which this part ends."""
    time_base: Fraction
    """Unit of the times in seconds."""
    damage: str = ""
    """What is wrong after the last frame; empty if the end is left out."""
    start: Fraction = Fraction(0)
    """Seconds of the whole video before this part."""
    chosen: range = range(0)
    """Indices of the frames of this part in the whole video."""
    is_cut: bool = False
    """Whether the end of the whole video is left out."""

    def __len__(self) -> int:
        """Return the number of frames, as the file announces it."""
        return len(self.chosen)

    def __iter__(self) -> Iterator[Tensor]:
        """Decode the frames."""
        return (frame.pixels for frame in self.frames())

    @cached_property
    def times(self) -> list[Fraction]:
        """Time in seconds of each frame."""
        return [self.all_times[index] - self.start for index in self.chosen]

    def part(self, first: int, last: int) -> Video:
        """Return the frames from number `first` to before `last`, with the same times."""
        if last >= len(self):
            return replace(self, chosen=self.chosen[first:])
        end = self.all_times[self.chosen[last]]
        return replace(self, chosen=self.chosen[first:last], end=end, is_cut=True)

    def frames(self) -> Iterator[Frame]:
        """Decode the frames, with their times; log a warning if the decoder leaves some out.

        Raises:
            DamagedVideo: A frame is damaged or has another size, or the end of the file is missing.
        """
        done, problem = self.chosen[0], "" if self.is_cut else self.damage
        num_missing = len(self)
        try:
            for index, read in self._decode(self.chosen[0]):
                if index in self.chosen:
                    pixels, time = read(), self.all_times[index] - self.start
                    if (found := tuple(pixels.shape[-2:])) != self.shape:
                        raise ValueError(
                            f"`frames` change from {self.shape} to {found}; they must not."
                        )
                    num_missing -= 1
                    yield Frame(pixels, time, self.chosen.index(index))
                done = index + 1
                if done > self.chosen[-1]:
                    break
        except (OSError, ValueError) as error:  # those of PyAV and Pillow among them
            problem = str(getattr(error, "strerror", None) or error)
        if problem:
            seconds = float([*self.all_times, self.end][done])
            raise DamagedVideo(
                f"`{self.path.name}` is damaged after {done} frames, at {seconds:.2f} s "
                f"({problem.rstrip('.')}). Copy it again, or leave out the rest."
            )
        if num_missing:
            text = "`%s` lacks %d of %d frames, which cannot be decoded"
            logger.warning(text, self.path.name, num_missing, len(self))

    def _decode(self, first: int) -> Decoded:
        """Return the frames of the whole video, beginning at an index or before it."""
        raise NotImplementedError
