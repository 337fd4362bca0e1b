"""Read masks, in which white counts and black does not."""

from typing import TypeAlias

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from nst.images import ImageLike, read_picture, resize

MaskLike: TypeAlias = ImageLike | tuple[ImageLike, str]
"""A gray picture, or a picture of labels with the color of one, such as `"#ff0000"`."""

_COLORED = 0.1  # channels of a gray JPEG or of a converted color profile differ by less
_MOST_LABELS = 64
_LISTED = 8  # colors in a message


def read_mask(source: MaskLike, picture: Tensor, alpha: Tensor | None, name: str) -> Tensor | None:
    """Return a mask `(1, 1, H, W)` in [0, 1] for a picture `(N, 3, H, W)`; None if all white."""
    if isinstance(source, str) and source == "alpha":
        mask = torch.ones_like(picture[:1, :1]) if alpha is None else alpha
    elif isinstance(source, tuple):
        mask = _read_label(source, name).to(picture)
    else:
        mask = _read_gray(source, name).to(picture)
    if len(mask) != 1:
        raise ValueError(
            f"`{name}` is a batch of {len(mask)} pictures; a mask is one. Pass one of them."
        )
    (height, width), (rows, columns) = picture.shape[-2:], mask.shape[-2:]
    # Proportions may differ by rounding to whole pixels.
    if abs(rows * width - columns * height) > max(height, width, rows, columns):
        raise ValueError(
            f"`{name}` is {rows}x{columns} pixels, but its picture is {height}x{width}. "
            "Give it the same proportions."
        )
    if not bool(mask.any()):
        raise ValueError(
            f"`{name}` is black everywhere; some part of it must be white, and not transparent."
        )
    return None if bool((mask == 1).all()) else resize(mask, (height, width))


def _read_label(source: tuple[ImageLike, str], name: str) -> Tensor:
    """Return `(N, 1, H, W)`, true where the picture has the color and is not transparent."""
    try:
        labels, color = source
        red, green, blue = ImageColor.getrgb(color)[:3]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` is {source!r}; it must be a picture of labels and the color of one, such as "
            "('labels.png', '#ff0000')."
        ) from error
    pixels, alpha = read_picture(labels, name=name)
    reds, greens, blues = (pixels * 255).round().long().unbind(1)
    codes = 65536 * reds + 256 * greens + blues
    found = codes == 65536 * red + 256 * green + blue
    if alpha is not None:
        found &= alpha[:, 0] == 1
    if not found.any():
        colors, counts = np.unique(codes.cpu().numpy(), return_counts=True)
        listed = ", ".join(f"#{each:06x}" for each in colors[np.argsort(-counts)[:_LISTED]])
        raise ValueError(
            f"`{name}` has no pixel of the color {color}. Its most frequent colors are {listed}; "
            "choose one of them."
        )
    return found[:, None]


def _read_gray(source: ImageLike, name: str) -> Tensor:
    """Return `(N, 1, H, W)`, value times alpha; refuse colors, and labels instead of gray."""
    pixels, alpha = read_picture(source, name=name)
    if alpha is not None:
        pixels = (pixels - (1 - alpha)).clamp(0, 1)  # without the white it was composed on
    low, high = pixels.aminmax(dim=1)
    if float((high - low).max()) > _COLORED:
        raise ValueError(
            f"`{name}` is colored, but a mask must be gray: white counts, black does not. Pass "
            "the color that counts with it, as in (mask, '#ff0000') or mask.png#ff0000."
        )
    gray = pixels.mean(1, keepdim=True)
    problem, brightest = None, float(gray.max()) * 255
    if 0 < brightest < 1.5:
        problem = "is nearly black: its brightest value is 1 of 255"
    elif alpha is None and not _is_floating(source) and _has_labels(gray):
        problem = (
            f"seems to hold labels: few values, most of them dark, up to {brightest:.0f} of 255"
        )
    if problem is not None:
        remedy = "Pass what counts as booleans, e.g. numpy.asarray(mask) == 1"
        raise ValueError(f"`{name}` {problem}. {remedy}, or as floats if dark gray is meant.")
    return gray


def _has_labels(gray: Tensor) -> bool:
    """Return whether most pixels above black are darker than a quarter of white, in few levels."""
    counts = torch.histc(gray.float().cpu(), 256, 0, 1)[1:]
    return int((counts > 0).sum()) <= _MOST_LABELS and bool(2 * counts[:63].sum() > counts.sum())


def _is_floating(source: ImageLike) -> bool:
    if isinstance(source, Tensor):
        return source.is_floating_point()
    return isinstance(source, np.ndarray) and source.dtype.kind == "f"
