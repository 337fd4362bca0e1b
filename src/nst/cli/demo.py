"""What a demo has of its own: a preview, and no more steps than a newcomer waits for."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from torch import nn

from nst._utils.group import launched
from nst.callbacks.base import Callback, RunState
from nst.cli.options import recipe
from nst.images import ImageLike, save_image
from nst.styles.style import Style
from nst.transfer import StyleTransfer

__all__ = ["Preview", "foretell"]

# With what comes before the first step, a minute and a half.
_SECONDS = 60
# With fewer, there is little of the painting in the picture.
_LEAST_STEPS = 40


def _affordable_steps(seconds: float, num_steps: int) -> int:
    """Return how many of a demo's steps can be taken in a minute.

    Args:
        seconds: What all of them take, about.
        num_steps: How many they are.

    Returns:
        All of them, or fewer on a slow machine, but 40 at least.

    Examples:
        >>> _affordable_steps(30, 100), _affordable_steps(120, 100), _affordable_steps(600, 100)
        (100, 50, 40)
    """
    if seconds <= _SECONDS:
        return num_steps
    return min(num_steps, max(_LEAST_STEPS, int(num_steps * _SECONDS / seconds)))


def foretell(
    network: nn.Module, content: ImageLike, styles: list[Style], options: argparse.Namespace
) -> None:
    """Say how long a demo takes, and take fewer steps where that would be too long.

    Args:
        network: VGG19.
        content: The photograph.
        styles: The painting.
        options: Of `nst demo`; they get fewer steps, if those are the default's.
    """
    is_own = options.preset == "default" and options.steps is None and options.size is None
    # Several processes, of which the first alone measures, have to take as many steps each.
    may_shorten = is_own and not launched()
    if options.quiet and not may_shorten:
        return
    transfer = StyleTransfer(network, **recipe(options))
    estimate, fewer = transfer.estimate(content, styles), ""
    steps = _affordable_steps(estimate.seconds, transfer.num_steps)
    if may_shorten and steps < transfer.num_steps:
        options.steps = steps
        estimate = replace(estimate, seconds=estimate.seconds * steps / transfer.num_steps)
        fewer = (
            f", in {steps} steps, as one is slow here; `--steps {transfer.num_steps}` is the whole"
        )
    if not options.quiet:
        sys.stderr.write(f"this takes {estimate}{fewer}\n")


class Preview(Callback):
    """Saves the picture as soon as it has its size.

    What was found in coarse scales is a good idea already of what is to come.

    Args:
        output: The file to write.
        quiet: Whether nothing is said of it.
    """

    def __init__(self, output: str, quiet: bool = False) -> None:
        self._output, self._quiet = output, quiet
        self._scale = 0

    def on_start(self, state: RunState) -> None:
        """Say where the preview will be."""
        if not self._quiet and state.num_scales > 1:
            sys.stderr.write(f"a coarse preview will be in {self._output} before\n")

    def on_step(self, state: RunState) -> None:
        """Save the first step of the last scale."""
        if state.scale > self._scale:
            self._scale = state.scale
            if state.scale == state.num_scales - 1:
                save_image(state.image, self._output)
