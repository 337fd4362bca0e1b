"""A picture on its way through the network: losses take their share of each layer as it passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nst import functional
from nst._network.bands import Rows, add_up, in_bands, widen
from nst._utils.group import Group
from nst.extractors.base import Block, Extractor, as_extractor
from nst.losses.base import Features, Loss, Statistic, StatisticLoss, parts_of
from nst.losses.content import PointwiseLoss

_Keys: TypeAlias = list[tuple[int, str, int | None]]
"""Of each share: the index of its term, the layer, and of how many tensors the share is a tuple."""

# Positions on which a loss is tried: enough to tell a mean from anything else.
_TRIED = 64
# From so many pixels on, the first block is computed twice, some rows at a time: its features take
# half of the memory, and computing them a hundredth of the time.
_LARGE, _ROWS = 2**19, 128


@dataclass
class Term:
    """A loss, the part of the picture that it sees, and its factor in the total.

    Args:
        loss: With or without targets.
        mask: Part of the picture that counts, `(1, 1, H, W)`; None for all of it.
        strength: Factor in the total, beside the loss's own weight.
    """

    loss: Any
    mask: Tensor | None = None
    strength: float = 1.0
    _weights: dict[tuple[str, tuple[int, int]], Tensor] = field(default_factory=dict)

    @property
    def factor(self) -> float:
        """What the loss is multiplied with."""
        factor: float = self.strength * self.loss.weight
        return factor

    def weights(self, layer: str, shape: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the weights of all positions of a layer of this shape; nothing without a mask."""
        if self.mask is None:
            return ()
        if (layer, shape) not in self._weights:
            self._weights[layer, shape] = functional.mask_weight(self.mask, shape)
        return (self._weights[layer, shape],)

    def value(self, name: str, features: Features) -> Tensor:
        """Return the loss times its factor, from whole features.

        Raises:
            ValueError: The loss is not a scalar.
        """
        value = self.loss(features if self.mask is None else {**features, "mask": self.mask})
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = tuple(getattr(value, "shape", ())) or type(value).__name__
            raise ValueError(
                f"`losses[{name!r}]` ({type(self.loss).__name__}) returned {shape}; "
                "a scalar tensor is needed. Reduce it, for example with .mean()."
            )
        return self.factor * value


@dataclass
class _Part:
    """A block and the losses' shares of its layers, of some rows at a time.

    Autograd keeps it until the backward pass is over. So it must not keep what it returns, or both
    would stay in memory for good.
    """

    block: Callable[[Tensor, tuple[int, int]], Iterator[tuple[str, Tensor]]]
    terms: Sequence[Term]
    layers: frozenset[str]
    """Those of which whole features are needed."""
    features: dict[str, Tensor]
    """Where to store them."""
    needed: bool
    """Whether there is a block after it."""
    keys: _Keys = field(default_factory=list)

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, ...]:
        shares, own = list[Tensor](), x
        self.keys.clear()
        for layer, feature in self.block(x, (rows.above, rows.above + rows.last - rows.first)):
            place = rows if feature.shape[3] == x.shape[3] else rows.halved()
            own = place.own(feature)
            if layer in self.layers:
                self._store(layer, own, place)
            for i, term in enumerate(self.terms):
                if layer in term.loss.layers:
                    weight = term.weights(layer, (place.height, own.shape[3]))
                    share = term.loss.share(layer, own, place.first, place.height, *weight)
                    count = len(share) if isinstance(share, tuple) else None
                    self.keys.append((i, layer, count))
                    shares += parts_of(share)
        return own if self.needed else x.new_empty(0), *shares

    def _store(self, layer: str, feature: Tensor, rows: Rows) -> None:
        """Store features as a whole; in bands, without gradient."""
        if rows.last - rows.first == rows.height:
            self.features[layer] = feature
            return
        if layer not in self.features:
            n, channels, _, width = feature.shape
            whole = feature.new_empty(n, channels, rows.height, width)
            self.features[layer] = whole.contiguous(memory_format=torch.channels_last)
        self.features[layer][:, :, rows.first : rows.last] = feature


