"""A short run to follow, and callbacks that follow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from nst import Callback, FeatureExtractor, RunState, StyleTransfer, StyleTransferResult
from tests.helpers import at_step, fail_at

Paint: TypeAlias = Callable[..., StyleTransferResult]


@pytest.fixture
def paint(extractor: FeatureExtractor, photo: Tensor, painting: Tensor) -> Paint:
    """Runs a few steps with the given callbacks and options of `StyleTransfer`."""

    def paint(*callbacks: object, content: Tensor = photo, **options: Any) -> StyleTransferResult:
        transfer = StyleTransfer(extractor, **{"num_steps": 4, **options})
        return transfer.run(content, painting, callbacks=callbacks)  # type: ignore[arg-type]

    return paint


class Recorder(Callback):
    """Records which hook is called, and the state at that time."""

    def __init__(self, name: str = "", calls: list[str] | None = None) -> None:
        self.name, self.calls = name, [] if calls is None else calls
        self.images: list[Tensor] = []
        self.losses: list[float] = []
        self.progress: list[float] = []

    def on_start(self, state: RunState) -> None:
        self.calls.append(f"{self.name}start")
        self.progress.append(state.progress)

    def on_step(self, state: RunState) -> None:
        self.calls.append(f"{self.name}step {state.step}")
        self.images.append(state.image.clone())
        self.losses.append(state.loss)
        self.progress.append(state.progress)

    def on_end(self, state: RunState) -> None:
        self.calls.append(f"{self.name}end")
        self.progress.append(state.progress)

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
