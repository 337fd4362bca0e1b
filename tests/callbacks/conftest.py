"""Short runs, and callbacks that follow or end them."""

from collections.abc import Callable
from typing import Any

import torch

from nst import RunState, StyleTransferResult
from tests import helpers
from tests.helpers import fail_at


def paint(*callbacks: object, **options: Any) -> StyleTransferResult:
    return helpers.paint(**{"num_steps": 4, "callbacks": callbacks, **options})


def interrupt_at(step: int) -> Callable[[RunState], None]:
    return fail_at(step, KeyboardInterrupt())


def state_at(step: int, plan: tuple[tuple[int, int], ...] = ()) -> RunState:
    num_steps = sum(steps for _, steps in plan) or 8
    losses = {"style": torch.tensor(0.25)}
    return RunState(torch.zeros(1, 3, 24, 32), num_steps, step=step, losses=losses, plan=plan)
