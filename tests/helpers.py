"""Helpers that many test files share: small pictures, short runs, callbacks that record."""

import copy
import functools
import inspect
import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import nst
from nst import Callback, Features, Loss, RunState, StyleTransfer, StyleTransferResult
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor

DEVICE = os.environ.get("NST_TEST_DEVICE", "cpu")
"""The device of runs that name none, such as `"cuda"`, or `"pretended-cuda"` (`tests.pretend`)."""
HAS_FLOAT64 = "mps" not in DEVICE


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a picture of random noise, `(1, 3, height, width)`."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Return reproducible numbers from 0 to 1, in float64."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return reproducible numbers of a normal distribution, in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny(dtype: torch.dtype = torch.float64, **options: Any) -> nst.FeatureExtractor:
    """Return the tiny network with other options, in float64 unless a type is given."""
    return nst.FeatureExtractor(Weights(tiny_extractor().state_dict(), "tiny"), **options).to(dtype)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Find every part of a nested value: its container and its key there."""
    if isinstance(value, (dict, list)):
        for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from places_in(each)


_ODD = [-1, 0, 1, 10**30, 10**400, 1e308, -0.5, math.nan, math.inf, "", "alpha", "relu1_1"]
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(_ODD)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@st.composite
def mutations(draw: st.DrawFn, value: Any) -> Any:
    """Drop or replace one to three parts of a nested value, at any depth."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(value))
        container, key = draw(st.sampled_from(places)) if places else (value, "forged")
        if draw(st.booleans()) and places:
            del container[key]
        else:
            container[key] = draw(_JSON)
    return value


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


class MeanLoss(nst.StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature * weight).sum(-1)


class Deep(nst.ContentLoss):
    """Compares features with those of the previous frame."""

    reference = "previous"


class BecomesNaN(Loss):
    """The brightness for some evaluations, then NaN."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, features: Features) -> Tensor:
        self.left -= 1
        value = features["image"].square().mean()
        return value if self.left >= 0 else value * torch.nan


def assert_same(found: StyleTransferResult, expected: StyleTransferResult, **settings: Any) -> None:
    """Check that two results are bit-identical, except for these settings."""
    assert torch.equal(found.image, expected.image)
    assert found.history == expected.history
    assert {**found.settings, **settings} == {**expected.settings, **settings}
    assert torch.equal(found.content, expected.content)
    assert len(found.styles) == len(expected.styles)
    for one, other in zip(found.styles, expected.styles, strict=True):
        assert torch.equal(one, other)
    assert (found.alpha is None) == (expected.alpha is None)
    assert (found.num_steps, found.stop_reason) == (expected.num_steps, expected.stop_reason)


def total(result: StyleTransferResult) -> list[float]:
    """Return the sum of the losses for each step."""
    return [sum(values) for values in zip(*result.history.values(), strict=True)]


def still(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def at_step(step: int, action: Callable[[RunState], object]) -> Callable[[RunState], None]:
    def act(state: RunState) -> None:
        if state.step == step:
            action(state)

    return act


def stop_at(step: int, reason: str = "enough") -> Callable[[RunState], None]:
    return at_step(step, lambda state: state.stop(reason))


def hooked(**hooks: Callable[[RunState], object]) -> Callback:
    """Return a callback with these hooks, such as `on_start`."""
    callback = Callback()
    vars(callback).update(hooks)
    return callback


def spy(patch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """Return a list that gets the arguments of each call of a function; options come last."""
    calls, function = list[tuple[Any, ...]](), getattr(owner, name)

    @functools.wraps(function)
    def record(*arguments: Any, **options: Any) -> Any:
        calls.append((*arguments, options))
        return function(*arguments, **options)

    patch.setattr(owner, name, record)
    return calls


def in_turn(*contexts: AbstractContextManager[Any]) -> None:
    """Enter contexts as threads do, and leave each while the later ones are still in use."""
    for context in contexts:
        context.__enter__()
    for context in contexts:
        context.__exit__(None, None, None)


def halve(module: object, inputs: object, output: Tensor) -> Tensor:
    """Halve features, as a hook."""
    return output / 2


def raising(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    """Return a function that raises an error, whatever it is given."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def fail_at(step: int, error: BaseException) -> Callable[[RunState], None]:
    return at_step(step, raising(error))


class Recorder(Callback):
    """Records its calls and what it is shown; several can share the list of calls."""

    def __init__(self, name: str = "", calls: list[str] | None = None) -> None:
        self.name, self.calls = name, [] if calls is None else calls
        self.images: list[Tensor] = []
        self.scales: list[int] = []
        self.progress: list[float] = []
        self.losses: list[float] = []
        self.reason: str | None = None

    def on_start(self, state: RunState) -> None:
        self._record("start", state)

    def on_step(self, state: RunState) -> None:
        self._record(f"step {state.step}", state)
        self.losses.append(state.loss)

    def on_end(self, state: RunState) -> None:
        self._record("end", state)
        self.reason = state.stop_reason

    def _record(self, call: str, state: RunState) -> None:
        self.calls.append(self.name + call)
        self.images.append(state.image.clone().cpu())
        self.scales.append(state.scale)
        self.progress.append(state.progress)


class Unwritable(io.StringIO):
    """A stream that breaks after some writes, as a pipe that nobody reads any more."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self._left = after

    def write(self, text: str) -> int:
        self._left -= 1
        self.flush()
        return len(text)

    def flush(self) -> None:
        if self._left < 0:
            raise BrokenPipeError(32, "Broken pipe")
