"""Writes pictures as files without a library: what they hold is known to the bit."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Left, top, and steps to the right and down of each pass of an interlaced PNG.
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
_PASSES += [(0, 1, 1, 2)]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(
    values: Array, depth: int, color: int, extra: bytes = b"", *, interlaced: bool = False
) -> bytes:
    """Encode whole numbers (H, W, C) of so many bits."""
    height, width = values.shape[:2]
    passes = _PASSES if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(
        row
        for left, top, right, down in passes
        for row in _png_rows(values[top::down, left::right], depth)
    )
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + body


def _png_rows(values: Array, depth: int) -> Iterator[bytes]:
    for row in values.reshape(len(values), -1) if values.size else ():
        bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
        yield b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()


def tiff_of(
    values: Array, photometric: int, *, order: Any = "<", planar: bool = False, bits: int = 0
) -> bytes:
    """Encode (H, W) or (H, W, C) as an uncompressed TIFF of the array's own type of number."""
    stacked = values if values.ndim == 3 else values[..., None]
    height, width, channels = stacked.shape
    data = stacked.transpose(2, 0, 1) if planar else stacked
    data = data.astype(values.dtype.newbyteorder(order))
    pixels = _twelve_bits(values) if bits == 12 else data.tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    strips = channels if planar else 1
    tags: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [bits or 8 * values.dtype.itemsize] * channels,
        259: [1],
        262: [photometric],
        273: [0] * strips,
        277: [channels],
        278: [height],
        279: [len(pixels) // strips] * strips,
        284: [2 if planar else 1],
        339: [kind] * channels,
    }
    start = 8 + 2 + 12 * len(tags) + 4
    extra = sum(4 * len(each) for each in tags.values() if len(each) > 1)
    tags[273] = [start + extra + i * (len(pixels) // strips) for i in range(strips)]
    entries, tail = b"", b""
    for tag, numbers in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, tail = struct.pack(f"{order}I", start + len(tail)), tail + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    mark = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return mark + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + tail + pixels


def _twelve_bits(values: Array) -> bytes:
    bits = (values[..., None] >> np.arange(11, -1, -1)) & 1
    return b"".join(np.packbits(row.astype(np.uint8)).tobytes() for row in bits)
