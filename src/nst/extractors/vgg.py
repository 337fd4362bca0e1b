"""VGG19 as a feature extractor."""

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from nst._network.stage import Kind, Padding, Stage
from nst._utils.checks import Checked, floating_image, known, names_of, one_of
from nst._utils.device import (
    at_least_single,
    plain_arithmetic,
    replace_inference_tensors,
    resolve_device,
)
from nst._utils.plain import hooks_of
from nst.extractors.base import Block, Extractor, parameter_of
from nst.extractors.weights import CONVOLUTIONS, LAYERS, Channels, Weights, check_rgb, load_weights

__all__ = ["FeatureExtractor", "Padding", "Pooling"]

Pooling = Literal["max", "average"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
Dtype: TypeAlias = torch.dtype | DtypeName
# Rows of a stage's input that its result may depend on. One row would do in exact arithmetic, but
# Winograd's method computes four together, and rounding must not decide a ReLU differently.
_REACH = 4


def check_dtype(argument: str, dtype: Any) -> DtypeName:
    """Return the name of a type of features; raise for another."""
    name = str(dtype).removeprefix("torch.")
    return cast("DtypeName", one_of(argument, name, get_args(DtypeName)))


class FrozenExtractor(Extractor):
    """A network with named layers, frozen and in evaluation mode."""

    layer_names: tuple[str, ...]
    """Names of all layers."""
    network_name: str
    """Name of the network in messages."""
    mean: Tensor
    """Subtracted from RGB pixels in [0, 1]; `(1, 3, 1, 1)`."""
    std: Tensor
    """Divides the difference."""
    dtype = Checked[DtypeName](check_dtype)
    """Name of the features' type, or `"auto"`."""

    @property
    def feature_dtype(self) -> torch.dtype:
        """Type in which features are computed."""
        return self.mean.dtype if self.dtype == "auto" else getattr(torch, self.dtype)

    def in_full_precision(self) -> Self:
        """Return this network computing in the type of its weights, unless its own is wider."""
        if torch.finfo(self.feature_dtype).bits >= torch.finfo(self.mean.dtype).bits:
            return self  # with `.half()`, features may have the wider type
        twin = copy.copy(self)
        twin.dtype = "auto"
        return twin

    def freeze(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Freeze all parameters, and set the normalization of images."""
        # Stored in the state dict, as they belong to the weights.
        for name, values in (("mean", mean), ("std", std)):
            tensor = parameter_of(self).new_tensor(check_rgb(name, values))
            self.register_buffer(name, tensor.detach().view(1, -1, 1, 1))
        self.requires_grad_(False).eval()

    def requested(self, layers: Iterable[str]) -> set[str]:
        """Return the checked names of the layers to compute: all but `"image"`."""
        names = {*names_of("layers", layers)} - {"image"}
        self.check_layers(names)
        return names

    def check_layers(self, layers: Iterable[str]) -> None:
        """Raise `ValueError` for a layer that the network lacks, with the nearest name."""
        for layer in layers:
            known("`layers` has", layer, (*self.layer_names, "image"), self.network_name)

    def normalized(self, images: Tensor) -> Tensor:
        """Return images as the weights expect them, in the type of the features."""
        replace_inference_tensors(self)
        return (at_least_single(images) - self.mean).div_(self.std).to(self.feature_dtype)

    @property
    def mixed_precision(self) -> dict[str, str]:
        """Type of the features in records and fingerprints, if it is not that of the weights."""
        return {} if self.feature_dtype == self.mean.dtype else {"dtype": self.dtype}

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, as the network is frozen."""
        return super().train(False)


class FeatureExtractor(FrozenExtractor):
    """The pretrained VGG19, frozen, computed no further than the deepest requested layer.

    Layers are named as in the literature: `conv1_1` to `conv5_4` for a convolution's own output,
    `relu1_1` to `relu5_4` after its ReLU (the usual meaning of "conv4_2" in papers), `pool1` to
    `pool5`. Pixels are normalized as the weights expect.

    Args:
        weights: `"original"`, the network of Simonyan & Zisserman; `"torchvision"`; the path of a
            state dict in torchvision's naming; or `"auto"`, the original if the extra `offline` is
            installed, else torchvision's.
        pooling: `"max"` as in training, or `"average"`, for smoother pictures, as in the papers.
        padding: Padding of the convolutions: `"zeros"` as in training, or `"replicate"`, which
            avoids a dark rim around bright pictures.
        mean: Subtracted from RGB pixels in [0, 1], for a file; by default the file's own, the
            original's if the file has its first layer, else torchvision's.
        std: Divides the difference; as `mean`.
        channels: Order in which a file's weights read the channels: `"rgb"`, or `"bgr"`, as Caffe's
            do; by default as `mean`. The images are RGB in any case.
        winograd: Whether to use Winograd's method where it is faster, on CPUs in float32. Features
            then differ by rounding.
        dtype: Type of the features: `"float32"`, `"bfloat16"` or `"float16"`, as a name or of
            PyTorch. `"auto"` is that of the weights, float32 unless `.to()` has changed it. Pixels,
            statistics, losses and the last steps of a run stay in the type of the weights.
        device: Initial device; `"auto"` is CUDA, else MPS, else the CPU. `StyleTransfer` moves it.

    Raises:
        ValueError: An unknown choice, or a file that is not a VGG19 state dict.
        ImportError: `weights="original"` and the extra `offline` is not installed.
        FileNotFoundError: There is no file at the path.
        OSError: torchvision's weights are needed and cannot be downloaded.

    Examples:
        >>> from nst.testing import tiny_extractor
        >>> extractor = tiny_extractor()  # FeatureExtractor(), with few channels
        >>> features = extractor(torch.rand(1, 3, 32, 24), ["relu1_1", "relu4_2"])
        >>> {name: tuple(feature.shape[2:]) for name, feature in features.items()}
        {'image': (32, 24), 'relu1_1': (32, 24), 'relu4_2': (4, 3)}
    """

    layer_names = LAYERS
    """All layers, shallowest first."""
    network_name = "VGG19"
    weights = Checked[str]()
    """Name of the loaded weights: `"original"`, `"torchvision"` or a file's name."""

    pooling = Checked[Pooling](partial(one_of, choices=get_args(Pooling)))
    padding, winograd = Checked[Padding](), Checked[bool]()  # which the stages have copied

    def __init__(
        self,
        weights: str | os.PathLike[str] | Weights = "auto",
        *,
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels: Channels | None = None,
        winograd: bool = True,
        dtype: Dtype = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        one_of("padding", padding, get_args(Padding))
        one_of("channels", channels, (None, *get_args(Channels)))
        self.dtype = check_dtype("dtype", dtype)
        own = {"mean": check_rgb("mean", mean), "std": check_rgb("std", std), "channels": channels}
        self._convention = {name: value for name, value in own.items() if value is not None}
        loaded = weights
        if not isinstance(loaded, Weights):
            loaded = load_weights(loaded, **self._convention)
        self.weights, self.pooling, self.padding = loaded.name, pooling, padding
        self.winograd = bool(winograd)
        for name in CONVOLUTIONS:
            kernel, bias = loaded.tensors[f"{name}.weight"], loaded.tensors[f"{name}.bias"]
            self.add_module(name, Stage(kernel, bias, padding, winograd=winograd))
        self.freeze(loaded.mean, loaded.std)
        self.to(resolve_device(device))

    @plain_arithmetic(gradients=None)
    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Compute feature maps.

        Args:
            images: `(N, 3, H, W)`, sRGB in [0, 1].
            layers: Names of layers; `"image"` is always returned.

        Returns:
            `"image"` (the images themselves) and each layer's features, `(N, C, h, w)`.

        Raises:
            ValueError: An unknown layer, or images of another shape or too small for a layer.
            TypeError: The images are not floating.
        """
        wanted = self.requested(layers)
        floating_image("images", images, 3)
        self.check_size(images.shape[2], images.shape[3], wanted)
        for stage in self.children():  # but not a module that has replaced one
            if isinstance(stage, Stage):
                stage.discard_outdated()
        features, x = {"image": images}, self.normalized(images)
        for block in self.blocks(wanted):
            for name, feature in block(x):
                if name in wanted:
                    features[name] = feature
            x = feature
        return features

    def bytes_to_derive(self, layers: Iterable[str]) -> int:
        """Return the memory that the first use of some layers takes for transformed weights."""
        stages = (getattr(self, name, None) for name in self._needed(layers))
        return sum(each.bytes_to_derive for each in stages if isinstance(each, Stage))

    @property
    def computes_in_tiles(self) -> bool:
        """Whether `blocks` computes what `forward` computes, and no hook would see tiles."""
        return type(self).forward is FeatureExtractor.forward and not hooks_of(self)

    def blocks(self, layers: Iterable[str], *, divides_first: bool = False) -> list[Block]:
        """Return the network down to the deepest of some layers, split after each pooling."""
        wanted, blocks = set(layers), list[list[list[str]]]()
        for name in self._needed(wanted):
            if name.startswith("conv"):
                if name.endswith("_1") or (divides_first and name == "conv1_2"):
                    blocks.append([])
                blocks[-1].append([])
            blocks[-1][-1].append(name)
        return [_Block(self, wanted, stages, _REACH * len(stages)) for stages in blocks]

    def check_size(
        self, height: int, width: int, layers: Iterable[str], *, name: str = "images"
    ) -> None:
        """Raise `ValueError` for images, called `name`, too small for a layer; sides in pixels."""
        needed, smallest = self._needed(layers), self.smallest_side(layers)
        if needed and min(height, width) < smallest:
            raise ValueError(
                f"`{name}` is {height}x{width} pixels, but the layer {needed[-1]!r} needs at least "
                f"{smallest}x{smallest}. Use a larger picture or size, or a shallower layer."
            )

    def smallest_side(self, layers: Iterable[str]) -> int:
        """Return the smallest height and width of images for these layers, in pixels."""
        return 1 << sum(layer.startswith("pool") for layer in self._needed(layers))

    def _needed(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return all layers down to the deepest of those named."""
        last = max((LAYERS.index(layer) for layer in {*layers} - {"image"}), default=-1)
        return LAYERS[: last + 1]

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would recreate this extractor, for the record of a run."""
        names = ("weights", "pooling", "padding", "winograd")
        found = {name: getattr(self, name) for name in names}
        return {**found, **self._convention, **self.mixed_precision}

    def fingerprint_settings(self) -> dict[str, Any]:
        """Return the settings that change features, in addition to the weights."""
        return {"pooling": self.pooling, "padding": self.padding, **self.mixed_precision}

    def extra_repr(self) -> str:
        """Show the settings in `print(extractor)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())


@dataclass
class _Block:
    """The layers of VGG19 after one pooling, up to and including the next."""

    network: FeatureExtractor
    wanted: set[str]
    stages: Sequence[Sequence[str]]
    """Each convolution's layer, and those up to the next convolution."""
    halo: int

    def __call__(
        self, x: Tensor, span: tuple[int, int] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        is_max = self.network.pooling == "max"
        start, stop = span or (0, x.shape[2])
        for later, names in zip(reversed(range(len(self.stages))), self.stages, strict=True):
            stage, end = self.network.get_submodule(names[0]), 0
            # The rows of the halo that later convolutions do not reach are left out.
            rows = max(start - _REACH * later, 0), min(stop + _REACH * later, x.shape[2])
            if isinstance(stage, Stage):
                fused = names if is_max else names[:2]
                # One step computes everything up to the next requested layer.
                while names[end] not in self.wanted and end + 1 < len(fused):
                    end += 1
                kind, stays = cast("Kind", names[end][:4]), names[end] in self.wanted
                x = stage.compute(x, kind, output_stays=stays, span=rows)
            else:
                x = _rows(stage(x), *rows)
            start, stop = start - rows[0], stop - rows[0]
            yield names[end], _rows(x, start, stop)
            for name in names[end + 1 :]:
                pool = F.max_pool2d if is_max else F.avg_pool2d
                x = x.relu() if name.startswith("relu") else pool(x, 2)
                yield name, _rows(x, start, stop)


def _rows(x: Tensor, start: int, stop: int) -> Tensor:
    """Return some rows of features `(N, C, h, W)`, or all of fewer."""
    # A slice of everything would cost a copy on the backward pass.
    return x if x.shape[2] <= stop - start else x[:, :, start:stop]
