"""From a picture to its named losses and their gradient.

The one place that knows both the network and the losses. A statistic and a mean error are sums over
positions, so a loss that is made of them is computed while the features pass by, block after block.
A block may be computed some rows at a time, and again on the backward pass: then its features need
not be stored.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst._engine.passing import (
    Term,
    indivisible,
    keeps_promise,
    pass_through,
    reads_pixels_only,
)
from nst._utils.group import Group
from nst.extractors.base import Extractor
from nst.losses.base import Loss, Statistic, StorableLoss
from nst.styles.style import Painting

# How fast the styles' share grows with the strength: equal steps of strength then change the
# picture about equally.
_STRENGTH_POWER = 3
# Side of the corner of a picture on which losses are tried, in pixels.
_CORNER = 64


class Region(NamedTuple):
    """A part of the picture, and the styles that go there."""

    mask: Tensor | None
    """Where on the content, `(1, 1, H, W)`; None for everywhere."""
    styles: Sequence[Painting | Callable[[Loss], Mapping[str, Statistic]]]
    """Paintings of any sizes, or what returns the captured statistics for a loss."""
    blend: Sequence[float]
    """The styles' weights."""


class Objective:
    """Scores a picture by several losses, with one pass through the network for all of them.

    The losses are copied, so captured targets stay within one objective. A loss that weighs nothing
    is left out. A style loss has one copy for each region; each counts by the region's area, so
    that style and content are in the same balance at every pixel.

    Args:
        extractor: The network.
        losses: Name to loss.
        strength: How strongly the style shows, against the content: 0 leaves out every loss that
            does not refer to the content, 1 changes nothing.
        emphasis: Factor of every loss that refers to the content.
        normalize_gradients: Whether `evaluate` scales each loss's gradient to its weight.
        tile: Number of rows of each block that are computed at a time; None for all.
        group: Processes that share each evaluation: all are given the same pictures at a time.
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
        group: Group | None = None,
    ) -> None:
        self._extractor, self._normalize = extractor, normalize_gradients
        self._tile, self._group = tile, group or Group()
        self._divided: set[str] | None = None  # unknown before there is a picture
        self._terms: dict[str, list[Term]] = {}
        for name, loss in losses.items():
            share = emphasis if loss.reference == "content" else strength**_STRENGTH_POWER
            if loss.weight * share > 0:
                self._terms[name] = [Term(copy.deepcopy(loss), strength=share)]

    @torch.no_grad()
    def capture_content(self, image: Tensor) -> None:
        """Let every loss that refers to the content store its target.

        Args:
            image: `(1, 3, H, W)`. All losses are moved to its device and type.
        """
        self._divided_names(image)
        self._to(image)
        chosen = [term.loss for term in self._all_terms() if term.loss.reference == "content"]
        layers = _layers(chosen)
        _, features = pass_through(self._extractor, image, [], layers, Group(), self._tile)
        for loss in chosen:
            loss.capture(features)

    @torch.no_grad()
    def capture_styles(self, regions: Sequence[Region]) -> None:
        """Let every loss that refers to the styles store its target, once for each region.

        Args:
            regions: At least one. All losses are moved to the device and type of their paintings.
        """
        chosen = self._style_terms()
        captured: dict[str, list[Term]] = {name: [] for name in chosen}
        for region in regions:
            seen = [
                self.summarize(style) if isinstance(style, Painting) else style
                for style in region.styles
            ]
            area = 1.0 if region.mask is None else float(region.mask.mean())
            for name, term in chosen.items():
                loss: Any = copy.deepcopy(term.loss)
                targets = [each(loss) if callable(each) else each[name] for each in seen]
                capture = getattr(loss, "capture_summaries", loss.capture)
                capture(targets, region.blend)
                captured[name].append(Term(loss, region.mask, term.strength * area))
        self._terms.update(captured)

    @torch.no_grad()
    def summarize(self, painting: Painting) -> dict[str, Mapping[str, Any]]:
        """Return what each style loss needs of a painting, by the loss's name.

        That is its statistics by layer, or features if it stores the painting itself. All losses
        are moved to the device and type of the painting.
        """
        losses = {name: term.loss for name, term in self._style_terms().items()}
        image, mask = painting
        divided = self._divided_names(image) & losses.keys()
        divided = {name for name in divided if isinstance(losses[name], StorableLoss)}
        terms = [Term(loss, mask) for name, loss in losses.items() if name in divided]
        others = {name: loss for name, loss in losses.items() if name not in divided}
        layers = _layers(others.values())
        found = pass_through(self._extractor, image, terms, layers, Group(), self._tile)
        sums, features = iter(found[0]), found[1]
        if mask is not None:
            features = {**features, "mask": mask}
        return {
            name: next(sums)
            if name in divided
            else loss.summarize(features)
            if isinstance(loss, StorableLoss)
            else features
            for name, loss in losses.items()
        }

    @torch.no_grad()
    def score(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses of `(1, 3, H, W)` by name, each a scalar times its weight.

        Raises:
            ValueError: A loss is not a scalar, or the extractor left out a layer.
        """
        return self._losses(image)

    def evaluate(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of `(1, 3, H, W)` by name, detached, and the gradient of their sum.

        Raises:
            ValueError: As in `score`.
            RuntimeError: No loss depends on the picture.
        """
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            losses = self._losses(image)
            total = torch.stack(list(losses.values())).sum()
        if self._normalize:
            gradient = self._normalized_gradient(losses, image)
        else:
            gradient = self._gradient(total, image)
        if gradient is None:
            names = ", ".join(map(repr, losses))
            raise RuntimeError(
                f"`losses` has none that depends on the picture, of {names}: there is no gradient. "
                "Compute them from the features with differentiable operations, without .detach()."
            )
        return {name: value.detach() for name, value in losses.items()}, gradient

    def bytes_stored(self, image: Tensor) -> int:
        """Return about how many bytes `evaluate` needs at a time, beside kernels and targets.

        These are the tensors stored for the backward pass, and two gradients of the largest one.
        """
        sizes: dict[int, int] = {}

        def store(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor)
        with torch.enable_grad(), hooks:
            image = image.detach().requires_grad_()
            self._losses(image)
        return sum(sizes.values()) + 2 * max(sizes.values(), default=0)

    def target_bytes(self) -> int:
        """Return the size of all targets."""
        return sum(each.nbytes for term in self._all_terms() for each in term.loss.buffers())

    def blame(self, image: Tensor) -> str:
        """Return the name of the first loss whose gradient is not finite."""
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            losses = self._losses(image)
        names = []
        for name, value in losses.items():
            gradient = self._gradient(value, image, again=True)
            if gradient is not None and not gradient.isfinite().all():
                names.append(name)
        return names[0] if names else "total"

    def copy(self) -> Objective:
        """Return an independent objective with the same targets."""
        twin = copy.copy(self)
        twin._terms = {
            name: [Term(copy.deepcopy(term.loss), term.mask, term.strength) for term in terms]
            for name, terms in self._terms.items()
        }
        return twin

    def state_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return what losses of the user's change while they score; targets are not part of it."""
        return {
            name: [dict(term.loss.state_dict()) for term in terms]
            for name, terms in self._terms.items()
        }

    def load_state_dict(self, state: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Take over what `state_dict` returned, after the targets have been captured.

        Raises:
            KeyError: It lacks a loss.
            RuntimeError: A loss cannot take it over.
            ValueError: It belongs to other regions.
        """
        for name, terms in self._terms.items():
            for term, own in zip(terms, state[name], strict=True):
                term.loss.load_state_dict(own)

    def _gradient(self, value: Tensor, image: Tensor, *, again: bool = False) -> Tensor | None:
        """Return the gradient of a loss over all processes; None if there is none.

        Args:
            value: The loss, a scalar.
            image: The picture.
            again: Whether another gradient will be taken of the same pass.
        """
        gradient = None
        if value.requires_grad:
            # Not `backward`: an extractor of the user's may have parameters that want gradients.
            (gradient,) = torch.autograd.grad(value, image, allow_unused=True, retain_graph=again)
        if self._group.size > 1:
            own = torch.zeros_like(image) if gradient is None else gradient
            (gradient,) = self._group.add_up([own], "gradient")
        # The network works in another memory layout, which torch's own L-BFGS cannot take.
        return None if gradient is None else gradient.contiguous()

    def _normalized_gradient(self, losses: Mapping[str, Tensor], image: Tensor) -> Tensor | None:
        """Return the sum of the losses' gradients with their weights as mean absolute values."""
        total = None
        for name, terms in self._terms.items():
            gradient = self._gradient(losses[name], image, again=True)
            if gradient is None:
                continue
            length, weight = gradient.abs().mean(), sum(term.factor for term in terms)
            gradient = gradient * (weight / torch.where(length > 0, length, 1))
            total = gradient if total is None else total + gradient
        return total

    def _losses(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, differentiable."""
        divided = self._divided_names(image)
        terms = [term for name, own in self._terms.items() if name in divided for term in own]
        others = [term.loss for n, own in self._terms.items() if n not in divided for term in own]
        layers = _layers(others)
        found = pass_through(self._extractor, image, terms, layers, self._group, self._tile)
        sums, features, values = iter(found[0]), found[1], dict[str, Tensor]()
        if self._group.rank > 0:  # one process has the gradient of what all of them compute
            features = {layer: feature.detach() for layer, feature in features.items()}
        for name, terms in self._terms.items():
            own = [
                term.factor * term.loss.compare(next(sums))
                if name in divided
                else term.value(name, features)
                for term in terms
            ]
            values[name] = torch.stack(own).sum()
        return values

    def _divided_names(self, image: Tensor) -> set[str]:
        """Return the losses that can be computed in parts; refuse where all must be.

        A loss may only claim that it adds up over positions, so it is tried on a corner first.
        """
        if self._divided is None:
            self._to(image)
            deep = {
                n: ts[0].loss for n, ts in self._terms.items() if not reads_pixels_only(ts[0].loss)
            }
            divided = set()
            if self._extractor.computes_in_tiles:
                claiming = {name: loss for name, loss in deep.items() if loss.adds_up}
                with torch.no_grad():
                    corner = image[..., :_CORNER, :_CORNER].detach()
                    found = self._extractor(corner, _layers(claiming.values()) - {"image"})
                    features = {**found, "image": corner}
                divided = {n for n, loss in claiming.items() if keeps_promise(loss, features)}
            for name, loss in deep.items():
                if name not in divided and self._tile is not None:
                    raise indivisible(name, loss, f"`tile` is {self._tile}", "tile=None")
                if name not in divided and self._group.size > 1:
                    reason = f"there are {self._group.size} processes"
                    raise indivisible(name, loss, reason, "a single one")
            self._divided = divided
        return self._divided

    def _style_terms(self) -> dict[str, Term]:
        return {n: ts[0] for n, ts in self._terms.items() if ts[0].loss.reference == "style"}

    def _all_terms(self) -> Iterator[Term]:
        return chain.from_iterable(self._terms.values())

    def _to(self, image: Tensor) -> None:
        # Before capture: a loss may have buffers that capture works with.
        for term in self._all_terms():
            term.loss.to(image)


def _layers(losses: Iterable[Loss]) -> frozenset[str]:
    return frozenset(layer for loss in losses for layer in loss.layers)
