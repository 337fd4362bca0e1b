"""From a picture to its named losses and their gradient.

The one place that knows both the network and the losses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nst._losses import Features, Loss

__all__ = ["Extractor", "Objective"]

Extractor: TypeAlias = Callable[[Tensor, Iterable[str]], Mapping[str, Tensor]]


class Objective:
    """Scores a picture by several losses, with one pass through the network for all of them.

    The losses are copied, so captured targets stay within one objective. A loss that weighs nothing
    is left out.

    Args:
        extractor: Maps images `(N, 3, H, W)` and layers to features; `FeatureExtractor` or a
            module of its form.
        losses: Name to loss.
    """

    def __init__(self, extractor: Extractor, losses: Mapping[str, Loss]) -> None:
        self._extractor = extractor
        self._losses = {n: copy.deepcopy(loss) for n, loss in losses.items() if loss.weight > 0}
        self._layers = _union(self._losses.values())

    @torch.no_grad()
    def capture(
        self,
        reference: Literal["content", "style"],
        images: Sequence[Tensor],
        blend: Sequence[float] | None = None,
    ) -> None:
        """Let every loss that refers to the content (or style) keep its target.

        Args:
            reference: Which losses.
            images: The pictures they compare with, `(1, 3, H, W)` each, of any sizes. All losses
                are moved to their device and type.
            blend: The pictures' weights; equal by default.
        """
        chosen = [loss for loss in self._losses.values() if loss.reference == reference]
        features = [self._features(image, _union(chosen)) for image in images]
        for loss in self._losses.values():
            loss.to(images[0])  # before capture: a loss may have buffers that capture works with
        for loss in chosen:
            loss.capture(features, blend)

    def score(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, each a scalar times its weight.

        Args:
            image: `(1, 3, H, W)`, sRGB in [0, 1].

        Raises:
            ValueError: A loss is not a scalar, or the extractor left out a layer.
        """
        features = self._features(image, self._layers)
        values = {}
        for name, loss in self._losses.items():
            value = loss(features)
            if not isinstance(value, Tensor) or value.ndim != 0:
                shape = tuple(getattr(value, "shape", ())) or type(value).__name__
                raise ValueError(
                    f"Loss {name!r} ({type(loss).__name__}) returned {shape}; "
                    "a scalar tensor is needed. Reduce it, for example with .mean()."
                )
            values[name] = loss.weight * value
        return values

    def evaluate(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name, detached, and the gradient of their sum.

        Args:
            image: As in `score`.

        Returns:
            The losses, and the gradient in the picture's shape.

        Raises:
            ValueError: As in `score`.
            RuntimeError: No loss depends on the picture.
        """
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            losses = self.score(image)
            total = torch.stack(list(losses.values())).sum()
        # Not `backward`: an extractor of the user's may have parameters that want gradients.
        gradient = _gradient(total, image)
        if gradient is None:
            names = ", ".join(map(repr, losses))
            raise RuntimeError(
                f"None of the losses {names} depends on the picture, so there is no gradient. "
                "Compute them from the features with differentiable operations, without .detach()."
            )
        # The network works in another memory layout, which torch's own L-BFGS cannot take.
        return {n: value.detach() for n, value in losses.items()}, gradient.contiguous()

    def blame(self, image: Tensor) -> str:
        """Return the name of the first loss whose gradient is not finite.

        Args:
            image: As in `score`.
        """
        for name in self._losses:
            image = image.detach().requires_grad_()
            with torch.enable_grad():
                gradient = _gradient(self.score(image)[name], image)
            if gradient is not None and not bool(gradient.isfinite().all()):
                return name
        return "total"

    def copy(self) -> Objective:
        """Return an independent objective with the same targets."""
        return Objective(self._extractor, self._losses)

    def _features(self, image: Tensor, layers: frozenset[str]) -> Features:
        wanted = layers - {"image"}
        found = self._extractor(image, sorted(wanted)) if wanted else {}
        missing = sorted(wanted - set(found))
        if missing:
            raise ValueError(
                f"`extractor` returned no {missing[0]!r}, which the losses need. Its forward must "
                "return every layer asked for."
            )
        return {**found, "image": image}


def _gradient(value: Tensor, image: Tensor) -> Tensor | None:
    if not value.requires_grad:
        return None
    return torch.autograd.grad(value, image, allow_unused=True)[0]


def _union(losses: Iterable[Loss]) -> frozenset[str]:
    return frozenset(layer for loss in losses for layer in loss.layers)
