"""A painting made in code: the style picture of `nst demo`, which needs no file.

A low sun over a lake, a wind that curls the sky, a ripe field, dark trees. Nothing is drawn: each
layer of the scene has a *stream*, a smooth field whose level lines the brush follows, and a *tone*,
a place on the layer's palette. Thousands of strokes, from broad to fine, take their course from
the stream and their color from the tone. Every bristle of a stroke also leaves a height of paint,
and the heights are lit from the upper left at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["paint"]

Array = NDArray[Any]
Rng = np.random.Generator
Brush = tuple[float, float]  # breadth and length of its strokes

# Six tones from dark to light in shade, then six in sunlight. A stroke takes one row or the other
# and never blends the two: blue and orange meet side by side and both stay pure.
_PALETTES = {
    "sky": "0b1b45 16307e 2456ab 3f86c6 7fbccb dfe6cf a8321c d9531e ee8425 f6ad2e fbd251 fff1b8",
    "hills": "131a4a 2b2f7d 33579c 5277ad 7d90bd b9b6cf 6b2450 a53c58 cf5f4c e88a4e f2b06a f8d9a0",
    "shore": "0a2430 123f3c 2a6a48 5f8d43 9caa4a d9cd70 7a3a14 b3661a d18f22 e6b133 f3cf5a fbe9a0",
    "water": "071f3c 0b3f66 12658a 2b8fa3 6dbcb4 cfe6cf b5401f e0682a f09433 f8bb45 fcdc78 fff4cb",
    "field": "17343f 4a5a2c 97781d d0991f efc23a f8e592 8c2412 c73a1b e2701f f2a324 fbd04a fff0ad",
    "grass": "0f1f45 174a55 2c7550 63a04c a6c25e e2e3a4 8f1f2e c22f22 e2482a f07a44 f8b56a ffe6c4",
    "trees": "07121f 0b2226 123a2c 23543a 45703a 8a8a3c 3a1420 6b1f1c 9c3a1a 8a6a22 b58c2c dcbc50",
}
# Breadth, length (in thousandths of the picture) and coverage of the strokes of each pass.
_PASSES = ((32, 130, 2.0), (19, 130, 1.6), (12, 85, 0.9), (6.5, 55, 0.4))
# The canvas is twice the picture, and bristles and steps lie 0.8 of its pixels apart: a bristle
# has no jagged edge and hardly a hole. Lengths are in pixels of the picture.
_SCALE, _STEP = 2, 0.4


class _Layer(NamedTuple):
    """Where a part of the scene is seen, and what the brush is told at every point."""

    paints: str
    size: float
    mask: Array
    stream: Array
    tone: Array
    light: Array


def paint(width: int = 768, height: int = 576, *, seed: int = 0) -> Image.Image:
    """Paints an evening landscape in thick, curling strokes.

    Args:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels. Strokes grow and shrink with the picture.
        seed: Another seed moves the sun, the winds and every stroke: another picture of a series.

    Returns:
        An RGB picture; the same one whenever the arguments are the same.

    Raises:
        ValueError: If `width` or `height` is not positive.

    Examples:
        >>> paint(64, 48).size
        (64, 48)
    """
    for name, value in (("width", width), ("height", height)):
        if value < 1:
            raise ValueError(f"`{name}` is {value}, but must be at least 1: give a size in pixels.")
    rng = np.random.default_rng(seed)
    unit = (width * height) ** 0.5 / 1000
    # Flow needs a slope, hence two rows and columns at least.
    layers = _compose(rng, max(2, height), max(2, width))
    rows, columns = layers[0].mask.shape
    canvas = np.zeros((_SCALE * rows, _SCALE * columns, 4), np.float32)
    for layer in layers:
        _ground(canvas, layer)
        for breadth, length, coverage in _PASSES:
            scale = unit * layer.size
            _fill(rng, canvas, layer, (breadth * scale, length * scale), coverage)
        _fill(rng, canvas, _contour(layer), (8 * unit, 60 * unit), 0.9)
    return _lit(canvas, unit).crop((0, 0, width, height))


def _noise(rng: Rng, like: Array, down: int, across: int) -> Array:
    """Smooth noise of unit scale: few random values, `down` by `across`, blown up to a map."""
    few = Image.fromarray(rng.standard_normal((down, across)).astype(np.float32))
    return np.asarray(few.resize((like.shape[1], like.shape[0]), Image.Resampling.BICUBIC))


def _streaks(rng: Rng, stream: Array, width: float) -> Array:
    """Uneven bands from 0 to 1 along the level lines of a stream, about `width` apart."""
    low, high = float(stream.min()), float(stream.max())
    knots = np.linspace(low, high, 2 + int((high - low) / width))
    return np.asarray(np.interp(stream, knots, rng.permutation(np.linspace(0, 1, len(knots)))))


def _bell(value: Array) -> Array:
    """One at 0, nearly nothing beyond 2."""
    return np.asarray(np.exp(-value * value))


def _swirl(x: Array, y: Array, eddy: tuple[float, ...]) -> tuple[Array, Array]:
    """Coordinates after the plane was stirred around a center: level lines curl into it."""
    cx, cy, radius, turn = eddy
    u, v = x - cx, y - cy
    angle = turn * _bell(np.hypot(u, v) / radius)
    sin, cos = np.sin(angle), np.cos(angle)
    return cx + u * cos - v * sin, cy + u * sin + v * cos


def _sky(rng: Rng, x: Array, y: Array, sun: Array) -> _Layer:
    """A sky that curls around a few eddies and rings its sun."""
    u, v = x, y + 0.035 * _noise(rng, x, 3, 5) - 0.09 * x
    for eddy in (
        (0.60, 0.17, 0.19, 4.6),
        (0.17, 0.13, 0.13, -4.0),
        (0.91, 0.34, 0.14, -4.2),
        (0.09, 0.38, 0.09, 3.4),
        (0.90, 0.06, 0.09, 3.0),
    ):
        cx, cy, turn = rng.normal((eddy[0], eddy[1], 1), (0.03, 0.02, 0.1))
        u, v = _swirl(u, v, (cx * x.max(), cy, eddy[2], turn * eddy[3]))
    near = np.exp(-((sun / 0.17) ** 4))
    stream = v * (1 - near) + sun * near
    far_tone = 0.62 * _streaks(rng, stream, 0.022) + 0.5 * y + 0.15 * _noise(rng, x, 3, 4)
    sun_tone = 1.05 - 5 * sun + 0.4 * _streaks(rng, sun, 0.022)
    dusk = 0.55 * _bell((y - 0.52) / 0.12) * _streaks(rng, stream, 0.03)
    light = 1.1 * _bell(sun / 0.15) + dusk + 0.03
    tone = far_tone * (1 - near) + sun_tone * near
    return _Layer("sky", 1.15, y < 2, stream, tone, light)


def _land(rng: Rng, x: Array, y: Array, ridge: Array, slope: float) -> _Layer:
    """A hill whose strokes leave its ridge slowly, with the last sun on the crest."""
    stream = (y - ridge) + slope * (x + 0.12 * _noise(rng, x, 6, 9))
    tone = 0.1 + 0.75 * _streaks(rng, stream, 0.014) + 0.25 * _noise(rng, x, 7, 9)
    light = 0.05 + 0.9 * _bell((y - ridge) / 0.02) * (_noise(rng, x, 3, 7) > 0)
    return _Layer("hills" if slope > 0 else "shore", 0.75, y > ridge, stream, tone, light)


def _water(rng: Rng, x: Array, y: Array, sun_x: float) -> _Layer:
    """Ripples that break the path of the sun into pieces."""
    stream = y + 0.006 * _noise(rng, x, 24, 9)
    path = _bell((x - sun_x) / (0.035 + 0.4 * np.abs(y - 0.58)))
    tone = 0.85 * _streaks(rng, stream, 0.011) + 0.12 * _noise(rng, x, 30, 8) + 0.35 * path
    light = path * (0.35 + 0.8 * _streaks(rng, stream, 0.014))
    shore = 0.6 + 0.007 * _noise(rng, x[:1], 1, 12)
    return _Layer("water", 0.75, y > shore, stream, tone, light)


def _field(rng: Rng, x: Array, y: Array) -> _Layer:
    """Furrows that fan out to the viewer."""
    bank = 0.79 - 0.075 * x + 0.02 * _noise(rng, x[:1], 1, 6)
    stream = np.arctan2(x - 0.62 * x.max(), y - 0.42) + 0.05 * _noise(rng, x, 7, 12)
    tone = 0.15 + 0.7 * _streaks(rng, stream, 0.05) + 0.16 * _noise(rng, x, 16, 20)
    light = 0.4 * _bell(_noise(rng, x, 8, 10) - 1.2)
    return _Layer("field", 0.8, y > bank, stream, tone, light)


def _grass(rng: Rng, x: Array, y: Array) -> _Layer:
    """A bank of bent blades in the near corner, with poppies."""
    edge = 0.84 + 0.19 * x + 0.025 * _noise(rng, x[:1], 1, 16)
    stream = np.hypot(x + 0.25, 1.3 * (y - 1.25)) + 0.05 * _noise(rng, x, 9, 14)
    tone = 0.75 * _streaks(rng, stream, 0.02) + 0.25 * _noise(rng, x, 14, 18) + 0.08
    return _Layer("grass", 0.7, y > edge, stream, tone, 0.7 * (_noise(rng, x, 24, 32) > 0.8))


def _tree(rng: Rng, x: Array, y: Array, cx: float, top: float) -> _Layer:
    """A tall dark tree like a flame."""
    low = np.clip((y - top) / (1.05 - top), 0, 1)
    spread = 0.004 + (0.14 - 0.2 * top) * low**0.75 * (1.2 - 0.75 * low**2)
    sway = 0.012 * np.sin(6 * y + 9 * cx) + 0.1 * spread * _noise(rng, x, 20, 2)
    across = (x - cx * x.max() - sway) / spread
    # Flames: level lines that leave the trunk on both sides as they rise.
    stream = np.abs(across) + 5 * y + 0.2 * _noise(rng, x, 12, 24)
    tone = 0.1 + 0.6 * _streaks(rng, stream, 0.08) + 0.2 * _noise(rng, x, 20, 20)
    light = 0.04 + 0.25 * (across < -0.3)
    return _Layer("trees", 0.75, (np.abs(across) < 1) & (y > top), stream, tone, light)


def _compose(rng: Rng, height: int, width: int) -> list[_Layer]:
    """Lays the scene out, from the sky at the back to the trees in front."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    sun_x, sun_y = rng.normal((0.36 * x.max(), 0.37), 0.02)
    far = 0.50 + 0.035 * _noise(rng, x[:1], 1, 7)
    near = 0.555 + 0.018 * _noise(rng, x[:1], 1, 8)
    return [
        _sky(rng, x, y, np.hypot(x - sun_x, y - sun_y)),
        _land(rng, x, y, far, 0.25),
        _land(rng, x, y, near, -0.1),
        _water(rng, x, y, sun_x),
        _field(rng, x, y),
        *(_tree(rng, x, y, cx, top) for cx, top in ((0.70, 0.34), (0.95, 0.44), (0.83, 0.06))),
        _grass(rng, x, y),
    ]


