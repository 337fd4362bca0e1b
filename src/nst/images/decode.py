"""Decode files and PIL images to upright sRGB arrays; refuse formats that Pillow misreads."""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError
from PIL import TiffImagePlugin as tiff
from PIL.ImageFile import ImageFile

from nst._utils.checks import file_path
from nst._utils.text import logger
from nst.images.deep import png_colors, tiff_colors
from nst.images.plugins import BRANDS, NEEDED, register_plugins

MAX_PIXELS = "NST_MAX_PIXELS"
"""Variable of the environment with the largest number of pixels to read."""

_WIDE_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}  # more than 8 bits, gray only
_OPAQUE_MODES = {"RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_MODES = {"1", "L", "P", "RGB", "LA", "La", "PA", "RGBA", "RGBa", *_OPAQUE_MODES, *_WIDE_MODES}

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 255, 271, 330, 50706
_CAMERA_RAWS = re.compile(
    r"\.(3fr|arw|cr[23]|dcr|dng|erf|fff|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]"
    r"|sr[2fw]|x3f)$",
    re.IGNORECASE,
)
_DEVELOP = "Develop it to PNG or TIFF first, e.g. with darktable or RawTherapee"

_CLOSED = "is a PIL image that is closed or verified. Open it again, or load() it before that."

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Formats whose header has the bits per channel: the preceding mark, the offset, and a summand.
_PRECISION = {"AVIF": (b"pixi", 5, 0), "JPEG2000": (b"\xff\x51", 38, 1)}

# Formats whose 16-bit colors are read in full; the functions return None if that is not possible.
_DEEP: dict[str | None, Any] = {"PNG": png_colors, "TIFF": tiff_colors}

# `warnings.catch_warnings` changes the whole process: two threads at once could silence it forever.
_warnings_lock = threading.Lock()


class _Unsupported(Exception):
    """The second half of a message about an image: the problem and its remedy."""


def image_array(source: Path | Image.Image, what: str) -> npt.NDArray[Any]:
    """Decode a file or PIL image to (H, W) or (H, W, C), `uint8`, `uint16` or `float32`.

    C is from 2 to 4. Messages begin with `what`.
    """
    with (
        decoding(what),
        opened(source) if isinstance(source, Path) else nullcontext(source) as image,
    ):
        # AVIF's decoder has read the whole file, which Pillow closes after the first frame.
        is_avif = image.format == "AVIF"
        if isinstance(image, ImageFile) and not is_avif and image.tile and image.fp is None:
            raise _Unsupported(_CLOSED)
        # Pillow checks this when it opens a file, but may only warn.
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels > {limit}")
        _check_format(image)
        deep = _sixteen_bits(image, what)
        loaded = _load(image)
        turn = _UPRIGHT.get(orientation(loaded, what))
        if deep is not None:
            return np.dstack([np.asarray(_turned(Image.fromarray(each), turn)) for each in deep])
        upright = _turned(loaded, turn)
        if upright.mode not in _MODES:
            problem = f"has the PIL mode {upright.mode!r}, which is not supported."
            raise _Unsupported(f"{problem} Convert it first, e.g. with image.convert('RGB').")
        convert = _wide_array if upright.mode in _WIDE_MODES else _srgb_array
        return convert(upright, what)


def check_input(path: str | os.PathLike[str], *, name: str) -> Path:
    """Return the path of a regular, non-empty file; raise OSError or ValueError for any other."""
    path = file_path(name, path)
    what = f"`{name}` is {str(path)!r}, which"
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as err:
        hint = f"Check the spelling; a relative path starts at the folder {str(Path.cwd())!r}."
        raise FileNotFoundError(f"{what} does not exist. {hint}") from err
    except PermissionError as err:
        raise PermissionError(f"{what} may not be read. Check its folder's permissions.") from err
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{what} is a folder. Name one picture in it.")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block forever
        raise ValueError(f"{what} is not a regular file. Save the picture to a file first.")
    if status.st_size == 0:
        raise ValueError(f"{what} is empty (0 bytes). Save or copy the picture again.")
    return path


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Silence Pillow's warnings, and raise its errors as ValueErrors that begin with `what`."""
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _limited_pixels():
                yield
    except _Unsupported as err:
        raise ValueError(f"{what} {err}") from err
    except PermissionError as err:
        raise PermissionError(f"{what} may not be read. Check its permissions.") from err
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise ValueError(
            f"{what} is too large to be trusted ({str(err).rstrip('.')}). Shrink it, or raise "
            f"PIL.Image.MAX_IMAGE_PIXELS (now {Image.MAX_IMAGE_PIXELS}), --max-pixels on the "
            f"command line, or {MAX_PIXELS} in the environment, if you trust the file."
        ) from err
    except UnidentifiedImageError as err:
        remedy = "Save it as PNG or JPEG; if the file may be truncated, copy it again."
        raise ValueError(f"{what} is not a picture that Pillow can read. {remedy}") from err
    except Exception as err:  # damaged data makes Pillow's decoders raise almost any type
        if "closed" in str(err):
            raise ValueError(f"{what} {_CLOSED}") from err
        problem = f"is truncated or corrupt ({type(err).__name__}: {err})"
        raise ValueError(f"{what} {problem}. Save or copy the picture again.") from err


@contextmanager
def _limited_pixels() -> Iterator[None]:
    """Set Pillow's limit from the environment, if `MAX_PIXELS` is set."""
    before, text = Image.MAX_IMAGE_PIXELS, os.environ.get(MAX_PIXELS)
    if text is not None and not (text.isdecimal() and int(text)):
        raise _Unsupported(f"cannot be read: {MAX_PIXELS} is {text!r}, not a number. Change it.")
    try:
        Image.MAX_IMAGE_PIXELS = before if text is None else int(text)
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def opened(path: str | os.PathLike[str]) -> Image.Image:
    """Open a file of a picture; raise for a camera raw."""
    path = Path(os.fsdecode(path))
    with path.open("rb") as file:
        is_heif = file.read(12)[8:] in BRANDS
    if is_heif:
        register_plugins()
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        if is_heif:
            raise _Unsupported(f"is HEIC or AVIF, {NEEDED}") from error
        if _CAMERA_RAWS.search(path.name):
            raise _Unsupported(f"is a camera raw, which Pillow cannot read. {_DEVELOP}.") from error
        raise


def _check_format(image: Image.Image) -> None:
    """Refuse formats that Pillow opens but decodes to wrong values."""
    problem, remedy = None, "Save it as PNG from the program that made it"
    if image.format in ("EPS", "WMF"):  # Pillow would run it on an untrusted file
        problem = "is a vector drawing that only an external program can render"
    elif isinstance(image, tiff.TiffImageFile):
        tags = image.tag_v2
        bits = tags.get(tiff.BITSPERSAMPLE, (1,))
        planar = tags.get(tiff.PLANAR_CONFIGURATION) == 2 and tags.get(tiff.COMPRESSION, 1) == 1
        # Pillow itself writes 32-bit files as signed.
        if _is_camera_raw(image):
            problem = "is a camera raw, of which Pillow would read only a preview"
            remedy = _DEVELOP
        elif _subfile(tags) & 4:
            problem = "is a TIFF whose page is only a mask of another"
        elif _subfile(tags) & 1:
            problem = "is a TIFF whose page is only a reduced copy of another"
        elif 2 in np.atleast_1d(tags.get(tiff.SAMPLEFORMAT, 1)) and max(bits) <= 16:
            problem = "is a TIFF of signed numbers, whose white level is unknown"
        elif image.mode in _WIDE_MODES and tags.get(tiff.PHOTOMETRIC_INTERPRETATION) == 0:
            problem = "is a TIFF in which 0 is white, which Pillow would read as a negative"
        elif 16 in bits and len(bits) > 1 and planar:
            problem = "is a TIFF of planar 16-bit channels, which Pillow would mix up"
        elif 12 in bits:
            problem = "is a TIFF of 12 bits, which Pillow would read as nearly black"
    if problem is not None:
        raise _Unsupported(f"{problem}. {remedy}.")


def _subfile(tags: tiff.ImageFileDirectory_v2) -> int:
    """Return the bits of NewSubfileType: 1 for a reduced copy, 4 for a mask."""
    old = 1 if tags.get(_SUBFILE_TYPE) == 2 else 0
    return int(tags.get(_NEW_SUBFILE_TYPE, old))


def _is_camera_raw(image: tiff.TiffImageFile) -> bool:
    """Return whether a TIFF has the sensor's data, by its suffix, its tags or Canon's mark."""
    tags = image.tag_v2
    # Most cameras store a preview first, and the sensor's data in a subdirectory.
    preview = _subfile(tags) & 1 and _SUB_IFDS in tags and _MAKE in tags
    by_name = _CAMERA_RAWS.search(os.fsdecode(image.filename or ""))
    return bool(preview or by_name or _DNG_VERSION in tags or _content(image, 10)[8:] == b"CR")


def _sixteen_bits(image: Image.Image, what: str) -> npt.NDArray[np.uint16] | None:
    """Return 16-bit colors (C, H, W); None if Pillow reads all bits, or 8, which is logged."""
    if not isinstance(image, ImageFile) or not (image.tile or image.format == "HEIF"):
        return None  # it is decoded already
    bits, colors = _bits_per_channel(image), None
    if bits > 8 and image.format in _DEEP and _is_srgb(image.info.get("icc_profile"), what):
        colors = _DEEP[image.format](image, _content(image))
    if bits > 8 and colors is None:
        logger.warning("%s has %d bits per channel, of which only 8 are read", what, bits)
    return colors


def _bits_per_channel(image: ImageFile) -> int:
    """Return the number of bits per channel of colors that are not yet decoded; at least 8."""
    if image.mode in _WIDE_MODES or image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    codec, *_, arguments = image.tile[0]
    if codec in ("ppm", "ppm_plain"):
        return max(8, int(arguments[1]).bit_length())  # type: ignore[index]
    if image.format in _PRECISION:
        mark, offset, extra = _PRECISION[image.format]
        head = _content(image, 4096).partition(mark)[2]
        return max(8, (head[offset] & 127) + extra) if len(head) > offset else 8
    return 16 if codec == "SGI16" or ";16" in str(arguments) else 8


def _content(image: ImageFile, size: int = -1) -> bytes:
    if image.fp is None or image.fp.closed:
        return b""
    position = image.fp.tell()
    image.fp.seek(0)
    content = image.fp.read(size)
    image.fp.seek(position)
    return content


def _is_srgb(profile: bytes | None, what: str) -> bool:
    """Return whether a color profile, if any, changes no color by more than rounding."""
    if profile is None:
        return True
    colors = np.indices((16, 16, 16)).reshape(3, 64, 64).transpose(1, 2, 0).astype(np.uint8) * 17
    converted = np.asarray(_to_srgb(Image.fromarray(colors), profile, what))
    return int(np.abs(converted.astype(int) - colors).max()) <= 2


def _load(image: Image.Image) -> Image.Image:
    key = _transparent_gray(image)
    image.load()
    if key is not None:
        image = image.copy()  # the original may belong to the caller
        image.info["transparency"] = key
    return image


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    # `ImageOps.exif_transpose` also rewrites the EXIF data, and fails on invalid tags.
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image, what: str) -> Any:
    """Return the EXIF orientation, from 1 to 8 if valid; None if it is missing or unreadable."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception as err:  # damaged data can raise almost any type
        logger.warning("%s has unreadable EXIF data, which is ignored: %s", what, err)
        return None


def _transparent_gray(image: Image.Image) -> int | None:
    """Return the transparent gray of a 2-bit or 4-bit PNG in 8 bits; Pillow scales only pixels."""
    key = image.info.get("transparency")
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return None
    raw_mode = str(image.tile[0][3])
    if raw_mode == "RGB;16B" and key is not None:
        # Pillow drops the lower 8 bits, so different colors can become equal.
        problem = "is a PNG of 16-bit colors of which one is transparent"
        raise _Unsupported(f"{problem}. Save it with an alpha channel.")
    factor = {"L;2": 85, "L;4": 17}.get(raw_mode)
    return key * factor if factor and isinstance(key, int) else None


def _wide_array(image: Image.Image, what: str) -> npt.NDArray[Any]:
    """Return (H, W), or (H, W, 2) with alpha; `uint16` or `float32`."""
    if image.info.get("icc_profile"):
        logger.warning("%s has a color profile, unused in mode %s: read as sRGB", what, image.mode)
    gray, key = np.asarray(image), image.info.get("transparency")
    if gray.dtype == np.int32:  # Pillow's type for some 16-bit files
        if gray.size and (gray.min() < 0 or gray.max() > 65535):
            problem = f"has integers from {gray.min()} to {gray.max()}, but those of mode 'I'"
            raise _Unsupported(f"{problem} must lie in 0..65535. Pass an array scaled to [0, 1].")
        gray = gray.astype(np.uint16)
    if image.mode == "F" or not isinstance(key, int):
        return gray
    return np.dstack((gray, np.where(gray == key, 0, 65535).astype(gray.dtype)))


def _srgb_array(image: Image.Image, what: str) -> npt.NDArray[Any]:
    """Return (H, W, 3), or (H, W, 4) with alpha; `uint8`."""
    gray, alpha = image.mode in ("1", "L", "LA", "La"), None
    profile = image.info.get("icc_profile")
    if image.mode not in _OPAQUE_MODES and image.has_transparency_data:
        image = image.convert("LA" if gray else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if image.mode not in ("CMYK", "LAB"):  # these need their profile before conversion
        image = image.convert("L" if gray else "RGB")
    array = np.asarray(_to_srgb(image, profile, what))
    return array if alpha is None else np.dstack((array, alpha))


def _to_srgb(image: Image.Image, embedded: bytes | None, what: str) -> Image.Image:
    profiles: list[Any] = [io.BytesIO(embedded)] if embedded else []
    if image.mode == "LAB":
        profiles.append(ImageCms.createProfile("LAB"))
    srgb = ImageCms.createProfile("sRGB")
    for profile in profiles:
        try:
            converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
            assert converted is not None  # which only a conversion in place returns
            return converted
        except Exception as err:  # the picture is readable without its profile
            logger.warning("%s has an unusable color profile: read as sRGB (%s)", what, err)
    return image.convert("RGB")
