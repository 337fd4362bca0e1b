"""What a run will take: measured on a small picture, for time and memory go with the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from nst._engine.inputs import RunInputs
from nst._engine.malloc import large_blocks_kept
from nst._engine.objective import Objective
from nst._engine.scales import Scale
from nst._utils.allocations import Allocations
from nst._utils.text import byte_count, duration
from nst.images import fit, resize
from nst.optim.by_name import optimizer_factory
from nst.styles.style import Painting

__all__ = ["Estimate", "estimate_run"]

# A step at so many pixels is taken in a moment.
_MOST_PIXELS = 2**17
# What a scale costs in steps, beside its own: capturing the targets takes one, and L-BFGS evaluates
# the picture that it starts from, and now and then a second trial.
_EXTRA_STEPS = 4
# What is as large as the picture in a step, beside the optimizer's memory: the picture, the best,
# the content, what is shown to callbacks; and of the optimizer the point, the gradient, the
# direction, the trial and what is computed of them.
_PICTURES = 9
# Of a picture that is made smaller for this; else a network might take other ways than with larger
# ones, or refuse it.
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
    """Measure a step at a small size, and tell what all of them will take.

    Args:
        inputs: Of the run.
    """
    size = _measured_size(inputs)
    with large_blocks_kept(_pixels(inputs, inputs.scales[-1].size)):
        step = _measure_step(inputs, size)
    of_measured = sum(
        (scale.num_steps + _EXTRA_STEPS) * _pixels(inputs, scale.size) / _pixels(inputs, size)
        for scale in inputs.scales
    )
    seconds = step.seconds * of_measured * len(inputs.content.pixels)
    finest = inputs.scales[-1]  # where all of the memory is needed
    growth = _pixels(inputs, finest.size) / _pixels(inputs, size)
    # Of a batch, one picture at a time is evaluated.
    targets = step.targets.grown(growth) * (len(inputs.content.pixels) - 1)
    # Tiles are as wide as the picture; else what is computed at a time does not go with it.
    kept = step.kept.total if inputs.tile is None else step.kept.grown(growth**0.5)
    memory = kept + step.peak.grown(growth) + targets + _pictures(inputs, finest)
    return Estimate(seconds, round(memory))


class _Bytes(NamedTuple):
    """Bytes, of which some go with the size of a picture."""

    total: int
    own: int
    """Those that do not."""

    def grown(self, factor: float) -> float:
        """Return how many they are when the others are so many times as many."""
        return self.own + factor * (self.total - self.own)


class _Step(NamedTuple):
    """What one evaluation took, at some size."""

    seconds: float
    kept: _Bytes
    """What stays for good, after the first evaluation of all."""
    peak: _Bytes
    """Beyond that."""
    targets: _Bytes
    """What is there between steps."""


def _measured_size(inputs: RunInputs) -> int:
    """Return the longer side at which a step is measured."""
    size = inputs.scales[0].size
    while _pixels(inputs, size) > _MOST_PIXELS:
        halved = zip(inputs.shapes_at(size), inputs.shapes_at(size // 2), strict=True)
        if any(min(after) < min(*before, _SMALLEST_SIDE) for before, after in halved):
            break
        size //= 2
    return size


def _measure_step(inputs: RunInputs, size: int) -> _Step:
    """Evaluate a picture: for what stays, for the memory, and for the time."""
    width = fit(inputs.content.pixels.shape[-2:], size)[1]
    whole: tuple[int, int, int]
    if width < 2 * _SMALLEST_SIDE:  # too small to tell what does not go with the size
        half, whole = (0, 0, 0), _measure(inputs, size, width)
    else:
        half, more = (_measure(inputs, size, part) for part in (width // 2, width))
        whole = (half[0] + more[0], *more[1:])
    objective, picture = _begin(inputs, size, width)
    start = perf_counter()
    _, gradient = objective.evaluate(picture)
    float(gradient.sum())  # waits for the device
    seconds = perf_counter() - start
    kept, peak, targets = (
        _Bytes(all_, min(max(0, 2 * of_half - all_), all_))
        for all_, of_half in zip(whole, half, strict=True)
    )
    return _Step(seconds, kept, peak, targets)


def _measure(inputs: RunInputs, size: int, columns: int) -> tuple[int, int, int]:
    """Return the bytes that stay, those beyond, and of these the targets, for some columns."""
    with Allocations() as first:
        objective, picture = _begin(inputs, size, columns)
        objective.evaluate(picture)
    del objective, picture
    with Allocations() as second:
        objective, picture = _begin(inputs, size, columns)
        targets = second.now
        objective.evaluate(picture)
    return first.now, second.peak, targets


def _begin(inputs: RunInputs, size: int, columns: int) -> tuple[Objective, Tensor]:
    """Do what a run does at the beginning of a scale; return its objective, and a picture."""
    objective = Objective(
        inputs.configuration.extractor,
        inputs.configuration.losses,
        normalize_gradients=inputs.configuration.normalize_gradients,
        tile=inputs.tile,
    )
    objective.capture_styles(inputs.regions_at(size, captured_for=inputs.scales[0].size))
    content = resize(inputs.content.pixels[:1], fit(inputs.content.pixels.shape[-2:], size))[
        ..., :columns
    ]
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