def _contour(layer: _Layer) -> _Layer:
    """The dark, broken outline of a layer: blurred, its mask flows around itself."""
    radius = 0.008 * len(layer.mask)
    soft = Image.fromarray((255 * layer.mask).astype(np.uint8))
    blur = np.asarray(soft.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
    line = np.abs(blur - 0.5) < 0.12
    return layer._replace(mask=line, stream=blur, tone=0 * blur - 0.05, light=0 * blur)


def _mix(paints: str, tone: Array, sunny: Array) -> Array:
    """The colors of tones from 0, dark, to 1, light."""
    knots = np.array([list(bytes.fromhex(name)) for name in _PALETTES[paints].split()], np.float32)
    place = np.clip(tone, 0, 0.999) * 5
    low = place.astype(int)
    rest = (place - low)[..., None]
    low += 6 * sunny
    return np.asarray(knots[low] * (1 - rest) + knots[low + 1] * rest, np.float32)


def _ground(canvas: Array, layer: _Layer) -> None:
    """Tints the ground of a layer, so that no gap between strokes is bare canvas."""
    tone, light = layer.tone[layer.mask], layer.light[layer.mask]
    color = _mix(layer.paints, tone - 0.15, light > 0.5)
    for corner in np.ndindex(_SCALE, _SCALE):
        canvas[corner[0] :: _SCALE, corner[1] :: _SCALE, :3][layer.mask] = color


def _fill(rng: Rng, canvas: Array, layer: _Layer, brush: Brush, coverage: float) -> None:
    """Covers a layer with strokes of about one breadth and length, in random order."""
    spots, area = np.flatnonzero(layer.mask), brush[0] * brush[1]
    if not len(spots):
        return
    down, right = np.gradient(layer.stream)
    flow = np.stack([right, -down]) / (np.hypot(down, right) + 1e-9)
    chosen = rng.choice(spots, 1 + int(coverage * len(spots) / (0.6 * area)))
    batch = 1 + int(80_000 / (area + 1))
    for begin in range(0, len(chosen), batch):
        starts = np.stack(np.unravel_index(chosen[begin : begin + batch], layer.mask.shape))
        _stamp(rng, canvas, layer, flow.astype(np.float32), starts, brush)


def _trace(
    layer: _Layer, flow: Array, starts: Array, sense: Array, steps: int, grace: int
) -> tuple[Array, Array]:
    """Follows the stream: the course of each stroke, and the share of it that is in the layer."""
    edge = np.array(layer.mask.shape)[:, None] - 1
    course = np.empty((*starts.shape, steps), np.float32)
    away, inside = np.zeros((2, starts.shape[1]), np.float32)
    at = starts + np.float32(0.5)
    for step in range(steps):
        course[:, :, step] = at
        row, column = np.clip(at.astype(np.intp), 0, edge)
        away += ~layer.mask[row, column]
        inside += away < grace
        at = at + sense * flow[:, row, column]
    return course, inside[:, None] / steps


def _load(rng: Rng, layer: _Layer, starts: Array, bristles: int) -> Array:
    """The paint on each brush: two colors side by side, a shade and a thickness per bristle."""
    (y, x), n = starts, starts.shape[1]
    sunny = rng.random(n) < layer.light[y, x]
    tone = layer.tone[y, x] + rng.normal(0, 0.1, n)
    one = _mix(layer.paints, tone, sunny)[:, None]
    two = _mix(layer.paints, tone + rng.normal(0, 0.16, n), sunny)[:, None]
    across = np.linspace(-1, 1, bristles)
    # Three bristles cling together: a finer grain would vanish when the canvas is reduced.
    tuft = np.arange(bristles) // 3
    grain = rng.normal(0, 1, (3, n, tuft[-1] + 1))[:, :, tuft]
    blend = 0.35 + 0.95 * across + 0.15 * grain[0]
    color = one + (two - one) * np.clip(blend, 0, 1)[..., None]
    color += rng.normal(0, 6, (n, 1, 3)) + 8 * grain[1][..., None]
    # A brush pushes paint to its sides, and each bristle leaves a groove.
    thick = rng.uniform(0.4, 1, (n, 1)) * (0.7 + 0.5 * across**4) + 0.11 * grain[2]
    return np.concatenate([np.clip(color, 0, 255), thick[..., None]], axis=2, dtype=np.float32)


def _stamp(rng: Rng, canvas: Array, layer: _Layer, flow: Array, spots: Array, brush: Brush) -> None:
    """Lays strokes down in order, each a sheaf of bristles that follow its course side by side."""
    steps, bristles = max(3, int(brush[1] / _STEP)), max(2, int(brush[0] / _STEP))
    n = spots.shape[1]
    sense = np.float32(_STEP) * rng.choice(np.array([-1, 1], np.float32), n)
    course, share = _trace(layer, flow, spots, sense, steps, 1 + bristles // 2)
    along = np.linspace(0, 1, steps, dtype=np.float32) / share
    across = np.linspace(-1, 1, bristles, dtype=np.float32)[:, None]
    half = brush[0] / 2 * rng.uniform(0.6, 1, (n, 1)) * share**0.5 / _STEP
    half = half * np.clip(4.5 * np.minimum(along + 0.06, 1.03 - along), 0, 1) ** 0.6
    aside = (np.gradient(course, axis=2) * half).astype(np.float32)[:, :, None]
    row = _SCALE * (course[0][:, None] + across * aside[1])
    column = _SCALE * (course[1][:, None] - across * aside[0])
    # Paint runs out bristle by bristle, which frays the end of a stroke.
    last = rng.uniform(0.6, 1, (n, 1)) - rng.gamma(1, 0.08, (n, bristles))
    first, last = np.array([rng.gamma(1, 0.02, (n, bristles)), last], np.float32)[..., None]
    wet = (along[:, None] > first) & (along[:, None] < last)
    wet &= (row >= 0) & (row < canvas.shape[0]) & (column >= 0) & (column < canvas.shape[1])
    keep = np.flatnonzero(wet)
    spot = row.ravel()[keep].astype(np.intp) * canvas.shape[1]
    spot += column.ravel()[keep].astype(np.intp)
    # Where strokes cross, NumPy keeps what was written last: the stroke on top.
    loaded = _load(rng, layer, spots, bristles) * np.array([1, 1, 1, brush[0]], np.float32)
    canvas.reshape(-1, 4)[spot] = loaded.reshape(-1, 4)[keep // steps]


def _lit(canvas: Array, unit: float) -> Image.Image:
    """Reduces the canvas to the picture, and lights the relief of the paint from the upper left."""
    h, w = canvas.shape[0] // _SCALE, canvas.shape[1] // _SCALE
    small = canvas.reshape(h, _SCALE, w, _SCALE, 4).mean((1, 3))
    down, right = np.gradient(small[..., 3] / np.float32(unit))
    shine = np.clip(1 - 0.048 * (down + right), 0.6, 1.45)[..., None]
    return Image.fromarray(np.clip(small[..., :3] * shine, 0, 255).astype(np.uint8))
