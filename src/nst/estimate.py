"""Estimate time and memory of a run from a step on a small picture."""

from dataclasses import dataclass
from time import perf_counter

from torch import Tensor

from nst._engine.configuration import Scale
from nst._engine.inputs import RunInputs
from nst._engine.objective import Objective
from nst._engine.run import first_full_step
from nst._utils.device import blocks_kept
from nst._utils.text import byte_count, duration
from nst.extractors.base import evaluation_mode
from nst.images import resize
from nst.losses.base import layers_of
from nst.styles.style import Painting

__all__ = ["Estimate", "estimate_run"]

_MOST_PIXELS = 2**17  # a step at this size takes a moment
_SMALLEST_SIDE = 128  # below it, a network might compute pictures differently, or refuse them
# Additional cost of a scale in steps: capturing the targets, and the evaluations of L-BFGS at the
# start and for occasional second trials.
_EXTRA_STEPS = 4
# Tensors of the picture's size in a step, without the optimizer's history: picture, best, content,
# and the copy for callbacks; point, gradient, direction, trial, and a temporary one.
_PICTURES = 9


@dataclass(frozen=True)
class Estimate:
    """Estimated time and memory of a run.

    Examples:
        >>> print(Estimate(seconds=48.2, memory=258_000_000))
        about 48 s and 260 MB
    """

    seconds: float
    """From the first step to the last."""
    memory: int
    """Peak memory in bytes, in addition to that of the process before the run."""

    def __str__(self) -> str:
        return f"about {duration(max(self.seconds, 1))} and {byte_count(self.memory)}"


def estimate_run(inputs: RunInputs) -> Estimate:
    """Measure a step at a small size, and predict time and memory of a whole run."""
    size, finest = _measured_size(inputs), inputs.scales[-1]
    configuration, photo = inputs.configuration, inputs.content.pixels
    layers = layers_of(configuration.active_losses().values())
    derived = configuration.network.bytes_to_derive(layers)
    objective = Objective(
        configuration.network,
        configuration.losses,
        photo,
        normalize_gradients=configuration.normalize_gradients,
        tile=inputs.tile,
    )
    with blocks_kept(_pixels(inputs, finest.size)), evaluation_mode(configuration.extractor):
        objective.capture_styles(inputs.regions_at(size, captured_for=inputs.scales[0].size))
        content = resize(photo[:1], inputs.shape_at(size))
        objective.capture(content)
        picture = content.flip(-1)  # at the content itself, all gradients may be zero
        measured = [_measure(objective, picture)]
        if objective.is_mixed:
            objective.set_full_precision()
            measured.append(_measure(objective, picture))
    pixels = sum((s.num_steps + _EXTRA_STEPS) * _pixels(inputs, s.size) for s in inputs.scales)
    # Targets and the last steps are in full precision, which needs the most memory.
    steps = finest.num_steps - first_full_step(finest.num_steps) + _EXTRA_STEPS
    full = steps * _pixels(inputs, finest.size)
    (before, _), (after, stored) = measured[0], measured[-1]
    seconds = (before * (pixels - full) + after * full) * len(photo) / _pixels(inputs, size)
    growth = _pixels(inputs, finest.size) / _pixels(inputs, size)
    memory = derived + growth * (stored + len(photo) * objective.target_bytes())
    return Estimate(seconds, round(memory + _picture_bytes(inputs, finest)))


def _measure(objective: Objective, picture: Tensor) -> tuple[float, int]:
    """Return the seconds of an evaluation, and the bytes that it stores."""
    stored = objective.bytes_stored(picture)  # also the first use of the network
    start = perf_counter()
    _, gradient = objective.evaluate(picture)
    float(gradient.sum())  # waits for the device
    return perf_counter() - start, stored


def _measured_size(inputs: RunInputs) -> int:
    """Return the longer side at which a step is measured."""
    size = inputs.scales[0].size
    while _pixels(inputs, size) > _MOST_PIXELS:
        halved = zip(inputs.shapes_at(size), inputs.shapes_at(size // 2), strict=True)
        if any(min(after) < min(*before, _SMALLEST_SIDE) for before, after in halved):
            break
        size //= 2
    return size


def _pixels(inputs: RunInputs, size: int) -> int:
    height, width = inputs.shape_at(size)
    return height * width


def _picture_bytes(inputs: RunInputs, scale: Scale) -> int:
    """Return the bytes of the given pictures, and of those that a scale works with."""
    photo = inputs.content.pixels
    given = [photo, *(each.pixels for each in inputs.sources[0] if isinstance(each, Painting))]
    shape = inputs.shape_at(scale.size)
    picture = photo.new_zeros(1).expand(1, 3, *shape).requires_grad_()  # takes no memory
    make, _ = inputs.configuration.optimizer_factories
    group = make([picture]).param_groups[0]
    # L-BFGS stores two pictures for each step of its history, Adam two moments.
    history = 2 * min(int(group.get("history_size", 1)), scale.num_steps)
    one = photo.element_size() * picture.numel()
    return one * len(photo) * (_PICTURES + history) + sum(each.nbytes for each in given)
