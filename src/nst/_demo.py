"""What a demo has of its own: a preview, and no more steps than a newcomer waits for."""

from __future__ import annotations

import sys

from nst._callbacks import Callback, RunState
from nst.images import save_image

__all__ = ["Preview", "affordable_steps"]

# With what comes before the first step, a minute and a half.
_SECONDS = 60
# With fewer, there is little of the painting in the picture.
_LEAST_STEPS = 40


def affordable_steps(seconds: float, num_steps: int) -> int:
    """Return how many of a demo's steps can be taken in a minute.

    Args:
        seconds: What all of them take, about.
        num_steps: How many they are.

    Returns:
        All of them, or fewer on a slow machine, but 40 at least.

    Examples:
        >>> affordable_steps(30, 100), affordable_steps(120, 100), affordable_steps(600, 100)
        (100, 50, 40)
    """
    if seconds <= _SECONDS:
        return num_steps
    return min(num_steps, max(_LEAST_STEPS, int(num_steps * _SECONDS / seconds)))


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
