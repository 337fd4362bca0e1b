"""Stop a run in time."""

import math
from time import monotonic

from nst._utils.checks import non_negative
from nst.callbacks.base import Callback, RunState


class TimeLimit(Callback):
    """Stops the run after the first step that ends later than a number of seconds after the start.

    A resumed run has the whole time again.

    Args:
        seconds: Number of seconds, above 0.

    Raises:
        ValueError: The number is not positive or not finite.

    Examples:
        >>> TimeLimit(60).seconds
        60.0
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = non_negative("seconds", seconds)
        if self.seconds == 0:
            raise ValueError(f"`seconds` is {seconds!r}; it must be above 0.")
        self._end = math.inf

    def on_start(self, state: RunState) -> None:
        self._end = monotonic() + self.seconds

    def on_step(self, state: RunState) -> None:
        if monotonic() >= self._end:
            state.stop(f"time limit of {self.seconds:g} s")
