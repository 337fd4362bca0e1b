"""Read and write video files with PyAV; sound is copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from heapq import merge
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from torch import Tensor

from nst._utils.checks import at_least, one_of, required
from nst.images import read_picture, to_pil
from nst.video.base import Decoded, Video

Timed: TypeAlias = tuple[Tensor, Fraction, Fraction]
"""A picture, its time and its duration in seconds."""
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Suffixes of video files that can be written, and FFmpeg's names of their formats."""
# Not libx265: the one in PyAV 18 corrupts memory if a video is narrow.
CODECS = {"libx264": 20, "libvpx-vp9": 24}
"""Encoders, and their default constant rate factors."""
# With its macroblock tree, x264 encodes equal frames to other bytes once in a while.
_OPTIONS = {"libx264": {"mbtree": "0"}, "libvpx-vp9": {"cpu-used": "2"}}
_HIGHEST_CRF = 63
_BT709, _LIMITED = 1, 1  # numbers of ITU-T H.273
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
_UNSPECIFIED, _HD_LINES = 2, 720  # players assume BT.709 from that height
# Playlists, which can name other files and addresses, are not among them.
_READABLE = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,mxf,nut,ivf,h264,hevc,mjpeg,m4v,dv,"
    "yuv4mpegpipe,wtv,rm,obu,mpegvideo,vc1,swf"
)


def video_library() -> Any:
    """Return PyAV."""
    return required("av", "video files need PyAV", "video")


@contextmanager
def open_container(path: Path, what: str) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the video stream of a video file; raise for any other file."""
    av, options = video_library(), {"format_whitelist": _READABLE, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path.resolve()), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError) as error:
        raise ValueError(
            f"{what} is not a video that PyAV can read ({getattr(error, 'strerror', error)}). "
            "Convert it to .mp4; if it may be truncated, copy it again."
        ) from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise ValueError(f"{what} has no video stream. Name a file with pictures.")
        yield container, stream


def origin_of(container: Any) -> Fraction:
    """Return the time in seconds at which a container starts."""
    return Fraction(container.start_time or 0, 1_000_000)


@dataclass(frozen=True)
class VideoFile(Video):
    """A video file."""

    stamps: tuple[int, ...] = ()
    """Time of each frame in units of `time_base`; empty if the decoder does not report it."""
    aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height."""

    @classmethod
    def open(cls, path: Path, what: str) -> VideoFile:
        """Read the times of all frames, and decode the first one."""
        with open_container(path, what) as (container, stream):
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            times, stamps, end, damage = _read_times(container, stream, rate)
            base, origin = stream.time_base, origin_of(container)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
        with open_container(path, what) as (container, stream):
            try:
                first = next(container.decode(stream), None)
            except ValueError:  # FFmpeg's, for damaged data
                first = None
        if first is None or not times:
            raise ValueError(f"{what} has no frame that can be decoded. Name another file.")
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
        with open_container(self.path, f"`{self.path.name}`") as (container, stream):
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


class VideoEncoder:
    """Encodes the frames of a video file; raises `ValueError` for wrong settings."""

    def __init__(
        self, path: Path, like: Video | None, rate: Fraction, codec: str | None, crf: int | None
    ) -> None:
        self._path, self._like, self._format = path, like, CONTAINERS[path.suffix.lower()]
        known = [name for name in CODECS if self._format != "webm" or name == "libvpx-vp9"]
        self._codec = one_of("codec", codec or known[0], known)
        self._crf = CODECS[self._codec] if crf is None else at_least("crf", crf, 0)
        if self._crf > _HIGHEST_CRF:
            raise ValueError(f"`crf` is {crf}; it must be at most {_HIGHEST_CRF}.")
        self._rate = rate if like is None else like.rate
        self._time_base = 1 / self._rate if like is None else like.time_base
        self._av = video_library()

    def encode(self, frames: Iterable[Timed], file: BinaryIO) -> None:
        """Encode the frames, and copy the sound."""
        try:
            with self._av.open(file, "w", format=self._format) as out:
                options = {**_OPTIONS[self._codec], "crf": str(self._crf)}
                stream = out.add_stream(self._codec, rate=self._rate, options=options)
                packets = [self._encoded(stream, frames)]
                if isinstance(self._like, VideoFile):
                    packets.append(_sound(self._like, out))
                for _, packet in merge(*packets, key=itemgetter(0)):
                    out.mux(packet)
        except (self._av.error.FFmpegError, self._av.codec.codec.UnknownCodecError) as error:
            raise ValueError(
                f"`path` is {str(self._path)!r}, which PyAV cannot encode with {self._codec} "
                f"({error}). Choose another codec or suffix."
            ) from error

    def _encoded(self, stream: Any, frames: Iterable[Timed]) -> Iterator[tuple[Fraction, Any]]:
        """Yield the packets of the pictures, and their times."""
        context, base = stream.codec_context, self._time_base
        time, durations = Fraction(0), dict[int, int]()

        def lasting(packets: Iterable[Any]) -> Iterator[tuple[Fraction, Any]]:
            for packet in packets:  # to which the encoder gives the mean duration
                packet.duration = durations.pop(packet.pts, packet.duration)
                yield time, packet

        for picture, time, duration in frames:
            array = np.asarray(to_pil(picture))
            if self._codec == "libx264":  # which requires even sides
                height, width = array.shape[:2]
                array = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            if not context.is_open:
                stream.height, stream.width = array.shape[:2]
                stream.pix_fmt, context.time_base, context.color_range = "yuv420p", base, _LIMITED
                context.colorspace = context.color_primaries = context.color_trc = _BT709
                context.sample_aspect_ratio = getattr(self._like, "aspect", 1)
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = round(time / base), base
            frame.duration = round((time + duration) / base) - frame.pts
            durations[frame.pts] = frame.duration
            yield from lasting(stream.encode(frame))
        yield from lasting(stream.encode())


def _sound(video: VideoFile, out: Any) -> Iterator[tuple[Fraction, Any]]:
    """Yield the packets of the sound of a part of a video, and their times from its start."""
    with open_container(video.path, f"`{video.path.name}`") as (container, _):
        sounds = container.streams.audio
        try:
            copies = {each.index: out.add_stream_from_template(each) for each in sounds}
        except ValueError as error:
            raise ValueError(
                f"`path` is a video that cannot hold the sound of {video.path.name!r} ({error}). "
                "Choose .mkv, which can hold any."
            ) from error
        origin, length = origin_of(container) + video.start, video.end - video.start
        if video.start:
            container.seek(int(origin * 1_000_000))
        for packet in container.demux(sounds) if copies else ():
            if packet.dts is None or packet.pts is None:  # the last one, which is empty
                continue
            time, shift = packet.pts * packet.time_base - origin, round(origin / packet.time_base)
            if (time >= 0 or not video.start) and (time < length or not video.is_cut):
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copies[packet.stream_index]
                yield time, packet
