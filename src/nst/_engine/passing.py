"""A picture on its way through the network: losses take their share of each layer as it passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor

from nst._engine.terms import Term
from nst._network.bands import Rows, in_bands
from nst._network.exchange import add_up, widen
from nst._utils.group import Group
from nst.extractors.base import Block, Extractor
from nst.losses.base import Statistic, parts_of

_Keys: TypeAlias = list[tuple[int, str, int | None]]
"""Of each share: the index of its term, the layer, and of how many tensors the share is a tuple."""

# From so many pixels on, the first block is computed twice, some rows at a time: its features take
# half of the memory, and computing them a hundredth of the time.
_LARGE, _ROWS = 2**19, 128


class _Pixels:
    """The block that computes nothing: losses may read the picture itself."""

    halo = 0

    def __call__(
        self, x: Tensor, span: tuple[int, int] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        yield "image", x


class _Part:
    """A block and the losses' shares of its layers, of some rows at a time.

    Autograd keeps it until the backward pass is over. So it must not keep what it returns, or both
    would stay in memory for good.
    """

    def __init__(
        self,
        block: Block,
        terms: Sequence[Term],
        layers: frozenset[str],
        features: dict[str, Tensor],
        needed: bool,
    ) -> None:
        self._block, self._terms, self._needed = block, terms, needed
        self._layers, self._features = layers, features
        self.keys: _Keys = []

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, ...]:
        shares, own = list[Tensor](), x
        self.keys.clear()
        for layer, feature in self._block(x, (rows.above, rows.above + rows.last - rows.first)):
            place = rows if feature.shape[3] == x.shape[3] else rows.halved()
            own = place.own(feature)
            if layer in self._layers:
                self._store(layer, own, place)
            for i, term in enumerate(self._terms):
                if layer in term.loss.layers:
                    weight = term.weights(layer, (place.height, own.shape[3]))
                    share = term.share(layer, own, place.first, place.height, *weight)
                    count = len(share) if isinstance(share, tuple) else None
                    self.keys.append((i, layer, count))
                    shares += parts_of(share)
        return own if self._needed else x.new_empty(0), *shares

    def _store(self, layer: str, feature: Tensor, rows: Rows) -> None:
        """Store features as a whole; in bands, without gradient."""
        if rows.last - rows.first == rows.height:
            self._features[layer] = feature
            return
        if layer not in self._features:
            n, channels, _, width = feature.shape
            whole = feature.new_empty(n, channels, rows.height, width)
            self._features[layer] = whole.contiguous(memory_format=torch.channels_last)
        self._features[layer][:, :, rows.first : rows.last] = feature


class Passing:
    """Collects what losses need of a picture, block after block.

    Args:
        image: `(1, 3, H, W)`.
        terms: Losses that add up over rows.
        layers: Layers of the network of which whole features are needed.
        group: Processes that share the picture.
    """

    def __init__(
        self, image: Tensor, terms: Sequence[Term], layers: frozenset[str], group: Group
    ) -> None:
        self._terms, self._layers, self._group = terms, layers, group
        self._edges = group.edges(image.shape[2])
        first, last = self._edges[group.rank : group.rank + 2]
        self._rows = Rows(first, last, image.shape[2])
        self.features: dict[str, Tensor] = {"image": image}
        """Whole features by layer."""
        self._keys: _Keys = []
        self._shares: list[Tensor] = []
        self.through(_Pixels(), self.own_rows(image), None, needed=False)

    def own_rows(self, image: Tensor) -> Tensor:
        """Return this process's rows of a whole picture."""
        return self._rows._replace(above=self._rows.first).own(image)

    def through(self, block: Block, x: Tensor, step: int | None, *, needed: bool) -> Tensor:
        """Return this process's rows of a block's result; no rows if nobody needs it.

        Args:
            block: What to compute.
            x: Own rows of the block's input.
            step: Number of rows to compute at a time, and again on the backward pass; None for all.
            needed: Whether there is a block after it.
        """
        part = _Part(block, self._terms, self._layers, self.features, needed)
        x, rows = widen(x, self._rows, block.halo, self._edges, self._group)
        if step is None:
            result, *shares = part(x, rows)
        else:
            result, *shares = in_bands(part, x, rows, step, block.halo)
        self._keys += part.keys
        self._shares += shares
        if needed and result.shape[3] != x.shape[3]:
            self._rows, self._edges = self._rows.halved(), [edge // 2 for edge in self._edges]
        return result

    def sums(self) -> list[dict[str, Statistic]]:
        """Return for each term what it has added up by layer, over all processes."""
        left = iter(add_up(self._shares, self._group))
        sums: list[dict[str, Statistic]] = [{} for _ in self._terms]
        for i, layer, count in self._keys:
            sums[i][layer] = next(left) if count is None else tuple(islice(left, count))
        return sums


def pass_through(
    extractor: Extractor,
    image: Tensor,
    terms: Sequence[Term],
    layers: frozenset[str],
    group: Group,
    tile: int | None,
) -> Passing:
    """Take a picture through the network once.

    Args:
        extractor: The network.
        image: `(1, 3, H, W)`.
        terms: Those that are computed while the features pass by.
        layers: Layers of which whole features are needed.
        group: Processes that share the picture.
        tile: Number of rows of each block that are computed at a time; None for all.

    Raises:
        ValueError: The extractor left out a layer.
    """
    layers = layers - {"image"}
    passing = Passing(image, terms, layers, group)
    deep = layers.union(*(term.loss.layers for term in terms)) - {"image"}
    if not deep:
        return passing
    if not extractor.computes_in_tiles:
        passing.features.update(_whole_features(extractor, image, deep))
        return passing
    # Whole features of a block that is computed in bands have no gradient.
    large = image.shape[2:].numel() >= _LARGE and not (layers and torch.is_grad_enabled())
    divides_first = tile is None and large
    step = _ROWS if tile is None else -(-tile // 4) * 4
    blocks = extractor.blocks(deep, divides_first=divides_first)
    banded = int(divides_first) if tile is None else len(blocks)
    x = extractor.normalized(passing.own_rows(image))
    for number, block in enumerate(blocks, 1):
        rows = step if number <= banded else None
        x = passing.through(block, x, rows, needed=number < len(blocks))
    return passing


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
