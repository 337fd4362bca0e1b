"""Compute the named losses of a picture and their gradient."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst._engine.passing import Term, copied, indivisible, keeps_promise, lent, pass_through
from nst._utils.device import at_least_single
from nst._utils.group import Group
from nst.extractors.base import Extractor, check_features
from nst.functional import added
from nst.losses.base import Loss, Reference, Statistic, layers_of
from nst.losses.storable import is_storable
from nst.styles.style import Painting

# With this power, equal steps of strength change the picture about equally.
_STRENGTH_POWER = 3
# Side of the corner of a picture on which losses are tried, in pixels.
_CORNER = 64


class Region(NamedTuple):
    """A part of the content and its styles."""

    mask: Tensor | None
    """`(1, 1, H, W)`; None for the whole content."""
    styles: Sequence[Painting | Callable[[Loss], Mapping[str, Statistic]]]
    """Paintings of any sizes, or functions from a loss to its captured statistics."""
    blend: Sequence[float]
    """The styles' weights."""


class Previous(NamedTuple):
    """What the losses of a frame compare with: the frame before, warped to it."""

    image: Tensor
    """The result, `(1, 3, H, W)`."""
    mask: Tensor
    """How reliable each pixel is, from 0 to 1, `(1, 1, H, W)`."""
    change: Tensor
    """The change of the content from its warped frame before, `(1, 3, H, W)`."""


