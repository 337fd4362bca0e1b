"""Decoding: files and PIL images become arrays, as a viewer would show them.

Turned upright by EXIF, converted to sRGB by the color profile. What Pillow cannot decode faithfully
is refused, with the reason and a remedy.
"""

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    PngImagePlugin,
    TiffImagePlugin,
    TiffTags,
    UnidentifiedImageError,
)

from nst._utils.checks import file_path

__all__ = ["check_input", "decoding", "file_array", "image_array"]

_logger = logging.getLogger("nst")

_WIDE_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}  # more than 8 bits, gray only
_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
_KEYED_MODES = {"1", "L", "P", "RGB"}  # may name one color or palette entry as transparent
_OTHER_MODES = {"RGBX", "CMYK", "YCbCr", "HSV", "LAB"}


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# `warnings.catch_warnings` changes the whole process: two threads inside it at once could leave
# every later warning silenced.
_warnings_lock = threading.Lock()


class _Unfit(Exception):
    """Says what is wrong with a picture, and what to do."""


def file_array(path: Path, name: str) -> npt.NDArray[Any]:
    """Return a file's picture, upright and in sRGB, as `image_array` does.

    Args:
        path: Where it is.
        name: The caller's argument, for error messages.

    Raises:
        OSError: There is no such file, it is a folder, or it may not be read.
        MemoryError: It does not fit into memory.
        ValueError: It is no picture, damaged, or too large to be trusted.
    """
    what = f"`{name}` is {str(path)!r}, which"
    check_input(path, name=name)
    with decoding(what), Image.open(path) as image:
        upright = _upright(image, what)
    return _array(upright, what)


def image_array(image: Image.Image, what: str) -> npt.NDArray[Any]:
    """Return a PIL image, upright and in sRGB.

    Args:
        image: Opened or decoded.
        what: The beginning of a sentence about it.

    Returns:
        `(H, W)` or `(H, W, C)`, C from 2 to 4; `uint8`, `uint16` or `float32`.

    Raises:
        MemoryError: It does not fit into memory.
        ValueError: It is damaged, too large to be trusted, or of an unknown mode.
    """
    limit = Image.MAX_IMAGE_PIXELS
    with decoding(what):
        # An image opened but not yet decoded may still be a bomb: up to twice the limit, Pillow
        # only warns.
        if limit is not None and image.width * image.height > limit:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels > {limit}")
        upright = _upright(image, what)
    return _array(upright, what)