def pass_through(
    extractor: Extractor,
    image: Tensor,
    terms: Sequence[Term],
    layers: frozenset[str],
    group: Group,
    tile: int | None,
) -> tuple[list[dict[str, Statistic]], dict[str, Tensor]]:
    """Take a picture through the network once.

    Args:
        extractor: The network.
        image: `(1, 3, H, W)`.
        terms: Those that are computed while the features pass by.
        layers: Layers of which whole features are needed.
        group: Processes that share the picture.
        tile: Number of rows of each block that are computed at a time; None for all.

    Returns:
        The sums of each term by layer, over all processes; and whole features by layer.

    Raises:
        ValueError: The extractor left out a layer.
    """
    features = {"image": image}
    edges = group.edges(image.shape[2])
    first, last = edges[group.rank : group.rank + 2]
    rows = Rows(first, last, image.shape[2])
    own = rows._replace(above=rows.first).own(image)
    layers = layers - {"image"}
    deep = layers.union(*(term.loss.layers for term in terms)) - {"image"}
    blocks, banded, step = list[Block](), 0, _ROWS if tile is None else -(-tile // 4) * 4
    if deep and not extractor.computes_in_tiles:
        features.update(_whole_features(extractor, image, deep))
    elif deep:
        # Whole features of a block that is computed in bands have no gradient.
        large = image.shape[2:].numel() >= _LARGE and not (layers and torch.is_grad_enabled())
        divides_first = tile is None and large
        blocks = [*extractor.blocks(deep, divides_first=divides_first)]
        banded = int(divides_first) if tile is None else len(blocks)
    part = _Part(_pixels, terms, layers, features, needed=False)
    _, *shares = part(own, rows)
    keys = part.keys
    x = extractor.normalized(own) if blocks else own
    for number, block in enumerate(blocks, 1):
        needed, width = number < len(blocks), x.shape[3]
        part = _Part(block, terms, layers, features, needed=needed)
        x, wide = widen(x, rows, block.halo, edges, group)
        if number <= banded:
            x, *found = in_bands(part, x, wide, step, block.halo)
        else:
            x, *found = part(x, wide)
        keys += part.keys
        shares += found
        if needed and x.shape[3] != width:
            rows, edges = rows.halved(), [edge // 2 for edge in edges]
    left, sums = iter(add_up(shares, group)), [dict[str, Statistic]() for _ in terms]
    for i, layer, count in keys:
        sums[i][layer] = next(left) if count is None else tuple(islice(left, count))
    return sums, features


def _pixels(x: Tensor, span: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the picture itself, which losses may read like a layer."""
    yield "image", x


def _whole_features(
    extractor: Extractor, image: Tensor, layers: frozenset[str]
) -> Mapping[str, Tensor]:
    features: Mapping[str, Tensor] = extractor(image, sorted(layers))
    missing = sorted(layers - set(features))
    if missing:
        raise ValueError(
            f"`extractor` returned no {missing[0]!r}, which the losses need. Its forward must "
            "return every layer asked for."
        )
    return {layer: features[layer] for layer in layers}


def reads_pixels_only(loss: Loss) -> bool:
    """Tell whether a loss reads no layer of the network."""
    return set(loss.layers) <= {"image"}


def is_divisible(loss: Loss) -> bool:
    """Tell whether a loss can be computed in parts, or needs no part of the network at all."""
    return loss.adds_up or reads_pixels_only(loss)


def check_divisible(
    extractor: nn.Module, losses: Mapping[str, Loss], reason: str, remedy: str
) -> None:
    """Refuse to compute a picture in parts if the network or a loss needs all of it at once.

    Args:
        extractor: The network.
        losses: Name to loss.
        reason: Why parts are asked for, such as "`tile` is 64".
        remedy: What to use instead.

    Raises:
        ValueError: One of them needs all.
    """
    if not as_extractor(extractor).computes_in_tiles:
        raise ValueError(
            f"{reason}, but `extractor` is a {type(extractor).__name__}, which cannot be computed "
            f"in parts. Use FeatureExtractor, or {remedy}."
        )
    for name, loss in losses.items():
        if loss.weight > 0 and not is_divisible(loss):
            raise indivisible(name, loss, reason, remedy)


def indivisible(name: str, loss: Loss, reason: str, remedy: str) -> ValueError:
    """Return the error that a loss cannot be computed in parts."""
    return ValueError(
        f"{reason}, but the loss {name!r} ({type(loss).__name__}) is no sum over positions, which "
        f"alone can be computed in parts. Use {remedy}, or a StatisticLoss or PointwiseLoss that "
        "`nst.testing.check_loss` approves."
    )


@torch.no_grad()
def keeps_promise(loss: Loss, features: Features) -> bool:
    """Try on a few positions whether a loss adds up as its kind promises.

    One that does not would silently be another loss if it were computed in parts.
    """
    for layer in loss.layers:
        flat = features[layer].flatten(2)[..., :_TRIED]
        middle = flat.shape[-1] // 2
        if middle == 0:
            continue
        if isinstance(loss, StatisticLoss):
            weight = functional.uniform_weight(flat)
            halves = (loss.statistic(x, weight) for x in (flat[..., :middle], flat[..., middle:]))
            pairs = zip(*map(parts_of, halves), strict=True)
            whole, parts = loss.statistic(flat, weight), tuple(a + b for a, b in pairs)
        elif isinstance(loss, PointwiseLoss):
            target = loss.prepare(flat.flip(-1))
            whole = loss.error(flat, target)[..., :middle]
            parts = (loss.error(flat[..., :middle], target[..., :middle]),)
        if not all(map(_is_near, parts_of(whole), parts)):
            return False
    return True


def _is_near(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    tolerance = 1e-3 * float(a.abs().max()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-3, atol=tolerance, equal_nan=True)
