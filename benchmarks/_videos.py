"""Videos made from photographs by known moves of a camera, so that the true flow is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from _pictures import find_picture
from nst import load_image

__all__ = ["VIDEOS", "KnownVideo", "make_video"]

_NOISE = 2 / 255
"""Standard deviation of the sensor's noise."""


class Camera(NamedTuple):
    """What a camera sees of a layer: lengths are in widths of the layer."""

    x: float
    y: float
    width: float
    degrees: float = 0.0


class Layer(NamedTuple):
    """A photograph that a camera moves over; an ellipse of it, or all of it."""

    photo: str
    camera: Callable[[float], Camera]
    """The camera at a time from 0 to 1."""
    ellipse: tuple[float, float, float, float] | None = None
    """Center and radii; None for the whole photograph."""


class Recipe(NamedTuple):
    """Layers from back to front, and the painting."""

    layers: Sequence[Layer]
    painting: str
    about: str


VIDEOS = {
    "pan": Recipe(
        [Layer("tubingen.png", lambda t: Camera(0.33 + 0.3 * t, 0.36 + 0.03 * t, 0.55))],
        "vg_starry_night.jpg",
        "a pan of half a frame",
    ),
    "turn": Recipe(
        [Layer("golden_gate.jpg", lambda t: Camera(0.5, 0.36, 0.72 - 0.3 * t, 12 * t))],
        "vg_houses.jpg",
        "a zoom by 1.7 and a turn by 12 degrees",
    ),
    "parallax": Recipe(
        [
            Layer("coffee.png", lambda t: Camera(0.4 + 0.12 * t, 0.33, 0.7)),
            Layer(
                "astronaut.png",
                lambda t: Camera(0.72 - 0.6 * t, 0.3, 1.1),
                ellipse=(0.44, 0.25, 0.2, 0.24),
            ),
        ],
        "wave_crop.jpg",
        "a face that passes before a background",
    ),
}
"""Films by name."""


def _points(camera: Camera, height: int, width: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points of a layer, in its widths, that pixels of a frame show."""
    turn = math.radians(camera.degrees)
    x, y = ((v - (side - 1) / 2) / width for v, side in ((x, width), (y, height)))
    across = math.cos(turn) * x - math.sin(turn) * y
    down = math.sin(turn) * x + math.cos(turn) * y
    return camera.x + camera.width * across, camera.y + camera.width * down


def _pixels(camera: Camera, height: int, width: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels of a frame that show points of a layer: the inverse of `_points`."""
    turn = math.radians(-camera.degrees)
    x, y = (x - camera.x) / camera.width, (y - camera.y) / camera.width
    across = math.cos(turn) * x - math.sin(turn) * y
    down = math.sin(turn) * x + math.cos(turn) * y
    return across * width + (width - 1) / 2, down * width + (height - 1) / 2


class KnownVideo:
    """A video in memory.

    Args:
        recipe: Its layers.
        photos: The layers' photographs, `(1, 3, h, w)`.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        count: Number of frames.
    """

    def __init__(
        self, recipe: Recipe, photos: Sequence[Tensor], height: int, width: int, count: int
    ) -> None:
        self._recipe, self._photos, self._shape, self._count = (
            recipe,
            photos,
            (height, width),
            count,
        )
        generator = torch.Generator().manual_seed(0)
        self.frames = []
        for index in range(count):
            frame = F.avg_pool2d(self._render(index), 2)
            noise = torch.randn(frame.shape, generator=generator) * _NOISE
            # Of 8 bits, as those of a file.
            self.frames.append(((frame + noise).clamp(0, 1) * 255).round() / 255)

    def flow(self, one: int, other: int) -> Tensor:
        """Return the true flow from frame `one` to frame `other`, `(1, H, W, 2)`."""
        height, width = self._shape
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        found = torch.zeros(1, height, width, 2)
        for layer in self._recipe.layers:
            points = _points(self._camera(layer, one), height, width, x.double(), y.double())
            moved = _pixels(self._camera(layer, other), height, width, *points)
            flow = torch.stack([moved[0] - x, moved[1] - y], dim=-1)[None].float()
            found = torch.where(_inside(layer, *points)[None, ..., None], flow, found)
        return found

    def _camera(self, layer: Layer, index: int) -> Camera:
        return layer.camera(index / (self._count - 1))

    def _render(self, index: int) -> Tensor:
        """Return a frame at twice its size."""
        height, width = self._shape
        rows, columns = (torch.arange(2 * side).double() / 2 - 0.25 for side in self._shape)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        frame = torch.zeros(1, 3, 2 * height, 2 * width)
        for layer, photo in zip(self._recipe.layers, self._photos, strict=True):
            points = _points(self._camera(layer, index), height, width, x, y)
            ratio = photo.shape[-1] / photo.shape[-2]
            grid = torch.stack([2 * points[0] - 1, 2 * points[1] * ratio - 1], dim=-1)[None]
            shown = F.grid_sample(
                photo, grid.float(), align_corners=False, padding_mode="reflection"
            )
            frame = torch.where(_inside(layer, *points)[None, None], shown, frame)
        return frame


def _inside(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    if layer.ellipse is None:
        return torch.ones_like(x, dtype=torch.bool)
    left, top, across, down = layer.ellipse
    return ((x - left) / across).square() + ((y - top) / down).square() < 1


def make_video(
    name: str, size: int, count: int, images: Path, made: Path
) -> tuple[KnownVideo, Tensor]:
    """Return a video and its painting at `size`.

    Args:
        name: A key of `VIDEOS`.
        size: Width of a frame, in pixels; its height is three quarters of that.
        count: Number of frames, at least 2.
        images: As in `find_picture`.
        made: As in `find_picture`.
    """
    recipe, photos = VIDEOS[name], []
    for layer in recipe.layers:
        # A pixel of the supersampled frame shows about a pixel of the photograph.
        largest = max(1 / layer.camera(t).width for t in (0.0, 1.0))
        path = find_picture(layer.photo, images, made)
        photos.append(load_image(path, size=round(2 * size * largest)))
    video = KnownVideo(recipe, photos, round(size * 3 / 4), size, count)
    return video, load_image(find_picture(recipe.painting, images, made), size=size)
