"""Read masks: white counts, black does not."""

import numpy as np
import torch
from torch import Tensor

from nst.images import ImageLike, read_picture, resize

_COLORED = 0.1  # channels of a gray JPEG or of a converted color profile differ by less
_MOST_LABELS = 64


def read_mask(source: ImageLike, picture: Tensor, alpha: Tensor | None, name: str) -> Tensor | None:
    """Return a mask `(1, 1, H, W)` in [0, 1] for a picture `(N, 3, H, W)`; None if all white."""
    if isinstance(source, str) and source == "alpha":
        mask = torch.ones_like(picture[:1, :1]) if alpha is None else alpha
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


def _read_gray(source: ImageLike, name: str) -> Tensor:
    """Return `(N, 1, H, W)`, value times alpha; refuse colors, and labels instead of gray."""
    pixels, alpha = read_picture(source, name=name)
    if alpha is not None:
        pixels = (pixels - (1 - alpha)).clamp(0, 1)  # without the white it was composed on
    low, high = pixels.aminmax(dim=1)
    if float((high - low).max()) > _COLORED:
        raise ValueError(
            f"`{name}` is colored, but a mask must be gray: white counts, black does not. Select "
            "its colors, e.g. with (numpy.asarray(mask) == (255, 0, 0)).all(-1), or pass its alpha."
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
    """Whether most of what is not black is darker than a quarter of white, in few levels."""
    counts = torch.histc(gray.float().cpu(), 256, 0, 1)[1:]
    return int((counts > 0).sum()) <= _MOST_LABELS and bool(2 * counts[:63].sum() > counts.sum())


def _is_floating(source: ImageLike) -> bool:
    if isinstance(source, Tensor):
        return source.is_floating_point()
    return isinstance(source, np.ndarray) and source.dtype.kind == "f"
