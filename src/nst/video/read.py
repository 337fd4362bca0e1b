"""Open a video: a video file, an animation or numbered pictures."""

import os
from bisect import bisect_left
from dataclasses import replace
from fractions import Fraction

from PIL import Image

from nst._utils.checks import at_least, file_path, non_negative
from nst.images import check_input
from nst.images.plugins import SUFFIXES
from nst.video.base import Video
from nst.video.files import VideoFile
from nst.video.pictures import ANIMATED, Animation, Pictures, is_pattern

LOWEST_RATE = Fraction(1, 600)
"""Lowest number of frames per second; GIF shows a frame for at most 655.35 s."""


def open_video(
    source: str | os.PathLike[str],
    *,
    start: float = 0,
    end: float | None = None,
    every: int = 1,
    rate: float | None = None,
    name: str = "source",
) -> Video:
    """Open a video; its frames are decoded later, one at a time.

    Args:
        source: Path of a video file (extra `video`), a GIF, an animated WebP or PNG, or a folder of
            pictures of one size, ordered by number; or a pattern of their names, such as
            `"frames/*.png"` or `"frames/%04d.png"`.
        start: Seconds to leave out at the beginning.
        end: Seconds from the beginning of the video at which to end; None is its end.
        every: Takes one of this many frames.
        rate: Frames per second of pictures, at least 1/600; 24 by default. Others have their own.
        name: Name of the caller's argument in error messages.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: The file is not a video, has no frames, or is HDR; a number is out of range;
            `rate` is given for a video that has its own; or there are no frames between `start` and
            `end`.
        ImportError: PyAV is needed, and not installed.
    """
    path, step = file_path(name, source), at_least("every", every, 1)
    first, last = exact("start", start), None if end is None else exact("end", end)
    speed = exact("rate", 24 if rate is None else rate, LOWEST_RATE)
    what = f"`{name}` is {str(path)!r}, which"
    if path.is_dir() or is_pattern(path):
        video: Video = Pictures.open(path, name, speed)
    elif rate is not None:
        raise ValueError(
            f"`rate` is {rate!r}, but {str(path)!r} has a rate of its own. Leave it out."
        )
    elif (suffix := check_input(path, name=name).suffix.lower()) in ANIMATED:
        video = Animation.open(path, what)
    elif suffix in SUFFIXES or Image.registered_extensions().get(suffix, "MPEG") != "MPEG":
        raise ValueError(f"{what} is a picture. Use `nst stylize`, or StyleTransfer.run.")
    else:
        video = VideoFile.open(path, what)
    until = video.end if last is None else min(last, video.end)
    chosen = range(bisect_left(video.all_times, first), bisect_left(video.all_times, until), step)
    if not chosen:
        raise ValueError(
            f"{what} ends at {float(video.end):.2f} s and has no frames from {float(first):g} s to "
            f"{float(until):g} s. Choose other times."
        )
    offset = video.all_times[chosen[0]] if first else first
    is_cut = until < video.end
    video = replace(video, path=path.absolute())  # workers may be in another folder
    return replace(
        video, rate=video.rate / step, end=until, start=offset, chosen=chosen, is_cut=is_cut
    )


def exact(name: str, value: float | Fraction, lowest: Fraction = Fraction(0)) -> Fraction:
    """Return a number as a fraction; raise if it is below the lowest."""
    if non_negative(name, value) < lowest:
        raise ValueError(f"`{name}` is {value!r}; it must be at least {lowest}.")
    return Fraction(value).limit_denominator(1_000_000)
