"""From a picture to its named losses and their gradient.

The one place that knows both the network and the losses.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from nst._engine.processes import Share
from nst._engine.references import Reference, Region, Seen, capture, masked, summaries_of
from nst._engine.tally import StatisticTally, adds_up
from nst._engine.terms import Tallies, Term, gradient_of, no_sum
from nst._engine.view import Extractor, View
from nst._network.sweep import Sweep
from nst.losses.kinds import Features, Loss, Statistic, StatisticLoss, SummaryLoss

__all__ = ["Objective"]

# How fast the styles' share grows with the strength: in equal steps of strength, the picture
# changes in about equal steps.
_STRENGTH_POWER = 3
# Side of the part of a picture on which it is tried whether losses can be shown rows, in pixels.
_CORNER = 64


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
        emphasis: How many times as much every loss counts that refers to the content.
        normalize_gradients: Whether `evaluate` brings each loss's gradient to its weight in length.
        tile: How many rows of each block of the network are computed at a time; None for all.
    """

    def __init__(
        self,
        extractor: Extractor,
        losses: Mapping[str, Loss],
        *,
        strength: float = 1.0,
        emphasis: float = 1.0,
        normalize_gradients: bool = False,
        tile: int | None = None,
    ) -> None:
        self._view = View(extractor, tile)
        self._normalize = normalize_gradients
        self._adds_up: bool | None = None  # not known before there are features
        self._terms = {}
        for name, loss in losses.items():
            share = emphasis if loss.reference == "content" else strength**_STRENGTH_POWER
            if loss.weight * share > 0:
                self._terms[name] = [Term(copy.deepcopy(loss), share=share)]

    def divide(self, share: Share) -> None:
        """Score some rows of a picture from now on, of which other processes have others.

        `capture_content` is given the whole picture still, and so must be called before `score` and
        `evaluate`, which are given the rows; all of them by all processes alike.

        Args:
            share: Which rows.
        """
        self._view.share = share
        self._adds_up = None if share.divided else self._adds_up  # now it must

    @torch.no_grad()
    def capture_content(self, image: Tensor) -> None:
        """Let every loss that refers to the content keep its target.

        Args:
            image: `(1, 3, H, W)`. All losses are moved to its device and type.
        """
        self._to(image)
        self._in_rows(image)  # decided now, if not before: the same corner in every process
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
        chosen = {n: ts[0] for n, ts in self._terms.items() if ts[0].loss.reference == "style"}
        captured: dict[str, list[Term]] = {name: [] for name in chosen}
        for region in regions:
            seen = [self._look_at(each) for each in region.references]
            area = 1.0 if region.mask is None else float(region.mask.mean())
            for name, term in chosen.items():
                own = copy.deepcopy(term.loss)
                capture(name, own, seen, region.blend)
                captured[name].append(Term(own, region.mask, term.share * area))
        self._terms.update(captured)

    @torch.no_grad()
    def summarize(self, reference: Reference) -> dict[str, Mapping[str, Statistic]]:
        """Return the statistics of a style by the name of the loss that made them.

        Args:
            reference: Has a picture. All losses are moved to its device and type.
        """
        seen = self._look_at(reference)
        assert not isinstance(seen, Reference)
        return dict(seen.summaries)

    @torch.no_grad()
    def score(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, each a scalar times its weight.

        Args:
            image: `(1, 3, H, W)`, sRGB in [0, 1].

        Raises:
            ValueError: A loss is not a scalar, or the extractor left out a layer.
        """
        if self._in_rows(image):
            return self._show(image, tracing=False)[0].close()
        return self._score_at_once(image)

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
        if self._normalize:
            losses, gradient = self._evaluate_normalized(image)
        else:
            losses, gradient = self._evaluate(image, list(self._terms))
        if gradient is None:
            names = ", ".join(map(repr, losses))
            raise RuntimeError(
                f"`losses` has none that depends on the picture, of {names}: there is no gradient. "
                "Compute them from the features with differentiable operations, without .detach()."
            )
        # The network works in another memory layout, which torch's own L-BFGS cannot take.
        return losses, gradient.contiguous()

    def blame(self, image: Tensor) -> str:
        """Return the name of the first loss whose gradient is not finite.

        Args:
            image: As in `score`.
        """
        for name in self._terms:
            _, gradient = self._evaluate(image, [name])
            if gradient is not None and self._view.own(image).any(~gradient.isfinite().all()):
                return name
        return "total"

    def _evaluate(
        self, image: Tensor, names: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return all losses, and the gradient of the sum of some."""
        if self._in_rows(image):
            return self._evaluate_in_rows(image, names)
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            losses = self._score_at_once(image)
            total = torch.stack([losses[name] for name in names]).sum()
        gradient = gradient_of(total, image)
        return {name: value.detach() for name, value in losses.items()}, gradient

    def _evaluate_normalized(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return all losses, and the sum of their gradients with their weights as lengths."""
        losses: dict[str, Tensor] = {}
        total = None
        for name, terms in self._terms.items():
            losses, gradient = self._evaluate(image, [name])
            if gradient is None:
                continue
            length = self._view.own(image).mean(gradient.abs())
            weight = sum(term.factor for term in terms)
            gradient = gradient * (weight / torch.where(length > 0, length, 1))
            total = gradient if total is None else total + gradient
        return losses, total

    def _score_at_once(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, with all features at once."""
        features = self._features(image, _union(term.loss for term in self._all_terms()))
        return {
            name: torch.stack([term.value(name, features) for term in terms]).sum()
            for name, terms in self._terms.items()
        }

    @torch.no_grad()
    def _evaluate_in_rows(
        self, image: Tensor, names: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return all losses, and the gradient of the sum of some, with some rows at a time."""
        tallies, sweep = self._show(image)
        losses = tallies.close()
        gradient = tallies.pixel_gradient(image, names)
        if sweep is not None:
            own = sweep.backward(tallies.feature_gradient(names))
            if own is not None:
                gradient = own if gradient is None else gradient + own
        return losses, gradient

    def _show(self, image: Tensor, *, tracing: bool = True) -> tuple[Tallies, Sweep | None]:
        """Show the losses the features of a picture as they pass by."""
        share = self._view.own(image)
        tallies = Tallies(self._terms, image, share)
        return tallies, self._view.pass_by(
            image, share, tallies.layers, tallies.see, tracing=tracing
        )

    def _in_rows(self, image: Tensor) -> bool:
        """Tell whether the losses can be shown the features some rows at a time."""
        if self._adds_up is None:
            self._to(image)
            self._adds_up = self._tries_rows(image)
        return self._adds_up

    def copy(self) -> Objective:
        """Return an independent objective with the same targets."""
        view = self._view
        twin = Objective(view.extractor, {}, normalize_gradients=self._normalize, tile=view.tile)
        twin._adds_up, twin._view.share = self._adds_up, view.share
        twin._terms = {
            name: [term._replace(loss=copy.deepcopy(term.loss)) for term in terms]
            for name, terms in self._terms.items()
        }
        return twin

    def state_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return what losses of the user's change while they score; targets are not part of it."""
        return {
            name: [dict(term.loss.state_dict()) for term in terms]
            for name, terms in self._terms.items()
        }

    def load_state_dict(self, kept: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Take over what `state_dict` returned, after the targets have been captured.

        Args:
            kept: Of an objective with the same losses and regions.

        Raises:
            KeyError: It lacks a loss.
            RuntimeError: A loss cannot take it over.
            ValueError: It is of other regions.
        """
        for name, terms in self._terms.items():
            for term, own in zip(terms, kept[name], strict=True):
                term.loss.load_state_dict(own)

    def _all_terms(self) -> Iterator[Term]:
        return chain.from_iterable(self._terms.values())

    def _to(self, image: Tensor) -> None:
        # Before capture: a loss may have buffers that capture works with.
        for term in self._all_terms():
            term.loss.to(image)

    def _tries_rows(self, image: Tensor) -> bool:
        """Try on a corner of a picture whether rows can be shown; refuse tiles where not."""
        view, sweeps = self._view, getattr(self._view.extractor, "sweeps", False)
        corner = image[..., :_CORNER, :_CORNER].detach()
        deep = {n: t.loss for n, ts in self._terms.items() for t in ts if not t.sees_pixels_only}
        with torch.no_grad():
            features = self._features(corner, _union(deep.values())) if sweeps else {}
        stubborn = [each for each in deep.items() if not sweeps or not adds_up(each[1], features)]
        if stubborn and view.tile is not None:
            raise no_sum(*stubborn[0], f"`tile` is {view.tile}", "tile=None")
        if stubborn and view.share is not None and view.share.divided:
            there_are = f"there are {view.share.group.size} processes"
            raise no_sum(*stubborn[0], there_are, "a single one")
        return not stubborn

    def _look_at(self, reference: Reference) -> Seen | Reference:
        """Return what the style losses need of a style."""
        image, mask = reference.image, reference.mask
        if image is None:
            return reference
        self._to(image)
        chosen = {n: ts[0].loss for n, ts in self._terms.items() if ts[0].loss.reference == "style"}
        if not self._in_rows(image):
            features = masked(self._features(image, _union(chosen.values())), mask)
            return Seen(features, summaries_of(chosen, features))
        # What is no statistic, such as a pointwise loss of a style, sees the features themselves.
        others = _union(loss for loss in chosen.values() if not isinstance(loss, SummaryLoss))
        features = masked(self._features(image, others), mask)
        of_pixels = {n: loss for n, loss in chosen.items() if Term(loss).sees_pixels_only}
        tallies = {
            name: StatisticTally(loss, mask)
            for name, loss in chosen.items()
            if name not in of_pixels and isinstance(loss, StatisticLoss)
        }

        def see(layer: str, feature: Tensor, first: int, height: int, stays: bool) -> None:
            for name, each in tallies.items():
                if layer in chosen[name].layers:
                    each.add(layer, feature, first, height)

        share = Share.of_all(image.shape[-2])
        self._view.pass_by(image, share, _union(chosen[name] for name in tallies), see)
        summed = {name: each.summary for name, each in tallies.items()}
        return Seen(features, {**summaries_of(of_pixels, features), **summed})

    def _features(self, image: Tensor, layers: frozenset[str]) -> Features:
        return self._view.features(image, layers, in_rows=bool(self._adds_up))


def _union(losses: Iterable[Loss]) -> frozenset[str]:
    return frozenset(layer for loss in losses for layer in loss.layers)
