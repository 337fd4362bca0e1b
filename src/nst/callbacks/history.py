"""A record of all losses."""

from collections.abc import Mapping
from typing import Any

from nst.callbacks.base import Callback, RunState, stored_numbers


class LossHistory(Callback):
    """Records every loss of every step.

    Examples:
        >>> history = LossHistory()
        >>> # transfer.run(content, style, callbacks=[history])
        >>> history.losses
        {}
    """

    losses: dict[str, list[float]]
    """Weighted values of each loss by name, one for each step."""

    def __init__(self) -> None:
        self.losses = {}

    def on_start(self, state: RunState) -> None:
        """Clear the history."""
        self.losses = {}

    def on_step(self, state: RunState) -> None:
        """Append the losses of this step."""
        # An interrupt while the device is read must not leave lists of different lengths.
        values = {name: float(value) for name, value in state.losses.items()}
        for name, value in values.items():
            self.losses.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the losses so far."""
        return {"losses": self.losses}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Restore the losses of the earlier steps."""
        with stored_numbers(self):
            losses = kept.get("losses", {})
            self.losses = {name: [float(each) for each in losses[name]] for name in losses}

    @property
    def total(self) -> list[float]:
        """Sum of the losses of each step."""
        return [sum(values) for values in zip(*self.losses.values(), strict=True)]
