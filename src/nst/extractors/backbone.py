"""Any network as a feature extractor: the outputs of its modules, by name."""

from __future__ import annotations

import copy
import difflib
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nst._utils.checks import known_layers
from nst.extractors.base import Extractor


class BackboneExtractor(Extractor):
    """Another network in the place of `FeatureExtractor`: torchvision's, or one of your own.

    A layer is a module of the network, called by its path (`"features.3"`, `"layer1.0.conv2"`) or
    by a name that you give it. Its features are what the module itself returns: a convolution's,
    also where a ReLU or an addition after it works in place. The network is copied, frozen, set to
    evaluation, and run no further than the last module asked for.

    Args:
        network: Takes images `(N, 3, H, W)`; its modules that are asked for return `(N, C, h, w)`.
        layers: Name to path of a module; by default every module without parts has its own path.
        mean: Subtracted from RGB pixels in [0, 1]; ImageNet's by default, as in torchvision.
        std: What the difference is divided by.

    Raises:
        TypeError: The network is no module.
        ValueError: It has no module at one of the paths.

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        >>> extractor = BackboneExtractor(network, {"conv": "0", "relu": "1"})
        >>> features = extractor(torch.rand(1, 3, 10, 10), ["conv", "relu"])
        >>> bool((features["conv"] < 0).any()), bool((features["relu"] < 0).any())
        (True, False)
    """

    layer_names: tuple[str, ...]
    """Every layer that can be asked for."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, str] | None = None,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"`network` is {network!r}; it must be a torch.nn.Module (an instance)."
            )
        self.network = copy.deepcopy(network).requires_grad_(False)
        modules = dict(self.network.named_modules())
        if layers is None:
            layers = {path: path for path, module in modules.items() if not [*module.children()]}
        for name, path in layers.items():
            if path not in modules:
                guess = difflib.get_close_matches(path, modules, n=1, cutoff=0)
                raise ValueError(
                    f"`layers[{name!r}]` is {path!r}, which {type(network).__name__} lacks. Did "
                    f"you mean {guess[0]!r}?"
                )
        self._paths = dict(layers)
        self.layer_names = tuple(self._paths)
        for module in modules.values():
            if getattr(module, "inplace", False):
                module.inplace = False
        for name, values in (("mean", mean), ("std", std)):
            tensor = torch.tensor([float(value) for value in values]).view(1, -1, 1, 1)
            self.register_buffer(name, tensor)
        self.eval()

    @classmethod
    def from_vgg(cls, network: nn.Module, **arguments: Any) -> BackboneExtractor:
        """Call the layers of one of torchvision's VGGs as in the literature.

        Args:
            network: Such as `torchvision.models.vgg16(weights="DEFAULT")`; with or without batch
                normalization, whose layers are called `norm1_1`.
            **arguments: `mean` and `std`.

        Raises:
            ValueError: It has no `features` made of convolutions and poolings.

        Examples:
            >>> import torchvision
            >>> extractor = BackboneExtractor.from_vgg(torchvision.models.vgg16(init_weights=False))
            >>> extractor.layer_names[:5]
            ('conv1_1', 'relu1_1', 'conv1_2', 'relu1_2', 'pool1')
        """
        layers, block, count = {}, 1, 0
        for path, module in getattr(network, "features", nn.Sequential()).named_children():
            if isinstance(module, nn.MaxPool2d):
                layers[f"pool{block}"] = path
                block, count = block + 1, 0
                continue
            count += isinstance(module, nn.Conv2d)
            kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "relu"}
            if type(module) in kinds:
                layers[f"{kinds[type(module)]}{block}_{count}"] = path
        if not layers:
            raise ValueError(
                f"`network` is a {type(network).__name__}, which has no `features` as VGGs have. "
                "Use BackboneExtractor(network, {name: path})."
            )
        # The classifier is left out of the copy: it holds most of the weights.
        return cls(network.get_submodule("features"), layers, **arguments)

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Compute feature maps.

        Args:
            images: `(N, 3, H, W)`, sRGB in [0, 1].
            layers: The layers' names; `"image"` is always there and need not be named.

        Returns:
            `"image"` (the images themselves) and each layer's features, `(N, C, h, w)`. Of a module
            that is called several times, the first.

        Raises:
            ValueError: An unknown layer, or one whose output is no feature map.
        """
        wanted = ({layers} if isinstance(layers, str) else set(layers)) - {"image"}
        self.check_layers(wanted)
        if not wanted:
            return {"image": images}
        found: dict[str, Tensor] = {}
        thread = threading.get_ident()

        def keep(name: str, module: nn.Module, inputs: object, output: Any) -> None:
            # Another thread may be running the same network, with hooks of its own.
            if threading.get_ident() != thread or name in found:
                return
            found[name] = _feature_map(name, module, output)
            if len(found) == len(wanted):
                raise _EverythingFoundError

        modules = {name: self.network.get_submodule(self._paths[name]) for name in wanted}
        hooks = [m.register_forward_hook(partial(keep, name)) for name, m in modules.items()]
        try:
            self.network((images - self.mean) / self.std)
        except _EverythingFoundError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        if missing := wanted - set(found):
            raise ValueError(
                f"`layers` has {min(missing)!r}, a module that {type(self.network).__name__} does "
                "not call. Ask for another."
            )
        return {"image": images, **found}

    def check_layers(self, layers: Iterable[str]) -> None:
        """Raise `ValueError` for a layer that the network does not have, with the nearest name."""
        known_layers(layers, self.layer_names, type(self.network).__name__)

    def train(self, mode: bool = True) -> BackboneExtractor:
        """Stay in evaluation mode, as the network is frozen."""
        return super().train(False)

    def settings(self) -> dict[str, Any]:
        """Return what tells the network, for a record of the run."""
        return {
            "network": type(self.network).__name__,
            "layers": dict(self._paths),
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }

    def extra_repr(self) -> str:
        """Show how many layers there are in `print(extractor)`."""
        return f"{type(self.network).__name__}, {len(self._paths)} layers"


class _EverythingFoundError(Exception):
    """Ends a pass through the network where nothing deeper is of use."""


def _feature_map(name: str, module: nn.Module, output: Any) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"`layers` has {name!r}, a {type(module).__name__} that returns {shape}; a feature map "
            "(N, C, h, w) is needed. Ask for a convolution, or wrap it in a module that reshapes."
        )
    return output.clone()  # what follows may work in place, as `x += y` does
