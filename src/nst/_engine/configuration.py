"""The configuration of a style transfer, the options of a single run, and its scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import cached_property
from traceback import clear_frames
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from nst import color
from nst._engine.passing import check_definition, check_divisible, copied, is_divisible
from nst._utils.checks import at_least, check_seed, non_negative, one_of
from nst._utils.device import at_least_single, free_memory, is_exhausted, moved, resolve_device
from nst._utils.group import own_device
from nst._utils.text import byte_count, logger
from nst.extractors.base import Extractor, as_extractor, parameter_of
from nst.extractors.vgg import FeatureExtractor
from nst.images import ImageLike
from nst.losses import default_losses
from nst.losses.base import Loss
from nst.optim import OptimizerFactory, OptimizerLike, optimizer_factory
from nst.optim.lbfgs import BoundedLBFGS
from nst.styles.mask import MaskLike

INITS = ("content", "style", "noise", "pink-noise", "gray")
"""The names of the pictures that a run can start from."""

ColorWhen = Literal["before", "after", "both"]
NumScales: TypeAlias = int | Literal["auto"]
Tile: TypeAlias = int | Literal["auto"] | None
"""Number of rows of every block to compute at a time; None for all."""

ROWS = 64
"""The number of rows in automatic tiles."""
# Bytes per pixel, in float32, of a step with VGG19, whole and in tiles, and of an optimizer. Off
# the CPU, PyTorch's own operations store their inputs.
_WHOLE, _WHOLE_OFF_CPU, _IN_TILES, _OPTIMIZER = 700, 2000, 250, 700
# Number of bytes that every machine with PyTorch is assumed to have.
_SMALL = 2**27
# The share of the free memory that a run may take before it is computed in tiles.
_SHARE = 0.8
# A run that starts at 128 pixels copies the composition of the painting.
_SMALLEST_SCALE = 256
# Ratio of the steps of a scale to those of the previous one, which cost a quarter as much.
_STEP_RATIO = 0.8


def take_weights(losses: dict[str, Loss], arguments: dict[str, Any]) -> None:
    """Remove `content_weight` and `style_weight` from arguments, and set them in new losses."""
    for name in [each for each in ("content", "style") if each in losses]:
        weight = arguments.pop(f"{name}_weight", None)
        if weight is not None:
            losses[name].weight = non_negative(f"{name}_weight", weight)


@dataclass(frozen=True, eq=False, repr=False)
class Configuration:
    """The checked arguments of `StyleTransfer`."""

    extractor: nn.Module = None  # type: ignore[assignment]  # created in `__post_init__`
    losses: Mapping[str, Loss] = None  # type: ignore[assignment]  # likewise
    _: KW_ONLY
    content_weight: float | None = None
    style_weight: float | None = None
    optimizer: OptimizerLike = "lbfgs"
    learning_rate: float | None = None
    size: int | None = 512
    upscale: bool = False
    num_steps: int = 50
    num_scales: NumScales = "auto"
    average: float = 0.0
    normalize_gradients: bool = False
    tile: Tile = "auto"
    device: str | torch.device = "auto"

    def __post_init__(self) -> None:
        self.optimizer_factories  # noqa: B018  # raises for what cannot be made
        if self.learning_rate is not None:
            self._set("learning_rate", float(self.learning_rate))
        self._set("size", check_count("size", self.size, None))
        self._set("upscale", bool(self.upscale))
        if self.upscale and self.size is None:
            raise ValueError("`upscale` is True, but `size` is None. Give the size to enlarge to.")
        self._set("num_steps", check_count("num_steps", self.num_steps))
        self._set("num_scales", check_count("num_scales", self.num_scales, "auto"))
        self._set("tile", check_count("tile", self.tile, None, "auto"))
        if non_negative("average", self.average) >= 1:
            raise ValueError(f"`average` is {self.average!r}; it must be below 1. 0.99 is usual.")
        self._set("average", float(self.average))
        self._set("normalize_gradients", bool(self.normalize_gradients))
        line_searching = ("lbfgs", BoundedLBFGS, torch.optim.LBFGS)
        if self.normalize_gradients and self.optimizer in line_searching:
            raise ValueError(
                "`normalize_gradients` is True, but L-BFGS requires the gradient of a function. "
                "Use optimizer='adam'."
            )
        self._set("device", own_device(resolve_device(self.device)))
        weights = {name: getattr(self, name) for name in ("content_weight", "style_weight")}
        if self.losses is None:
            self._set("losses", default_losses())
            take_weights(dict(self.losses), weights)
        for name in ("content_weight", "style_weight"):
            if weights.get(name) is not None:
                raise ValueError(
                    f"`{name}` is {weights[name]!r}, but only for the default losses, and `losses` "
                    "is given. Set the weight there, as in ContentLoss(weight=0.1)."
                )
            self._set(name, None)  # the losses have it
        self.check_parts()
        self._set("losses", dict(self.losses))
        if self.extractor is None:
            self._set("extractor", FeatureExtractor())  # last, as it may be a download
        self._set("extractor", moved("extractor", self.extractor, torch.device(self.device)))
        for loss in self.losses.values():
            self.network.check_layers(loss.layers)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen

    def check_parts(self) -> None:
        """Raise for losses or an extractor that cannot be used; both may change between runs."""
        if not isinstance(self.losses, Mapping):
            raise TypeError(
                f"`losses` is a {type(self.losses).__name__}; give each loss a name, as in "
                "{'content': ContentLoss(), 'style': GramStyleLoss()}."
            )
        for name, loss in self.losses.items():
            if not (isinstance(name, str) and name):
                raise ValueError(
                    f"`losses` has the name {name!r}; names must be strings that are not empty, "
                    "such as 'style'."
                )
            if not isinstance(loss, Loss):
                raise TypeError(
                    f"`losses[{name!r}]` is {loss!r}; it must be an nst.Loss (an instance). "
                    "Derive your own from StatisticLoss, PointwiseLoss or Loss."
                )
            check_definition(f"losses[{name!r}]", loss)
            copied(f"losses[{name!r}]", loss)  # as a run does, but before any work
        if not self.active_losses():
            raise ValueError(
                "`losses` has nothing to optimize; at least one loss must weigh more than 0, "
                "apart from those that compare with the previous frame of a video."
            )
        network: Any = self.extractor
        if not isinstance(network, (nn.Module, type(None))):
            raise TypeError(
                f"`extractor` is {network!r}; it must be a FeatureExtractor, or a module "
                "with forward(images, layers) that returns features by layer."
            )
        if network is not None and (network._backward_hooks or network._backward_pre_hooks):
            raise ValueError(
                "`extractor` has a backward hook, which PyTorch does not call for a module that "
                "returns a mapping. Use one on a layer, such as extractor.conv4_2."
            )
        if isinstance(self.tile, int):
            check_divisible(network, self.losses, f"`tile` is {self.tile}", "tile=None")

    @cached_property
    def network(self) -> Extractor:
        """The extractor, with all methods of one."""
        return as_extractor(self.extractor)

    @cached_property
    def optimizer_factories(self) -> tuple[OptimizerFactory, OptimizerFactory]:
        """The factory of optimizers, and that for pictures that coarser scales have begun."""
        how = self.optimizer, self.learning_rate
        return optimizer_factory(*how), optimizer_factory(*how, fine=True)

    def active_losses(self, reference: str | None = None) -> dict[str, Loss]:
        """Return the losses of positive weight, by name: all, or those with a reference."""
        return {
            name: loss
            for name, loss in self.losses.items()
            if loss.weight > 0 and reference in (None, loss.reference)
        }

    def without(self, reference: str) -> Configuration:
        """Return the configuration without losses of a reference that a run lacks."""
        losses = {n: loss for n, loss in self.losses.items() if loss.reference != reference}
        return self if len(losses) == len(self.losses) else replace(self, losses=losses)

    @property
    def like(self) -> Tensor:
        """An empty tensor with the device and the dtype of pictures: at least single precision."""
        like = at_least_single(parameter_of(self.extractor))
        return torch.empty(0, device=self.device, dtype=like.dtype)

    def tile_for(
        self, shape: tuple[int, int], like: Tensor, losses: Mapping[str, Loss] | None = None
    ) -> int | None:
        """Return the tile for pictures of this height and width, by the memory that is free now."""
        if not isinstance(self.tile, str):
            return self.tile
        needed = _bytes_needed(shape, None, like)
        if needed < _SMALL or not self.network.computes_in_tiles:
            return None
        used = [loss for loss in (losses or self.losses).values() if loss.weight > 0]
        free = free_memory(like.device)
        if free is None or needed <= _SHARE * free or not all(map(is_divisible, used)):
            return None
        logger.info(
            f"{shape[1]}x{shape[0]} pixels would take about {byte_count(needed)}, and "
            f"{byte_count(free)} are free: in tiles of {ROWS} rows"
        )
        return ROWS

    def enlarged(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width of a picture after `upscale`."""
        height, width = shape
        if not self.upscale or self.size is None or self.size <= max(shape):
            return height, width
        ratio = self.size / max(shape)
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def size_of(self, shape: Sequence[int]) -> int:
        """Return the longer side of the result for a photograph of this height and width."""
        return max(shape) if self.size is None else min(self.size, max(shape))


