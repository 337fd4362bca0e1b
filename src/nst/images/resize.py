"""Fit, resize and join images."""

from collections.abc import Sequence
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._utils.checks import at_least

__all__ = ["fit", "resize", "side_by_side"]


def fit(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return height and width in pixels of an image whose longer side is reduced to `size`.

    A smaller image is not enlarged. All sizes are integers of at least 1.

    Examples:
        >>> fit((300, 400), 200), fit((30, 40), 200)
        ((150, 200), (30, 40))
    """
    height, width = shape
    size, longer = at_least("size", size, 1), max(height, width)
    if longer <= size:
        return height, width
    return max(1, round(height * size / longer)), max(1, round(width * size / longer))


def resize(image: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resample an image with an antialiased bicubic filter, clamped to [0, 1].

    Args:
        image: (N, C, H, W), floating in [0, 1]; returned itself if it has the size already.
        size: Longest side in pixels, as in `fit`; or exactly (height, width).

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
            f"`image` has dtype {image.dtype}, but must be floating in [0, 1]. Divide by 255?"
        )
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
    resized = F.interpolate(image, target, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)  # bicubic overshoots at edges


def side_by_side(images: Tensor) -> Tensor:
    """Join a batch (N, 3, H, W) in [0, 1] horizontally into one image (1, 3, H, N W).

    Examples:
        >>> tuple(side_by_side(torch.rand(2, 3, 4, 5)).shape)
        (1, 3, 4, 10)
    """
    return torch.cat(list(images.detach()), dim=-1).unsqueeze(0).clamp(0, 1)
