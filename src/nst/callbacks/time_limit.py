"""Stop a run in time."""

from time import perf_counter

from nst._utils.checks import non_negative
from nst.callbacks.base import Callback, RunState


class TimeLimit(Callback):
    """Stops the run after the first step that ends a number of seconds after the start.

    A resumed run has the whole time again.

    Args:
        seconds: Number of seconds; finite and above 0.

    Examples:
        >>> limit = TimeLimit(60)
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = non_negative("seconds", seconds)
        if self.seconds == 0:
            raise ValueError(f"`seconds` is {seconds!r}; it must be above 0.")

    def on_step(self, state: RunState) -> None:
        if perf_counter() - state.started >= self.seconds:
            state.stop(f"time limit of {self.seconds:g} s")