@dataclass(frozen=True, eq=False)
class RunOptions:
    """The options of a single run, checked; see `StyleTransfer.run`."""

    init: ImageLike = "content"
    seed: int = 0
    strength: float = 1.0
    preserve_color: str | None = None
    color_when: ColorWhen = "after"
    where: MaskLike | None = None

    @classmethod
    def from_arguments(cls, method: str, arguments: Mapping[str, Any]) -> RunOptions:
        """Return the options among the arguments of a method; raise `TypeError` for others."""
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                raise TypeError(
                    f"`{method}` has no argument {name!r}. Choose from those of run that it takes: "
                    f"{', '.join(known)}."
                )
        return cls(**arguments)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed("seed", self.seed))
        # The third power of a larger strength overflows.
        object.__setattr__(self, "strength", non_negative("strength", self.strength, 1e100))
        if self.preserve_color is not None:
            one_of("preserve_color", self.preserve_color, color.COLOR_METHODS)
        one_of("color_when", self.color_when, get_args(ColorWhen))
        if self.init is None:
            *names, last = map(repr, INITS)
            raise TypeError(
                f"`init` is None; it must be a picture, {', '.join(names)} or {last}. Leave it out "
                "for the default."
            )

    @property
    def init_picture(self) -> ImageLike | None:
        """The picture to start from; None if `init` is a name."""
        return None if isinstance(self.init, str) and self.init in INITS else self.init

    def recolors(self, when: ColorWhen) -> bool:
        """Return whether styles (`"before"`) or result (`"after"`) get the photograph's colors."""
        return self.preserve_color is not None and self.color_when in (when, "both")


