"""VGG19 as a feature extractor: pixels in, the feature maps asked for out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._network.stage import Kind, Padding, Stage
from nst._utils.checks import known_layers, one_of
from nst._utils.device import resolve_device
from nst.extractors.base import Block, Extractor
from nst.extractors.weights import CONVOLUTIONS, Weights, load_weights

__all__ = ["FeatureExtractor", "Padding", "Pooling"]

Pooling = Literal["max", "average"]
# Rows of a stage's input that its result may depend on. One row would do in exact arithmetic, but
# Winograd's method computes four together, and rounding must not decide a ReLU differently.
_REACH = 4


def _layer_names() -> tuple[str, ...]:
    """List VGG19's layers in the order in which they are computed."""
    names: list[str] = []
    for name, following in zip(CONVOLUTIONS, (*CONVOLUTIONS[1:], "end"), strict=True):
        names += [name, name.replace("conv", "relu")]
        if following[:5] != name[:5]:  # the block ends here
            names.append(f"pool{name[4]}")
    return tuple(names)


class FeatureExtractor(Extractor):
    """The pretrained VGG19, frozen, run no further than the deepest layer asked for.

    Layers are named as in the literature: `conv1_1` to `conv5_4` for a convolution's own output,
    `relu1_1` to `relu5_4` after its ReLU (what papers mostly mean by "conv4_2"), `pool1` to
    `pool5`. Pixels are normalized inside, the way the weights expect it.

    Args:
        weights: `"auto"` takes the original network of Simonyan & Zisserman where the extra
            `offline` is installed, else torchvision's. `"original"`, `"torchvision"`, or the path
            of a state dict in torchvision's naming chooses.
        pooling: `"max"` as the network was trained, or `"average"`, which Gatys et al. found to
            give slightly smoother pictures.
        padding: What the convolutions see beyond the border: `"zeros"` as trained, or
            `"replicate"`, which keeps a bright picture from growing a dark rim.
        winograd: Whether convolutions may be computed by Winograd's method where it is faster, on
            CPUs in float32. Features then differ by rounding.
        device: Where it lies at first; `"auto"` is CUDA, else MPS, else the CPU. `StyleTransfer`
            moves it to its own.

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

    layer_names: tuple[str, ...] = _layer_names()
    """Every layer that can be asked for, shallowest first."""

    mean: Tensor
    std: Tensor
    weights: str
    """Which weights were loaded: `"original"`, `"torchvision"` or a file's name."""

    def __init__(
        self,
        weights: str | os.PathLike[str] | Weights = "auto",
        *,
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        winograd: bool = True,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        one_of("pooling", pooling, get_args(Pooling))
        one_of("padding", padding, get_args(Padding))
        loaded = weights if isinstance(weights, Weights) else load_weights(weights)
        self.weights, self.pooling, self.padding = loaded.name, pooling, padding
        self.winograd = bool(winograd)
        # Kept in the state dict: they belong to the weights.
        for name, values in (("mean", loaded.mean), ("std", loaded.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))
        for name in CONVOLUTIONS:
            kernel, bias = loaded.tensors[f"{name}.weight"], loaded.tensors[f"{name}.bias"]
            self.add_module(name, Stage(kernel, bias, padding, winograd=winograd))
        self.to(resolve_device(device))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Compute feature maps.

        Args:
            images: `(N, 3, H, W)`, sRGB in [0, 1].
            layers: The layers' names; `"image"` is always there and need not be named.

        Returns:
            `"image"` (the images themselves) and each layer's features, `(N, C, h, w)`.

        Raises:
            ValueError: An unknown layer, images of another shape, or images too small for the
                deepest layer.
            TypeError: The images are not floating.
        """
        wanted = ({layers} if isinstance(layers, str) else set(layers)) - {"image"}
        if not images.is_floating_point():
            raise TypeError(
                f"`images` has dtype {images.dtype}; floating in [0, 1] is needed. "
                "Use load_image, or images / 255."
            )
        shape = tuple(images.shape)
        if images.ndim != 4 or shape[1] != 3:
            raise ValueError(
                f"`images` has shape {shape}; (N, 3, H, W) is needed. "
                "Use load_image, or image.unsqueeze(0) for a single picture."
            )
        self.check_size(shape[2], shape[3], wanted)
        features, x = {"image": images}, self.normalized(images)
        for block in self.blocks(wanted):
            for name, feature in block(x):
                if name in wanted:
                    features[name] = feature
            x = feature
        return features

    def bytes_to_derive(self, layers: Iterable[str]) -> int:
        """Return the size of what the first use of some layers derives from the weights."""
        names = (name for name in self._needed(layers) if name.startswith("conv"))
        stages = (self.get_submodule(name) for name in names)
        return sum(stage.bytes_to_derive for stage in stages if isinstance(stage, Stage))

    @property
    def computes_in_tiles(self) -> bool:
        """Whether `blocks` computes what `forward` computes, and no hook would see tiles."""
        hooks = (h for m in self.modules() for h in (m._forward_hooks, m._forward_pre_hooks))
        return type(self).forward is FeatureExtractor.forward and not any(hooks)

    def normalized(self, images: Tensor) -> Tensor:
        """Return images as the weights expect them."""
        return (images - self.mean).div_(self.std)

    def blocks(self, layers: Iterable[str], *, divides_first: bool = False) -> list[Block]:
        """Return the network down to the deepest of some layers, divided after each pooling."""
        wanted, blocks = set(layers), list[list[str]]()
        for name in self._needed(wanted):
            after_first = divides_first and name == "conv1_2"
            if not blocks or blocks[-1][-1].startswith("pool") or after_first:
                blocks.append([])
            blocks[-1].append(name)
        return [_Block(self, names, wanted) for names in blocks]

    def check_layers(self, layers: Iterable[str]) -> None:
        """Raise `ValueError` for a layer that VGG19 does not have, with the nearest name.

        Args:
            layers: Names of layers.
        """
        known_layers(layers, self.layer_names, "VGG19")

    def check_size(
        self, height: int, width: int, layers: Iterable[str], *, name: str = "images"
    ) -> None:
        """Raise `ValueError` for pictures of which a layer's features would have no pixel left.

        Args:
            height: Of the pictures, in pixels.
            width: Of the pictures, in pixels.
            layers: Names of layers, which are checked as well.
            name: What the pictures are called in the message.
        """
        needed, smallest = self._needed(layers), self.smallest_side(layers)
        if needed and min(height, width) < smallest:
            raise ValueError(
                f"`{name}` is {height}x{width} pixels, but the layer {needed[-1]!r} needs at least "
                f"{smallest}x{smallest}. Use a larger picture or size, or a shallower layer."
            )

    def smallest_side(self, layers: Iterable[str]) -> int:
        """Return how many pixels high and wide a picture must be for all of these layers.

        Args:
            layers: Names of layers.

        Raises:
            ValueError: An unknown layer.
        """
        smallest: int = 2 ** sum(layer.startswith("pool") for layer in self._needed(layers))
        return smallest

    def _needed(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return the layers to be computed, down to the deepest of those named."""
        wanted = set(layers) - {"image"}
        self.check_layers(wanted)
        last = max((self.layer_names.index(layer) for layer in wanted), default=-1)
        return self.layer_names[: last + 1]

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode, as the network is frozen."""
        return super().train(False)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would make this extractor again, for a record of the run."""
        return {
            "weights": self.weights,
            "pooling": self.pooling,
            "padding": self.padding,
            "winograd": self.winograd,
        }

    def extra_repr(self) -> str:
        """Show the settings in `print(extractor)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())


class _Block:
    """The layers of VGG19 between two poolings, the second included."""

    def __init__(self, network: FeatureExtractor, names: Sequence[str], wanted: set[str]) -> None:
        self._network, self._wanted, self._stages = network, wanted, list[list[str]]()
        for name in names:
            if name.startswith("conv"):
                self._stages.append([])
            self._stages[-1].append(name)
        self.halo = _REACH * len(self._stages)

    def __call__(
        self, x: Tensor, span: tuple[int, int] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        is_max = self._network.pooling == "max"
        for names in self._stages:
            stage, end = self._network.get_submodule(names[0]), 0
            if isinstance(stage, Stage):
                fused = names if is_max else names[:2]
                # One step goes as far as nobody looks into what is in between.
                while names[end] not in self._wanted and end + 1 < len(fused):
                    end += 1
                kind, stays = cast("Kind", names[end][:4]), names[end] in self._wanted
                rows = span if names is self._stages[-1] else None
                x = stage.compute(x, kind, output_stays=stays, span=rows)
            else:
                x = stage(x)
            yield names[end], x
            for name in names[end + 1 :]:
                pool = F.max_pool2d if is_max else F.avg_pool2d
                x = x.relu() if name.startswith("relu") else pool(x, 2)
                yield name, x
