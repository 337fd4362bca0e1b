"""Any network as a feature extractor."""

from __future__ import annotations

import copy
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from nst._utils.checks import file_path, floating_image, known, names_of
from nst._utils.device import plain_arithmetic
from nst._utils.plain import OwnHook
from nst.extractors.vgg import Dtype, FrozenExtractor, check_dtype
from nst.extractors.weights import download, read_tensors

# Networks of torchvision that take one size of images, normalize them themselves, return tokens,
# or cannot be made without initial weights.
_NOT_BY_NAME = re.compile("googlenet|inception|maxvit|regnet|swin|vit")


class BackboneExtractor(FrozenExtractor):
    """A network other than `FeatureExtractor`: torchvision's, or one of your own.

    A layer is a module of the network, named by its path (`"features.3"`, `"layer1.0.conv2"`) or
    by a name of your choice. Its features are the module's own output, even if an in-place
    operation follows. The network is copied, frozen, and run to the last requested module.

    Args:
        network: Takes images `(N, 3, H, W)`; the requested modules return `(N, C, h, w)`.
        layers: Name to path of a module, or only paths; by default every module without children.
        mean: Subtracted from RGB pixels in [0, 1]; ImageNet's by default, as in torchvision.
        std: Divides the difference.
        dtype: Type of the features, by autocast, as in `FeatureExtractor`. Weights of another type
            than float32, which autocast does not convert, compute in their own.

    Raises:
        TypeError: The network is not a module.
        ValueError: It has no module at one of the paths.

    Examples:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        >>> extractor = BackboneExtractor(network, {"conv": "0", "relu": "1"})
        >>> features = extractor(torch.rand(1, 3, 10, 10), ["conv", "relu"])
        >>> bool((features["conv"] < 0).any()), bool((features["relu"] < 0).any())
        (True, False)
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, str] | Iterable[str] | None = None,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        dtype: Dtype = "auto",
    ) -> None:
        super().__init__()
        self.dtype = check_dtype("dtype", dtype)
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"`network` is {network!r}; it must be a torch.nn.Module (an instance)."
            )
        self.network_name = type(network).__name__
        self.weights: str | None = None
        self.network = copy.deepcopy(network)
        modules = dict(self.network.named_modules())
        if layers is None:
            layers = {path: path for path, module in modules.items() if not [*module.children()]}
        if not isinstance(layers, Mapping):
            layers = {name: name for name in names_of("layers", layers)}
        for name, path in layers.items():
            known(f"`layers[{name!r}]` is", path, modules, self.network_name)
            if name in ("image", "mask"):
                what = f"`layers` has {name!r}, which is reserved for the pixels or their mask"
                raise ValueError(f"{what}. Use another name.")
        self._paths = dict(layers)
        self.layer_names = tuple(self._paths)
        for module in modules.values():
            if getattr(module, "inplace", False):
                module.inplace = False
        self.freeze(mean, std)

    @classmethod
    def from_vgg(cls, network: nn.Module, **arguments: Any) -> BackboneExtractor:
        """Name the layers of one of torchvision's VGGs as in the literature.

        Args:
            network: For example `torchvision.models.vgg16(weights="DEFAULT")`; layers of batch
                normalization are named `norm1_1` to `norm5_4`.
            **arguments: `mean`, `std` and `dtype`.

        Raises:
            ValueError: It has no `features` made of convolutions and poolings.

        Examples:
            >>> import torchvision
            >>> extractor = BackboneExtractor.from_vgg(torchvision.models.vgg16(init_weights=False))
            >>> extractor.layer_names[:5]
            ('conv1_1', 'relu1_1', 'conv1_2', 'relu1_2', 'pool1')
        """
        layers, block, count = {}, 1, 0
        kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "relu"}
        for path, module in getattr(network, "features", nn.Sequential()).named_children():
            if isinstance(module, nn.MaxPool2d):
                layers[f"pool{block}"] = path
                block, count = block + 1, 0
            count += isinstance(module, nn.Conv2d)
            if type(module) in kinds:
                layers[f"{kinds[type(module)]}{block}_{count}"] = path
        if not layers:
            raise ValueError(
                f"`network` is a {type(network).__name__}, which has no `features` as VGGs have. "
                "Use BackboneExtractor(network, {name: path})."
            )
        # Without the classifier, which holds most of the weights.
        return cls(network.get_submodule("features"), layers, **arguments)

    @classmethod
    def from_torchvision(
        cls,
        network: str,
        weights: str | os.PathLike[str] | None = "torchvision",
        dtype: Dtype = "auto",
    ) -> BackboneExtractor:
        """Create a convolutional network of torchvision by its name, which records store.

        The layers of a VGG are named as in the literature, and those of other networks by the paths
        of their modules, such as `"layer1"` or `"layer1.0.conv2"`.

        Args:
            network: Such as `"vgg16"`, `"resnet50"` or `"efficientnet_b0"`.
            weights: `"torchvision"`, downloaded the first time; or the path of a state dict in
                torchvision's naming. None sets all to 0, to check layers and sizes.
            dtype: As in `BackboneExtractor`.

        Raises:
            ValueError: There is no such network, or no file at the path that fits it.
            OSError: The weights cannot be downloaded.

        Examples:
            >>> network = BackboneExtractor.from_torchvision("squeezenet1_1", weights=None)
            >>> [tuple(x.shape) for x in network(torch.rand(1, 3, 64, 48), ["features.0"]).values()]
            [(1, 3, 64, 48), (1, 64, 31, 23)]
        """
        names = [n for n in models.list_models(module=models) if not _NOT_BY_NAME.search(n)]
        known("`network` is", network, names, "torchvision")
        with torch.device("meta"):  # no initial weights, which would be replaced
            made = models.get_model(network, weights=None)
        shapes = made.state_dict()
        state: Mapping[str, Any] = {
            name: torch.zeros_like(x, device="cpu") for name, x in shapes.items()
        }
        try:
            if weights is not None:
                state = _state_dict(network, weights)
            made.load_state_dict(state, assign=True)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"`weights` is {str(weights)!r}, which is no state dict of torchvision's "
                f"{network}. Save one with torch.save(network.state_dict(), path)."
            ) from error
        best = models.get_model_weights(network).DEFAULT.transforms()
        layers = [path for path, _ in made.named_modules() if path]
        make = cls.from_vgg if isinstance(made, models.VGG) else partial(cls, layers=layers)
        extractor = make(made, mean=best.mean, std=best.std, dtype=dtype)
        extractor.network_name = network
        extractor.weights = file_path("weights", weights or "none").name
        return extractor

    @property
    def feature_dtype(self) -> torch.dtype:
        """Type in which features are computed."""
        own = self.mean.dtype
        return super().feature_dtype if own == torch.float32 else own

    @plain_arithmetic(gradients=None)
    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Compute feature maps.

        Args:
            images: `(N, 3, H, W)`, sRGB in [0, 1].
            layers: Names of layers; `"image"` is always returned.

        Returns:
            `"image"` (the images themselves) and the first output of each module, `(N, C, h, w)`.

        Raises:
            ValueError: An unknown layer, or one whose output is not a feature map.
        """
        wanted = self.requested(layers)
        floating_image("images", images)
        if not wanted:
            return {"image": images}
        found: dict[str, Tensor] = {}
        thread = threading.get_ident()

        def store(name: str, module: nn.Module, inputs: object, output: Any) -> None:
            # Another thread may be running the same network, with its own hooks.
            if threading.get_ident() != thread or name in found:
                return
            found[name] = _feature_map(name, module, output)
            if len(found) == len(wanted) and not whole:
                raise _EverythingFoundError

        modules = {name: self.network.get_submodule(self._paths[name]) for name in wanted}
        whole = self._has_hooks_around(wanted)
        hooks = [m.register_forward_hook(OwnHook(store, name)) for name, m in modules.items()]
        device, kind = images.device.type, self.feature_dtype
        try:
            # PyTorch 2.4 has no autocast on MPS, and raises an error even for a disabled one.
            with torch.autocast(device, kind) if self.mixed_precision else nullcontext():
                self.network(self.normalized(images))
        except _EverythingFoundError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        if missing := wanted - set(found):
            raise ValueError(
                f"`layers` has {min(missing)!r}, a module that {self.network_name} does not call. "
                "Ask for another."
            )
        return {"image": images, **found}

    def _has_hooks_around(self, wanted: Iterable[str]) -> bool:
        """Return whether a module that contains a requested one has a forward hook."""
        ends = [self._paths[name].split(".") for name in wanted]
        around = {".".join(parts[:i]) for parts in ends for i in range(len(parts) + 1)}
        inner = {".".join(parts) for parts in ends}
        for path in around:
            module = self.network.get_submodule(path)
            if module._backward_hooks or module._backward_pre_hooks:
                raise ValueError(
                    f"`network` has a backward hook on {path!r}, which would miss the gradient of "
                    "the requested features. Use the features' own Tensor.register_hook."
                )
        outer = (self.network.get_submodule(path) for path in around - inner)
        return any(module._forward_hooks for module in outer)

    def settings(self) -> dict[str, Any]:
        """Return the settings that identify the network, for the record of a run."""
        found = {"network": self.network_name, **self.mixed_precision}
        if self.weights is not None:
            return {**found, "weights": self.weights}
        return {
            **found,
            "layers": dict(self._paths),
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }

    def fingerprint_settings(self) -> dict[str, Any]:
        """Return the settings that change features, in addition to those of the modules."""
        return {**self._paths, **self.mixed_precision}

    def extra_repr(self) -> str:
        """Show the network and its number of layers in `print(extractor)`."""
        return f"{self.network_name}, {len(self._paths)} layers"


class _EverythingFoundError(Exception):
    """Ends a pass through the network after the last requested layer."""


def _state_dict(name: str, weights: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return torchvision's best weights of a network, or those of a file."""
    if weights != "torchvision":
        return read_tensors(file_path("weights", weights))
    remedy = "Download it on another machine, and pass the path of the file."
    return download(models.get_model_weights(name).DEFAULT, remedy)


def _feature_map(name: str, module: nn.Module, output: Any) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"`layers` has {name!r}, a {type(module).__name__} that returns {shape}; a feature map "
            "(N, C, h, w) is needed. Ask for a convolution, or wrap it in a module that reshapes."
        )
    return output.clone()  # later operations may work in place, such as `x += y`
