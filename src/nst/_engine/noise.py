"""Noise in the colors of a style, to start a run from."""

from __future__ import annotations

import torch
from torch import Tensor

from nst.functional.statistics import square_root

__all__ = ["color_moments", "colored_noise"]


def color_moments(image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean color `(3,)` and the covariance `(3, 3)`, in float64 on the CPU.

    Args:
        image: `(1, 3, H, W)`.
        mask: Weights of the pixels, `(1, 1, H, W)`; None for equal ones.
    """
    pixels = image[0].flatten(1).cpu().double()
    share = pixels.new_ones(1, pixels.shape[1]) if mask is None else mask.flatten(1).cpu().double()
    share = share / share.sum()
    mean = (share * pixels).sum(1)
    centered = pixels - mean[:, None]
    return mean, (share * centered) @ centered.mT


def colored_noise(
    shape: tuple[int, int], mean: Tensor, covariance: Tensor, *, pink: bool, seed: int
) -> Tensor:
    """Return Gaussian noise of given colors, clamped to [0, 1]: `(1, 3, H, W)` in float64.

    It is drawn on the CPU, so it does not depend on the device; no global generator is used.

    Args:
        shape: Height and width.
        mean: Mean color, `(3,)`.
        covariance: Covariance of the colors, `(3, 3)`.
        pink: Whether amplitudes fall with frequency, 1/f, as in natural images (Field 1987).
        seed: Seed of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    if pink:
        noise = _fall_with_frequency(noise)
    root = square_root(covariance.double()[None])[0]
    colored = mean.double()[:, None] + root @ noise.flatten(1)
    picture: Tensor = colored.reshape(1, 3, *shape).clamp(0, 1)
    return picture


def _fall_with_frequency(noise: Tensor) -> Tensor:
    """Divide each wave of (3, H, W) by its frequency; normalize each channel to deviation 1."""
    height, width = noise.shape[-2:]
    rows = torch.fft.fftfreq(height, dtype=noise.dtype)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=noise.dtype)
    frequency = (rows.square() + columns.square()).sqrt()
    frequency[0, 0] = torch.inf  # no constant part
    # Multiplied, as PyTorch 2.4 returns NaN for a complex number divided by infinity.
    waves = torch.fft.rfft2(noise) * frequency.reciprocal()
    pink: Tensor = torch.fft.irfft2(waves, s=(height, width))
    deviation = pink.flatten(1).std(1, correction=0).clamp_min(1e-12)
    return pink / deviation[:, None, None]
