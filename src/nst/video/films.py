"""Read films with PyAV."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nst.images import read_picture
from nst.video.base import Decoded, Video

_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
_UNSPECIFIED, _HD_LINES = 2, 720  # players assume BT.709 for films of that height
# Playlists, which can name other files and addresses, are not among them.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,mxf,nut,ivf,h264,hevc,mjpeg,m4v,dv,"
    "yuv4mpegpipe,wtv,rm,obu,mpegvideo,vc1,swf"
)


def video_library() -> Any:
    """Return PyAV."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(
            "films need PyAV, which is not installed. Run `pip install 'nst[video]'`."
        ) from error


@contextmanager
def open_film(path: Path, what: str) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the video stream of a film; raise for any other file."""
    av, options = video_library(), {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path.resolve()), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError) as error:
        raise ValueError(
            f"{what} is not a film that PyAV can read ({getattr(error, 'strerror', error)}). "
            "Convert it to .mp4; if it may be truncated, copy it again."
        ) from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise ValueError(f"{what} has no video stream. Name a film with pictures.")
        yield container, stream


def origin_of(container: Any) -> Fraction:
    """Return the time in seconds at which a container starts."""
    return Fraction(container.start_time or 0, 1_000_000)


@dataclass(frozen=True)
class Film(Video):
    """A film."""

    stamps: tuple[int, ...] = ()
    """Time of each frame in units of `time_base`; empty if the decoder does not report it."""
    aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height."""

    @classmethod
    def open(cls, path: Path, what: str) -> Film:
        """Read the times of all frames, and decode the first one."""
        with open_film(path, what) as (container, stream):
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            times, stamps, end, damage = _read_times(container, stream, rate)
            base, origin = stream.time_base, origin_of(container)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
        with open_film(path, what) as (container, stream):
            try:
                first = next(container.decode(stream), None)
            except ValueError:  # FFmpeg's, for damaged data
                first = None
        if first is None or not times:
            raise ValueError(f"{what} has no frame that can be decoded. Name another film.")
        if hdr := _HDR.get(first.color_trc):
            remedy = "Convert it to SDR first, e.g. with HandBrake."
            raise ValueError(f"{what} is HDR video ({hdr}), brighter than sRGB. {remedy}")
        origin = min(origin, times[0])  # FFmpeg rounds it
        aspect = 1 / aspect if first.rotation % 180 else aspect
        starts = tuple(time - origin for time in times)
        parts = (path, _upright(first).shape[:2], rate, starts, end - origin, base, damage)
        return cls(*parts, stamps=tuple(stamps), aspect=aspect)

    def _decode(self, first: int) -> Decoded:
        numbers, index = {stamp: i for i, stamp in enumerate(self.stamps)}, -1
        with open_film(self.path, f"`{self.path.name}`") as (container, stream):
            frame, frames = None, container.decode(stream)
            if first and numbers:
                container.seek(self.stamps[first], stream=stream)
                with suppress(ValueError):  # FFmpeg's, for frames whose references are missing
                    frame = next(frames, None)
                # Some containers, such as MPEG-TS, do not seek to a keyframe.
                if not frame or not frame.key_frame or numbers.get(frame.pts, first + 1) > first:
                    yield from self._decode(0)
                    return
                frames = chain([frame], frames)
            for frame in frames:
                index = numbers.get(frame.pts, index + 1)
                yield index, partial(_pixels, frame)


def _read_times(container: Any, stream: Any, rate: Fraction) -> tuple[Any, Any, Fraction, str]:
    """Return the times of the frames, their `stamps`, the end of the last, and what is damaged."""
    shown, decoded, lengths, damage = list[Any](), list[Any](), list[int](), ""
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                shown.append(packet.pts)
                decoded.append(packet.dts)
                lengths.append(packet.duration or round(1 / rate / stream.time_base))
    except video_library().error.FFmpegError as error:
        damage = error.strerror
    # AVI stores only the order in which frames are decoded, from which FFmpeg guesses the times.
    has_stamps = container.format.name != "avi" and None not in shown
    stamps, times = shown if has_stamps else decoded, [i / rate for i in range(len(shown))]
    seconds, is_timed = len(times) / rate, None not in stamps and len({*stamps}) == len(stamps)
    if is_timed:
        times = sorted(stamp * stream.time_base for stamp in stamps)
        seconds = max(map(sum, zip(stamps, lengths, strict=True)), default=0) * stream.time_base
    # Matroska has no number of frames, but a duration, which is also that of the sound.
    is_silent = "matroska" in container.format.name and not container.streams.audio
    is_short = is_silent and seconds < Fraction(container.duration or 0, 1_000_000) - 1
    if is_short or ("mp4" in container.format.name and len(stamps) < stream.frames):
        damage = damage or "the rest is missing"
    return times, sorted(stamps) if is_timed and has_stamps else [], seconds, damage


def _pixels(frame: Any) -> Tensor:
    return read_picture(_upright(frame)).pixels


def _upright(frame: Any) -> Any:
    """Convert a frame to an array (H, W, 3) of 8 or 16 bits, turned as a player shows it."""
    is_deep = max(component.bits for component in frame.format.components) > 8
    is_unknown = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    space = {"src_colorspace": "ITU709"} if is_unknown else {}
    array = frame.to_ndarray(format="rgb48le" if is_deep else "rgb24", **space)
    return np.rot90(array, round(frame.rotation / 90))
