"""Styles as the losses see them, and what is kept of these as targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from nst.losses import Features, Loss, Statistic
from nst.losses.base import StorableLoss

__all__ = ["Reference", "Region", "Seen", "capture", "masked", "summaries_of"]


class Reference(NamedTuple):
    """A style as the losses see it: a picture, or what was kept of one."""

    image: Tensor | None = None
    """`(1, 3, h, w)`."""
    mask: Tensor | None = None
    """Which part of the picture counts, `(1, 1, h, w)`; None for all of it."""
    summaries: Callable[[Loss], Mapping[str, Statistic]] | None = None
    """Without a picture: the statistics that a loss would have made of it."""


class Region(NamedTuple):
    """A part of the picture, and the styles that go there."""

    mask: Tensor | None
    """Where on the content, `(1, 1, H, W)`; None for everywhere."""
    references: Sequence[Reference]
    """The styles, of any sizes."""
    blend: Sequence[float]
    """The styles' weights."""


class Seen(NamedTuple):
    """What the style losses need of a style."""

    features: Features
    summaries: Mapping[str, Mapping[str, Statistic]]
    """By the name of the loss that made them."""


def summaries_of(
    losses: Mapping[str, Loss], features: Features
) -> dict[str, Mapping[str, Statistic]]:
    """Return the statistics that losses make of a style, by their names.

    Args:
        losses: Name to loss; those that keep no statistics are left out.
        features: Of the style.
    """
    return {n: x.summarize(features) for n, x in losses.items() if isinstance(x, StorableLoss)}


def capture(
    name: str, loss: Loss, seen: Sequence[Seen | Reference], blend: Sequence[float]
) -> None:
    """Let a loss keep what it is to compare with.

    Args:
        name: What the loss is called.
        loss: A style loss.
        seen: What is known of each style.
        blend: The styles' weights.

    Raises:
        ValueError: The loss needs the picture of a style of which only statistics were kept.
    """
    if isinstance(loss, StorableLoss):
        loss.capture_summaries([_summary(name, loss, each) for each in seen], blend)
        return
    features = [each.features for each in seen if isinstance(each, Seen)]
    if len(features) < len(seen):
        raise ValueError(
            f"`style` is one of which only statistics were kept, but {type(loss).__name__} "
            "compares with the painting itself. Use the painting, or a StatisticLoss."
        )
    loss.capture(features, blend)


def _summary(name: str, loss: Loss, seen: Seen | Reference) -> Mapping[str, Statistic]:
    if isinstance(seen, Seen):
        return seen.summaries[name]
    assert seen.summaries is not None
    return seen.summaries(loss)


def masked(features: Features, mask: Tensor | None) -> Features:
    """Return features with the part of the picture that counts; None is all of it.

    Args:
        features: Layer to features.
        mask: `(1, 1, h, w)`.
    """
    return features if mask is None else {**features, "mask": mask}
