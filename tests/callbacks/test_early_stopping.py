import math
from collections.abc import Sequence

import pytest
import torch

from nst import EarlyStopping, RunState


def stops_at(stopping: EarlyStopping, losses: Sequence[float]) -> int | None:
    """Return the step at which a run with these losses is stopped."""
    state = RunState(torch.zeros(1, 3, 1, 1), num_steps=len(losses))
    stopping.on_start(state)
    for state.step, loss in enumerate(losses, 1):
        state.losses = {"style": torch.tensor(loss)}
        stopping.on_step(state)
        if state.stop_reason is not None:
            return state.step
    return None


CREEPING = [0.996**i for i in range(40)]  # 0.4 % a step, 1.2 % in three
SINKING = [-(1.1**i) for i in range(10)]


@pytest.mark.parametrize(
    ("patience", "losses", "step"),
    [
        (3, [5.0, 4.0, 3.0, 2.0, 2.5, 3.0, 3.5, 4.0], 7),
        (1, [5.0, 4.0, 3.0, 2.0, 2.5, 3.0, 3.5, 4.0], 5),
        (1, [0.9**i for i in range(40)], None),
        (3, [3, 2, 5, 5, 1, 4, 4, 0.5], None),  # rises within the patience
        (3, CREEPING, None),  # improves enough over several steps
        (2, CREEPING, 3),
        (1, SINKING, None),
        (2, [*SINKING, -2.0, -2.0, -2.0], 12),
        (2, [1.0, math.nan, math.nan, math.nan], 3),
        (2, [math.nan, 3.0, 2.0, 1.0], None),
    ],
)
def test_a_run_stops_when_the_best_loss_has_not_improved_within_the_patience(
    patience: int, losses: list[float], step: int | None
) -> None:
    stopping = EarlyStopping(patience, 0.01)
    assert stops_at(stopping, losses) == step
    assert stops_at(stopping, losses) == step  # a new run forgets the last


def test_only_the_finest_scale_is_stopped() -> None:
    stopping = EarlyStopping(patience=1)
    state = RunState(torch.zeros(1, 3, 1, 1), num_steps=9, num_scales=2)
    stopping.on_start(state)
    for state.scale in [0, 0, 0, 0, 1]:
        state.losses = {"style": torch.tensor(1.0)}
        stopping.on_step(state)
    assert state.stop_reason is None
    stopping.on_step(state)
    assert state.stop_reason == "plateau: the loss fell by less than 0.50% in 1 steps"
