"""Helpers that many test files share: small pictures, short runs, callbacks that record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nst import Callback, RunState, StyleTransfer, StyleTransferResult
from nst.testing import tiny_extractor


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a picture of random noise, `(1, 3, height, width)`."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Find every part of a nested value: its container and its key there."""
    if isinstance(value, (dict, list)):
        for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from places_in(each)


PHOTO, PAINTING = picture(32, 40, seed=1), picture(36, 28, seed=2)
LEFT = torch.zeros(1, 1, 32, 40)
LEFT[..., :20] = 1
"""A mask of the left half of the photograph."""

_OF_A_RUN = set(inspect.signature(StyleTransfer.run).parameters)


def small(extractor: nn.Module | None = None, **arguments: Any) -> StyleTransfer:
    """Return a transfer of few steps on a network of few channels."""
    network = tiny_extractor() if extractor is None else extractor
    return StyleTransfer(network, **{"num_steps": 6, **arguments})


def paint(extractor: nn.Module | None = None, **arguments: Any) -> StyleTransferResult:
    """Run a small transfer; pass each argument to the transfer or to its `run`."""
    of_run: dict[str, Any] = {"content": PHOTO, "style": PAINTING}
    of_run |= {name: arguments.pop(name) for name in _OF_A_RUN & set(arguments)}
    return small(extractor, **arguments).run(**of_run)


def total(result: StyleTransferResult) -> list[float]:
    """Return the sum of the losses for each step."""
    return [sum(values) for values in zip(*result.history.values(), strict=True)]


def still(parameters: Any) -> torch.optim.Optimizer:
    """Return an optimizer that changes nothing."""
    return torch.optim.SGD(parameters, lr=0.0)


def at_step(step: int, action: Callable[[RunState], object]) -> Callable[[RunState], None]:
    """Return a callback that acts once."""

    def act(state: RunState) -> None:
        if state.step == step:
            action(state)

    return act


def fail_at(step: int, error: BaseException) -> Callable[[RunState], None]:
    """Return a callback that raises an error."""

    def fail(state: RunState) -> None:
        raise error

    return at_step(step, fail)


class Recorder(Callback):
    """Records its calls and the pictures that it is shown."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.images: list[Tensor] = []
        self.scales: list[int] = []
        self.reason: str | None = None

    def on_start(self, state: RunState) -> None:
        self._record("start", state)

    def on_step(self, state: RunState) -> None:
        self._record("step", state)

    def on_end(self, state: RunState) -> None:
        self._record("end", state)
        self.reason = state.stop_reason

    def _record(self, call: str, state: RunState) -> None:
        self.calls.append(call)
        self.images.append(state.image.clone())
        self.scales.append(state.scale)
