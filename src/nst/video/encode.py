"""Encode films with PyAV, and copy their sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from torch import Tensor

from nst._utils.checks import at_least, one_of
from nst.images import to_pil
from nst.video.base import Video
from nst.video.films import Film, open_film, origin_of, video_library

Timed: TypeAlias = tuple[Tensor, Fraction, Fraction]
"""A picture, its time and its duration in seconds."""
FILMS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Suffixes of films that can be written, and FFmpeg's names of their formats."""
# Not libx265: the one in PyAV 18 damages the memory if a film is narrow.
CODECS = {"libx264": 18, "libvpx-vp9": 24}
"""Encoders of films, and their default constant rate factors."""
_OPTIONS = {"libx264": {}, "libvpx-vp9": {"row-mt": "1", "cpu-used": "2"}}
_HIGHEST_CRF, _BT709, _LIMITED = 63, 1, 1  # two of them are numbers of ITU-T H.273


class FilmEncoder:
    """Encodes the frames of a film; raises `ValueError` for wrong settings."""

    def __init__(
        self, path: Path, like: Video | None, rate: Fraction, codec: str | None, crf: int | None
    ) -> None:
        self._path, self._like, self._format = path, like, FILMS[path.suffix.lower()]
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
        with ExitStack() as stack:
            try:
                out = stack.enter_context(self._av.open(file, "w", format=self._format))
                options = {**_OPTIONS[self._codec], "crf": str(self._crf)}
                stream = out.add_stream(self._codec, rate=self._rate, options=options)
                packets = [self._encoded(stream, frames)]
                if isinstance(self._like, Film):
                    packets.append(_sound(self._like, out, stack))
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
        time = Fraction(0)
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
            yield from ((time, packet) for packet in stream.encode(frame))
        yield from ((time, packet) for packet in stream.encode())


def _sound(film: Film, out: Any, stack: ExitStack) -> Iterator[tuple[Fraction, Any]]:
    """Return the packets of the sound of a part of a film, and their times from its start."""
    container, _ = stack.enter_context(open_film(film.path, f"`{film.path.name}`"))
    try:
        sounds = container.streams.audio
        copies = {each.index: out.add_stream_from_template(each) for each in sounds}
    except ValueError as error:
        raise ValueError(
            f"`path` is a film that cannot hold the sound of {film.path.name!r} ({error}). "
            "Choose .mkv, which can hold any."
        ) from error
    return _copied(container, copies, film) if copies else iter(())


def _copied(container: Any, copies: dict[int, Any], film: Film) -> Iterator[tuple[Fraction, Any]]:
    origin, length = origin_of(container) + film.start, film.end - film.start
    if film.start:
        container.seek(int(origin * 1_000_000))
    for packet in container.demux(container.streams.audio):
        if packet.dts is None or packet.pts is None:  # the last one, which is empty
            continue
        time, shift = packet.pts * packet.time_base - origin, round(origin / packet.time_base)
        if (time >= 0 or not film.start) and (time < length or not film.is_cut):
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = copies[packet.stream_index]
            yield time, packet
