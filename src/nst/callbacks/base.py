"""What a run tells while it goes on, and what may be done with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from nst._utils.checks import at_least, non_negative

__all__ = [
    "Callback",
    "CallbackLike",
    "EarlyStopping",
    "LossHistory",
    "RunState",
    "as_callbacks",
]


@contextmanager
def _numbers(callback: Callback) -> Iterator[None]:
    """Refuse what only a forged checkpoint can have kept."""
    try:
        yield
    except Exception as error:  # nearly anything, as it may be of any form
        raise ValueError(
            f"`callbacks` has a {type(callback).__name__}, and what a checkpoint kept of it must "
            f"be numbers ({error})."
        ) from error


def _nothing_to_keep() -> dict[str, Any]:
    raise RuntimeError(
        "`RunState.snapshot` has nothing to return, as no run is under way. Call it in "
        "Callback.on_step."
    )


@dataclass
class RunState:
    """What the loop knows right now. One object for each run, updated in place."""

    image: Tensor
    """The pictures as they are after this step, `(N, 3, h, w)` in [0, 1]; `.clone()` to keep.
    Coarse scales are smaller than the result. In `on_end`, the result."""
    num_steps: int
    """How many optimizer steps are planned in all."""
    num_scales: int = 1
    """How many scales there are, coarse to fine."""
    step: int = 0
    """How many steps are done."""
    scale: int = 0
    """The scale being worked at; `num_scales - 1` is the last and finest."""
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    """The losses by name, weighted and detached, as last evaluated in this step; a batch's mean."""
    stop_reason: str | None = None
    """Why the run ends; None while it goes on."""
    plan: Sequence[tuple[int, int]] = ()
    """Each scale's longer side in pixels and number of steps, coarse to fine; of a scale that could
    not be improved any further, the steps that were taken."""
    snapshot: Callable[[], dict[str, Any]] = field(default=_nothing_to_keep, repr=False)
    """Returns what it takes to go on from here, for `Checkpoint`: plain values, and tensors that
    are the run's own. To be called in `on_step`; elsewhere it raises `RuntimeError`."""

    @property
    def loss(self) -> float:
        """The sum of the losses; NaN before the first step. Waits for the device when read."""
        return float(sum(self.losses.values())) if self.losses else math.nan

    @property
    def progress(self) -> float:
        """The share of the run's work that is done, from 0 to 1.

        A step's work is its number of pixels: one at 512 costs as much as four at 256. The share
        never falls. It ends at 1, or where the run was stopped.

        Examples:
            >>> def tell(state):
            ...     print(f"{state.progress:.0%}")
            >>> # transfer.run(content, style, callbacks=tell)
        """
        done, total, steps_left = 0, 0, self.step
        for size, num_steps in self.plan or [(1, self.num_steps)]:
            taken = min(steps_left, num_steps)
            steps_left -= taken
            done += size**2 * taken
            total += size**2 * num_steps
        return done / total if total else 1.0

    def stop(self, reason: str) -> None:
        """End the run after this step. The first reason given is kept.

        Args:
            reason: Becomes `stop_reason` of the result.
        """
        self.stop_reason = self.stop_reason or reason or "stopped by a callback"