class Scale(NamedTuple):
    """The longer side of a scale in pixels, and its number of optimizer steps."""

    size: int
    num_steps: int


def as_scales(pairs: Iterable[Sequence[int]]) -> tuple[Scale, ...]:
    """Return scales from pairs of size and number of steps, checked."""
    return tuple(
        Scale(at_least("size", size, 1), at_least("num_steps", num_steps, 0))
        for size, num_steps in pairs
    )


def plan_scales(size: int, num_steps: int, num_scales: NumScales = "auto") -> list[Scale]:
    """Divide a run into scales, each twice the size of the one before.

    A coarse scale finds large strokes in far fewer steps (Gatys et al., "Controlling Perceptual
    Factors in Neural Style Transfer", CVPR 2017). Too few steps or pixels reduce the scales.

    Examples:
        >>> plan_scales(512, 120)
        [Scale(size=256, num_steps=67), Scale(size=512, num_steps=53)]
        >>> plan_scales(300, 100)
        [Scale(size=300, num_steps=100)]
    """
    sizes = [size]
    while sizes[0] >= 2 and (
        sizes[0] // 2 >= _SMALLEST_SCALE if num_scales == "auto" else len(sizes) < num_scales
    ):
        sizes.insert(0, round(sizes[0] / 2))
    sizes = sizes[-num_steps:]
    shares = [_STEP_RATIO**i for i in range(len(sizes))]
    spare = num_steps - len(sizes)  # every scale has at least one step
    steps = [1 + int(spare * share / sum(shares)) for share in shares]
    steps[0] += num_steps - sum(steps)
    return [Scale(*scale) for scale in zip(sizes, steps, strict=True)]


def check_count(argument: str, value: Any, *others: str | None) -> Any:
    """Return one of the other values or a whole number of at least 1; raise for anything else."""
    if value is None and None in others:
        return None
    if isinstance(value, str) and "auto" in others:
        return one_of(argument, value, ["auto"])
    return at_least(argument, value, 1)


@contextmanager
def explaining_memory(shape: tuple[int, int], tile: int | None, like: Tensor) -> Iterator[None]:
    """Replace PyTorch's errors for too little memory by a `MemoryError` with the bytes needed."""
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        height, width = shape
        needed = byte_count(_bytes_needed(shape, tile, like))
        clear_frames(error.__traceback__)  # saving the result needs the memory that they hold
        raise MemoryError(
            f"`size` is {max(shape)}: {width}x{height} pixels take about {needed}, which is "
            f"more memory than there is. Use tile={ROWS}, a smaller size, or optimizer='adam'."
        ) from error


def _bytes_needed(shape: tuple[int, int], tile: int | None, like: Tensor) -> int:
    """Return about how many bytes a run with VGG19 takes."""
    # Each picture of a batch has an optimizer, but the pictures are evaluated one by one.
    whole = _WHOLE if like.device.type == "cpu" else _WHOLE_OFF_CPU
    each = _OPTIMIZER * max(len(like), 1) + (whole if tile is None else _IN_TILES)
    return shape[0] * shape[1] * each * like.element_size() // 4
