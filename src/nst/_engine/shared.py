"""Objectives for the pictures of a run; several processes evaluate each picture together.

The first process runs the optimizers and the callbacks. The others serve: they build the same
objectives at each scale, and evaluate their rows of a picture when the first process asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from torch import Tensor

from nst._engine.inputs import RunInputs
from nst._engine.objective import Objective
from nst._engine.scales import COARSE_EMPHASIS
from nst._utils.group import Group, ProcessLost
from nst._utils.malloc import large_blocks_kept
from nst.images import fit
from nst.result import StyleTransferResult

__all__ = [
    "AnyObjective",
    "SharedObjective",
    "check_same_inputs",
    "leading",
    "objectives_for",
    "serve",
    "share_result",
]


AnyObjective: TypeAlias = "Objective | SharedObjective"


class SharedObjective:
    """An objective that all processes evaluate, each for its rows of the picture.

    Args:
        objective: This process's own.
        group: The processes.
        number: Index of the picture in the batch.
        height: Rows of the picture. If they are too few, the first process evaluates them alone.
    """

    def __init__(self, objective: Objective, group: Group, number: int, height: int) -> None:
        self._objective, self._group, self._number = objective, group, number
        self._divides = group.divides(height)

    def capture_content(self, image: Tensor) -> None:
        """Capture the targets of the losses that refer to the content."""
        self._together("capture_content", image)

    def evaluate(self, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name and the gradient of their sum."""
        losses, gradient = self._together("evaluate", image)
        return losses, gradient

    def score(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses by name."""
        losses: dict[str, Tensor] = self._together("score", image)
        return losses

    def blame(self, image: Tensor) -> str:
        """Return the name of the first loss whose gradient is not finite."""
        return str(self._together("blame", image))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the losses, which is the same in all processes."""
        return self._objective.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the losses in all processes."""
        self._together("load_state_dict", state)

    def _together(self, method: str, argument: Any) -> Any:
        """Do something in this process, and have the other processes do the same."""
        state = None if isinstance(argument, Tensor) else argument
        with self._group.interrupts_deferred():
            try:
                self._group.broadcast_object(("call", self._number, method, state))
                return self.perform(method, argument)
            except BaseException:
                self._group.leave()  # the others may be waiting within the evaluation
                raise

    def perform(self, method: str, argument: Any) -> Any:
        """Call a method of this process's objective."""
        own = getattr(self._objective, method)
        if not self._divides:
            return own(argument) if self._group.rank == 0 else None
        if isinstance(argument, Tensor):
            argument = self._group.broadcast(argument.detach(), "pictures")
        return own(argument)


def objectives_for(inputs: RunInputs, index: int, group: Group) -> Iterator[AnyObjective]:
    """Return an objective for each picture, with the targets of the styles at a scale."""
    if group.size == 1:
        return _objectives(inputs, index, group)
    group.broadcast_object(("scale", index, inputs.tile))
    return _shared(inputs, index, group)


def _shared(inputs: RunInputs, index: int, group: Group) -> Iterator[SharedObjective]:
    height, _ = fit(inputs.shape, inputs.scales[index].size)
    dividing = group if group.divides(height) else Group()
    for number, objective in enumerate(_objectives(inputs, index, dividing)):
        yield SharedObjective(objective, group, number, height)


def _objectives(inputs: RunInputs, index: int, group: Group) -> Iterator[Objective]:
    size, configuration = inputs.scales[index].size, inputs.configuration
    for picture in range(len(inputs.content.pixels)):
        if picture < len(inputs.sources):  # otherwise its styles are those of the first picture
            objective = Objective(
                configuration.extractor,
                configuration.losses,
                strength=inputs.options.strength,
                emphasis=1.0 if index == len(inputs.scales) - 1 else COARSE_EMPHASIS,
                normalize_gradients=configuration.normalize_gradients,
                tile=inputs.tile,
                group=group,
            )
            objective.capture_styles(inputs.regions_at(size, picture))
        yield objective.copy()


def check_same_inputs(inputs: RunInputs, group: Group) -> None:
    """Raise in all processes if one of them was given something else than the first."""
    configuration, options = inputs.configuration, inputs.options
    given = (
        inputs.identities,
        inputs.shape,
        inputs.scales,
        list(configuration.losses),
        str(configuration.optimizer) if isinstance(configuration.optimizer, str) else None,
        (options.seed, options.strength, options.preserve_color, options.color_when),
    )
    every = group.gather_objects(given)
    other = next((rank for rank, each in enumerate(every) if each != every[0]), None)
    if other is not None:
        raise ValueError(
            f"`content`, `style` or another argument of process {other} of {group.size} is not "
            "that of the first, but they share one picture. Give all of them the same pictures "
            "and arguments, or leave PyTorch's default process group before."
        )


@contextmanager
def leading(group: Group) -> Iterator[None]:
    """Tell the other processes if the first one fails."""
    try:
        yield
    except ProcessLost:
        group.leave()
        raise
    except BaseException as error:
        if group.size > 1:
            group.broadcast_object(("failed", f"{type(error).__name__}: {error}"))
        raise


def share_result(inputs: RunInputs, group: Group, result: StyleTransferResult) -> None:
    """Send the result of the first process to the others."""
    names = ("history", "num_steps", "stop_reason", "seconds", "settings")
    with group.interrupts_deferred():
        group.broadcast_object(("result", {name: getattr(result, name) for name in names}))
        group.broadcast(result.image.to(inputs.content.pixels))


def serve(inputs: RunInputs, group: Group) -> StyleTransferResult:
    """Evaluate what the first process asks for until its run is over; return the same result."""
    height, width = inputs.shape
    pixels, objectives = inputs.content.pixels, list[SharedObjective]()
    try:
        with group.interrupts_deferred(ignored=True), large_blocks_kept(height * width):
            while True:
                kind, *message = group.broadcast_object(None)
                if kind == "scale":
                    index, tile = message
                    objectives = list(_shared(replace(inputs, tile=tile), index, group))
                    shape = fit(inputs.shape, inputs.scales[index].size)
                elif kind == "call":
                    number, method, state = message
                    image = pixels.new_empty(1, 3, *shape) if state is None else state
                    objectives[number].perform(method, image)
                elif kind == "result":
                    image = group.broadcast(pixels.new_empty(len(pixels), 3, height, width))
                    return inputs.result(image, **message[0])
                else:
                    break
    except BaseException:
        group.leave()  # the others may be waiting for this process
        raise
    raise ProcessLost(f"Process 0 of {group.size} has failed: {message[0]}")
