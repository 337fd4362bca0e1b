"""Write videos: video files with PyAV, animations and numbered pictures with Pillow."""

import mimetypes
import os
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from torch import Tensor

from nst._utils.checks import file_path
from nst._utils.files import check_place, write_whole
from nst.images import check_output, load_image, save_image, to_pil
from nst.images.write import check_shape, format_of
from nst.video.base import Frame, Video
from nst.video.files import CONTAINERS, Timed, VideoEncoder
from nst.video.pictures import is_pattern, numbered
from nst.video.read import LOWEST_RATE, exact

ANIMATIONS = {".gif": 10, ".webp": 1}
"""Suffixes of animations that can be written, and the unit of their times in milliseconds."""
_LONGEST_GIF_TIME = 655  # seconds


def write_video(
    frames: Iterable[Tensor | Frame],
    path: str | os.PathLike[str],
    *,
    like: Video | None = None,
    rate: float | Fraction = 24,
    codec: str | None = None,
    crf: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a video, and return its path; a file is replaced atomically.

    Args:
        frames: Pictures of one size, `(3, H, W)` or `(1, 3, H, W)`, sRGB in [0, 1]; or `Frame`s,
            which have times.
        path: Path of a video file (`.mp4`, `.mov`, `.mkv`, `.webm`; extra `video`), of an animation
            (`.gif`, `.webp`; all frames are held in memory, and equal neighbors merged), of a
            folder for `frame-00001.png` and so on, or a pattern such as `"out/%04d.jpg"`. Apart
            from animations, one frame at a time is written. H.264 requires even sides; the last row
            or column is repeated.
        like: Video that determines the times and the shape of pixels; its sound is copied. Further
            frames follow at its rate.
        rate: Frames per second without `like`, at least 1/600.
        codec: Encoder of a video file: `"libx264"`, or `"libvpx-vp9"`, the default for `.webm`.
        crf: Constant rate factor of the encoder, up to 63; lower is better and larger. The default
            is 20 for H.264, 24 for VP9.
        overwrite: Whether pictures may be written into a folder that is not empty.

    Raises:
        OSError: The path cannot be written; an existing file is unchanged.
        ValueError: There are no frames, they differ in size, or their times do not increase;
            `codec` or `crf` is unknown or not for this file; or the format cannot hold the sound or
            the size.
        TypeError: A frame is neither a tensor nor a `Frame`.
        ImportError: PyAV is not installed.
    """
    path = check_video_output(path, codec=codec, crf=crf, overwrite=overwrite)
    speed = exact("rate", rate, LOWEST_RATE)
    if not isinstance(frames, Iterable):
        raise TypeError(f"`frames` is {frames!r}; pictures are needed, such as open_video(path).")
    timed, suffix = _fitting(_timed(frames, like, speed), path), path.suffix.lower()
    if suffix in CONTAINERS:
        write_whole(path, partial(VideoEncoder(path, like, speed, codec, crf).encode, timed))
    elif suffix in ANIMATIONS:
        write_whole(path, partial(_write_animation, timed, path))
    else:
        pattern = picture_pattern(path)
        pattern.parent.mkdir(exist_ok=True)
        for number, (picture, _, _) in enumerate(timed, 1):
            save_image(picture, numbered(pattern, number))
    return path


def is_one_file(path: Path, *, name: str = "path") -> bool:
    """Return whether a video is a file, not a folder or pattern; raise for another suffix."""
    suffix, formats = path.suffix.lower(), [*CONTAINERS, *ANIMATIONS]
    # In older Pillows, one format has an empty suffix.
    is_video = str(mimetypes.guess_type(path.name)[0]).startswith("video/")
    is_other = suffix and (is_video or suffix in Image.registered_extensions())
    if suffix not in formats and is_other and not is_pattern(path) and not path.is_dir():
        raise ValueError(
            f"`{name}` is {str(path)!r}, which is neither a folder nor a video that can be "
            f"written. Use {', '.join(formats)}, or a folder."
        )
    return suffix in formats


def picture_pattern(path: Path) -> Path:
    """Return the pattern of the pictures of a video that is not one file."""
    return path if is_pattern(path) else path / "frame-%05d.png"


def check_video_output(
    path: str | os.PathLike[str],
    *,
    name: str = "path",
    codec: str | None = None,
    crf: int | None = None,
    like: Video | None = None,
    overwrite: bool = False,
) -> Path:
    """Return a path if `write_video` can write there; with `like`, try its first frame."""
    path = file_path(name, path)
    is_file = is_one_file(path, name=name)
    if is_file and path.suffix.lower() in CONTAINERS:
        check_place(path, name=name, example="out.mp4")
        encoder = VideoEncoder(path, like and like.part(0, 1), Fraction(24), codec, crf)
        if like is not None:
            gray = load_image(Image.new("RGB", (64, 64), "gray"))
            encoder.encode([(gray, Fraction(0), Fraction(1))], BytesIO())
    elif codec is not None or crf is not None:
        given = "crf" if codec is None else "codec"
        raise ValueError(
            f"`{given}` has no effect on {str(path)!r}, not a video file. Leave it out."
        )
    elif is_file:
        check_output(path, name=name)
        times = [] if like is None else [*like.times, like.end - like.start]
        longest = max((after - before for before, after in pairwise(times)), default=0)
        if path.suffix.lower() == ".gif" and longest > _LONGEST_GIF_TIME:
            raise _too_long(path, name)
    else:
        pattern, what = picture_pattern(path), f"`{name}` is {str(path)!r}"
        folder = pattern.parent
        if numbered(pattern, 1) == numbered(pattern, 2):
            raise ValueError(f"{what}, in which %d does not number the frames. Use e.g. %04d.png.")
        try:
            format_of(pattern.suffix[1:])
        except ValueError as error:
            raise ValueError(f"{what}, whose suffix is unknown. Use e.g. %04d.png.") from error
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{what}, but {str(folder)!r} is a file. Name a folder.")
        if folder.exists() and not overwrite and any(folder.iterdir()):
            what += f", and {str(folder)!r} exists and is not empty"
            raise FileExistsError(f"{what}. Name a new folder.")
        check_place(folder / "frame" if folder.exists() else folder, name=name, example="frames")
    return path


def _timed(frames: Iterable[Tensor | Frame], like: Video | None, rate: Fraction) -> Iterator[Timed]:
    """Add times, and durations up to the next frame; raise if times decrease or sizes differ."""
    starts, step = ([], 1 / rate) if like is None else (like.times, 1 / like.rate)
    before, time = None, -step
    for i, frame in enumerate(frames):
        time = starts[i] if i < len(starts) else time + step
        picture, time = frame[:2] if isinstance(frame, Frame) else (frame, time)
        if not isinstance(picture, Tensor):
            raise TypeError(
                f"`frames[{i}]` is of type {type(picture).__name__}; a tensor or a Frame is "
                "needed. Use load_image to convert pictures."
            )
        if before is not None:
            if time <= before[1]:
                times = f"{float(time):g} s, but follows one at {float(before[1]):g} s"
                raise ValueError(f"`frames[{i}]` is at {times}; times must increase. Sort them.")
            yield *before, time - before[1]
            old, new = tuple(before[0].shape[-2:]), tuple(picture.shape[-2:])
            if old != new:
                raise ValueError(f"`frames[{i}]` is {new} in size, but must be {old}. Resize it.")
        before = picture.clone(), time  # the caller may reuse its memory for the next frame
    if before is None:
        raise ValueError("`frames` is empty; at least one picture is needed.")
    left = Fraction(0) if like is None else like.end - like.start - before[1]
    yield *before, left if left > 0 else step


def _fitting(timed: Iterator[Timed], path: Path) -> Iterator[Timed]:
    for each in timed:
        check_shape(path, (each[0].shape[-2], each[0].shape[-1]))
        yield each


def _too_long(path: Path, name: str) -> ValueError:
    what = f"`{name}` is {str(path)!r}, and GIF cannot show a frame for more than"
    return ValueError(f"{what} {_LONGEST_GIF_TIME} s. Choose .webp or other times.")


def _write_animation(timed: Iterator[Timed], path: Path, file: BinaryIO) -> None:
    suffix = path.suffix.lower()
    unit, durations, pictures = ANIMATIONS[suffix], [], []
    for picture, time, duration in timed:
        # Errors of rounded durations would add up.
        start, end = (round(each * 1000 / unit) for each in (time, time + duration))
        durations.append(max(1, end - start) * unit)
        pictures.append(to_pil(picture))
    options = {"duration": durations, "loop": 0, "quality": 95, "save_all": True}
    try:
        pictures[0].save(file, suffix[1:], append_images=pictures[1:], **options)
    except (OverflowError, struct.error) as error:  # of a time, or of those of equal frames
        raise _too_long(path, "path") from error
