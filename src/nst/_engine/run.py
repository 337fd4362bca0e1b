"""A run: the changing state while pictures are optimized, scale by scale, and its record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import fields, replace
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import torch
import torchvision
from torch import Tensor, nn

from nst import color
from nst._engine import shared
from nst._engine.configuration import as_scales, explaining_memory
from nst._engine.inputs import RunInputs
from nst._engine.picture import OptimizedPicture
from nst._utils.checks import at_least
from nst._utils.device import blocks_kept, generator_states
from nst._utils.group import Group
from nst._utils.plain import json_ready
from nst._utils.text import logger
from nst._utils.version import __version__
from nst.callbacks.base import Callback, LossHistory, RunState
from nst.extractors.base import Extractor, evaluation_mode
from nst.images import resize
from nst.losses import type_name
from nst.losses.base import Loss
from nst.optim import OPTIMIZERS
from nst.result import StyleTransferResult, attach_result
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style

T = TypeVar("T")


def first_full_step(num_steps: int) -> int:
    """Return the index of the first step in full precision: of the last fifth of the last scale."""
    return num_steps + -num_steps // 5


class Run:
    """A run with its changing state."""

    def __init__(self, inputs: RunInputs, callbacks: Sequence[Callback], started: float) -> None:
        self.inputs, self._settings = inputs, describe_run(inputs)
        self.group, self.history = Group.current(), LossHistory()
        self.callbacks = [self.history, *callbacks]
        configuration, scales = inputs.configuration, tuple(inputs.scales)
        image = resize(inputs.start, inputs.shape_at(scales[0].size)).clone()
        self.state = RunState(
            image, configuration.num_steps, len(scales), plan=scales, started=started
        )
        contents, starts = (torch.split(each, 1) for each in (inputs.content.pixels, inputs.start))
        self.pictures = [
            OptimizedPicture(content, start, where=inputs.where, average=configuration.average)
            for content, start in zip(contents, starts, strict=True)
        ]
        self.device = inputs.content.pixels.device
        # States of torch's generators at the start of the scale, as `capture` may draw numbers.
        self.generators: dict[str, Tensor] = {}
        # Those at the start of the resumed scale and after its last step, until they are set.
        self.resumed_generators: dict[str, Mapping[str, Tensor]] = {}
        self.packed_inputs: dict[str, Any] | None = None  # for checkpoints, created once
        self._resumed: list[tuple[str, dict[str, Any]]] | None = None

    @contextmanager
    def _shown_to(self, callback: Callback) -> Iterator[RunState]:
        """Give a callback the state; a custom one gets copies of picture and losses."""
        state, image, losses = self.state, self.state.image, self.state.losses
        modules = {type(callback).__module__, getattr(callback.on_step, "__module__", "")}
        if {str(module).split(".")[0] for module in modules} != {"nst"}:
            state.image = image.clone()
            state.losses = {name: each.clone() for name, each in losses.items()}
        try:
            yield state
        finally:
            state.image, state.losses = image, losses

    def start(self, callback: Callback) -> None:
        """Start a callback, or resume it with the state of one of its type."""
        if self._resumed is None:
            with self._shown_to(callback) as state:
                callback.on_start(state)
            return
        name = type(callback).__name__
        found = next((i for i, (kind, _) in enumerate(self._resumed) if kind == name), None)
        kept = {} if found is None else self._resumed.pop(found)[1]
        with self._shown_to(callback) as state:
            callback.on_resume(state, kept)

    def end(self, callback: Callback) -> None:
        """End a callback; log its error, as the picture must not be lost."""
        is_called = False
        while not is_called:  # again, if Ctrl-C arrived before the call
            try:
                with self._shown_to(callback) as state:
                    is_called = True
                    callback.on_end(state)
            except (Exception, KeyboardInterrupt) as error:
                is_called |= not isinstance(error, KeyboardInterrupt)
                if is_called:
                    logger.exception("%s failed at the end of the run", type(callback).__name__)

    def optimize_scale(self, index: int) -> None:
        """Take the steps of one scale until the run is stopped."""
        inputs, state, scale = self.inputs, self.state, self.inputs.scales[index]
        state.scale = index
        before = sum(num_steps for _, num_steps in state.plan[:index])
        shape = height, width = inputs.shape_at(scale.size)
        is_last, first_full = index == len(inputs.scales) - 1, scale.num_steps
        fine = (index > 0 and is_last) or inputs.previous is not None
        make_optimizer = inputs.configuration.optimizer_factories[fine]
        callbacks = sorted(self.callbacks, key=attrgetter("called_last"))
        self._resume_generators("scale")
        self.generators = generator_states(self.device)
        with blocks_kept(height * width), evaluation_mode(inputs.configuration.extractor):
            objectives: Iterator[shared.AnyObjective] = inputs.objectives_at(index, self.group)
            if self.group.size > 1:
                objectives = shared.lead(inputs, index, self.group)
            for picture, objective in zip(self.pictures, objectives, strict=True):
                picture.start_scale(objective, shape, make_optimizer)
                if is_last and picture.is_mixed:
                    first_full = first_full_step(scale.num_steps)
            self._resume_generators("step")
            active = [picture for picture in self.pictures if picture.active]
            while active and state.stop_reason is None and state.step - before < scale.num_steps:
                for picture in active:
                    if state.step - before >= first_full:
                        picture.set_full_precision()
                    picture.step()
                state.step += 1
                active = [picture for picture in active if picture.active]
                if not active:
                    self._shorten_plan(index, before)
                state.losses = self._mean_losses()
                state.image = torch.cat([picture.pixels.detach() for picture in self.pictures])
                for callback in callbacks:
                    with self._shown_to(callback):
                        callback.on_step(state)
            for picture in self.pictures:
                picture.finish_scale()
        if not active and state.stop_reason is None:
            self._shorten_plan(index, before)

    def _resume_generators(self, moment: str) -> None:
        """Set torch's generators once to their states at a moment before the run was resumed."""
        if states := self.resumed_generators.pop(moment, None):
            shared.set_generators_of_all(states, self.device, self.group)

    def _shorten_plan(self, index: int, before: int) -> None:
        """Plan no more steps for a scale that stalled; they are not taken later."""
        taken = self.inputs.scales[index]._replace(num_steps=self.state.step - before)
        self.state.plan = (*self.state.plan[:index], taken, *self.inputs.scales[index + 1 :])

    def _mean_losses(self) -> dict[str, Tensor]:
        """Return each loss's mean over the batch; a failed picture counts with its best."""
        every = [picture.losses for picture in self.pictures]
        every = [e for e in every if e and all(v.isfinite() for v in e.values())] or every
        return {name: torch.stack([losses[name] for losses in every]).mean() for name in every[0]}

    def stop(self) -> None:
        """Set the stop reason of the run if it has none."""
        reasons = [picture.failure or picture.stall or "completed" for picture in self.pictures]
        several = "; ".join(f"picture {i}: {reason}" for i, reason in enumerate(reasons))
        self.state.stop(reasons[0] if len(set(reasons)) == 1 else several)

    def image(self) -> Tensor:
        """Return a copy of the best pictures so far at the result's size, `(N, 3, H, W)`."""
        shape, options, where = self.inputs.shape, self.inputs.options, self.inputs.where
        image = torch.cat([resize(picture.best, shape) for picture in self.pictures])
        recolors = options.recolors("after")
        if not recolors and where is None:
            return image
        content = resize(self.inputs.content.pixels, shape)
        if recolors:
            method = str(options.preserve_color)
            image = color.preserve_color(image, content, method, when="after")
        if where is not None:
            image = content + resize(where, shape) * (image - content)
        return image

    def settings(self) -> dict[str, Any]:
        """Return the settings for the run's record."""
        progress = {"steps_done": self.state.step, "stop_reason": self.state.stop_reason}
        return {**self._settings, **json_ready(progress)}

    def result(self) -> StyleTransferResult:
        """Return the best pictures so far as a result."""
        inputs = self.inputs
        with explaining_memory(inputs.shape, inputs.tile, inputs.content.pixels):
            return inputs.result(
                self.image(),
                history=self.history.losses,
                num_steps=self.state.step,
                stop_reason=str(self.state.stop_reason),
                seconds=self.state.elapsed,
                settings=self.settings(),
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`; tensors are not copied."""
        return {
            "step": self.state.step,
            "scale": self.state.scale,
            "plan": [list(scale) for scale in self.state.plan],
            "losses": dict(self.state.losses),
            "pictures": [picture.state_dict() for picture in self.pictures],
            "callbacks": [[type(each).__name__, each.state_dict()] for each in self.callbacks],
            "seconds": self.state.elapsed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state, without copying; a damaged one can raise nearly any error."""
        for picture, own in zip(self.pictures, state["pictures"], strict=True):
            picture.load_state_dict(own)
        scale, count = at_least("scale", state["scale"], 0), len(self.inputs.scales)
        if scale >= count or len(state["plan"]) != count:
            raise ValueError(f"`scale` is {scale}; it must be below {count}, the number in `plan`.")
        self.state = replace(
            self.state,
            image=torch.cat([picture.pixels.detach() for picture in self.pictures]),
            step=at_least("step", state["step"], 0),
            scale=scale,
            losses={name: loss.detach() for name, loss in state["losses"].items()},
            plan=as_scales(state["plan"]),
            earlier=float(state["seconds"]),
        )
        self._resumed = [(str(name), dict(own)) for name, own in state["callbacks"]]


def complete(run: Run, take_snapshot: Callable[[Run], dict[str, Any]]) -> StyleTransferResult:
    """Complete a run, and return its result; checkpoints store `take_snapshot(run)`."""
    inputs, state, group, no_snapshot = run.inputs, run.state, run.group, run.state.snapshot
    explained = partial(explaining_memory, inputs.shape, inputs.tile, inputs.content.pixels)
    if group.size > 1:
        shared.check_same_inputs(inputs, group)
    if group.rank > 0:
        return shared.serve(inputs, group)
    with shared.leading(group) if group.size > 1 else nullcontext():
        with ExitStack() as stack:
            try:
                for callback in run.callbacks:
                    run.start(callback)
                    stack.callback(run.end, callback)
                state.snapshot = partial(take_snapshot, run)
                # A resumed run that is stopped at once must still score its last update.
                resumed = state.scale if state.step > 0 else None
                with explained():
                    for index in range(state.scale, len(inputs.scales)):
                        if state.stop_reason is None or index == resumed:
                            run.optimize_scale(index)
            except KeyboardInterrupt:
                state.stop_reason = state.stop_reason or "interrupted"
            except BaseException as error:
                state.stop(f"failed: {type(error).__name__}")
                if state.step > 0:
                    attach_result(error, lambda: persistently(run.result))
                raise
            finally:
                state.snapshot = no_snapshot  # a stored state must not hold the optimizer
                persistently(run.stop)
                with suppress(MemoryError), explained():  # else callbacks see the last step's
                    state.image = persistently(run.image)
        logger.info("%s after %d steps", state.stop_reason, state.step)
        result = persistently(run.result)
        if group.size > 1:
            shared.share_result(inputs, group, result)
        return result


def describe_run(inputs: RunInputs) -> dict[str, Any]:
    """Return the settings of a run, before the first step."""
    configuration, options = inputs.configuration, inputs.options
    names = [each.name for each in fields(configuration) if not each.name.endswith("_weight")]
    optimizer: Any = configuration.optimizer
    name = optimizer if isinstance(optimizer, str) else getattr(optimizer, "__qualname__", "custom")
    if name in OPTIMIZERS and not isinstance(optimizer, str):  # a function of the user's
        name = f"custom {name}"
    task = "run" if "content" in inputs.identities else "synthesize"
    settings = {
        **{name: getattr(configuration, name) for name in names},
        **vars(options),
        "nst": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "task": task if inputs.previous is None else "frame",
        "inputs": inputs.identities,
        "shape": inputs.shape,
        "extractor": describe_part(configuration.extractor, configuration.network),
        "network": configuration.network.fingerprint(),
        "losses": {name: describe_part(loss, loss) for name, loss in configuration.losses.items()},
        "styles": describe_styles(inputs.styles, [members for _, members in inputs.regions]),
        "optimizer": name,
        "steps_done": 0,
        "stop_reason": None,
        "tile": inputs.tile,
        "where": options.where is not None,
        "init": options.init if options.init_picture is None else "picture",
        "device": str(configuration.device),
        "num_threads": torch.get_num_threads(),
    }
    ready: dict[str, Any] = json_ready(settings)
    return ready


def describe_styles(
    styles: Sequence[Style], regions: Sequence[Sequence[int]] = ()
) -> list[dict[str, Any]]:
    """Return the styles' weights, numbers of their regions, and what differs from the defaults.

    `regions` are the indices of the styles of each region.
    """
    masked = [each for each in regions if any(styles[i].region is not None for i in each)]
    numbers = {i: number for number, members in enumerate(masked) for i in members}
    described = []
    for i, style in enumerate(styles):
        settings = {
            "weight": style.weight,
            "region": None if style.region is None else numbers.get(i),
            "captured": style.image.sizes if isinstance(style.image, StyleStatistics) else None,
            "mask": None if style.mask is None else True,
            "scale": None if style.scale == 1 else style.scale,
            "rotation": None if style.rotation == 0 else style.rotation,
        }
        described.append({name: each for name, each in settings.items() if each is not None})
    return described


def describe_part(part: nn.Module, described: Loss | Extractor) -> dict[str, Any]:
    """Return a part's type and the arguments that would create it again, if known."""
    name = type_name(part) if isinstance(part, Loss) else type(part).__name__
    try:
        return {**described.settings(), "type": name}
    except Exception:  # a custom part may raise anything, and the picture matters more
        logger.exception("%s.settings failed, so they are not recorded", name)
        return {"type": name}


def persistently(work: Callable[[], T]) -> T:
    """Finish the work after the last step even if Ctrl-C arrives; it may be done twice."""
    try:
        return work()
    except KeyboardInterrupt:
        return work()
