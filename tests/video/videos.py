"""Videos for tests, written and read by PyAV alone."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE, BASE = 25, Fraction(1, 12800)
REORDERED = {"g": "12", "bf": "2", "b_strategy": "0", "sc_threshold": "0"}
"""Options of an encoder for a keyframe in each 12 frames, and bidirectional ones between."""
_SAMPLES = 44100


def gray_levels(count: int) -> list[int]:
    """Return a gray level for each frame, by which a decoder's output tells them apart."""
    return [20 + 200 * i // max(1, count - 1) for i in range(count)]


def make_video(
    path: str | Path,
    count: int = 12,
    *,
    sizes: Sequence[tuple[int, int]] = ((32, 48),),
    sound: bool = False,
    stamps: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    transfer: int | None = None,
    noise: bool = False,
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
    base: Fraction = BASE,
) -> Path:
    """Write a video of even grays or noise, perhaps with a tone; `base` is the unit of stamps."""
    generator, codec = np.random.default_rng(0), "mpeg4" if len(sizes) > 1 else "libx264"
    with av.open(str(path), "w", options=options or {}) as out:
        (height, width), *_ = sizes
        stream: Any = out.add_stream(codec, rate=RATE, options=encoder or {})
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.codec_context.time_base = base
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        tone: Any = out.add_stream("aac", rate=_SAMPLES) if sound else None
        for i, level in enumerate(gray_levels(count)):
            picture = np.full((height, width, 3), level, np.uint8)
            if noise:
                picture = generator.integers(0, 256, picture.shape, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(i / RATE / base) if stamps is None else stamps[i]
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for start in range(0, count * _SAMPLES // RATE if sound else 0, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20, dtype=np.float32)[None]
            part = av.AudioFrame.from_ndarray(wave.repeat(2, 0) / 3, "fltp", "stereo")
            part.sample_rate, part.pts = _SAMPLES, start
            out.mux(tone.encode(part))
        out.mux(tone.encode() if sound else [])
    return Path(path)


def lose_last_frame(path: str | Path, to: str) -> Path:
    """Copy a video; in place of the last frame is a packet that FFmpeg decodes to none."""
    with av.open(str(path)) as video, av.open(to, "w") as out:
        copy: Any = out.add_stream_from_template(video.streams.video[0])
        *packets, last = [packet for packet in video.demux(video=0) if packet.size]
        empty = av.Packet(bytes([0, 0, 0, 1, 10]))  # the end of a sequence of H.264
        empty.pts, empty.dts, empty.time_base = last.pts, last.dts, last.time_base
        empty.duration = last.duration
        for packet in (*packets, empty):
            packet.stream = copy
            out.mux(packet)
    return Path(to)


def turn_video(path: Path) -> None:
    """Set the display matrix of an MP4 to a quarter turn clockwise, as telephones do."""
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 4 + 36  # version and flags, then times, layer and volume
    matrix = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data[:place] + matrix + data[place + 36 :])


def seen(path: str | Path) -> dict[str, Any]:
    """Return what an independent reader finds: times, levels, sizes, rate, and the sound."""
    with av.open(str(path)) as video:
        frames = list(video.decode(video=0))
        arrays = [frame.to_ndarray(format="rgb24") for frame in frames]
        stream = video.streams.video[0]
        found: dict[str, Any] = {
            "times": [round(float(frame.time or 0), 3) for frame in frames],
            "levels": [round(float(array.mean())) for array in arrays],
            "arrays": arrays,
            "rate": stream.average_rate,
            "codec": stream.codec_context.name,
            "aspect": stream.sample_aspect_ratio,
            "colors": (stream.codec_context.colorspace, stream.codec_context.color_range),
            "duration": float(video.duration or 0) / 1e6,
        }
    with av.open(str(path)) as video:
        sound = [packet for packet in video.demux() if packet.stream.type == "audio"]
        found["sound"] = [bytes(packet) for packet in sound if packet.size]
        found["sound_times"] = [float(p.pts * p.time_base) for p in sound if p.size]
    return found
