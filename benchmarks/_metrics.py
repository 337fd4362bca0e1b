"""How near a picture is to a style and to a photograph, by measures that no loss here optimizes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nst import FeatureExtractor, functional, load_image

__all__ = ["Scorer", "Scores", "gradient_magnitude", "load_pair"]

HELD_OUT = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
"""Layers that the default losses do not compare."""
_DIRECTIONS = 64
_BLUR = 2.0
"""Standard deviation of the blur of edges, in pixels."""


def load_pair(photo: str, painting: str, size: int) -> tuple[Tensor, Tensor]:
    """Load a photograph, and a painting of the size at which a run for it learns from it.

    Args:
        photo: A path.
        painting: A path.
        size: Of the run; a photograph that is smaller stays so, and its painting is made as small.
    """
    content = load_image(photo, size=size)
    return content, load_image(painting, size=max(content.shape[-2:]))


class Scores(NamedTuple):
    """Distances are 0 at best; edges are 1 at best."""

    style: float
    """Relative distance of Gram matrices, the mean over the held-out layers."""
    wasserstein: float
    """Relative sliced Wasserstein distance of features, the mean over the held-out layers."""
    content: float
    """Relative mean square difference of relu4_2."""
    edges: float
    """Correlation of blurred magnitudes of the gradient with the photograph's."""

    def __str__(self) -> str:
        """Show them in a line."""
        return "  ".join(f"{name} {value:.4f}" for name, value in self._asdict().items())


class Scorer:
    """Scores pictures against one photograph and one painting.

    Args:
        extractor: The network, which also decides about pooling.
        content: The photograph, `(1, 3, H, W)`.
        style: The painting, `(1, 3, h, w)`, of the size at which it is learned from.
    """

    def __init__(self, extractor: FeatureExtractor, content: Tensor, style: Tensor) -> None:
        self._extractor = extractor
        features = extractor(style, HELD_OUT)
        self._grams = {n: functional.gram_matrix(features[n].flatten(2)) for n in HELD_OUT}
        self._directions, self._sorted = {}, {}
        for name in HELD_OUT:
            flat = features[name].flatten(2)
            generator = torch.Generator().manual_seed(0)
            directions = torch.randn(_DIRECTIONS, flat.shape[1], generator=generator)
            self._directions[name] = F.normalize(directions)
            self._sorted[name] = (self._directions[name] @ flat).sort().values
        self._content = extractor(content, ["relu4_2"])["relu4_2"]
        self._edges = edges(content)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Scores:
        """Score a picture.

        Args:
            image: `(1, 3, H, W)`, of the photograph's size.
        """
        features = self._extractor(image, [*HELD_OUT, "relu4_2"])
        style, wasserstein = [], []
        for name in HELD_OUT:
            flat, gram = features[name].flatten(2), self._grams[name]
            style.append((functional.gram_matrix(flat) - gram).norm() / gram.norm())
            target = self._sorted[name]
            distance = functional.sliced_wasserstein(flat, target, self._directions[name])
            wasserstein.append((distance / target.var()).sqrt())
        content = functional.relative_square_error(features["relu4_2"], self._content)
        both = torch.stack([edges(image).flatten(), self._edges.flatten()])
        return Scores(
            float(torch.stack(style).mean()),
            float(torch.stack(wasserstein).mean()),
            float(content),
            float(torch.corrcoef(both)[0, 1]),
        )


def edges(image: Tensor) -> Tensor:
    """Return blurred magnitudes of the gradient of the brightness.

    Args:
        image: `(1, 3, H, W)`.
    """
    radius = int(3 * _BLUR)
    offsets = torch.arange(-radius, radius + 1).float()
    kernel = torch.exp(-offsets.square() / (2 * _BLUR**2))
    kernel = kernel / kernel.sum()
    blurred = F.conv2d(gradient_magnitude(image), kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(blurred, kernel.view(1, 1, 1, -1), padding=(0, radius))


def gradient_magnitude(image: Tensor) -> Tensor:
    """Return magnitudes of the gradient of the brightness, `(1, 1, H, W)`.

    Args:
        image: `(1, 3, H, W)`.
    """
    gray = image.mean(1, keepdim=True)
    across = F.pad(gray.diff(dim=-1), (0, 1))
    down = F.pad(gray.diff(dim=-2), (0, 0, 0, 1))
    return (across.square() + down.square()).sqrt()
