"""Callbacks and the state of a run that they receive."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from nst._utils.text import logger, one_line


def _no_snapshot() -> dict[str, Any]:
    raise RuntimeError(
        "`RunState.snapshot` has nothing to return, as no run is under way. Call it in "
        "Callback.on_step."
    )


@dataclass
class RunState:
    """State of a run. There is one object for each run, updated in place."""

    image: Tensor
    """Current pictures, (N, 3, h, w) in [0, 1]: a copy for each callback. Coarse scales are smaller
    than the result. In `on_end`, the result."""
    num_steps: int
    """Number of optimizer steps planned in total."""
    num_scales: int = 1
    """Number of scales, coarse to fine."""
    step: int = 0
    """Number of completed steps."""
    scale: int = 0
    """Index of the current scale; `num_scales - 1` is the finest."""
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    """Losses by name, weighted and detached, as last evaluated in this step; a batch's mean."""
    stop_reason: str | None = None
    """Reason why the run ends (after an error, `"failed: "` and its name); None before."""
    plan: Sequence[tuple[int, int]] = ()
    """Longer side in pixels and number of steps (taken, if it ended early) of each scale, coarse
    to fine."""
    snapshot: Callable[[], dict[str, Any]] = field(default=_no_snapshot, repr=False)
    """Returns what `Checkpoint` stores: plain values, and tensors that only the run may change.
    Call it in `on_step`; elsewhere it raises `RuntimeError`."""
    unit: str = "step"
    """What `step` counts: a `"step"` of the optimizer, or a `"frame"` of a video."""
    started: float = field(default_factory=time.perf_counter, repr=False)
    """Start of the run, or of its continuation, by `time.perf_counter`."""
    earlier: float = field(default=0.0, repr=False)
    """Seconds that the run had taken before it was resumed."""

    def __post_init__(self) -> None:
        self._start = self.progress if self.step else 0.0  # above 0 for a resumed run

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, including those before it was resumed."""
        return time.perf_counter() - self.started + self.earlier

    @property
    def eta(self) -> float | None:
        """Estimated seconds to the end, at the mean speed since the run started or was resumed.

        None before the first step.
        """
        done, seconds = self.progress - self._start, time.perf_counter() - self.started
        return seconds * (1 - self.progress) / done if done > 0 else None

    @property
    def loss(self) -> float:
        """Sum of the losses; NaN before the first step. Synchronizes with the device."""
        return float(sum(self.losses.values())) if self.losses else math.nan

    @property
    def progress(self) -> float:
        """Completed share of the work, from 0 to 1; the work of a step is its number of pixels."""
        done, total, steps = 0, 0, self.step
        for size, num_steps in self.plan or [(1, self.num_steps)]:
            done += size**2 * min(steps, num_steps)
            total += size**2 * num_steps
            steps = max(0, steps - num_steps)
        return done / total if total else 1.0

    def stop(self, reason: str) -> None:
        """End the run after this step; the first reason becomes `stop_reason` of the result.

        `"interrupted"` becomes `"interrupted by a callback"`: alone, it stands for Ctrl-C, which
        also ends `map` and `frames`.
        """
        if reason == "interrupted":
            reason = "interrupted by a callback"
        self.stop_reason = self.stop_reason or reason or "stopped by a callback"


class Callback:
    """Base class of callbacks. Override any method.

    `on_end` is called whenever `on_start` was, also after an error or Ctrl-C. Override `state_dict`
    and `on_resume` if `StyleTransfer.resume` has to restore a state.

    Examples:
        >>> class StopAtLoss(Callback):
        ...     def __init__(self, loss):
        ...         self.loss = loss
        ...     def on_step(self, state):
        ...         if state.loss < self.loss:
        ...             state.stop(f"loss below {self.loss}")
    """

    called_last: ClassVar[bool] = False
    """Whether it is called after all callbacks in which this is False."""

    def on_start(self, state: RunState) -> None:
        """Called once before any work, with the initial picture; an exception ends the run."""

    def on_step(self, state: RunState) -> None:
        """Called after each optimizer step."""

    def on_end(self, state: RunState) -> None:
        """Called once at the end, also of a failed run, with the result (best picture so far)."""

    def state_dict(self) -> dict[str, Any]:
        """Return the plain values and tensors that `on_resume` needs; by default, none."""
        return {}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Called instead of `on_start` when a run is resumed; by default it calls `on_start`.

        `kept` is the stored `state_dict`, empty if the run had no such callback.
        """
        self.on_start(state)


class Display(Callback):
    """A callback that only shows the run: after its first error, which is logged, it is silent."""

    _is_silent = False

    def on_start(self, state: RunState) -> None:
        self._is_silent = False  # an earlier run may have failed

    def _try(self, show: Callable[[RunState], object], state: RunState) -> None:
        """Call a method that shows the state, unless one has failed in this run."""
        if self._is_silent:
            return
        try:
            show(state)
        except Exception as error:  # a window or stream can be closed at any time, in any way
            self._is_silent = True
            with suppress(Exception):  # the log may go to the same stream
                name, reason = type(self).__name__, one_line(error)
                logger.warning("%s shows nothing more of this run (%s)", name, reason)


CallbackLike: TypeAlias = Callback | Callable[[RunState], object]
"""A callback, or a function to call after each step."""


class _FunctionCallback(Callback):
    def __init__(self, function: Callable[[RunState], object]) -> None:
        if isinstance(function, type) or not callable(function):
            raise TypeError(
                f"`callbacks` has {function!r}; each must be a Callback (an instance) or a "
                "function that takes the state."
            )
        self.on_step = function  # type: ignore[assignment]


def as_callbacks(callbacks: CallbackLike | Iterable[CallbackLike] | None) -> list[Callback]:
    """Convert one or several callbacks and functions to a list; a function becomes `on_step`."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        callbacks = [callbacks]
    return [each if isinstance(each, Callback) else _FunctionCallback(each) for each in callbacks]


@contextmanager
def stored_numbers(callback: Callback) -> Iterator[None]:
    """Report invalid values of a callback in a checkpoint, which may be forged."""
    try:
        yield
    except Exception as error:  # the values can be of any type
        raise ValueError(
            f"`callbacks` has a {type(callback).__name__}, whose values in the checkpoint must be "
            f"numbers ({error})."
        ) from error


class LossHistory(Callback):
    """Records every loss of every step.

    Examples:
        >>> history = LossHistory()
        >>> # transfer.run(content, style, callbacks=[history])
    """

    losses: dict[str, list[float]]
    """Weighted values of each loss by name, one for each step."""

    def __init__(self) -> None:
        self.losses = {}

    def on_start(self, state: RunState) -> None:
        self.losses = {}

    def on_step(self, state: RunState) -> None:
        # An interrupt while the device is read must not leave lists of different lengths.
        values = {name: float(value) for name, value in state.losses.items()}
        for name, value in values.items():
            self.losses.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        with stored_numbers(self):
            losses = kept.get("losses", {})
            self.losses = {name: [float(each) for each in losses[name]] for name in losses}

    @property
    def total(self) -> list[float]:
        """Sum of the losses of each step."""
        return [sum(values) for values in zip(*self.losses.values(), strict=True)]
