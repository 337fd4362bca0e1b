"""Pass a picture through the network, and compute the losses' shares block by block.

A statistic and a mean error are sums over positions. A block may be computed some rows at a time,
and again on the backward pass, so that its features need not be stored.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from nst import functional
from nst._network.bands import Rows, add_up, in_bands, widen
from nst._network.stage import new_picture
from nst._utils.checks import known, non_negative
from nst._utils.device import at_least_single
from nst._utils.group import Group
from nst._utils.plain import hooks_of
from nst._utils.text import one_line
from nst.extractors.base import Block, Extractor, as_extractor, check_features
from nst.losses.base import Features, Loss, Statistic, parts_of
from nst.losses.content import PointwiseLoss
from nst.losses.storable import StatisticLoss

# Number of positions on which a loss is tested.
_TRIED = 64
# From this number of pixels, the first block is computed in bands of rows, and again on the
# backward pass: its features take half of the memory, but only a hundredth of the time.
_LARGE, _ROWS = 2**19, 128


@dataclass
class Term:
    """A loss in the total of a picture."""

    loss: Any
    mask: Tensor | None = None
    """Part of the picture that counts, `(1, 1, H, W)`; None for all of it."""
    factor: float = 1.0
    """Factor in the total, which includes the loss's weight."""
    _weights: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def weights(self, mask: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the weights of the positions of a layer of this shape, by the term's mask."""
        if shape not in self._weights:
            self._weights[shape] = functional.mask_weight(mask, shape)
        return self._weights[shape]

    def value(self, name: str, features: Features) -> Tensor:
        """Return the loss without its factor, from whole features."""
        given = features if self.mask is None else {**features, "mask": self.mask}
        before = _versions(given)
        value = self.loss(given)
        if before != _versions(given):
            raise ValueError(
                f"`losses[{name!r}]` ({type(self.loss).__name__}) changes the features that it is "
                "given, which others read. Use operations that return new tensors, or .clone()."
            )
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = tuple(getattr(value, "shape", ())) or type(value).__name__
            raise ValueError(
                f"`losses[{name!r}]` ({type(self.loss).__name__}) returned {shape}; "
                "a scalar tensor is needed. Reduce it, for example with .mean()."
            )
        return value


def _versions(features: Features) -> list[int]:
    return [0 if each.is_inference() else each._version for each in features.values()]


def lent(loss: Loss, features: Features) -> Features:
    """Return features that a loss may change while it captures: copies, unless it is nst's own."""
    if type(loss).__module__.split(".")[0] == "nst":
        return features
    copied = {*loss.layers, "image", "mask"} & features.keys()
    return {**features, **{name: features[name].clone() for name in copied}}


@dataclass
class _Part:
    """Computes some rows of a block and the losses' shares of its layers.

    Autograd holds it until the backward pass is over. If it held what it returns, such a cycle
    would never be freed.
    """

    block: Callable[[Tensor, tuple[int, int]], Iterator[tuple[str, Tensor]]]
    terms: Sequence[Term]
    layers: frozenset[str]
    """Layers whose whole features are stored in `features`."""
    features: dict[str, Tensor]
    needed: bool
    """Whether another block follows."""
    keys: list[tuple[int, str, int | None]] = field(default_factory=list)
    """The index of each share's term, its layer, and its number of tensors if it is a tuple."""

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, ...]:
        shares, own = list[Tensor](), x
        self.keys.clear()
        for layer, own in self.block(x, (rows.above, rows.above + rows.last - rows.first)):
            place = rows if own.shape[3] == x.shape[3] else rows.halved()
            seen = at_least_single(own)
            if layer in self.layers:
                if place.last - place.first == place.height:
                    self.features[layer] = seen
                else:
                    self._store_band(layer, seen, place)
            for i, term in enumerate(self.terms):
                if layer in term.loss.layers:
                    shape = place.height, own.shape[3]
                    weight = [] if term.mask is None else [term.weights(term.mask, shape)]
                    share = term.loss.share(layer, seen, place.first, place.height, *weight)
                    count = len(share) if isinstance(share, tuple) else None
                    self.keys.append((i, layer, count))
                    shares += parts_of(share)
        return own if self.needed else x.new_empty(0), *shares

    def _store_band(self, layer: str, feature: Tensor, rows: Rows) -> None:
        """Store some rows of whole features, without gradient."""
        if layer not in self.features:
            n, channels, _, width = feature.shape
            self.features[layer] = new_picture(feature, n, channels, rows.height, width)
        self.features[layer][:, :, rows.first : rows.last] = feature


