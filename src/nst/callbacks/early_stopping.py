"""Stop a run whose loss no longer falls."""

import math
from collections.abc import Mapping
from typing import Any

from nst._utils.checks import Checked, at_least, non_negative
from nst.callbacks.base import Callback, RunState, stored_numbers


class EarlyStopping(Callback):
    """Stops the run when the best loss has not improved within the last `patience` steps.

    Only the finest scale is stopped.

    Args:
        patience: Number of steps; at least 1.
        min_improvement: Smallest drop that counts, relative to the best loss so far; at least 0.

    Examples:
        >>> stopping = EarlyStopping(patience=20, min_improvement=0.01)
    """

    patience, min_improvement = Checked(at_least), Checked(non_negative)

    def __init__(self, patience: int = 30, min_improvement: float = 0.005) -> None:
        self.patience, self.min_improvement = patience, min_improvement
        self._best, self._waited = math.inf, 0  # best loss, and number of steps since then

    def on_start(self, state: RunState) -> None:
        self._best, self._waited = math.inf, 0

    def on_step(self, state: RunState) -> None:
        if state.scale < state.num_scales - 1:
            return
        loss, drop = state.loss, self.min_improvement * abs(self._best)
        self._waited += 1
        # With an infinite best loss, the difference would be NaN.
        if not math.isfinite(self._best) or loss < self._best - drop:
            self._best, self._waited = loss, 0
        self._stop_if_due(state)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        with stored_numbers(self):
            self._best = float(kept.get("best", math.inf))
            self._waited = at_least("waited", kept.get("waited", 0), 0)
        self._stop_if_due(state)  # if the run had been stopped on a plateau

    def _stop_if_due(self, state: RunState) -> None:
        if self._waited >= self.patience:
            fall = f"{self.min_improvement:.2%} in {self.patience} steps"
            state.stop(f"plateau: the loss fell by less than {fall}")
