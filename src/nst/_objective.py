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

from nst._losses import Features, Loss, Statistic, SummaryLoss

__all__ = ["Extractor", "Objective", "Reference", "Region"]

Extractor: TypeAlias = Callable[[Tensor, Iterable[str]], Mapping[str, Tensor]]

# How fast the styles' share grows with the strength: in equal steps of strength, the picture
# changes in about equal steps.
_STRENGTH_POWER = 3


class Reference(NamedTuple):
    """A style as the losses see it: a picture, or what was kept of one."""

    image: Tensor | None = None
    """`(1, 3, h, w)`."""
    mask: Tensor | None = None
    """Which part of the picture counts, `(1, 1, h, w)`; None for all of it."""
    summaries: Callable[[SummaryLoss], Mapping[str, Statistic]] | None = None
    """Without a picture: the statistics that a loss would have made of it."""


class Region(NamedTuple):
    """A part of the picture, and the styles that go there."""

    mask: Tensor | None
    """Where on the content, `(1, 1, H, W)`; None for everywhere."""
    references: Sequence[Reference]
    """The styles, of any sizes."""
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
        strength: How strongly the style shows, against the content: 0 leaves out every loss that
            does not refer to the content, 1 changes nothing.
        normalize_gradients: Whether `evaluate` brings each loss's gradient to its weight in length.
    """

    def __init__(
        self,
        extractor: Extractor,
        losses: Mapping[str, Loss],
        *,
        strength: float = 1.0,
        normalize_gradients: bool = False,
    ) -> None:
        self._extractor, self._normalize = extractor, normalize_gradients
        self._terms = {}
        for name, loss in losses.items():
            share = 1.0 if loss.reference == "content" else strength**_STRENGTH_POWER
            if loss.weight * share > 0:
                self._terms[name] = [_Term(copy.deepcopy(loss), share=share)]

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

        Raises:
            ValueError: A loss needs the picture of a style of which only statistics were kept.
        """
        for region in regions:
            for reference in region.references:
                if reference.image is not None:
                    self._to(reference.image)
        chosen = {n: ts[0] for n, ts in self._terms.items() if ts[0].loss.reference == "style"}
        for name in chosen:
            self._terms[name] = []
        layers = _union(term.loss for term in chosen.values())
        for region in regions:
            seen = [self._look_at(reference, layers) for reference in region.references]
            area = 1.0 if region.mask is None else float(region.mask.mean())
            for name, term in chosen.items():
                own = copy.deepcopy(term.loss)
                _capture(own, seen, region.blend)
                self._terms[name].append(_Term(own, region.mask, term.share * area))

    @torch.no_grad()
    def summarize(self, reference: Reference) -> dict[str, Mapping[str, Statistic]]:
        """Return the statistics of a style by the name of the loss that made them.

        Args:
            reference: Has a picture. All losses are moved to its device and type.
        """
        assert reference.image is not None
        self._to(reference.image)
        chosen = {
            name: terms[0].loss
            for name, terms in self._terms.items()
            if isinstance(terms[0].loss, SummaryLoss) and terms[0].loss.reference == "style"
        }
        features = self._features(reference.image, _union(chosen.values()))
        return {n: x.summarize(_masked(features, reference.mask)) for n, x in chosen.items()}

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
        gradient = (
            self._normalized_gradient(losses, image) if self._normalize else _gradient(total, image)
        )
        if gradient is None:
            names = ", ".join(map(repr, losses))
            raise RuntimeError(
                f"`losses` has none that depends on the picture, of {names}: there is no gradient. "
                "Compute them from the features with differentiable operations, without .detach()."
            )
        # The network works in another memory layout, which torch's own L-BFGS cannot take.
        return {n: value.detach() for n, value in losses.items()}, gradient.contiguous()

    def _normalized_gradient(self, losses: Mapping[str, Tensor], image: Tensor) -> Tensor | None:
        """Return the sum of the losses' gradients, each first given its loss's weight as length."""
        total = None
        for name, value in losses.items():
            gradient = _gradient(value, image, retain_graph=True)
            if gradient is None:
                continue
            length = gradient.abs().mean()
            weight = sum(term.share * term.loss.weight for term in self._terms[name])
            gradient = gradient * (weight / torch.where(length > 0, length, 1))
            total = gradient if total is None else total + gradient
        return total

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
        twin = Objective(self._extractor, {}, normalize_gradients=self._normalize)
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

    def _look_at(self, reference: Reference, layers: frozenset[str]) -> Features | Reference:
        if reference.image is None:
            return reference
        return _masked(self._features(reference.image, layers), reference.mask)

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


def _capture(loss: Loss, seen: Sequence[Features | Reference], blend: Sequence[float]) -> None:
    """Let a loss keep what it is to compare with; only statistics can do without a picture."""
    features = [each for each in seen if not isinstance(each, Reference)]
    if len(features) == len(seen):
        loss.capture(features, blend)
        return
    if not isinstance(loss, SummaryLoss):
        raise ValueError(
            f"`style` is one of which only statistics were kept, but {type(loss).__name__} "
            "compares with the painting itself. Use the painting, or a StatisticLoss."
        )
    loss.capture_summaries([_summary(loss, each) for each in seen], blend)


def _summary(loss: SummaryLoss, seen: Features | Reference) -> Mapping[str, Statistic]:
    if not isinstance(seen, Reference):
        return loss.summarize(seen)
    assert seen.summaries is not None
    return seen.summaries(loss)


def _value(name: str, term: _Term, features: Features) -> Tensor:
    value = term.loss(_masked(features, term.mask))
    if not isinstance(value, Tensor) or value.ndim != 0:
        shape = tuple(getattr(value, "shape", ())) or type(value).__name__
        raise ValueError(
            f"`losses[{name!r}]` ({type(term.loss).__name__}) returned {shape}; "
            "a scalar tensor is needed. Reduce it, for example with .mean()."
        )
    return term.share * term.loss.weight * value


def _masked(features: Features, mask: Tensor | None) -> Features:
    return features if mask is None else {**features, "mask": mask}


def _gradient(value: Tensor, image: Tensor, *, retain_graph: bool = False) -> Tensor | None:
    if not value.requires_grad:
        return None
    # Not `backward`: an extractor of the user's may have parameters that want gradients.
    return torch.autograd.grad(value, image, allow_unused=True, retain_graph=retain_graph)[0]


def _union(losses: Iterable[Loss]) -> frozenset[str]:
    return frozenset(layer for loss in losses for layer in loss.layers)