class Callback:
    """Follows a run. Override any of its methods; what `on_...` returns is ignored.

    `on_end` is called whenever `on_start` was, also after an error or Ctrl-C. One that depends on
    the steps before may override `state_dict` and `on_resume`, so that it goes on with a run that
    `StyleTransfer.resume` takes up again.

    Examples:
        >>> class StopAtLoss(Callback):
        ...     def __init__(self, loss):
        ...         self.loss = loss
        ...     def on_step(self, state):
        ...         if state.loss < self.loss:
        ...             state.stop(f"loss below {self.loss}")
    """

    called_last: ClassVar[bool] = False
    """Whether it is called after those that have this False, in whatever order they were given."""
    sees_image: ClassVar[bool] = True
    """Whether `on_step` looks at `RunState.image`. Where several processes have a part of it each,
    and no callback does, it is not put together after every step."""

    def on_start(self, state: RunState) -> None:
        """Called once, before any work; raise here to refuse the run.

        Args:
            state: `image` is the starting picture.
        """

    def on_step(self, state: RunState) -> None:
        """Called after each optimizer step.

        Args:
            state: As it is after the step.
        """

    def on_end(self, state: RunState) -> None:
        """Called once, when the run is over, however it ended.

        Args:
            state: `image` is the resulting picture, `stop_reason` says why the run ended;
                after an error, the best picture so far and `"failed: "` with the error's name.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what `on_resume` needs: plain values and tensors. Nothing, if not overridden."""
        return {}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Called in place of `on_start` when a run goes on from a checkpoint.

        If not overridden, it calls `on_start`.

        Args:
            state: As after the step of the checkpoint.
            kept: What `state_dict` had returned then; empty if the run had no such callback.
        """
        self.on_start(state)


CallbackLike: TypeAlias = Callback | Callable[[RunState], object]


def as_callbacks(callbacks: CallbackLike | Iterable[CallbackLike]) -> list[Callback]:
    """Bring one callback or several to one form; a plain function becomes `on_step`.

    Args:
        callbacks: `Callback` objects, or functions of the state.

    Raises:
        TypeError: Neither; a class that was not instantiated, for example.
    """
    if isinstance(callbacks, Iterable):
        return [_as_callback(callback) for callback in callbacks]
    return [_as_callback(callbacks)]


def _as_callback(callback: CallbackLike) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(
            f"`callbacks` has {callback!r}; each must be a Callback (an instance) or a function "
            "that takes the state."
        )
    return _FunctionCallback(callback)


class _FunctionCallback(Callback):
    def __init__(self, function: Callable[[RunState], object]) -> None:
        self.function = function

    def on_step(self, state: RunState) -> None:
        self.function(state)


class LossHistory(Callback):
    """Keeps every loss of every step.

    Examples:
        >>> history = LossHistory()
        >>> # transfer.run(content, style, callbacks=[history])
        >>> history.losses
        {}
    """

    losses: dict[str, list[float]]
    """Loss name to its weighted values, one for each step."""

    sees_image: ClassVar[bool] = False

    def __init__(self) -> None:
        self.losses = {}

    def on_start(self, state: RunState) -> None:
        """Begin anew."""
        self.losses = {}

    def on_step(self, state: RunState) -> None:
        """Append this step's losses."""
        values = {name: float(value) for name, value in state.losses.items()}
        for name, value in values.items():  # all or none: reading them is what takes time
            self.losses.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the losses so far."""
        return {"losses": self.losses}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Go on with the losses of the steps before."""
        with _numbers(self):
            losses = kept.get("losses", {})
            self.losses = {name: [float(each) for each in losses[name]] for name in losses}

    @property
    def total(self) -> list[float]:
        """The sum of the losses, for each step."""
        return [sum(values) for values in zip(*self.losses.values(), strict=True)]


class EarlyStopping(Callback):
    """Ends the run when the loss has ceased to fall.

    The loss may rise for a while, so what counts is whether the best so far was improved upon
    within the last `patience` steps. Coarse scales run to their end: they are cheap, and a plateau
    there says nothing about the last one.

    Args:
        patience: How many steps may pass without improvement; at least 1.
        min_improvement: The smallest drop that counts, relative to the best loss so far.

    Raises:
        ValueError: `patience` is below 1, or `min_improvement` is negative.

    Examples:
        >>> EarlyStopping(patience=20, min_improvement=0.01).patience
        20
    """

    sees_image: ClassVar[bool] = False

    def __init__(self, patience: int = 30, min_improvement: float = 0.005) -> None:
        self.patience = at_least("patience", patience, 1)
        self.min_improvement = non_negative("min_improvement", min_improvement)
        self._best, self._waited = math.inf, 0

    def on_start(self, state: RunState) -> None:
        """Begin anew."""
        self._best, self._waited = math.inf, 0

    def on_step(self, state: RunState) -> None:
        """Stop the run on a plateau."""
        if state.scale < state.num_scales - 1:
            return
        loss = state.loss
        # Nothing to compare with yet: infinity less a share of itself would be NaN.
        first = not math.isfinite(self._best)
        if first or loss < self._best - self.min_improvement * abs(self._best):
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        self._stop_if_due(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the best loss so far, and how long ago it was."""
        return {"best": self._best, "waited": self._waited}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Go on waiting; stop the run at once where it had been stopped before."""
        with _numbers(self):
            self._best = float(kept.get("best", math.inf))
            self._waited = at_least("waited", kept.get("waited", 0), 0)
        self._stop_if_due(state)

    def _stop_if_due(self, state: RunState) -> None:
        if self._waited >= self.patience:
            state.stop(
                f"plateau: the loss fell by less than {self.min_improvement:.2%} "
                f"in {self.patience} steps"
            )
