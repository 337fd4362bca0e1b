"""The losses of one picture: each alone, or all while its features pass by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from nst._engine.processes import Share
from nst._engine.references import masked
from nst._engine.tally import Tally, promises_sums, tally
from nst._network.segment import FeatureGradient
from nst.losses.kinds import Features, Loss

__all__ = ["Tallies", "Term", "gradient_of", "no_sum", "sees_pixels_only", "whole_only"]


class Term(NamedTuple):
    """A loss and the part of the picture that it sees."""

    loss: Loss
    mask: Tensor | None = None
    share: float = 1.0

    @property
    def factor(self) -> float:
        """What the loss counts in the total."""
        return self.share * self.loss.weight

    @property
    def sees_pixels_only(self) -> bool:
        """Whether the loss needs no network, and can be shown a picture of any size as a whole."""
        return sees_pixels_only(self.loss)

    def value(self, name: str, features: Features) -> Tensor:
        """Return the loss times its factor.

        Args:
            name: What the loss is called.
            features: Of the whole picture.

        Raises:
            ValueError: The loss is not a scalar.
        """
        value = self.loss(masked(features, self.mask))
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = tuple(getattr(value, "shape", ())) or type(value).__name__
            raise ValueError(
                f"`losses[{name!r}]` ({type(self.loss).__name__}) returned {shape}; "
                "a scalar tensor is needed. Reduce it, for example with .mean()."
            )
        return self.factor * value


class Tallies:
    """Adds up the losses of one picture while its features pass by.

    Args:
        terms: The losses by name, each of which `adds_up` or sees only pixels.
        image: The picture, `(N, 3, H, W)`; of a share, its rows.
        share: Which rows these are; the losses of all are added up.
    """

    def __init__(self, terms: Mapping[str, Sequence[Term]], image: Tensor, share: Share) -> None:
        self._names, self._share = tuple(terms), share
        if any(term.sees_pixels_only for own in terms.values() for term in own):
            # Such a loss may do anything with the picture, which is small next to its features.
            self._image = share.whole(image.detach()).requires_grad_()
        self._of_pixels: dict[str, list[Tensor]] = {name: [] for name in terms}
        self._tallies: dict[str, list[Tally]] = {name: [] for name in terms}
        self._by_layer: dict[str, list[tuple[str, Tally]]] = {}
        for name, own in terms.items():
            for term in own:
                if term.sees_pixels_only:
                    with torch.enable_grad():
                        value = term.value(name, {"image": self._image})
                    self._of_pixels[name].append(value)
                    continue
                each = tally(term.loss, term.mask, term.factor)
                self._tallies[name].append(each)
                for layer in term.loss.layers:
                    self._by_layer.setdefault(layer, []).append((name, each))

    @property
    def layers(self) -> set[str]:
        """What is to be shown."""
        return set(self._by_layer)

    def see(self, layer: str, feature: Tensor, first: int, height: int, stays: bool) -> None:
        """Take in some rows of a layer; see `See`."""
        for _, each in self._by_layer[layer]:
            each.add(layer, feature, first, height, stays=stays)

    def close(self) -> dict[str, Tensor]:
        """Return the losses times their factors, detached, when all has been shown."""
        tallies = [each for own in self._tallies.values() for each in own]
        own = [each.sums for each in tallies]
        of_all = iter(self._share.add_up([x for sums in own for x in sums], "statistics"))
        for each, sums in zip(tallies, own, strict=True):
            each.replace(list(islice(of_all, len(sums))))
        losses = []
        for name in self._names:
            values = [each.close() for each in self._tallies[name]]
            values += [value.detach() for value in self._of_pixels[name]]
            losses.append(torch.stack(values).sum())
        # Machines of different kinds may round differently; what the losses decide is one.
        return dict(zip(self._names, self._share.group.broadcast(torch.stack(losses)), strict=True))

    def feature_gradient(self, names: Collection[str]) -> FeatureGradient:
        """Return what tells the gradient of some losses for some rows, after `close`."""

        def gradient(layer: str, feature: Tensor, first: int, height: int) -> Tensor | None:
            total = None
            for name, each in self._by_layer[layer]:
                own = each.gradient(layer, feature, first, height) if name in names else None
                if own is not None:
                    total = own if total is None else total + own
            return total

        return gradient

    def pixel_gradient(self, image: Tensor, names: Collection[str]) -> Tensor | None:
        """Return what of the gradient of some losses does not come through the network.

        Args:
            image: The picture, or its rows.
            names: Of the losses.
        """
        total = None
        if "image" in self._by_layer:
            total = self.feature_gradient(names)(
                "image", image, self._share.first, self._share.height
            )
        values = [value for name in names for value in self._of_pixels[name]]
        if values:
            with torch.enable_grad():
                own = gradient_of(torch.stack(values).sum(), self._image)
            if own is not None:
                own = self._share.own(own)
                total = own if total is None else total + own
        return total


def sees_pixels_only(loss: Loss) -> bool:
    """Tell whether a loss reads no layer of the network."""
    return set(loss.layers) <= {"image"}


def whole_only(loss: Loss) -> bool:
    """Tell by its kind whether a loss must be shown all features of a picture at once."""
    return not sees_pixels_only(loss) and not promises_sums(loss)


def no_sum(name: str, loss: Loss, case: str, remedy: str) -> ValueError:
    """Return the error that a loss cannot be shown some rows at a time.

    Args:
        name: What the loss is called.
        loss: Which one.
        case: Why it would have to be.
        remedy: What may be used instead.
    """
    return ValueError(
        f"{case}, but the loss {name!r} ({type(loss).__name__}) is no sum over positions, which "
        f"alone can be computed in parts. Use {remedy}, or a StatisticLoss or PointwiseLoss that "
        "`nst.testing.check_loss` approves."
    )


def gradient_of(value: Tensor, image: Tensor) -> Tensor | None:
    """Return the gradient of a loss for a picture; None if it does not depend on it."""
    if not value.requires_grad:
        return None
    # Not `backward`: an extractor of the user's may have parameters that want gradients.
    return torch.autograd.grad(value, image, allow_unused=True)[0]
