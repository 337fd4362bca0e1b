"""From a picture to its named losses and their gradient.

The one place that knows both the network and the losses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from nst._losses import Features, Loss

__all__ = ["Extractor", "Objective", "Region"]

Extractor: TypeAlias = Callable[[Tensor, Iterable[str]], Mapping[str, Tensor]]


class Region(NamedTuple):
    """A part of the picture, and the styles that go there."""

    mask: Tensor | None
    """Where on the content, `(1, 1, H, W)`; None for everywhere."""
    images: Sequence[Tensor]
    """The styles' pictures, `(1, 3, h, w)` each, of any sizes."""
    masks: Sequence[Tensor | None]
    """Which part of each style counts, `(1, 1, h, w)`; None for all of it."""
    blend: Sequence[float]
    """The styles' weights."""


class _Term(NamedTuple):
    """A loss and the part of the picture that it sees."""

    loss: Loss
    mask: Tensor | None = None
    share: float = 1.0


class Objective:
    """Scores a picture by several losses, with one pass through the network for all of them.

    The losses are copied, so captured targets stay within one objective. A loss that weighs nothing
    is left out. A style loss has one copy for each region; they count by the region's area, so that
    style and content are in the same balance at every pixel.

    Args:
        extractor: Maps images `(N, 3, H, W)` and layers to features; `FeatureExtractor` or a
            module of its form.
        losses: Name to loss.
    """

    def __init__(self, extractor: Extractor, losses: Mapping[str, Loss]) -> None:
        self._extractor = extractor
        self._terms = {
            name: [_Term(copy.deepcopy(loss))] for name, loss in losses.items() if loss.weight > 0
        }

    @torch.no_grad()
    def capture_content(self, image: Tensor) -> None:
        """Let every loss that refers to the content keep its target.

        Args:
            image: `(1, 3, H, W)`. All losses are moved to its device and type.
        """
        self._to(image)
        chosen = [term.loss for term in self._all_terms() if term.loss.reference == "content"]
        features = self._features(image, _union(chosen))
        for loss in chosen:
            loss.capture(features)

    @torch.no_grad()
    def capture_styles(self, regions: Sequence[Region]) -> None:
        """Let every loss that refers to the styles keep its target, once for each region.

        Args:
            regions: At least one. All losses are moved to the device and type of their pictures.
        """
        self._to(regions[0].images[0])
        chosen = {n: ts[0].loss for n, ts in self._terms.items() if ts[0].loss.reference == "style"}
        for name in chosen:
            self._terms[name] = []
        for region in regions:
            references = [
                _masked(self._features(image, _union(chosen.values())), mask)
                for image, mask in zip(region.images, region.masks, strict=True)
            ]
            share = 1.0 if region.mask is None else float(region.mask.mean())
            for name, loss in chosen.items():
                own = copy.deepcopy(loss)
                own.capture(references, region.blend)
                self._terms[name].append(_Term(own, region.mask, share))

    def score(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, each a scalar times its weight.

        Args:
            image: `(1, 3, H, W)`, sRGB in [0, 1].

        Raises:
            ValueError: A loss is not a scalar, or the extractor left out a layer.
        """
        features = self._features(image, _union(term.loss for term in self._all_terms()))
        return {
            name: torch.stack([_value(name, term, features) for term in terms]).sum()
            for name, terms in self._terms.items()
        }

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
        for name in self._terms:
            image = image.detach().requires_grad_()
            with torch.enable_grad():
                gradient = _gradient(self.score(image)[name], image)
            if gradient is not None and not bool(gradient.isfinite().all()):
                return name
        return "total"

    def copy(self) -> Objective:
        """Return an independent objective with the same targets."""
        twin = Objective(self._extractor, {})
        twin._terms = {
            name: [term._replace(loss=copy.deepcopy(term.loss)) for term in terms]
            for name, terms in self._terms.items()
        }
        return twin

    def _all_terms(self) -> Iterator[_Term]:
        return chain.from_iterable(self._terms.values())

    def _to(self, image: Tensor) -> None:
        # Before capture: a loss may have buffers that capture works with.
        for term in self._all_terms():
            term.loss.to(image)

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


def _value(name: str, term: _Term, features: Features) -> Tensor:
    value = term.loss(_masked(features, term.mask))
    if not isinstance(value, Tensor) or value.ndim != 0:
        shape = tuple(getattr(value, "shape", ())) or type(value).__name__
        raise ValueError(
            f"Loss {name!r} ({type(term.loss).__name__}) returned {shape}; "
            "a scalar tensor is needed. Reduce it, for example with .mean()."
        )
    return term.share * term.loss.weight * value


def _masked(features: Features, mask: Tensor | None) -> Features:
    return features if mask is None else {**features, "mask": mask}


def _gradient(value: Tensor, image: Tensor) -> Tensor | None:
    if not value.requires_grad:
        return None
    return torch.autograd.grad(value, image, allow_unused=True)[0]


def _union(losses: Iterable[Loss]) -> frozenset[str]:
    return frozenset(layer for loss in losses for layer in loss.layers)
