"""Two more pictures made in code, to take a style from: a mosaic of fans, and a woodcut of waves.

Both are formulas of a pixel's place. The mosaic lays its stones in rings around the middle of each
fan; the woodcut bends the level lines of its waves around eddies, and cuts along them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["mosaic", "woodcut"]

Array = NDArray[Any]
Rng = np.random.Generator

_SCALE = 2  # drawn twice as large, for soft edges

# Glass from dark to light, one row for each kind of fan; grout and gold are the same for all.
_GLASS = (
    "0b2a4a 12507e 1c86a8 58b6bd b9e0d2",
    "4a0f22 8c1c2e c8432f e8843c f6c26a",
    "123a2c 1f6a45 5a9c4a a8c455 e6e39a",
    "2a1747 54307c 8a52a4 c488b8 f0c8d0",
)
_GOLD, _GROUT = "d9a62e", "2b2620"
_FAN = 0.24  # the radius of a fan, as a share of the picture's height
_STONES = 9  # rings of stones from a fan's middle to its rim

_PAPER, _INK, _SUN = "f2e6c8", "16233f", "d8432b"
_WATER = "17356b 2a5f9e 6fa3c4 b9d3d3 f4efdd"


def mosaic(width: int = 768, height: int = 576, *, seed: int = 0) -> Image.Image:
    """Lays fans of glass stones over each other, like the scales of a fish.

    Args:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        seed: Another seed chooses and cuts other stones.

    Returns:
        An RGB picture; the same one whenever the arguments are the same.

    Examples:
        >>> mosaic(64, 48).size
        (64, 48)
    """
    rng = np.random.default_rng(seed)
    y, x = _grid(width, height)
    distance, angle, fan = _fans(y, x)
    ring = np.minimum((distance * _STONES).astype(int), _STONES - 1)
    # Each ring holds as many stones as have room, and begins anywhere.
    count = np.maximum(1, np.round(np.pi * (ring + 0.5))).astype(int)
    start = rng.random((fan.max() + 1, _STONES))[fan, ring]
    along = angle / (2 * np.pi) * 2 * count + start
    stone = along.astype(int)
    place = (fan * _STONES + ring) * 64 + stone % 64
    few = int(place.max()) + 1
    color = _glass(rng, fan, ring, place, few)
    # Every stone is set a little askew, and catches the light in its own way.
    tilt = rng.normal(0, 1, (2, few))[:, place]
    u, v = along - stone - 0.5, distance * _STONES - ring - 0.5
    light = 1 + 0.16 * (tilt[0] * u + tilt[1] * v) + 0.1 * rng.normal(0, 1, few)[place]
    color = color * light[..., None]
    rim = np.maximum(np.abs(u), np.abs(v)) + 0.05 * np.abs(u * v)
    color[rim > 0.41] = _rgb(_GROUT)
    return _reduced(color, width, height)


def _fans(y: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return how far the middle of the fan on top is, the angle around it, and which fan it is."""
    distance, angle = np.full_like(y, 2.0), np.zeros_like(y)
    fan = np.zeros(y.shape, int)
    rows = 2 + int(2 * 1 / _FAN)
    number = 0
    for row in range(-1, rows + 1):  # the lower, the more in front
        cy = (row + 1) * _FAN / 2
        shift = _FAN if row % 2 else 0.0
        for cx in np.arange(-shift, float(x.max()) + 2 * _FAN, 2 * _FAN):
            away = np.hypot(x - cx, y - cy) / _FAN
            inside = away < 1
            distance[inside] = away[inside]
            angle[inside] = (np.arctan2(y - cy, x - cx) + np.pi)[inside]
            fan[inside] = number
            number += 1
    return np.minimum(distance, 0.9999), angle, fan


def _glass(rng: Rng, fan: Array, ring: Array, place: Array, few: int) -> Array:
    """Choose each stone's glass: by ring and kind of fan, with some of a neighboring shade."""
    kinds = np.stack([_rgbs(row) for row in _GLASS])
    kind = rng.integers(0, len(_GLASS), fan.max() + 1)[fan]
    shades = rng.permuted(np.tile(np.arange(5), (fan.max() + 1, 2))[:, :_STONES], axis=1)
    bands = np.sort(shades, axis=1)[fan, ring]
    shade = np.clip(bands + rng.choice([-1, 0, 0, 0, 1], few)[place], 0, 4)
    color = kinds[kind, shade]
    golden = (ring == _STONES - 1) | (rng.random(few) < 0.03)[place]
    return np.asarray(np.where(golden[..., None], _rgb(_GOLD), color))


