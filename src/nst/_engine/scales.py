"""The scales of a run, coarse to fine: sizes and numbers of steps.

After Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer" (CVPR 2017): the
coarse scale paints strokes that a single fine scale would take many times as long to find.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from nst._utils.checks import at_least

__all__ = ["COARSE_EMPHASIS", "NumScales", "Scale", "as_scales", "plan_scales"]

NumScales: TypeAlias = int | Literal["auto"]

COARSE_EMPHASIS = 3.0
"""Factor of the losses that refer to the content, at all scales but the last.

A finer scale does not recover what a coarse scale loses of the photograph."""

# A run that starts at 128 px takes over the composition of the painting.
_SMALLEST = 256
# Ratio of the steps of a scale to those of the scale before, which cost a quarter as much.
_STEP_RATIO = 0.8


class Scale(NamedTuple):
    """One scale of a run."""

    size: int
    """Longer side, in pixels."""
    num_steps: int
    """Number of optimizer steps."""


def as_scales(pairs: Iterable[Sequence[int]]) -> tuple[Scale, ...]:
    """Return scales from pairs of size and number of steps, checked."""
    return tuple(
        Scale(at_least("size", size, 1), at_least("num_steps", num_steps, 0))
        for size, num_steps in pairs
    )


def plan_scales(size: int, num_steps: int, num_scales: NumScales = "auto") -> list[Scale]:
    """Divide a run into scales, each twice the size of the one before.

    Args:
        size: Longer side of the result, in pixels.
        num_steps: Number of steps of the whole run.
        num_scales: Number of scales, fewer if there are not enough steps or pixels; `"auto"` uses
            scales of 256 px or more.

    Examples:
        >>> plan_scales(512, 120)
        [Scale(size=256, num_steps=67), Scale(size=512, num_steps=53)]
        >>> plan_scales(300, 100)
        [Scale(size=300, num_steps=100)]
    """
    sizes = [size]
    while sizes[0] >= 2 and (
        sizes[0] // 2 >= _SMALLEST if num_scales == "auto" else len(sizes) < num_scales
    ):
        sizes.insert(0, round(sizes[0] / 2))
    sizes = sizes[-num_steps:]
    shares = [_STEP_RATIO**i for i in range(len(sizes))]
    spare = num_steps - len(sizes)  # every scale has at least one step
    steps = [1 + int(spare * share / sum(shares)) for share in shares]
    steps[0] += num_steps - sum(steps)
    return [Scale(*scale) for scale in zip(sizes, steps, strict=True)]
