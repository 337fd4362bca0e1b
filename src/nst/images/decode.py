"""Reading: files, PIL images, arrays and tensors become (N, 3, H, W) sRGB in [0, 1].

What is transparent is composed on white, as a viewer would show it. What cannot be read faithfully
is refused, with the reason and a remedy.
"""

import os
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from nst._utils.checks import file_path
from nst._utils.memory import is_exhausted
from nst.images.read import check_input, decoding, file_array, image_array

__all__ = ["STRIP", "ImageLike", "Picture", "picture_shape", "read_picture"]

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor
"""What can be read as a picture."""

STRIP = 256
"""How many rows of a picture become other numbers at a time."""


class Picture(NamedTuple):
    """A picture as it appears on white, and how opaque its source was.

    Attributes:
        pixels: (N, 3, H, W), sRGB in [0, 1], transparent parts composed on white.
        alpha: (N, 1, H, W) in [0, 1], or None where the source is opaque.

    Examples:
        >>> pixels, alpha = read_picture(Image.new("RGBA", (4, 2), (255, 0, 0, 0)))
        >>> pixels.min().item(), alpha.max().item()
        (1.0, 0.0)
    """

    pixels: Tensor
    alpha: Tensor | None


def read_picture(source: ImageLike, *, name: str = "source") -> Picture:
    """Read a picture from a file, a PIL image, an array or a tensor.

    The result shares no memory with the source and is detached from autograd.

    Args:
        source: One of
            a path, read upright (EXIF), in sRGB (ICC profile), first frame only;
            a PIL image, treated alike (its current frame);
            an array (H, W) or (H, W, C), `uint8`, `uint16` or floating in [0, 1];
            a tensor (H, W), (C, H, W) or (N, C, H, W), `uint8` or floating in [0, 1].
            C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
        name: The caller's argument, for error messages.

    Returns:
        Pixels (N, 3, H, W) and, where not all opaque, alpha (N, 1, H, W); `float32`, but `float64`
        for a `float64` tensor, on the tensor's device.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        PermissionError: The file may not be read.
        MemoryError: It does not fit into the memory that is free.
        TypeError: The source is of another type, or its numbers are.
        ValueError: The file is no picture, damaged, or beyond `PIL.Image.MAX_IMAGE_PIXELS`; or
            shape or values are not as above.

    Examples:
        >>> pixels, alpha = read_picture(Image.new("L", (4, 2), 255))
        >>> tuple(pixels.shape), pixels.max().item(), alpha
        ((1, 3, 2, 4), 1.0, None)
    """
    try:
        return _read(source, name)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not is_exhausted(error):
            raise
        of_path = isinstance(source, str | os.PathLike)
        what = f"`{name}` is {str(source)!r}, which" if of_path else f"`{name}`"
        raise MemoryError(
            f"{what} does not fit into the memory that is free. Use a smaller picture."
        ) from error


def _read(source: ImageLike, name: str) -> Picture:
    what = f"`{name}`"
    if isinstance(source, Tensor):
        return _from_tensor(source, what)
    if isinstance(source, np.ndarray):
        return _from_array(source, what)
    if isinstance(source, Image.Image):
        return _from_array(image_array(source, what), what)
    if isinstance(source, str | os.PathLike):
        path = file_path(name, source)
        return _from_array(file_array(path, name), f"{what} is {str(path)!r}, which")
    raise TypeError(
        f"{what} is of type {type(source).__name__}, but must be a path (str or PathLike), "
        "a PIL image, a numpy array or a torch tensor. PIL.Image.open reads open files and bytes."
    )


def picture_shape(source: ImageLike) -> tuple[int, int]:
    """Return the sides of a picture in pixels; of a file, only the beginning is read for that.

    Args:
        source: As in `read_picture`.

    Returns:
        Height and width; of a file that EXIF turns on its side, the other way round.

    Raises:
        OSError: As in `read_picture`.
        TypeError: As in `read_picture`.
        ValueError: As in `read_picture`.
    """
    if isinstance(source, str | os.PathLike):
        check_input(source, name="source")
        with decoding(f"`source` is {str(source)!r}, which"), Image.open(source) as image:
            return image.height, image.width
    height, width = read_picture(source).pixels.shape[-2:]
    return height, width


