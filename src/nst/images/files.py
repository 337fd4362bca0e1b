"""Pictures in and out: load, resize, convert, save."""

import io
import json
import logging
import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nst._utils.checks import file_path
from nst._utils.files import check_place, write_whole
from nst._utils.json import json_ready
from nst.images.decode import STRIP, ImageLike, Picture, read_picture
from nst.images.read import check_input, decoding

__all__ = [
    "ImageLike",
    "Picture",
    "check_input",
    "check_output",
    "fit",
    "load_image",
    "read_picture",
    "read_record",
    "resize",
    "save_image",
    "side_by_side",
    "to_pil",
]

logger = logging.getLogger("nst")

_ALPHA_FORMATS = {"AVIF", "DDS", "HEIF", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"}
_OPAQUE_FORMATS = {"BMP", "DIB", "GIF", "JPEG", "PCX", "PPM"}
_RECORD_FORMATS = {"JPEG": 65_533, "PNG": None, "TIFF": None, "WEBP": None}  # bytes of EXIF
_DESCRIPTION = 0x010E  # the tag of EXIF's image description
_RECORD_KEY, _RECORD_VERSION = "nst record", 1
_SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


def load_image(source: ImageLike, *, size: int | None = None) -> Tensor:
    """Read a picture and, if asked, shrink it.

    Args:
        source: As in `read_picture`.
        size: Longest side in pixels; None keeps the picture's own.

    Returns:
        (N, 3, H, W), sRGB in [0, 1], transparent parts composed on white.

    Raises:
        OSError: As in `read_picture`.
        TypeError: As in `read_picture`.
        ValueError: As in `read_picture`, or `size` is below 1.

    Examples:
        >>> tuple(load_image(Image.new("RGB", (40, 20)), size=10).shape)
        (1, 3, 5, 10)
    """
    if size is not None:
        _check_side(size)
    pixels = read_picture(source).pixels
    return pixels if size is None else resize(pixels, size)


def fit(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return the height and width whose longer side is at most `size`, in the same proportion.

    Args:
        shape: Height and width in pixels, at least 1 each.
        size: Longest side in pixels.

    Raises:
        TypeError: `size` is not an integer.
        ValueError: `size` is below 1.

    Examples:
        >>> fit((300, 400), 200), fit((30, 40), 200)
        ((150, 200), (30, 40))
    """
    height, width = shape
    size, longer = _check_side(size), max(height, width)
    if longer <= size:
        return height, width
    return max(1, round(height * size / longer)), max(1, round(width * size / longer))


def resize(image: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resample a picture by an antialiased bicubic filter, clamped to [0, 1].

    Args:
        image: (N, C, H, W), floating in [0, 1].
        size: The longest side in pixels, to which a larger picture is shrunk and a smaller one is
            returned as it is; or exactly (height, width).

    Returns:
        (N, C, height, width), floating in [0, 1]; `image` itself if it has that size already.

    Raises:
        TypeError: `size` is neither an integer nor a pair of integers, or `image` is not floating.
        ValueError: `image` is not (N, C, H, W), or a side is below 1.

    Examples:
        >>> image = torch.rand(1, 3, 30, 40)
        >>> tuple(resize(image, 20).shape), tuple(resize(image, (60, 50)).shape)
        ((1, 3, 15, 20), (1, 3, 60, 50))
    """
    if image.ndim != 4:
        raise ValueError(
            f"`image` has shape {tuple(image.shape)}, but must be (N, C, H, W). "
            "Add the batch axis with image[None]."
        )
    if not image.is_floating_point():
        raise TypeError(
            f"`image` has dtype {image.dtype}, but must be floating in [0, 1]. Use load_image, or "
            "divide by 255."
        )
    height, width = image.shape[-2:]
    if isinstance(size, tuple):
        if len(size) != 2:
            raise TypeError(f"`size` is {size!r}, but must be an integer or (height, width).")
        target = _check_side(size[0]), _check_side(size[1])
    else:
        target = fit((height, width), size)
    if target == (height, width):
        return image
    if image.device.type == "mps":  # where the antialiased filter does not exist
        return resize(image.cpu(), target).to(image)
    resized = F.interpolate(image, target, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)  # bicubic overshoots at edges


def to_pil(image: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """Make an 8-bit PIL image, each value rounded to the nearest.

    With `alpha`, the white under transparent parts is taken out again, so that the result composed
    on white looks like `image`, and on any other ground has no white fringe.

    Args:
        image: One picture, (3, H, W) or (1, 3, H, W), sRGB; clamped to [0, 1].
        alpha: (1, H, W) or (1, 1, H, W); clamped to [0, 1].

    Returns:
        An image in mode RGB, or RGBA with `alpha`.

    Raises:
        TypeError: The values are not floating.
        ValueError: The shape is another, or a value is NaN or infinite.

    Examples:
        >>> to_pil(torch.full((3, 1, 1), 254.9 / 255)).getpixel((0, 0))
        (255, 255, 255)
    """
    pixels = _one_picture(image, 3, "image")
    if alpha is None:
        return Image.fromarray(_to_bytes(pixels))
    alpha = _one_picture(alpha, 1, "alpha")
    if alpha.shape[-2:] != pixels.shape[-2:]:
        raise ValueError(
            f"`alpha` is {tuple(alpha.shape[-2:])} in size, but `image` is "
            f"{tuple(pixels.shape[-2:])}. Resize it with resize(alpha, (height, width))."
        )
    # A reader sees the rounded alpha; where that is 0 no color shows, and the painted one stays.
    seen = (alpha * 255).round() / 255
    bare = torch.where(seen > 0, (pixels - (1 - seen)) / seen.clamp_min(1 / 255), pixels)
    return Image.fromarray(np.dstack((_to_bytes(bare.clamp(0, 1)), _to_bytes(alpha))))


def save_image(
    image: Tensor,
    path: str | os.PathLike[str],
    *,
    alpha: Tensor | None = None,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """Save one picture whole or not at all, in the format that the suffix names.

    The file is written beside its place and moved there at the end. It holds no metadata but the
    record, if one is given.

    Args:
        image: One picture, (3, H, W) or (1, 3, H, W), sRGB; clamped to [0, 1].
        path: Where to; JPEG has quality 95 and full color resolution. An existing file is replaced.
        alpha: (1, H, W) or (1, 1, H, W), kept where the format can hold it (PNG, WebP, TIFF, ...).
        record: How the picture was made; kept as EXIF image description where the format can hold
            it (PNG, WebP, TIFF; JPEG up to 64 kB). `read_record` reads it. Values that are not
            JSON's are told as text, and absolute paths lose their folders.

    Returns:
        The path.

    Raises:
        OSError: As in `check_output`, or the picture could not be encoded or written.
        TypeError: As in `to_pil`.
        ValueError: As in `check_output` and `to_pil`.

    Examples:
        >>> save_image(torch.rand(1, 3, 8, 8), "noise.png")  # doctest: +SKIP
        PosixPath('noise.png')
    """
    path = check_output(path)
    format_name = Image.registered_extensions()[path.suffix.lower()]
    picture = to_pil(image, alpha if format_name in _ALPHA_FORMATS else None)
    options: dict[str, Any] = dict(_SAVE_OPTIONS.get(format_name, {}))
    if record is not None and format_name in _RECORD_FORMATS:
        options.update(_record_options(record, path, _RECORD_FORMATS[format_name]))
    buffer = io.BytesIO()  # without a file's name, which some formats would write inside
    try:
        picture.save(buffer, format=format_name, **options)
    except (OSError, ValueError) as err:
        raise OSError(
            f"`path` is {str(path)!r}, but Pillow could not encode {picture.width} x "
            f"{picture.height} pixels as {format_name} ({err}). Try .png or a smaller picture."
        ) from err
    write_whole(path, buffer.getbuffer())
    return path


def _record_options(
    record: Mapping[str, Any], path: Path, longest: int | None
) -> dict[str, Image.Exif]:
    """Return what makes Pillow write the record; nothing for one that the format cannot hold."""
    exif = Image.Exif()
    exif[_DESCRIPTION] = json.dumps({_RECORD_KEY: _RECORD_VERSION, **json_ready(record)})
    length = len(exif.tobytes())
    if longest is None or length <= longest:
        return {"exif": exif}
    # The picture may have taken an hour; its record can be had from `settings`.
    logger.warning(
        "the record of %r is left out: it has %d bytes, and this format can hold %d; save as .png "
        "to keep it",
        str(path),
        length,
        longest,
    )
    return {}


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the record that `StyleTransferResult.save` wrote into a picture.

    Args:
        path: The picture.

    Returns:
        The settings of the run; see `StyleTransferResult.settings`.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: It is no picture, or has no record of a version that is known.

    Examples:
        >>> path = save_image(torch.rand(1, 3, 8, 8), "noise.png", record={"seed": 7})
        >>> read_record(path)
        {'seed': 7}
    """
    path = file_path("path", path)
    check_input(path, name="path")
    refusal = f"`path` is {str(path)!r}, which holds no record of nst; use one as it was saved."
    with decoding(f"`path` is {str(path)!r}, which"), Image.open(path) as picture:
        text = picture.getexif().get(_DESCRIPTION, "")
    try:
        record = json.loads(text)
        version = record.pop(_RECORD_KEY)
    except Exception as error:  # whatever stands there can raise nearly anything
        raise ValueError(refusal) from error
    if version != _RECORD_VERSION:
        raise ValueError(f"{refusal} Its version is {version!r}; {_RECORD_VERSION} is needed.")
    found: dict[str, Any] = record
    return found


def check_output(path: str | os.PathLike[str], *, name: str = "path") -> Path:
    """Make sure that a picture can be saved at `path`, before the work that makes it.

    Args:
        path: Where the picture shall go.
        name: The caller's argument, for error messages.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: The path is a folder.
        NotADirectoryError: What should be the folder is a file.
        PermissionError: The folder or the existing file may not be written.
        ValueError: The suffix names no format that can hold the picture, or no file can be called
            that.

    Examples:
        >>> check_output("result.png").name
        'result.png'
    """
    path = file_path(name, path)
    if not path.is_dir():
        _check_suffix(path, name)
    return check_place(path, name=name, example="result.png")


def _check_suffix(path: Path, name: str) -> None:
    known = Image.registered_extensions()  # also loads Pillow's plug-ins, which fill Image.SAVE
    format_name = known.get(path.suffix.lower())
    if format_name not in Image.SAVE or format_name not in _ALPHA_FORMATS | _OPAQUE_FORMATS:
        found = f"suffix {path.suffix!r} names no known picture format"
        raise ValueError(
            f"`{name}` is {str(path)!r}, whose {found if path.suffix else 'name has no suffix'}. "
            "Use .png, .jpg, .webp, .tiff or .bmp."
        )


def _check_side(side: int) -> int:
    try:
        side = operator.index(side)
    except TypeError as err:
        raise TypeError(f"`size` is {side!r}, but must be an integer or (height, width).") from err
    if side < 1:
        raise ValueError(f"`size` has {side}, but a side must be at least 1 pixel.")
    return side


def _one_picture(image: Tensor, channels: int, name: str) -> Tensor:
    """Return (channels, H, W), clamped, on the CPU."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"`{name}` is a {type(image).__name__}, but must be a tensor. load_image makes one."
        )
    shape = tuple(image.shape)
    if not image.is_floating_point():
        raise TypeError(f"`{name}` has dtype {image.dtype}, but must be floating in [0, 1].")
    if len(shape) not in (3, 4) or shape[-3] != channels or shape[:-3] not in ((), (1,)):
        raise ValueError(
            f"`{name}` has shape {shape}, but must be ({channels}, H, W) or "
            f"(1, {channels}, H, W). Take one picture of a batch, e.g. {name}[0]."
        )
    if image.numel() == 0:
        raise ValueError(f"`{name}` has shape {shape}, but at least one pixel is needed.")
    low, high = image.detach().aminmax()  # NaN, if there is one
    if not bool(low.isfinite() & high.isfinite()):
        found = "NaN" if bool(image.isnan().any()) else "infinite values"
        raise ValueError(f"`{name}` has {found}. Lower the step size if an optimization made them.")
    image = image.detach().cpu()
    image = image if image.dtype == torch.float64 else image.float()
    image = image.reshape(shape[-3:])
    return image.clamp(0, 1) if low < 0 or high > 1 else image


def _to_bytes(values: Tensor) -> npt.NDArray[Any]:
    """Turn (C, H, W) in [0, 1] into (H, W, C) of `uint8`, some rows at a time."""
    channels, height, width = values.shape
    array = np.empty((height, width, channels), np.uint8)
    for start in range(0, height, STRIP):
        part = (values[:, start : start + STRIP] * 255).round()
        array[start : start + STRIP] = part.to(torch.uint8).permute(1, 2, 0).numpy()
    return array


def side_by_side(images: Tensor) -> Tensor:
    """Put a batch `(N, 3, H, W)` into one picture `(1, 3, H, N W)`.

    Args:
        images: sRGB in [0, 1].

    Examples:
        >>> tuple(side_by_side(torch.rand(2, 3, 4, 5)).shape)
        (1, 3, 4, 10)
    """
    return torch.cat(list(images.detach()), dim=-1).unsqueeze(0).clamp(0, 1)
