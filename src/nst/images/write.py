"""Convert images to PIL and save them, with the record of a run (EXIF)."""

import io
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import Tensor

from nst._utils.checks import at_least, floating, one_of, value_range
from nst._utils.files import check_place, write_whole
from nst._utils.plain import json_ready
from nst._utils.text import logger
from nst.images.decode import check_input, decoding, opened
from nst.images.deep import png_file, tiff_file
from nst.images.load import STRIP
from nst.images.metadata import RECORD, copied, resolution
from nst.images.plugins import NEEDED, SUFFIXES, register_plugins

_ALPHA_FORMATS = {"AVIF", "DDS", "HEIF", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"}
_OPAQUE_FORMATS = {"BMP", "DIB", "GIF", "JPEG", "PCX", "PPM"}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "HEIF": {"quality": 95, "chroma": 444},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}
_EXIF_FORMATS = {"AVIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"}
BitDepth = Literal[8, 16]
_MAX_JPEG_EXIF = 65_533  # bytes
_LONGEST_SIDES = {".gif": 65_535, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}
_LONGEST_SIDES |= dict.fromkeys([".mp4", ".m4v", ".mov", ".mkv"], 16_384)  # of H.264
_VERSION = 1  # of a record


def to_pil(image: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """Convert an image to 8 bits in mode RGB, or with `alpha` in mode RGBA.

    With `alpha`, the white that `image` was composed on is removed to avoid a white fringe.

    Args:
        image: One picture, (3, H, W) or (1, 3, H, W), sRGB, floating; clamped to [0, 1].
        alpha: (1, H, W) or (1, 1, H, W); clamped to [0, 1].

    Examples:
        >>> to_pil(torch.full((3, 1, 1), 254.9 / 255)).getpixel((0, 0))
        (255, 255, 255)
    """
    return Image.fromarray(_levels(image, alpha, 255))


def _levels(image: Tensor, alpha: Tensor | None, white: int) -> npt.NDArray[Any]:
    """Convert an image as in `to_pil` to (H, W, C), whole numbers up to 255 or 65535."""
    pixels = _one_picture(image, 3, "image")
    if alpha is None:
        return _whole_numbers(pixels, white)
    alpha = _one_picture(alpha, 1, "alpha")
    if alpha.shape[-2:] != pixels.shape[-2:]:
        found, size = tuple(alpha.shape[-2:]), tuple(pixels.shape[-2:])
        remedy = "Resize it with resize(alpha, (height, width))."
        raise ValueError(f"`alpha` is {found} in size, but `image` is {size}. {remedy}")
    # Readers see the rounded alpha. Where it is 0 no color shows, and the pixels stay as they are.
    rounded = (alpha * white).round() / white
    bare = (pixels - (1 - rounded)) / rounded.clamp_min(1 / white)
    bare = torch.where(rounded > 0, bare, pixels).clamp(0, 1)
    return np.dstack((_whole_numbers(bare, white), _whole_numbers(alpha, white)))


def side_by_side(images: Tensor) -> Tensor:
    """Join a batch (N, 3, H, W) in [0, 1] horizontally into one image (1, 3, H, N W)."""
    return torch.cat(list(images.detach()), dim=-1)[None].clamp(0, 1)


def save_image(
    image: Tensor,
    path: str | os.PathLike[str],
    *,
    alpha: Tensor | None = None,
    record: Mapping[str, Any] | None = None,
    quality: int | None = None,
    exif: bytes | None = None,
    bit_depth: BitDepth = 8,
) -> Path:
    """Save one picture atomically in the format of the suffix, and return the path.

    Args:
        image: As in `to_pil`.
        path: Path of the file; an existing one is replaced.
        alpha: As in `to_pil`, saved by formats that have alpha (PNG, WebP, TIFF, ...).
        record: Settings for `read_record`. Formats with EXIF store it (PNG, WebP, TIFF, AVIF, HEIF;
            JPEG up to 64 kB). Values that JSON lacks are saved as text, absolute paths without
            their folders.
        quality: Quality of JPEG, WebP, AVIF and HEIC, 1 to 100; None is 95. All but WebP have full
            color resolution.
        exif: EXIF data as returned by Pillow's `Exif.tobytes`, stored by the same formats, without
            tags that describe other pixels, such as the orientation.
        bit_depth: Bits per channel, 8 or, for PNG and TIFF, 16.

    Raises:
        OSError: The picture could not be encoded or written.
        ValueError: As in `check_output`, or the format lacks the quality or the bit depth.
    """
    if isinstance(path, Tensor) and not isinstance(image, Tensor):
        raise TypeError(f"`image` is {image!r}, and `path` a tensor. Call save_image(image, path).")
    path = check_output(path)
    name, what = _formats()[path.suffix.lower()], f"`path` is {str(path)!r}"
    content = encode(image, name, alpha, record, quality, exif, bit_depth, what)
    write_whole(path, memoryview(content))
    return path


def encode(
    image: Tensor,
    format_name: str,
    alpha: Tensor | None = None,
    record: Mapping[str, Any] | None = None,
    quality: int | None = None,
    exif: bytes | None = None,
    bit_depth: BitDepth = 8,
    what: str = "`format`",
) -> bytes:
    """Return the content of a file in a format of Pillow; errors begin with `what`."""
    check_encoding(format_name, quality, bit_depth)
    options: dict[str, Any] = {
        **_SAVE_OPTIONS.get(format_name, {}),
        **({} if quality is None else {"quality": quality}),
        **_metadata_options(format_name, record, exif, what),
    }
    alpha = alpha if format_name in _ALPHA_FORMATS else None
    if bit_depth == 16:
        colors = _levels(image, alpha, 65535)
        if format_name == "PNG":
            return png_file(colors, options.get("exif"), options.get("dpi"))
        return tiff_file(colors, options.get("tiffinfo", {}))
    picture = to_pil(image, alpha)
    buffer = io.BytesIO()  # some formats would store the file name
    try:
        picture.save(buffer, format=format_name, **options)
    except (OSError, ValueError, ArithmeticError, RuntimeError, struct.error) as err:
        raise OSError(
            f"{what}, but Pillow could not encode {picture.width} x {picture.height} pixels as "
            f"{format_name} ({err}). Try .png or a smaller picture."
        ) from err
    return buffer.getvalue()


def check_encoding(format_name: str, quality: int | None = None, bit_depth: BitDepth = 8) -> None:
    """Raise for a quality or a bit depth that a format of Pillow does not have."""
    one_of("bit_depth", bit_depth, get_args(BitDepth))
    if bit_depth == 16 and format_name not in ("PNG", "TIFF"):
        raise ValueError(f"`bit_depth` is 16, but {format_name} is saved with 8. Use PNG or TIFF.")
    if quality is None:
        return
    if format_name not in _SAVE_OPTIONS:
        raise ValueError(
            f"`quality` is {quality!r}, but {format_name} has none. Leave it out, or use JPEG."
        )
    if at_least("quality", quality, 1) > 100:
        raise ValueError(f"`quality` is {quality!r}; it must be at most 100.")


def _metadata_options(
    format_name: str, record: Mapping[str, Any] | None, exif: bytes | None, what: str
) -> dict[str, Any]:
    """Return the options of Pillow that store a record, EXIF data and the resolution."""
    if format_name not in _EXIF_FORMATS or (record is None and exif is None):
        return {}
    stored = copied(exif)
    if record is not None:
        stored[ExifTags.Base.ImageDescription] = json.dumps(
            {RECORD: _VERSION, **json_ready(record)}
        )
    length = len(stored.tobytes())
    if format_name == "JPEG" and length > _MAX_JPEG_EXIF:
        # An error would lose a picture that may have taken an hour; `settings` has the record.
        is_exif_long = exif is not None and len(copied(exif).tobytes()) > _MAX_JPEG_EXIF
        left_out = "metadata is" if is_exif_long else "record is"
        logger.warning(
            f"{what}: the {left_out} left out, as it has {length} bytes, and JPEG can hold "
            f"{_MAX_JPEG_EXIF}; save as .png to keep it"
        )
        if is_exif_long:
            return _metadata_options(format_name, record, None, what)
        return _metadata_options(format_name, None, exif, what)
    options: dict[str, Any] = {"exif": stored}
    if format_name == "TIFF":  # its writer supports other types of values here
        options = {"tiffinfo": dict(stored.items())}
    dpi = resolution(stored)
    return options if dpi is None else {**options, "dpi": dpi}


def format_of(name: str) -> str:
    """Return Pillow's name of a format such as "png" or "jpg", if a picture can be saved in it."""
    formats = _formats()
    found = formats.get(f".{str(name).lower()}", str(name).upper())
    if found not in formats.values():
        raise ValueError(f"`format` is {name!r}, which is not known. Use 'png', 'jpg' or 'webp'.")
    return found


def check_output(path: str | os.PathLike[str], *, name: str = "path") -> Path:
    """Return a path after checking that a picture can be saved there; `name` is for errors.

    Raises:
        OSError: The folder does not exist, the path is a folder, or it is not writable.
        ValueError: The suffix names no suitable format, or the path is not a valid file name.
    """
    path = check_place(path, name=name, example="result.png")
    if path.suffix.lower() not in _formats():
        hint = "name has no suffix. Use .png, .jpg, .webp, .tiff or .bmp."
        if path.suffix.lower() in SUFFIXES:
            hint = f"suffix {path.suffix!r} is of {NEEDED}"
        elif path.suffix:
            hint = f"suffix {path.suffix!r} names no known picture format. Use .png or .jpg."
        raise ValueError(f"`{name}` is {str(path)!r}, whose {hint}")
    return path


def check_shape(
    path: str | os.PathLike[str], shape: tuple[int, int], *, name: str = "path"
) -> None:
    """Raise for a picture or video, of this height and width, that its format cannot hold."""
    longest = _LONGEST_SIDES.get(Path(path).suffix.lower())
    if longest is not None and max(shape) > longest:
        raise ValueError(
            f"`{name}` is {str(path)!r}, a file of at most {longest} pixels a side, but the "
            f"picture has {shape[1]} x {shape[0]}. Choose another suffix or a smaller size."
        )


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings of a run that `StyleTransferResult.save` stored in an image.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is not an image, or has no record of a known version.

    Examples:
        >>> path = save_image(torch.rand(1, 3, 8, 8), "noise.png", record={"seed": 7})
        >>> read_record(path)
        {'seed': 7}
    """
    path = check_input(path, name="path")
    what = f"`path` is {str(path)!r}, which"
    refusal = f"{what} holds no record of nst; use the file as it was saved."
    with decoding(what), opened(path) as picture:
        text = picture.getexif().get(ExifTags.Base.ImageDescription, "")
    try:
        record: dict[str, Any] = json.loads(text)
        version = record.pop(RECORD)
    except Exception as error:  # an arbitrary description can raise almost any type
        raise ValueError(refusal) from error
    if version != _VERSION:
        raise ValueError(f"{refusal} Its version is {version!r}; {_VERSION} is needed.")
    return record


def _formats() -> dict[str, str]:
    """Return the formats that a picture can be saved in, by suffix."""
    register_plugins()
    known = Image.registered_extensions()  # also loads Pillow's plug-ins, which fill Image.SAVE
    supported = Image.SAVE.keys() & (_ALPHA_FORMATS | _OPAQUE_FORMATS)
    return {suffix: name for suffix, name in known.items() if name in supported}


def _one_picture(image: Tensor, channels: int, name: str) -> Tensor:
    """Return (channels, H, W), clamped, on the CPU."""
    if not isinstance(image, Tensor):
        kind = type(image).__name__
        raise TypeError(f"`{name}` is a {kind}, but must be a tensor. Use load_image.")
    floating(name, image)
    shape = tuple(image.shape)
    wanted = (channels, *shape[-2:])
    if shape not in (wanted, (1, *wanted)) or 0 in shape:
        rule = f"({channels}, H, W) or (1, {channels}, H, W), none of them 0"
        remedy = f"Take one picture of a batch, e.g. {name}[0]."
        raise ValueError(f"`{name}` has shape {shape}, but must be {rule}. {remedy}")
    remedy = "Lower the step size if an optimization made them."
    low, high = value_range(f"`{name}`", image, remedy)
    image = image.detach().cpu().reshape(wanted)
    image = image if image.dtype == torch.float64 else image.float()
    return image.clamp(0, 1) if low < 0 or high > 1 else image  # without a copy if possible


def _whole_numbers(values: Tensor, white: int) -> npt.NDArray[Any]:
    """Convert (C, H, W) in [0, 1] to (H, W, C), a strip of rows at a time."""
    channels, height, width = values.shape
    array = np.empty((height, width, channels), np.min_scalar_type(white))
    for start in range(0, height, STRIP):
        part = (values[:, start : start + STRIP] * white).round()
        array[start : start + STRIP] = part.permute(1, 2, 0).numpy()
    return array
