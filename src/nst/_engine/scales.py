"""Coarse to fine: which sizes a picture is optimized at, and for how many steps.

After Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer" (CVPR 2017): the
coarse scale lays down strokes that a single fine scale would take many times as long to find.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["COARSE_EMPHASIS", "NumScales", "Scale", "plan_scales"]

NumScales: TypeAlias = int | Literal["auto"]

COARSE_EMPHASIS = 3.0
"""How many times as much losses count that refer to the content, at all scales but the last.

What a coarse scale gives up of the photograph, a finer one does not find again."""

# Begun at 128 px, a picture takes over the painting's composition at the cost of its own.
_SMALLEST = 256
# Each scale gets this share of the steps of the scale before it, which cost a quarter as much.
_STEP_RATIO = 0.8


class Scale(NamedTuple):
    """One stage of a run."""

    size: int
    """The longer side, in pixels."""
    num_steps: int
    """How many optimizer steps are taken at this size."""


def plan_scales(size: int, num_steps: int, num_scales: NumScales = "auto") -> list[Scale]:
    """Divide a run into scales, each twice the size of the one before.

    Args:
        size: The longer side of the result, in pixels.
        num_steps: The number of steps of the whole run.
        num_scales: How many scales; `"auto"` adds coarser ones of 256 px or more.

    Returns:
        The scales, coarse to fine. There are fewer than asked for where there are not enough steps
        or pixels for all of them.

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
    spare = num_steps - len(sizes)  # every scale has one step to begin with
    steps = [1 + int(spare * share / sum(shares)) for share in shares]
    steps[0] += num_steps - sum(steps)
    return [Scale(*scale) for scale in zip(sizes, steps, strict=True)]