def _from_array(array: npt.NDArray[Any], what: str) -> Picture:
    native = array.dtype.newbyteorder("=")
    if native not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise TypeError(
            f"{what} has dtype {array.dtype}, but must be uint8, uint16 or floating in [0, 1]. "
            "Convert it, e.g. with array.astype(numpy.uint8) if it lies in 0..255."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        hint = "Pass one picture at a time."
        if array.ndim == 3:
            hint = "Call array.transpose(1, 2, 0) if the channels come first."
        raise ValueError(
            f"{what} has shape {array.shape}, but must be (H, W) or (H, W, C), C from 1 to 4. "
            f"{hint}"
        )
    values = torch.from_numpy(np.array(array, dtype=native, order="C"))
    if native.kind == "f":
        values = values.to(torch.float32)
        _check_values(values, what)
    if values.ndim == 2:
        values = values[..., None]
    return _compose(values.permute(2, 0, 1)[None], what)


def _from_tensor(tensor: Tensor, what: str) -> Picture:
    if not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        raise TypeError(
            f"{what} has dtype {tensor.dtype}, but must be floating in [0, 1] or uint8. "
            "Convert it, e.g. with tensor.to(torch.uint8) if it lies in 0..255."
        )
    shape, last = tuple(tensor.shape), tensor.ndim - 1
    if tensor.ndim not in (2, 3, 4) or (tensor.ndim > 2 and shape[-3] not in (1, 2, 3, 4)):
        hint = "Add or remove axes, e.g. with tensor[None]."
        if last in (2, 3) and shape[-1] in (1, 3, 4):
            axes = "2, 0, 1" if last == 2 else "0, 3, 1, 2"
            hint = f"The channels seem to come last: call tensor.permute({axes})."
        raise ValueError(
            f"{what} has shape {shape}, but must be (H, W), (C, H, W) or (N, C, H, W), "
            f"C from 1 to 4. {hint}"
        )
    values = tensor.detach()
    if tensor.is_floating_point():
        values = values if values.dtype == torch.float64 else values.to(torch.float32)
        _check_values(values, what)
    batch = shape[0] if last == 3 else 1
    return _compose(values.reshape(batch, shape[-3] if last > 1 else 1, *shape[-2:]), what)


def _compose(values: Tensor, what: str) -> Picture:
    """Compose (N, C, H, W), C from 1 to 4, on white in memory of its own.

    Whole numbers become floating ones some rows at a time: a large picture is not there twice.
    """
    if values.numel() == 0:
        raise ValueError(f"{what} has no pixels. Pass a picture at least one pixel high and wide.")
    n, channels, height, width = values.shape
    whole = not values.is_floating_point()
    number = torch.float32 if whole else values.dtype
    pixels = values.new_empty((n, 3, height, width), dtype=number)
    alpha = values.new_empty((n, 1, height, width), dtype=number) if channels in (2, 4) else None
    for start in range(0, height, STRIP):
        rows = slice(start, start + STRIP)
        part = values[:, :, rows].to(number)
        if whole:
            part = part / torch.iinfo(values.dtype).max
        if alpha is not None:
            alpha[:, :, rows] = opaque = part[:, -1:]
            part = part[:, :-1] * opaque + (1 - opaque)
        pixels[:, :, rows] = part
    if alpha is not None and bool((alpha == 1).all()):
        alpha = None
    return Picture(pixels, alpha)


def _check_values(values: Tensor, what: str) -> None:
    """Raise unless all floats are in [0, 1]."""
    if values.numel() == 0:
        return
    if not bool(values.isfinite().all()):
        found = "NaN" if bool(values.isnan().any()) else "infinite values"
        raise ValueError(f"{what} has {found}. Replace them, e.g. with torch.nan_to_num.")
    low, high = values.min().item(), values.max().item()
    if low >= 0 and high <= 1:
        return
    remedy = "Call clamp(0, 1) if they only overshoot."
    if low < 0:
        remedy = "Undo a normalization if there was one. " + remedy
    elif high > 1.5:
        remedy = f"Divide by {255 if high <= 255 else 65535}?"
    raise ValueError(
        f"{what} has values from {low:g} to {high:g}, but floats must lie in [0, 1]. {remedy}"
    )
