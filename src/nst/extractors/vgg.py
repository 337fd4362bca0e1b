"""VGG19 as a feature extractor: pixels in, the feature maps asked for out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nst._engine.processes import Share
from nst._network.buffers import Workspaces
from nst._network.convolution import Convolution, Padding
from nst._network.passing import pass_through
from nst._network.stage import Stage, Strip
from nst._network.sweep import Sweep
from nst._utils.checks import known_layers, one_of
from nst._utils.device import resolve_device
from nst.extractors.weights import CONVOLUTIONS, Weights, load_weights

__all__ = ["FeatureExtractor", "Padding", "Pooling"]

Pooling = Literal["max", "average"]
# Pixels from which memory counts more than a hundredth of the time.
_LARGE = 2**19


def _layer_names() -> tuple[str, ...]:
    """List VGG19's layers in the order in which they are computed."""
    names: list[str] = []
    for name, following in zip(CONVOLUTIONS, (*CONVOLUTIONS[1:], "end"), strict=True):
        names += [name, name.replace("conv", "relu")]
        if following[:5] != name[:5]:  # the block ends here
            names.append(f"pool{name[4]}")
    return tuple(names)


class FeatureExtractor(nn.Module):
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
        self._workspaces = Workspaces()
        # Kept in the state dict: they belong to the weights.
        for name, values in (("mean", loaded.mean), ("std", loaded.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))
        for name in CONVOLUTIONS:
            kernel, bias = loaded.tensors[f"{name}.weight"], loaded.tensors[f"{name}.bias"]
            self.add_module(name, Convolution(kernel, bias, padding, winograd=winograd))
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
        return {
            "image": images,
            **pass_through(self._normalized(images), self._stages(wanted), self._workspaces),
        }

    @property
    def sweeps(self) -> bool:
        """Whether `sweep` sees the features that `forward` returns."""
        hooks = [*self._forward_hooks, *self._forward_pre_hooks]
        return type(self).forward is FeatureExtractor.forward and not hooks

    def sweep(
        self,
        images: Tensor,
        layers: Iterable[str],
        *,
        tile: int | None = None,
        share: Share | None = None,
    ) -> Sweep:
        """Return the way of pictures through the network, for what need not see all at once.

        Args:
            images: As in `forward`; of a share, its rows.
            layers: As in `forward`.
            tile: See `Sweep`.
            share: See `Sweep`.
        """
        rows = self._normalized(images).permute(0, 2, 3, 1).contiguous()
        first, height = (0, rows.shape[1]) if share is None else (share.first, share.height)
        strip, stages = Strip(rows, first, height), self._stages(layers)
        # The first convolution has three channels to look at: of a large picture, what it returns
        # is better computed again than kept. The whole picture counts: all processes do alike.
        apart = int(tile is None and height * images.shape[-1] >= _LARGE)
        return Sweep(
            strip, stages, self._workspaces, tile=tile, apart=apart, divisor=self.std, share=share
        )

    def _normalized(self, images: Tensor) -> Tensor:
        return (images - self.mean).div_(self.std)

    def _stages(self, layers: Iterable[str]) -> list[Stage]:
        """Return what is needed for some layers: each convolution with what follows it."""
        stages: list[Stage] = []
        wanted = set(layers)
        for name in self._needed(wanted):
            if name.startswith("conv"):
                convolution = self.get_submodule(name)
                assert isinstance(convolution, Convolution)
                stages.append(Stage(convolution, self.pooling))
            stages[-1] = stages[-1].followed_by(name[:4], name if name in wanted else None)
        return stages

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
        """Stay in evaluation mode: the network is a fixed measuring instrument."""
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
