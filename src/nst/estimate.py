"""What a run will take: measured on a small picture, for time and memory go with the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from nst._engine.configuration import Scale
from nst._engine.inputs import RunInputs
from nst._engine.objective import Objective
from nst._utils.device import blocks_kept
from nst._utils.text import byte_count, duration
from nst.images import fit, resize
from nst.optim import optimizer_factory
from nst.styles.style import Painting

__all__ = ["Estimate", "estimate_run"]

# A step at so many pixels is taken in a moment.
_MOST_PIXELS = 2**17
# What a scale costs in steps, beside its own: capturing the targets takes one, and L-BFGS evaluates
# the picture that it starts from, and now and then a second trial.
_EXTRA_STEPS = 4
# Tensors of the picture's size in a step, beside the optimizer's memory: the picture, the best, the
# content, what callbacks are shown; and the optimizer's point, gradient, direction and trial, and
# what is computed from them.
_PICTURES = 9
# A picture is not made lower or narrower than this for the measurement: a network might compute
# small ones differently, or refuse them.
_SMALLEST_SIDE = 128


@dataclass(frozen=True)
class Estimate:
    """What a run will take, about.

    Examples:
        >>> print(Estimate(seconds=48.2, memory=258_000_000))
        about 48 s and 260 MB
    """

    seconds: float
    """From the first step to the last."""
    memory: int
    """The most bytes at a time, beyond what the process has before."""

    def __str__(self) -> str:
        """Say it in words."""
        return f"about {duration(max(self.seconds, 1))} and {byte_count(self.memory)}"


def estimate_run(inputs: RunInputs) -> Estimate:
    """Measure a step at a small size, and predict time and memory of a whole run."""
    size, finest = _measured_size(inputs), inputs.scales[-1]
    network = inputs.configuration.network
    derived = network.bytes_to_derive(inputs.configuration.layers)
    objective, picture = _begin(inputs, size)
    with blocks_kept(_pixels(inputs, finest.size)):
        stored = objective.bytes_stored(picture)  # also the first use of the network
        start = perf_counter()
        _, gradient = objective.evaluate(picture)
        float(gradient.sum())  # waits for the device
        seconds = perf_counter() - start
    steps = sum(
        (scale.num_steps + _EXTRA_STEPS) * _pixels(inputs, scale.size) / _pixels(inputs, size)
        for scale in inputs.scales
    )
    count = len(inputs.content.pixels)
    growth = _pixels(inputs, finest.size) / _pixels(inputs, size)
    memory = derived + growth * (stored + count * objective.target_bytes())
    return Estimate(seconds * steps * count, round(memory + _pictures(inputs, finest)))


def _measured_size(inputs: RunInputs) -> int:
    """Return the longer side at which a step is measured."""
    size = inputs.scales[0].size
    while _pixels(inputs, size) > _MOST_PIXELS:
        halved = zip(inputs.shapes_at(size), inputs.shapes_at(size // 2), strict=True)
        if any(min(after) < min(*before, _SMALLEST_SIDE) for before, after in halved):
            break
        size //= 2
    return size


def _begin(inputs: RunInputs, size: int) -> tuple[Objective, Tensor]:
    """Do what a run does at the beginning of a scale; return its objective, and a picture."""
    objective = Objective(
        inputs.configuration.network,
        inputs.configuration.losses,
        normalize_gradients=inputs.configuration.normalize_gradients,
        tile=inputs.tile,
    )
    objective.capture_styles(inputs.regions_at(size, captured_for=inputs.scales[0].size))
    content = resize(inputs.content.pixels[:1], fit(inputs.content.pixels.shape[-2:], size))
    objective.capture_content(content)
    # Not the content itself, at which gradients may all be zero.
    return objective, content.flip(-1)


def _pixels(inputs: RunInputs, size: int) -> int:
    height, width = fit(inputs.content.pixels.shape[-2:], size)
    return height * width


def _pictures(inputs: RunInputs, scale: Scale) -> int:
    """Return the bytes of the pictures that a scale works with, and of those that were given."""
    photo = inputs.content.pixels
    shape = fit(photo.shape[-2:], scale.size)
    one = 3 * photo.element_size() * _pixels(inputs, scale.size)
    given = [each.pixels for each in inputs.sources[0] if isinstance(each, Painting)]
    return one * len(photo) * (_PICTURES + _remembered(inputs, scale, shape)) + sum(
        each.nbytes for each in [photo, *given]
    )


def _remembered(inputs: RunInputs, scale: Scale, shape: tuple[int, int]) -> int:
    """Return how many pictures the optimizer remembers: pairs of some steps, or two means."""
    make = optimizer_factory(inputs.configuration.optimizer)
    whole = torch.zeros(1).expand(1, 3, *shape).requires_grad_()  # without its memory
    group = make([whole]).param_groups[0]
    return 2 * min(int(group.get("history_size", 1)), scale.num_steps)