class Objective:
    """Scores a picture by several losses, with one pass through the network.

    It owns copies of the losses of positive weight. A style loss has one copy for each region,
    weighted by the region's area, so that the balance of style and content is the same everywhere.

    Args:
        extractor: The network.
        losses: Name to loss.
        like: A tensor with the device and the type of the pictures, to which all losses move.
        strength: Style strength; its third power multiplies all but the content losses.
        emphasis: Factor of the content losses.
        normalize_gradients: Whether `evaluate` scales each loss's gradient to its weight.
        tile: Number of rows of each block to compute at a time; None for all.
        group: Processes that share each evaluation of a picture.
    """

    is_mixed: bool
    """Whether pictures are evaluated in a lower precision than targets are captured in."""

    def __init__(
        self,
        extractor: Extractor,
        losses: Mapping[str, Loss],
        like: Tensor,
        *,
        strength: float = 1.0,
        emphasis: float = 1.0,
        normalize_gradients: bool = False,
        tile: int | None = None,
        group: Group | None = None,
    ) -> None:
        self._extractor, self._normalize = extractor, normalize_gradients
        self._tile, self._group = tile, group or Group()
        self._full = extractor.in_full_precision()  # also of the targets
        self.is_mixed = self._extractor is not self._full
        self._divided: set[str] | None = None  # unknown before there is a picture
        self._checked = set[str]()  # layers whose features have been right once
        self._terms: dict[str, list[Term]] = {}
        for name, loss in losses.items():
            share = emphasis if loss.reference == "content" else strength**_STRENGTH_POWER
            if loss.weight * share > 0:
                own = copied(f"losses[{name!r}]", loss).to(like)
                self._terms[name] = [Term(own, factor=float(share * loss.weight))]
        self._styles = {n: t for n, (t,) in self._terms.items() if t.loss.reference == "style"}

    @torch.no_grad()
    def capture(self, image: Tensor, reference: Reference = "content", **others: Tensor) -> None:
        """Store the targets of the losses with a reference, from its picture.

        `others` are features besides those of the layers.
        """
        self._divided_names(image)  # raises before any work
        terms = chain.from_iterable(self._terms.values())
        chosen = [term.loss for term in terms if term.loss.reference == reference]
        how = layers_of(chosen), Group(), self._tile, self._checked
        _, features = pass_through(self._full, image, [], *how)
        for loss in chosen:
            loss.capture(lent(loss, {**features, **others}))

    @torch.no_grad()
    def capture_styles(self, regions: Sequence[Region]) -> None:
        """Store the targets of the style losses for one or more regions."""
        captured: dict[str, list[Term]] = {name: [] for name in self._styles}
        copies = {
            name: [term.loss, *(copied(name, term.loss) for _ in regions[1:])]
            for name, term in self._styles.items()
        }
        for number, region in enumerate(regions):
            seen = [
                self.summarize(style) if isinstance(style, Painting) else style
                for style in region.styles
            ]
            area = 1.0 if region.mask is None else float(region.mask.mean())
            for name, term in self._styles.items():
                loss = copies[name][number]
                targets: Any = [each(loss) if callable(each) else each[name] for each in seen]
                capture = loss.capture_summaries if is_storable(loss) else loss.capture
                capture(targets, region.blend)
                captured[name].append(Term(loss, region.mask, term.factor * area))
        self._terms.update(captured)

    @torch.no_grad()
    def summarize(self, painting: Painting) -> dict[str, Mapping[str, Any]]:
        """Return each style loss's statistics by layer, or features if it compares with those."""
        losses = {name: term.loss for name, term in self._styles.items()}
        image, mask = painting
        storable = {name for name, loss in losses.items() if is_storable(loss)}
        divided = self._divided_names(image) & storable
        terms = [Term(loss, mask) for name, loss in losses.items() if name in divided]
        layers = layers_of(loss for name, loss in losses.items() if name not in divided)
        found = pass_through(self._full, image, terms, layers, Group(), self._tile, self._checked)
        sums, features = iter(found[0]), found[1]
        if mask is not None:
            features["mask"] = mask
        summaries = dict[str, Mapping[str, Any]]()
        for name, loss in losses.items():
            if name in divided:
                summaries[name] = next(sums)
            else:
                own = lent(loss, features)
                summaries[name] = loss.summarize(own) if name in storable else own
        return summaries

    def set_full_precision(self, _: bool = True) -> None:
        """Evaluate pictures in full precision from now on; the argument is for other ranks."""
        self._extractor, self.is_mixed = self._full, False

    @torch.no_grad()
    def score(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses of `(1, 3, H, W)` by name, each a scalar times its weight."""
        return self._losses(image)

    def evaluate(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of `(1, 3, H, W)` by name, detached, and the gradient of their sum."""
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            losses = self._losses(image)
            total = functools.reduce(torch.add, losses.values())
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
        """Return the bytes of the tensors stored for backward, and two gradients of the largest."""
        sizes: dict[int, int] = {}

        def store(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor)
        with torch.enable_grad(), hooks:
            self._losses(image.detach().requires_grad_())
        return sum(sizes.values()) + 2 * max(sizes.values(), default=0)

    def target_bytes(self) -> int:
        """Return the number of bytes of all targets."""
        terms = chain.from_iterable(self._terms.values())
        return sum(each.nbytes for term in terms for each in term.loss.buffers())

    def blame(self, image: Tensor) -> str:
        """Return the name of the first loss whose gradient is not finite."""
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            losses = self._losses(image)
        gradients = {n: self._gradient(value, image, again=True) for n, value in losses.items()}
        infinite = (n for n, g in gradients.items() if g is not None and not g.isfinite().all())
        return next(infinite, "total")

    def copy(self) -> Objective:
        """Return an independent copy with the same targets."""
        twin = copy.copy(self)
        twin._terms = {
            name: [Term(copied(name, each.loss), each.mask, each.factor) for each in terms]
            for name, terms in self._terms.items()
        }
        return twin

    def state_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return the state of custom losses, without targets."""
        return {
            name: [dict(term.loss.state_dict()) for term in terms]
            for name, terms in self._terms.items()
        }

    def load_state_dict(self, state: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Restore the state of custom losses after their targets have been captured."""
        for name, terms in self._terms.items():
            for term, own in zip(terms, state[name], strict=True):
                term.loss.load_state_dict(own)

    def _gradient(self, value: Tensor, image: Tensor, *, again: bool = False) -> Tensor | None:
        """Return the gradient of a loss over all processes, if any; `again` retains the graph."""
        gradient = None
        if value.requires_grad:
            is_half = self._extractor.feature_dtype == torch.float16
            unit = _gradient_unit(value, image) if is_half else 1.0
            # `backward` would also compute gradients of a custom extractor's parameters.
            how: Any = {"allow_unused": True, "retain_graph": again}
            (gradient,) = torch.autograd.grad(value if unit == 1 else unit * value, image, **how)
            gradient = gradient if unit == 1 or gradient is None else gradient / unit
        if self._group.size > 1:
            own = torch.zeros_like(image) if gradient is None else gradient
            (gradient,) = self._group.add_up([own], "gradient")
        # PyTorch's L-BFGS does not support the network's memory layout.
        return None if gradient is None else gradient.contiguous()

    def _normalized_gradient(self, losses: Mapping[str, Tensor], image: Tensor) -> Tensor | None:
        """Return the sum of the gradients, each scaled to a mean absolute value of its weight."""
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
        how = self._group, self._tile, self._checked
        found = pass_through(self._extractor, image, terms, layers_of(others), *how)
        sums, features, values = iter(found[0]), found[1], dict[str, Tensor]()
        if self._group.rank > 0:  # one process has the gradient of what all of them compute
            features = {layer: feature.detach() for layer, feature in features.items()}
        for name, terms in self._terms.items():
            own = [
                term.loss.compare(next(sums)) if name in divided else term.value(name, features)
                for term in terms
            ]
            values[name] = added(own, [term.factor for term in terms])
        return values

    def _divided_names(self, image: Tensor) -> set[str]:
        """Return the losses that are sums over positions, as tested on a corner of the picture.

        Raise for others in tiles and in several processes.
        """
        if self._divided is None:
            losses = {name: terms[0].loss for name, terms in self._terms.items()}
            deep = {name: loss for name, loss in losses.items() if {*loss.layers} - {"image"}}
            divided = set()
            if self._extractor.computes_in_tiles:
                claiming = {name: loss for name, loss in deep.items() if loss.adds_up}
                with torch.no_grad():
                    corner = image[..., :_CORNER, :_CORNER].detach().clone()
                    layers = layers_of(deep.values()) - {"image"}
                    # A whole pass of the network also discards what it derived from other weights.
                    found = self._full(corner, layers)
                    check_features(found, layers, corner)
                    shown = {**found, "image": corner}
                    features = {name: at_least_single(each) for name, each in shown.items()}
                divided = {n for n, loss in claiming.items() if keeps_promise(loss, features)}
            for name in [n for n in deep if n not in divided]:
                if self._tile is not None:
                    raise indivisible(name, deep[name], f"`tile` is {self._tile}", "tile=None")
                if self._group.size > 1:
                    reason = f"there are {self._group.size} processes"
                    raise indivisible(name, deep[name], reason, "a single one")
            self._divided = divided
        return self._divided


def _gradient_unit(value: Tensor, image: Tensor) -> float:
    """Return a factor of a loss whose gradient fits into float16."""
    size = abs(float(value.detach()))
    # Relative changes of pixels and loss are then of one order. A power of two is exact.
    exponent = math.frexp(image.numel() / size)[1] if 0 < size < math.inf else 0
    return math.ldexp(1.0, max(-99, min(99, exponent)))
