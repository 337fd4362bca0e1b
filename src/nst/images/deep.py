"""Colors of 16 bits in PNG and TIFF files, which Pillow reads and writes with 8 bits."""

import io
import re
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, PngImagePlugin
from PIL import TiffImagePlugin as tiff
from torchvision.io import ImageReadMode, decode_png

_RAW_MODE = re.compile("(RGBA?);16([LB])")


def png_file(
    values: npt.NDArray[np.uint16], exif: Image.Exif | None, dpi: tuple[float, float] | None
) -> bytes:
    """Return a PNG file of colors (H, W, C), C 3 or 4."""
    height, width, channels = values.shape
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    rows[1:] -= rows[:-1].copy()  # filter 2: the difference from the row above, modulo 256
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if exif is not None:
        chunks.append((b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    if dpi is not None:  # stored per meter
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(x / 0.0254) for x in dpi), 1)))
    data = zlib.compress(np.insert(rows, 0, 2, axis=1).tobytes())
    buffer = io.BytesIO()
    buffer.write(b"\x89PNG\r\n\x1a\n")
    for name, content in [*chunks, (b"IDAT", data), (b"IEND", b"")]:
        PngImagePlugin.putchunk(buffer, name, content)
    return buffer.getvalue()


def tiff_file(values: npt.NDArray[np.uint16], tags: Mapping[int, Any]) -> bytes:
    """Return an uncompressed TIFF file of colors (H, W, C), C 3 or 4, with further tags."""
    height, width, channels = values.shape
    directory = tiff.ImageFileDirectory_v2(prefix=b"II")
    layout: dict[int, Any] = {
        tiff.IMAGEWIDTH: width,
        tiff.IMAGELENGTH: height,
        tiff.BITSPERSAMPLE: (16,) * channels,
        tiff.COMPRESSION: 1,
        tiff.PHOTOMETRIC_INTERPRETATION: 2,
        tiff.STRIPOFFSETS: (0,),  # Pillow adds the size of the directory
        tiff.SAMPLESPERPIXEL: channels,
        tiff.ROWSPERSTRIP: height,
        tiff.STRIPBYTECOUNTS: (values.nbytes,),
        tiff.PLANAR_CONFIGURATION: 1,
        **({tiff.EXTRASAMPLES: 2} if channels == 4 else {}),
    }
    directory.update({**tags, **layout})
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue() + values.astype("<u2").tobytes()


def png_colors(image: Image.Image, content: bytes) -> npt.NDArray[np.uint16] | None:
    """Return the colors (C, H, W) of a PNG of 16 bits; None if they cannot be read."""
    if getattr(image, "is_animated", False):
        return None  # torchvision reads only the first frame
    with suppress(RuntimeError):  # of an older torchvision, or of a damaged file
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return np.asarray(decode_png(data, ImageReadMode.UNCHANGED))
    return None


def tiff_colors(image: tiff.TiffImageFile, content: bytes) -> npt.NDArray[np.uint16] | None:
    """Return the colors (C, H, W) of an uncompressed TIFF of 16 bits; None for any other."""
    tags, (codec, *_, arguments) = image.tag_v2, image.tile[0]
    mode = _RAW_MODE.fullmatch(str(arguments[0])) if codec == "raw" and arguments else None
    if mode is None or tags.get(tiff.PLANAR_CONFIGURATION, 1) != 1 or tags.get(274, 1) != 1:
        return None  # 274 is the orientation, which Pillow applies and deletes
    strips = zip(tags.get(tiff.STRIPOFFSETS, ()), tags.get(tiff.STRIPBYTECOUNTS, ()), strict=False)
    data = b"".join(content[start : start + count] for start, count in strips)
    shape = (image.height, image.width, len(mode[1]))
    if len(data) != 2 * shape[0] * shape[1] * shape[2]:
        return None
    order = "<u2" if mode[2] == "L" else ">u2"
    colors = np.frombuffer(data, order).astype(np.uint16).reshape(shape)
    return np.moveaxis(colors, 2, 0)
