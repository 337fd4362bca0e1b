"""Short runs, and callbacks that follow or end them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nst import RunState, StyleTransferResult
from tests import helpers
from tests.helpers import at_step, fail_at


def paint(*callbacks: object, **options: Any) -> StyleTransferResult:
    """Run a few steps with the callbacks."""
    return helpers.paint(**{"num_steps": 4, "callbacks": callbacks, **options})


class Recorder(helpers.Recorder):
    """Also records losses and progress; several can share the list of calls."""

    def __init__(self, name: str = "", calls: list[str] | None = None) -> None:
        super().__init__()
        self.name, self.calls = name, [] if calls is None else calls
        self.losses: list[float] = []
        self.progress: list[float] = []

    def _record(self, call: str, state: RunState) -> None:
        self.calls.append(self.name + (f"step {state.step}" if call == "step" else call))
        self.progress.append(state.progress)
        if call == "step":
            self.images.append(state.image.clone())
            self.losses.append(state.loss)

    @property
    def best(self) -> Tensor:
        return self.images[self.losses.index(min(self.losses))]


def interrupt_at(step: int) -> Callable[[RunState], None]:
    return fail_at(step, KeyboardInterrupt())


def stop_at(step: int, reason: str = "enough") -> Callable[[RunState], None]:
    return at_step(step, lambda state: state.stop(reason))


def state_at(step: int, plan: tuple[tuple[int, int], ...] = ()) -> RunState:
    num_steps = sum(steps for _, steps in plan) or 8
    losses = {"style": torch.tensor(0.25)}
    return RunState(torch.zeros(1, 3, 24, 32), num_steps, step=step, losses=losses, plan=plan)
