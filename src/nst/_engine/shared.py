"""Objectives for the pictures of a run; several processes evaluate each picture together.

The first process runs the optimizers and the callbacks. The others build the same objectives at
each scale, and evaluate their rows of a picture when the first process asks.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partialmethod
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nst._engine.inputs import RunInputs
from nst._engine.objective import Objective, Previous
from nst._utils.device import blocks_kept, set_generators
from nst._utils.group import Group, ProcessLost
from nst.result import StyleTransferResult

AnyObjective: TypeAlias = "Objective | SharedObjective"


class SharedObjective:
    """An `Objective` whose methods all processes call together.

    If the picture has too few rows for all of them, the first process evaluates it alone.
    """

    def __init__(self, objective: Objective, group: Group, number: int, height: int) -> None:
        self._objective, self._group, self._number = objective, group, number
        self._divides = group.divides(height)
        self.state_dict = objective.state_dict  # the same in all processes
        self.is_mixed = objective.is_mixed

    def _together(self, method: str, argument: Any) -> Any:
        """Call a method in all processes."""
        state = None if isinstance(argument, Tensor) else argument
        with self._group.interrupts_deferred():
            try:
                self._group.broadcast_object(("call", self._number, method, state))
                return self.perform(method, argument)
            except BaseException as error:
                self._group.leave(error)  # the others may be waiting within the evaluation
                raise

    capture = partialmethod(_together, "capture")
    evaluate = partialmethod(_together, "evaluate")
    score = partialmethod(_together, "score")
    blame = partialmethod(_together, "blame")
    load_state_dict = partialmethod(_together, "load_state_dict")
    set_full_precision = partialmethod(_together, "set_full_precision", True)

    def perform(self, method: str, argument: Any) -> Any:
        """Call a method of this process's objective."""
        own = getattr(self._objective, method)
        if not self._divides:
            return own(argument) if self._group.rank == 0 else None
        if isinstance(argument, Tensor):
            argument = self._group.broadcast(argument.detach(), "pictures")
        return own(argument)


def lead(inputs: RunInputs, index: int, group: Group) -> Iterator[SharedObjective]:
    """Yield an objective for each picture at a scale; the other processes build them as well."""
    if group.rank == 0:
        group.broadcast_object(("scale", index, inputs.tile))
    height, _ = inputs.shape_at(inputs.scales[index].size)
    if inputs.previous is not None:  # a flow may differ by rounding between processes
        previous = (group.broadcast(each, "pictures") for each in inputs.previous)
        inputs = replace(inputs, previous=Previous(*previous))
    for number, objective in enumerate(inputs.objectives_at(index, group)):
        yield SharedObjective(objective, group, number, height)


def set_generators_of_all(states: Mapping[str, Tensor], device: torch.device, group: Group) -> None:
    """Set torch's generators in all processes."""
    if group.size > 1:
        group.broadcast_object(("generators", states))
    set_generators(states, device)


def check_same_inputs(inputs: RunInputs, group: Group) -> None:
    """Raise in all processes if one of them has other inputs than the first, or cannot share."""
    inputs.checked_for(group)  # those of a checkpoint may have been read by a single process
    configuration, options = inputs.configuration, inputs.options
    given = (
        inputs.identities,
        inputs.shape,
        inputs.scales,
        list(configuration.losses),
        configuration.optimizer if isinstance(configuration.optimizer, str) else None,
        (options.seed, options.strength, options.preserve_color, options.color_when),
        configuration.network.fingerprint(),
        None if inputs.previous is None else [each.shape for each in inputs.previous],
    )
    every = group.gather_objects(given)
    other = next((rank for rank, each in enumerate(every) if each != every[0]), None)
    if other is not None:
        raise ValueError(
            f"`content`, `style`, the network or another argument of process {other} of "
            f"{group.size} is not that of the first, but they share one picture. Give all of them "
            "the same pictures and arguments, or leave PyTorch's default process group before."
        )


@contextmanager
def leading(group: Group) -> Iterator[None]:
    """Notify the other processes if the first one fails."""
    try:
        yield
    except ProcessLost:
        group.leave()
        raise
    except BaseException as error:
        if group.size > 1:
            try:
                group.broadcast_object(("failed", f"{type(error).__name__}: {error}"))
            except ProcessLost:  # the others may have failed for the same reason
                group.leave()
        raise


def share_result(inputs: RunInputs, group: Group, result: StyleTransferResult) -> None:
    """Send the result of the first process to the others."""
    names = ("history", "num_steps", "stop_reason", "seconds", "settings")
    with group.interrupts_deferred():
        group.broadcast_object(("result", {name: getattr(result, name) for name in names}))
        group.broadcast(result.image.to(inputs.content.pixels))


def serve(inputs: RunInputs, group: Group) -> StyleTransferResult:
    """Evaluate on request of the first process until its run is over; return the same result."""
    height, width = inputs.shape
    pixels, objectives = inputs.content.pixels, list[Any]()
    try:
        with group.interrupts_deferred(ignored=True), blocks_kept(height * width):
            while True:
                kind, *message = group.broadcast_object(None)
                if kind == "scale":
                    index, tile = message
                    objectives = list(lead(replace(inputs, tile=tile), index, group))
                    shape = inputs.shape_at(inputs.scales[index].size)
                elif kind == "call":
                    number, method, state = message
                    image = pixels.new_empty(1, 3, *shape) if state is None else state
                    objectives[number].perform(method, image)
                elif kind == "generators":
                    set_generators(message[0], pixels.device)
                elif kind == "result":
                    image = group.broadcast(pixels.new_empty(len(pixels), 3, height, width))
                    return inputs.result(image, **message[0])
                else:
                    break
    except BaseException as error:
        group.leave(error)  # the others may be waiting for this process
        raise
    raise ProcessLost(f"Process 0 of {group.size} has failed: {message[0]}")