def pass_through(
    extractor: Extractor,
    image: Tensor,
    terms: Sequence[Term],
    layers: frozenset[str],
    group: Group,
    tile: int | None,
    checked: set[str],
) -> tuple[list[dict[str, Statistic]], dict[str, Tensor]]:
    """Return the sums of each term by layer, over all processes; and whole features of `layers`.

    The picture, `(1, 3, H, W)`, passes through the network once, `tile` rows of each block at a
    time. Features of layers that are not in `checked` are checked, and their layers added.
    """
    features = {"image": image}
    edges = group.edges(image.shape[2])
    first, last = edges[group.rank : group.rank + 2]
    rows = Rows(first, last, image.shape[2])
    own = image if group.size == 1 else image[:, :, first:last]
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
    shares, keys = list[Tensor](), list[tuple[int, str, int | None]]()
    if any("image" in term.loss.layers for term in terms):  # losses may read pixels like a layer
        part = _Part(lambda x, _: iter([("image", x)]), terms, layers, features, needed=False)
        _, *shares = part(own, rows)
        keys = part.keys
    x = extractor.normalized(own) if blocks else own
    for number, block in enumerate(blocks, 1):
        needed, width, halo = number < len(blocks), x.shape[3], block.halo
        part, wide = _Part(block, terms, layers, features, needed=needed), rows
        if group.size > 1:
            x, wide = widen(x, rows, halo, edges, group)
        x, *found = in_bands(part, x, wide, step, halo) if number <= banded else part(x, wide)
        keys += part.keys
        shares += found
        if needed and x.shape[3] != width:
            rows, edges = rows.halved(), [edge // 2 for edge in edges]
    if group.size > 1 and shares:
        shares = add_up(shares, group)
    left, sums = iter(shares), [dict[str, Statistic]() for _ in terms]
    for i, layer, count in keys:
        sums[i][layer] = next(left) if count is None else tuple(islice(left, count))
    if unchecked := layers - checked:
        check_features(features, sorted(unchecked), image)
        checked |= unchecked
    return sums, {layer: at_least_single(feature) for layer, feature in features.items()}


def _whole_features(
    extractor: Extractor, image: Tensor, layers: frozenset[str]
) -> Mapping[str, Tensor]:
    features: Mapping[str, Tensor] = extractor(image, sorted(layers))
    if not isinstance(features, Mapping):
        raise TypeError(
            f"`extractor` returned a {type(features).__name__}; its forward must return a mapping "
            "from each layer asked for to its features (N, C, h, w)."
        )
    missing = sorted(layers - set(features))
    if missing:
        raise ValueError(
            f"`extractor` returned no {missing[0]!r}, which the losses need. Its forward must "
            "return every layer asked for."
        )
    return {layer: features[layer] for layer in layers}


def is_divisible(loss: Loss) -> bool:
    """Return whether a loss can be computed in parts or without the network."""
    return loss.adds_up or set(loss.layers) <= {"image"}


def check_divisible(
    extractor: nn.Module | None, losses: Mapping[str, Loss], reason: str, remedy: str
) -> None:
    """Raise if the network or a loss cannot be computed in parts; explain why parts are needed."""
    if extractor is not None and not as_extractor(extractor).computes_in_tiles:
        what = f"a {type(extractor).__name__}{' with hooks' if hooks_of(extractor) else ''}"
        raise ValueError(
            f"{reason}, but `extractor` is {what}, which cannot be computed in parts. Use "
            f"FeatureExtractor without hooks, or {remedy}."
        )
    for name, loss in losses.items():
        if loss.weight > 0 and not is_divisible(loss):
            raise indivisible(name, loss, reason, remedy)


def indivisible(name: str, loss: Loss, reason: str, remedy: str) -> ValueError:
    """Return the error that a loss cannot be computed in parts."""
    return ValueError(
        f"{reason}, but the loss {name!r} ({type(loss).__name__}) is not a sum over positions; "
        f"only such losses can be computed in tiles or by several processes. Use {remedy}, or a "
        "StatisticLoss or PointwiseLoss that `nst.testing.check_loss` approves."
    )


def keeps_promise(loss: Loss, features: Features) -> bool:
    """Test on a few positions whether a loss adds up, and changes nothing that it is given."""
    try:
        return _adds_up(loss, features)
    except Exception:  # it may need its target, or all positions; its own errors come later
        return False


@torch.no_grad()
def _adds_up(loss: Loss, features: Features) -> bool:
    for layer in loss.layers:
        flat = features[layer].flatten(2)[..., :_TRIED]
        middle = flat.shape[-1] // 2
        if middle == 0:
            continue
        weight = functional.uniform_weight(flat)
        given = {"feature": flat, "weight": weight}
        before = _versions(given)
        if isinstance(loss, StatisticLoss):
            halves = (loss.statistic(x, weight) for x in (flat[..., :middle], flat[..., middle:]))
            pairs = zip(*map(parts_of, halves), strict=True)
            whole, parts = loss.statistic(flat, weight), tuple(a + b for a, b in pairs)
        elif isinstance(loss, PointwiseLoss):
            target = loss.prepare(flat.flip(-1))
            whole = loss.error(flat, target)[..., :middle]
            parts = (loss.error(flat[..., :middle], target[..., :middle]),)
        if before != _versions(given):
            return False
        for a, b in zip(parts_of(whole), parts, strict=False):
            tolerance = 1e-3 * float(a.abs().max()) if a.numel() else 0.0
            if a.shape != b.shape or not torch.allclose(a, b, 1e-3, tolerance, equal_nan=True):
                return False
    return True


def check_definition(name: str, loss: Loss) -> None:
    """Raise for a loss, called `name` in messages, with an incomplete class or wrong attributes."""
    what = f"`{name}` is a {type(loss).__name__}"
    if "_parameters" not in vars(loss):
        raise TypeError(f"{what}, whose __init__ must first call super().__init__().")
    if loss.reference not in (None, "content", "style", "previous"):
        raise ValueError(
            f"{what} with reference {loss.reference!r}; it must be 'content', 'style', 'previous' "
            "or None."
        )
    non_negative(f"{name}.weight", loss.weight)
    for layer, weight in getattr(loss, "layer_weights", {}).items():
        known(f"`{name}.layer_weights` has", layer, loss.layers, f"its {type(loss).__name__}")
        non_negative(f"{name}.layer_weights[{layer!r}]", weight)
    if not all(isinstance(layer, str) for layer in loss.layers):
        raise ValueError(
            f"{what} with layers {loss.layers!r}; they must be names, such as ('relu4_2',)."
        )


def copied(name: str, loss: Loss) -> Loss:
    """Return a deep copy of a loss with the same hooks; raise if an attribute cannot be copied."""
    memo: dict[int, Any] = {id(hook): hook for hook in hooks_of(loss)}
    try:
        return copy.deepcopy(loss, memo)
    except Exception as error:  # classes decide how they are copied
        for attribute, value in vars(loss).items():
            try:
                copy.deepcopy(value)
            except Exception:
                raise TypeError(
                    f"`{name}` is a {type(loss).__name__} whose attribute {attribute!r} cannot be "
                    f"copied ({one_line(error)}). Call .detach() if it is a computed tensor, or "
                    "create it in `forward`."
                ) from error
        raise