def check_input(path: str | os.PathLike[str], *, name: str) -> None:
    """Raise unless the path is a file with something in it, without reading it.

    Args:
        path: Where a picture is expected.
        name: The caller's argument, for error messages.

    Raises:
        OSError: There is no such file, it is a folder, or it may not be read.
        ValueError: It is no regular file, or empty, or no file can be called that.
    """
    path = file_path(name, path)
    what = f"`{name}` is {str(path)!r}, which"
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as err:
        raise FileNotFoundError(
            f"{what} does not exist. Check the spelling, and that it starts at the folder "
            f"{str(Path.cwd())!r} if it is relative."
        ) from err
    except PermissionError as err:
        raise PermissionError(f"{what} may not be read. Check its folder's permissions.") from err
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{what} is a folder. Name one picture in it.")
    if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
        raise ValueError(f"{what} is not a regular file. Save the picture to a file first.")
    if status.st_size == 0:
        raise ValueError(f"{what} is empty (0 bytes). Save or copy the picture again.")


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Silence Pillow's warnings and let its errors name the picture and a remedy.

    Args:
        what: The beginning of a sentence about the picture.

    Raises:
        PermissionError: It may not be read.
        MemoryError: There was too little.
        ValueError: In place of whatever else a picture may cause.
    """
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except _Unfit as err:
        raise ValueError(f"{what} {err}") from err
    except PermissionError as err:
        raise PermissionError(f"{what} may not be read. Check its permissions.") from err
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise ValueError(
            f"{what} is too large to be trusted ({str(err).rstrip('.')}). Shrink it, or raise "
            f"PIL.Image.MAX_IMAGE_PIXELS (now {Image.MAX_IMAGE_PIXELS}) if you trust the file."
        ) from err
    except UnidentifiedImageError as err:
        raise ValueError(
            f"{what} is not a picture that Pillow can read. Save it as PNG or JPEG, or copy it "
            "again if it was cut short."
        ) from err
    except Exception as err:  # Pillow's decoders raise nearly anything on damaged data
        raise ValueError(
            f"{what} is truncated or corrupt ({type(err).__name__}: {err}). "
            "Save or copy the picture again."
        ) from err


def _upright(image: Image.Image, what: str) -> Image.Image:
    """Decode the image and turn it as its EXIF says."""
    _check_format(image)
    key = _transparent_gray(image)
    image.load()
    if key is not None:
        image = image.copy()  # as it may be the caller's
        image.info["transparency"] = key
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception as err:  # nearly anything, as above
        _logger.warning("%s has unreadable EXIF data, which is ignored: %s", what, err)
        return image
    # `ImageOps.exif_transpose` would also write the EXIF anew, and so fail on any odd tag.
    method = _UPRIGHT.get(orientation or 1)
    return image if method is None else image.transpose(method)


def _check_format(image: Image.Image) -> None:
    """Refuse what Pillow opens but does not show as it is."""
    problem = None
    if image.format in ("EPS", "WMF"):
        # To draw it, Pillow would start another program on whatever a stranger wrote.
        problem = "is a drawing for another program to run"
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = {TiffTags.lookup(tag).name: value for tag, value in image.tag_v2.items()}
        bits = tags.get("BitsPerSample", (1,))
        raw_planes = (tags.get("PlanarConfiguration"), tags.get("Compression", 1)) == (2, 1)
        # Of 32 bits, Pillow itself writes them signed.
        if 2 in _numbers(tags.get("SampleFormat")) and max(bits) <= 16:
            problem = "is a TIFF of signed numbers, of which none is known to be white"
        elif image.mode in _WIDE_MODES and tags.get("PhotometricInterpretation") == 0:
            problem = "is a TIFF in which 0 is white, which Pillow would read as a negative"
        elif 16 in bits and len(bits) > 1 and raw_planes:
            problem = "is a TIFF of 16-bit channels one after the other, which Pillow would mix up"
        elif 12 in bits:
            problem = "is a TIFF of 12 bits, which Pillow would read as nearly black"
    if problem is not None:
        raise _Unfit(f"{problem}. Save it as PNG from the program that made it.")


def _numbers(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _transparent_gray(image: Image.Image) -> int | None:
    """Return the one transparent gray of a PNG in 8 bits, where the file tells it in fewer.

    Pillow widens the pixels, but not this.
    """
    transparent = image.info.get("transparency")
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return None
    raw_mode = image.tile[0][3]
    if (
        raw_mode == "RGB;16B" and transparent is not None
    ):  # of which Pillow keeps 8 bits, too few to tell colors apart
        raise _Unfit(
            "is a PNG of 16-bit colors of which one is transparent. Save it with an alpha channel."
        )
    widened = {"L;2": 85, "L;4": 17}.get(str(raw_mode))
    return transparent * widened if widened and isinstance(transparent, int) else None


def _array(image: Image.Image, what: str) -> npt.NDArray[Any]:
    if image.mode not in _WIDE_MODES | _ALPHA_MODES | _KEYED_MODES | _OTHER_MODES:
        raise ValueError(
            f"{what} has the PIL mode {image.mode!r}, which is not supported. "
            "Convert it first, e.g. with image.convert('RGB')."
        )
    with decoding(what):
        array = _wide_array(image, what) if image.mode in _WIDE_MODES else _srgb_array(image, what)
    if array.dtype == np.int32:  # how Pillow holds some 16-bit files; true 32 bits have no scale
        if array.size and (array.min() < 0 or array.max() > 65535):
            raise ValueError(
                f"{what} has integers from {array.min()} to {array.max()}, but those of mode 'I' "
                "must lie in 0..65535. Pass an array scaled to [0, 1]."
            )
        array = array.astype(np.uint16)
    return array


def _wide_array(image: Image.Image, what: str) -> npt.NDArray[Any]:
    """Return (H, W), or (H, W, 2) with alpha; `uint16`, `int32` or `float32`."""
    if image.info.get("icc_profile"):
        _logger.warning("%s has a color profile, unused in mode %s: read as sRGB", what, image.mode)
    gray, transparent = np.asarray(image), image.info.get("transparency")
    if image.mode == "F" or not isinstance(transparent, int):
        return gray
    return np.dstack((gray, np.where(gray == transparent, 0, 65535).astype(gray.dtype)))


def _srgb_array(image: Image.Image, what: str) -> npt.NDArray[Any]:
    """Return (H, W, 3), or (H, W, 4) with alpha; `uint8`."""
    color, alpha = _split_alpha(image)
    array = np.asarray(_to_srgb(color, image.info.get("icc_profile"), what))
    return array if alpha is None else np.dstack((array, np.asarray(alpha)))


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split an image into L, RGB, CMYK or LAB, in which its profile speaks, and alpha."""
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode in _KEYED_MODES | _ALPHA_MODES and image.has_transparency_data:
        image = image.convert("LA" if gray else "RGBA")
        return image.convert("L" if gray else "RGB"), image.getchannel("A")
    if image.mode in ("CMYK", "LAB"):
        return image, None
    return image.convert("L" if gray else "RGB"), None


def _to_srgb(color: Image.Image, embedded: bytes | None, what: str) -> Image.Image:
    profiles: list[Any] = [io.BytesIO(embedded)] if embedded else []
    if color.mode == "LAB":
        profiles.append(ImageCms.createProfile("LAB"))
    srgb = ImageCms.createProfile("sRGB")
    for profile in profiles:
        try:
            converted = ImageCms.profileToProfile(color, profile, srgb, outputMode="RGB")
        except Exception as err:  # a broken profile should not cost the picture
            _logger.warning("%s has an unusable color profile: read as sRGB (%s)", what, err)
        else:
            if converted is not None:  # it is None only where changed in place
                return converted
    return color.convert("RGB")
