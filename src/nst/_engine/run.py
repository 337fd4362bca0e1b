"""A run: a job that is done, scale after scale, followed by callbacks, and what comes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from nst._engine.config import Recipe
from nst._engine.inputs import Job
from nst._engine.loop import begin, end, join_reasons, optimize, persist
from nst._engine.malloc import large_blocks_kept
from nst._engine.objective import Objective
from nst._engine.processes import Ranks
from nst._engine.scales import COARSE_EMPHASIS
from nst._engine.tiles import ROWS, explaining_memory
from nst._record.describe import settings_of
from nst._record.snapshot import Snapshots
from nst.callbacks.base import Callback
from nst.callbacks.history import LossHistory
from nst.images import fit, resize
from nst.optim.by_name import optimizer_factory
from nst.result import StyleTransferResult, attach_result
from nst.styles.style import Painting

__all__ = ["follow"]

logger = logging.getLogger("nst")


def follow(
    job: Job,
    recipe: Recipe,
    callbacks: Sequence[Callback],
    start: float,
    resumed: list[tuple[str, dict[str, Any]]] | None = None,
) -> StyleTransferResult:
    """Do a job, followed by callbacks.

    Args:
        job: What is worked with.
        recipe: What all runs of its transfer have in common.
        callbacks: Who follows.
        start: When the run began, on the clock `time.perf_counter`.
        resumed: The states of callbacks, by their names, if the run was kept before.
    """
    history, state, idle, ranks = LossHistory(), job.state, job.state.snapshot, Ranks.found()
    # All must take the same ways through the network, whatever memory each has.
    job.tile = ranks.agree(job.tile)
    _check_divisible(job, recipe, ranks)
    followers = [history, *callbacks] if ranks.leads else [history]

    def finish() -> StyleTransferResult:
        settings = settings_of(job, recipe)
        return _result(job, job.best(), history, settings, time.perf_counter() - start)

    with ExitStack() as stack:
        try:
            for callback in followers:
                begin(callback, state, resumed)
                stack.callback(end, callback, state)
            state.snapshot = Snapshots(job, recipe, followers, start, ranks)
            ordered = sorted(followers, key=lambda each: each.called_last)
            explained = explaining_memory(job.shape, lambda: job.tile, job.photo.pixels)
            with ranks.holding_interrupts(), explained:
                _paint(job, recipe, ordered, ranks)
        except KeyboardInterrupt:
            state.stop("interrupted")
        except BaseException as error:
            state.stop(f"failed: {type(error).__name__}")
            if state.step > 0:
                attach_result(error, lambda: persist(finish))
            raise
        finally:
            state.snapshot = idle  # who keeps the state should not keep the optimizer with it
            persist(lambda: state.stop(join_reasons(job.canvases)))
            state.image = persist(job.best)  # of its own: callbacks may change it
    logger.info("%s after %d steps", state.stop_reason, state.step)
    return persist(finish)


def _check_divisible(job: Job, recipe: Recipe, ranks: Ranks) -> None:
    if ranks.size > 1 and not isinstance(recipe.optimizer, str):
        raise ValueError(
            f"`optimizer` is {recipe.optimizer!r}, but there are {ranks.size} processes, of "
            "which each has some rows: what it sums over the picture would be wrong. Use "
            "'lbfgs' or 'adam', or a single process."
        )
    told = job.inputs, job.shape, job.scales, list(job.losses), recipe.optimizer
    if ranks.agree(told) != told:
        raise ValueError(
            f"`content`, `style` or another argument of process {ranks.rank} of {ranks.size} "
            "is not that of the first, but they share one picture. Give all of them the same "
            "pictures and arguments, or leave PyTorch's default process group before."
        )


def _paint(job: Job, recipe: Recipe, callbacks: Sequence[Callback], ranks: Ranks) -> None:
    """Go through the scales, until they are done or somebody stops the run."""
    state, last = job.state, len(job.scales) - 1
    state.stop_reason = ranks.agree(state.stop_reason)
    if state.stop_reason is not None and state.step == 0:
        return
    for index in range(state.scale, len(job.scales)):
        state.scale, scale = index, job.scales[index]
        before = sum(num_steps for _, num_steps in state.plan[:index])
        make_optimizer = optimizer_factory(recipe.optimizer, fine=state.scale == last and last > 0)
        height, width = fit(job.shape, scale.size)
        with large_blocks_kept(height * width):
            emphasis = 1.0 if index == last else COARSE_EMPHASIS
            objectives = _objectives(job, recipe, scale.size, emphasis, ranks)
            for canvas, objective in zip(job.canvases, objectives, strict=True):
                canvas.start_scale(objective, scale.size, make_optimizer, ranks)
            num_steps = scale.num_steps - (state.step - before)
            optimize(job.canvases, num_steps, state, callbacks, ranks)
        if state.stop_reason is not None:
            return
        # What a stalled scale left out is not to be done.
        taken = scale._replace(num_steps=state.step - before)
        state.plan = (*state.plan[:index], taken, *job.scales[index + 1 :])


def _objectives(
    job: Job, recipe: Recipe, size: int, emphasis: float, ranks: Ranks
) -> Iterator[Objective]:
    """Make an objective for each picture; styles are captured once if all have the same."""

    def fall_back() -> int | None:
        if recipe.tile != "auto" or ranks.size > 1:
            return None
        if job.tile is None:  # another picture of the batch may have come to this before
            logger.warning("the memory is not enough for whole pictures: in tiles of %d rows", ROWS)
        job.tile = ROWS
        return ROWS

    for picture in range(len(job.canvases)):
        if picture < len(job.materials):
            objective = Objective(
                recipe.extractor,
                job.losses,
                strength=job.handles.strength,
                emphasis=emphasis,
                normalize_gradients=recipe.normalize_gradients,
                tile=job.tile,
                fall_back=fall_back,
            )
            objective.capture_styles(job.regions_at(size, picture))
        yield objective.copy()


def _result(
    job: Job, image: Tensor, history: LossHistory, settings: dict[str, Any], seconds: float
) -> StyleTransferResult:
    alpha = job.photo.alpha
    return StyleTransferResult(
        image=image.cpu(),
        history=history.losses,
        num_steps=job.state.step,
        stop_reason=str(job.state.stop_reason),
        seconds=seconds,
        settings=settings,
        content=resize(job.photo.pixels, job.shape).cpu(),
        styles=[
            painting.pixels.cpu()
            for painting in job.paintings_at(max(job.shape))
            if isinstance(painting, Painting)
        ],
        alpha=None if alpha is None else resize(alpha, job.shape).cpu(),
    )
