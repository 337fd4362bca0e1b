"""The loop: steps, callbacks, why it ended, and that nothing painted is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from nst._engine.canvas import Canvas
from nst._engine.processes import Ranks
from nst.callbacks.base import Callback, RunState

__all__ = ["begin", "end", "join_reasons", "optimize", "persist"]

logger = logging.getLogger("nst")

T = TypeVar("T")


class _News(NamedTuple):
    """What the first process tells the others after a step."""

    stop_reason: str | None
    losses: dict[str, Tensor]
    stalls: list[tuple[str | None, str | None]]
    """Of each picture, why it failed and why it stalled."""


def optimize(
    canvases: Sequence[Canvas],
    num_steps: int,
    state: RunState,
    callbacks: Sequence[Callback],
    ranks: Ranks,
) -> None:
    """Take the steps of one scale."""
    shown = ranks.size == 1 or ranks.agree(any(each.sees_image for each in callbacks))
    for _ in range(num_steps):
        active = [canvas for canvas in canvases if canvas.active]
        if state.stop_reason is not None or not active:
            break
        for canvas in active:
            canvas.step()
        state.step += 1
        state.losses = _mean_losses(canvases)
        if shown:
            state.image = torch.cat([canvas.shown() for canvas in canvases])
        if not ranks.leads:
            _hear(canvases, state, ranks)
        for callback in callbacks:
            callback.on_step(state)
        if ranks.leads:
            _tell(canvases, state, ranks)
    for canvas in canvases:
        canvas.finish_scale()


def _tell(canvases: Sequence[Canvas], state: RunState, ranks: Ranks) -> None:
    if ranks.interrupted:
        state.stop("interrupted")
    losses = {name: value.cpu() for name, value in state.losses.items()}
    stalls = [(canvas.failure, canvas.stall) for canvas in canvases]
    ranks.agree(_News(state.stop_reason, losses, stalls))


def _hear(canvases: Sequence[Canvas], state: RunState, ranks: Ranks) -> None:
    while (news := ranks.agree(None)) is None:  # the run is being kept
        for canvas in canvases:
            canvas.state_dict()
    state.stop_reason, state.losses = news.stop_reason, news.losses
    for canvas, (failure, stall) in zip(canvases, news.stalls, strict=True):
        canvas.failure, canvas.stall = failure, stall


def begin(
    callback: Callback, state: RunState, resumed: list[tuple[str, dict[str, Any]]] | None
) -> None:
    """Start a callback, or let it go on.

    Args:
        callback: To be started.
        state: Of its run.
        resumed: Type and state of every callback that the run had when it was kept; what this one
            takes up again is taken out. None for a run that begins.
    """
    if resumed is None:
        callback.on_start(state)
        return
    name = type(callback).__name__
    found = next((i for i, (kind, _) in enumerate(resumed) if kind == name), None)
    callback.on_resume(state, {} if found is None else resumed.pop(found)[1])


def end(callback: Callback, state: RunState) -> None:
    """End a callback. A picture that took minutes is not lost because a file could not be saved."""
    try:
        callback.on_end(state)
    except (Exception, KeyboardInterrupt):
        logger.exception("%s failed at the end of the run", type(callback).__name__)


def persist(work: Callable[[], T]) -> T:
    """Do what remains to be done after the last step, though Ctrl-C may come: too late to stop it.

    Args:
        work: May be done again.
    """
    try:
        return work()
    except KeyboardInterrupt:
        return work()


def _mean_losses(canvases: Sequence[Canvas]) -> dict[str, Tensor]:
    """Return each loss's mean over the batch; a failed picture counts with its best."""
    every = [canvas.losses for canvas in canvases]
    sound = [losses for losses in every if losses and all(v.isfinite() for v in losses.values())]
    every = sound or every
    return {name: torch.stack([losses[name] for losses in every]).mean() for name in every[0]}


def join_reasons(canvases: Sequence[Canvas]) -> str:
    """Say why a run that nobody stopped is over."""
    reasons = [canvas.failure or canvas.stall or "completed" for canvas in canvases]
    if len(set(reasons)) == 1:
        return reasons[0]
    return "; ".join(f"picture {i}: {reason}" for i, reason in enumerate(reasons))
