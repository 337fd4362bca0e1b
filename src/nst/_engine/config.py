"""What is asked for: of all runs of a transfer, and of a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from nst import color
from nst._engine.reader import INITS, Reader
from nst._engine.scales import NumScales
from nst._engine.tiles import Tile
from nst._utils.checks import at_least, non_negative, one_of
from nst.images import ImageLike
from nst.losses import Loss
from nst.optim.by_name import OptimizerLike

__all__ = ["ColorWhen", "Handles", "Recipe", "check_losses"]

ColorWhen = Literal["before", "after", "both"]


@dataclass(frozen=True)
class Recipe:
    """What runs of one transfer have in common; see `StyleTransfer`."""

    extractor: nn.Module
    losses: Mapping[str, Loss]
    device: torch.device
    size: int | None
    num_steps: int
    num_scales: NumScales
    average: float
    optimizer: OptimizerLike
    normalize_gradients: bool
    tile: Tile

    @property
    def reader(self) -> Reader:
        """Reads pictures for the network."""
        return Reader(self.device, self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The type of number that the network works with."""
        return next(self.extractor.parameters(), torch.empty(0)).dtype

    @property
    def layers(self) -> set[str]:
        """What any of the losses reads that weighs something."""
        return {x for loss in self.losses.values() if loss.weight > 0 for x in loss.layers}

    def size_of(self, shape: Sequence[int]) -> int:
        """Return the longer side of what a photograph becomes.

        Args:
            shape: The photograph's height and width.
        """
        return max(shape) if self.size is None else min(self.size, max(shape))


@dataclass(frozen=True, eq=False)
class Handles:
    """What can be said about a single run; see `StyleTransfer.run`.

    Raises:
        ValueError: An unknown name, or a number out of range.
        TypeError: An argument of a wrong type.
    """

    init: ImageLike = "content"
    seed: int = 0
    strength: float = 1.0
    preserve_color: str | None = None
    color_when: ColorWhen = "after"
    where: ImageLike | None = None

    def __post_init__(self) -> None:
        if at_least("seed", self.seed, 0) >= 2**64:
            raise ValueError(f"`seed` is {self.seed}; it must be below 2**64.")
        # A higher one's third power is no number.
        object.__setattr__(self, "strength", non_negative("strength", self.strength, 1e100))
        if self.preserve_color is not None:
            one_of("preserve_color", self.preserve_color, color.COLOR_METHODS)
        one_of("color_when", self.color_when, get_args(ColorWhen))

    @property
    def pictures(self) -> dict[str, ImageLike | None]:
        """The pictures among the handles; None where there is none."""
        named = isinstance(self.init, str) and self.init in INITS
        return {"where": self.where, "init": None if named else self.init}

    @property
    def recolors_styles(self) -> bool:
        """Whether the styles get the photograph's colors before the run."""
        return self.preserve_color is not None and self.color_when != "after"

    @property
    def recolors_result(self) -> bool:
        """Whether the result gets the photograph's colors."""
        return self.preserve_color is not None and self.color_when != "before"


def check_losses(losses: Mapping[str, Loss]) -> dict[str, Loss]:
    """Return the losses by name, if something can be optimized by them.

    Args:
        losses: Name to loss.

    Raises:
        TypeError: It is no mapping, or what is named is no loss.
        ValueError: A weight is negative, or all are 0.
    """
    if not isinstance(losses, Mapping):
        raise TypeError(
            f"`losses` is a {type(losses).__name__}; give each loss a name, as in "
            "{'content': ContentLoss(), 'style': GramStyleLoss()}."
        )
    for name, loss in losses.items():
        if not isinstance(loss, Loss):
            raise TypeError(
                f"`losses[{name!r}]` is {loss!r}; it must be an nst.Loss (an instance). "
                "Derive your own from StatisticLoss, PointwiseLoss or Loss."
            )
        if not loss.weight >= 0:
            raise ValueError(
                f"`losses[{name!r}].weight` is {loss.weight}; it must not be negative."
            )
    if not any(loss.weight for loss in losses.values()):
        raise ValueError(
            "`losses` has nothing to optimize; at least one loss must weigh more than 0."
        )
    return dict(losses)
