"""Convert pictures to tensors (N, 3, H, W), sRGB in [0, 1], and resize them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from PIL import TiffImagePlugin as tiff
from torch import Tensor

from nst._utils.checks import at_least, floating_image, within_0_and_1
from nst._utils.device import at_least_single, is_exhausted
from nst.images.decode import check_input, decoding, image_array, opened, orientation

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor
"""Anything that can be read as an image."""

STRIP = 256
"""Rows converted at a time, so that a large image is not in memory twice."""


class Picture(NamedTuple):
    """An image composed on white, and the transparency of its source."""

    pixels: Tensor
    """(N, 3, H, W), sRGB in [0, 1]."""
    alpha: Tensor | None
    """(N, 1, H, W) in [0, 1]; None if the source is opaque."""


def load_image(source: ImageLike, *, size: int | None = None) -> Tensor:
    """Return an image as (N, 3, H, W), sRGB in [0, 1], transparent parts composed on white.

    Args:
        source: As in `read_picture`, which also lists the exceptions.
        size: Longest side in pixels, at least 1; a larger image is shrunk. None leaves the size.
    """
    if size is not None:
        at_least("size", size, 1)
    pixels = read_picture(source).pixels
    return pixels if size is None else resize(pixels, size)


def read_picture(source: ImageLike, *, name: str = "source") -> Picture:
    """Read an image from a file, PIL image, array or tensor; tensors are copied and detached.

    Args:
        source: A path (first frame) or PIL image (current frame), rotated upright (EXIF) and
            converted to sRGB (ICC profile); an array (H, W) or (H, W, C), or a tensor (H, W),
            (C, H, W) or (N, C, H, W), `uint8`, `uint16` or floating in [0, 1]. C is 1 (gray), 2
            (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Booleans are black and white, C is 1.
        name: Name of the caller's argument in error messages.

    Returns:
        `float64` tensors for a `float64` tensor, else `float32`; on the device of a tensor.

    Raises:
        OSError: The file does not exist, is a folder, or cannot be read.
        TypeError: The type or dtype is not supported.
        ValueError: The file is not an image, damaged, or beyond `PIL.Image.MAX_IMAGE_PIXELS`; or
            the shape or the values are not as above.

    Examples:
        >>> pixels, alpha = read_picture(Image.new("RGBA", (4, 2), (255, 0, 0, 0)))
        >>> tuple(pixels.shape), pixels.min().item(), alpha.max().item()
        ((1, 3, 2, 4), 1.0, 0.0)
    """
    what = f"`{name}`"
    if isinstance(source, str | os.PathLike):
        source = check_input(source, name=name)
        what = f"{what} is {str(source)!r}, which"
    try:
        if isinstance(source, Tensor):
            return _from_tensor(source, what)
        if isinstance(source, Path | Image.Image):
            source = image_array(source, what)
        if isinstance(source, np.ndarray):
            return _from_array(source, what)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not is_exhausted(error):
            raise
        remedy = "Use a smaller picture."
        raise MemoryError(f"{what} does not fit into the memory that is free. {remedy}") from error
    remedy = "Use PIL.Image.open for open files and bytes."
    if isinstance(source, (list, tuple)):
        remedy = "Pass one picture; StyleTransfer.map takes several."
    raise TypeError(
        f"{what} is of type {type(source).__name__}, but must be a path (str or PathLike), "
        f"a PIL image, a numpy array or a torch tensor. {remedy}"
    )


def picture_shape(source: ImageLike) -> tuple[int, int]:
    """Return height and width of a picture; those of a file or PIL image are from its header."""
    if isinstance(source, str | os.PathLike):
        path = check_input(source, name="source")
        with decoding(f"`source` is {str(path)!r}, which"), opened(path) as image:
            return picture_shape(image)
    if isinstance(source, Image.Image):  # which decodes only once in 16 bits
        shape = source.height, source.width
        if isinstance(source, tiff.TiffImageFile) and source.tile:  # decoded, it may be turned
            shape = source.tag_v2[tiff.IMAGELENGTH], source.tag_v2[tiff.IMAGEWIDTH]
        if source.format == "PNG" and "exif" not in source.info:
            return shape  # Pillow would decode it to find EXIF data behind the pixels
        return shape[::-1] if orientation(source, "`source`") in (5, 6, 7, 8) else shape
    height, width = read_picture(source).pixels.shape[-2:]
    return height, width


def fit(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return height and width after reducing the longer side to `size`, if it is longer.

    Examples:
        >>> fit((300, 400), 200), fit((30, 40), 200)
        ((150, 200), (30, 40))
    """
    height, width = shape
    longer = max(height, width)
    size = min(at_least("size", size, 1), longer)
    return max(1, round(height * size / longer)), max(1, round(width * size / longer))


def resize(image: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resample an image with an antialiased bicubic filter, clamped to [0, 1].

    Args:
        image: (N, C, H, W), floating in [0, 1]; returned itself if it already has the size.
        size: Longest side in pixels, as in `fit`; or exactly (height, width).

    Examples:
        >>> image = torch.rand(1, 3, 30, 40)
        >>> tuple(resize(image, 20).shape), tuple(resize(image, (60, 50)).shape)
        ((1, 3, 15, 20), (1, 3, 60, 50))
    """
    floating_image("image", image)
    height, width = image.shape[-2:]
    if isinstance(size, tuple) and len(size) == 2:
        target = at_least("size[0]", size[0], 1), at_least("size[1]", size[1], 1)
    elif isinstance(size, SupportsIndex):
        target = fit((height, width), size)
    else:
        raise TypeError(f"`size` is {size!r}, but must be an integer or (height, width).")
    if target == (height, width):
        return image
    if image.device.type == "mps":  # which lacks the antialiased filter
        return resize(image.cpu(), target).to(image)
    how: Any = {"mode": "bicubic", "antialias": True, "align_corners": False}
    resized = F.interpolate(at_least_single(image), target, **how)
    return resized.clamp(0, 1).to(image)  # bicubic overshoots at edges


def _from_array(array: npt.NDArray[Any], what: str) -> Picture:
    native = array.dtype.newbyteorder("=")
    if native not in (np.bool_, np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise _wrong_dtype(what, array.dtype, "array.astype(numpy.uint8)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        hint = "Pass one picture at a time."
        if array.ndim == 3:
            hint = "Call array.transpose(1, 2, 0) if the channels come first."
        rule = f"has shape {array.shape}, but must be (H, W) or (H, W, C), C from 1 to 4"
        raise ValueError(f"{what} {rule}. {hint}")
    values = torch.from_numpy(np.array(np.atleast_3d(array), dtype=native, order="C"))
    return _compose(values.permute(2, 0, 1)[None], what, torch.float32)


def _from_tensor(tensor: Tensor, what: str) -> Picture:
    supported = (torch.bool, torch.uint8, torch.uint16)
    if not tensor.is_floating_point() and tensor.dtype not in supported:
        raise _wrong_dtype(what, tensor.dtype, "tensor.to(torch.uint8)")
    shape, ndim = tuple(tensor.shape), tensor.ndim
    if ndim not in (2, 3, 4) or (ndim > 2 and shape[-3] not in (1, 2, 3, 4)):
        hint = "Add or remove axes, e.g. with tensor[None]."
        if ndim in (3, 4) and shape[-1] in (1, 3, 4):
            axes = "2, 0, 1" if ndim == 3 else "0, 3, 1, 2"
            hint = f"The channels seem to come last: call tensor.permute({axes})."
        raise ValueError(
            f"{what} has shape {shape}, but must be (H, W), (C, H, W) or (N, C, H, W), "
            f"C from 1 to 4. {hint}"
        )
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return _compose(tensor.detach()[(None,) * (4 - ndim)], what, dtype)


def _wrong_dtype(what: str, dtype: object, convert: str) -> TypeError:
    return TypeError(
        f"{what} has dtype {dtype}, but must be uint8, uint16, bool or floating in [0, 1]. Convert "
        f"it, e.g. with {convert} if it lies in 0..255, or to a mask with == label if it holds "
        "labels."
    )


def _compose(values: Tensor, what: str, dtype: torch.dtype) -> Picture:
    """Return a copy of (N, C, H, W), C from 1 to 4, composed on white."""
    if values.numel() == 0:
        raise ValueError(f"{what} has no pixels. Pass a picture at least one pixel high and wide.")
    white = 1
    if values.is_floating_point():
        values = within_0_and_1(what, values.to(dtype), values.dtype)
    elif values.dtype != torch.bool:
        white = torch.iinfo(values.dtype).max
    n, channels, height, width = values.shape
    if values.dtype == torch.bool and channels != 1:
        rule = f"has {channels} channels of booleans, but must have one (True is white)"
        raise ValueError(f"{what} {rule}. Pass one, e.g. mask[0], or combine them with any().")
    pixels = values.new_empty((n, 3, height, width), dtype=dtype)
    alpha = values.new_empty((n, 1, height, width), dtype=dtype) if channels in (2, 4) else None
    for start in range(0, height, STRIP):
        rows = slice(start, start + STRIP)
        part = values[:, :, rows].to(dtype) / white
        if alpha is not None:
            alpha[:, :, rows] = opaque = part[:, -1:]
            part = part[:, :-1] * opaque + (1 - opaque)
        pixels[:, :, rows] = part
    if alpha is not None and bool((alpha == 1).all()):
        alpha = None
    return Picture(pixels, alpha)