def woodcut(width: int = 768, height: int = 576, *, seed: int = 0) -> Image.Image:
    """Cuts waves under a red sun, printed in ink and four blues on warm paper.

    Args:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        seed: Another seed raises other waves.

    Returns:
        An RGB picture; the same one whenever the arguments are the same.

    Examples:
        >>> woodcut(64, 48).size
        (64, 48)
    """
    rng = np.random.default_rng(seed)
    y, x = _grid(width, height)
    wide = float(x.max())
    color = _evening(rng, y, x, wide)
    for i, base in enumerate((0.47, 0.56, 0.66, 0.77, 0.89)):
        _wave(rng, color, y, x, base, 0.06 + 0.024 * i)
    grain = np.interp(y[:, :1] * 420 + 3 * np.sin(7 * x[:1]), np.arange(600), rng.normal(0, 1, 600))
    return _reduced(color * (1 + 0.015 * grain)[..., None], width, height)


def _evening(rng: Rng, y: Array, x: Array, wide: float) -> Array:
    """Return the sky: ink that was wiped toward the horizon, a sun, and bands of cloud."""
    fade = np.clip(1 - y / 0.34, 0, 1)[..., None] ** 1.5
    color = _rgb(_PAPER) * (1 - 0.85 * fade) + _rgbs(_WATER)[0] * 0.85 * fade
    warm = np.exp(-(((y - 0.5) / 0.13) ** 2))[..., None]
    color = color * (1 - 0.45 * warm) + np.array([240.0, 172, 110]) * 0.45 * warm
    sun = np.hypot(x - 0.68 * wide, y - 0.3)
    color[sun < 0.13] = _rgb(_SUN)
    for _ in range(7):
        cy, cx = rng.uniform(0.08, 0.42), rng.uniform(0, wide)
        half, thick = rng.uniform(0.12, 0.4), rng.uniform(0.008, 0.016)
        edge = thick * (1 - ((x - cx) / half) ** 2) + 0.004 * np.sin(23 * x + 9 * cx)
        cloud = np.abs(y - cy) < edge
        color[cloud] = _rgb(_PAPER)
        color[(np.abs(np.abs(y - cy) - edge) < 0.0022) & (np.abs(x - cx) < half)] = _rgb(_INK)
    return np.asarray(color)


def _wave(rng: Rng, color: Array, y: Array, x: Array, base: float, size: float) -> None:
    """Print one row of waves over what is there: curled crests, cut lines, foam and an outline."""
    length = 5.2 * size
    phase = rng.uniform(0, length)
    u, v = x + phase, y
    for k in range(-1, int((float(x.max()) + phase) / length) + 2):
        # An eddy under each crest bends the water over, as breakers are drawn.
        cx, cy = (k + rng.uniform(0.4, 0.6)) * length, base - 0.55 * size
        dx, dy = u - cx, v - cy
        turn = 2.6 * np.exp(-((np.hypot(dx, dy) / (0.75 * size)) ** 2))
        sin, cos = np.sin(turn), np.cos(turn)
        u, v = cx + dx * cos - dy * sin, cy + dx * sin + dy * cos
    swell = np.cos(2 * np.pi * u / length)
    depth = (v - base - size * (0.75 * swell + 0.12 * np.cos(6 * np.pi * u / length + 1))) / size
    water = depth > 0
    tone = 4.6 - 1.6 * depth + 0.9 * np.sin(2 * np.pi * depth * 1.4 + 2 * swell)
    foam = 0.16 + 0.1 * np.sin(19 * u / size) * np.sin(11 * u / size + 1)
    shade = np.clip(tone, 0, 3).astype(int)
    printed = _rgbs(_WATER)[np.where(depth < foam, 4, shade)]
    # Lines are cut along the water, broader where it is dark.
    lines = np.abs((depth * 5 + 0.25 * swell) % 1 - 0.5) < 0.1 + 0.035 * (3 - shade)
    ink = (lines & (depth > foam + 0.05) & (shade < 3)) | (depth < 0.05)
    ink |= np.abs(depth - foam) < 0.03
    printed = np.where(ink[..., None], _rgb(_INK), printed)
    color[water] = printed[water]


def _grid(width: int, height: int) -> tuple[Array, Array]:
    """Return each pixel's row and column, in heights of the picture."""
    for name, value in (("width", width), ("height", height)):
        if value < 1:
            raise ValueError(f"`{name}` is {value}, but must be at least 1: give a size in pixels.")
    y, x = np.mgrid[0 : _SCALE * height, 0 : _SCALE * width].astype(np.float32)
    return y / (_SCALE * height), x / (_SCALE * height)


def _rgb(name: str) -> Array:
    return np.array(list(bytes.fromhex(name)), np.float32)


def _rgbs(names: str) -> Array:
    return np.stack([_rgb(name) for name in names.split()])


def _reduced(color: Array, width: int, height: int) -> Image.Image:
    large = Image.fromarray(np.clip(color, 0, 255).astype(np.uint8))
    small = large.resize((width, height), Image.Resampling.BOX)
    return small.filter(ImageFilter.GaussianBlur(0.4 * (width * height) ** 0.5 / 665))
