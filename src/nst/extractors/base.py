"""Base classes of feature extractors, and an adapter for a user's module."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nst._utils.device import plain_arithmetic, replace_inference_tensors
from nst._utils.plain import fingerprint

_lock = threading.Lock()
# By module, the number of its users now, and its mode before. Networks may share modules.
_modes: dict[nn.Module, tuple[int, bool]] = {}


class Block(Protocol):
    """A part of a network that can be computed in bands of rows."""

    halo: int
    """Number of rows above and below that its result depends on, a multiple of four."""

    def __call__(
        self, x: Tensor, span: tuple[int, int] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the requested layers and the result by name, for some rows of `(N, C, H, W)`.

        `span` is the first of them and the one after the last; the others are their halo.
        """


class Extractor(nn.Module):
    """Maps images `(N, 3, H, W)` and names of layers to features; a subclass defines `forward`.

    The defaults of the other methods suit any network.
    """

    def check_layers(self, layers: Iterable[str]) -> None:
        """Raise `ValueError` for a layer that the network does not have."""

    def smallest_side(self, layers: Iterable[str]) -> int:
        """Return the smallest height and width of an image for all of these layers."""
        return 1

    def check_size(
        self, height: int, width: int, layers: Iterable[str], *, name: str = "images"
    ) -> None:
        """Raise `ValueError` for images, called `name`, that are too small for some layers."""

    def settings(self) -> dict[str, Any]:
        """Return the arguments that would recreate this extractor, for the record of a run."""
        return {"repr": self.extra_repr()}

    fingerprint = fingerprint
    """Returns a hash that differs wherever features differ; None if it cannot be computed."""

    def bytes_to_derive(self, layers: Iterable[str]) -> int:
        """Return the memory that the first use of some layers takes for transformed weights."""
        return 0

    @property
    def feature_dtype(self) -> torch.dtype:
        """Type in which features are computed."""
        return parameter_of(self).dtype

    def in_full_precision(self) -> Extractor:
        """Return this network computing in the type of its weights, which are shared."""
        return self

    @property
    def computes_in_tiles(self) -> bool:
        """Whether `blocks` computes what `forward` computes."""
        return False

    def normalized(self, images: Tensor) -> Tensor:
        """Return the input of the first block."""
        raise NotImplementedError

    def blocks(self, layers: Iterable[str], *, divides_first: bool = False) -> Sequence[Block]:
        """Return the blocks of the network down to the deepest of some layers.

        With `divides_first`, the first convolution is a block of its own.
        """
        raise NotImplementedError


class _Adapter(Extractor):
    """A user's module as an `Extractor`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @plain_arithmetic(gradients=None)
    def forward(self, images: Tensor, layers: Iterable[str]) -> Mapping[str, Tensor]:
        replace_inference_tensors(self)
        like = parameter_of(self)
        features: Mapping[str, Tensor] = self.module(images.to(like.dtype), layers)
        return features

    def settings(self) -> dict[str, Any]:
        return {"repr": self.module.extra_repr()}

    def fingerprint(self) -> str | None:
        return fingerprint(self.module)


def parameter_of(network: nn.Module) -> Tensor:
    """Return a floating parameter, with the device and the type of a network; float32 if none."""
    floating = (each for each in network.parameters() if each.is_floating_point())
    return next(floating, torch.empty(0, dtype=torch.float32, device="cpu"))


def as_extractor(module: nn.Module) -> Extractor:
    """Return a module with the methods of an extractor: itself if it has them."""
    if isinstance(module, Extractor):
        return module
    try:
        inspect.signature(module.forward).bind("images", "layers")
    except TypeError as error:
        raise TypeError(
            f"`extractor` is a {type(module).__name__}, whose forward does not take (images, "
            "layers). Use BackboneExtractor(network), which makes an extractor of it."
        ) from error
    except ValueError:  # a forward without a signature
        pass
    return _Adapter(module)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Evaluate a network in evaluation mode; restore the modes of its modules after the last user.

    In training mode, dropout would be random, and statistics would change.
    """
    modules = [*network.modules()]
    with _lock:  # threads may share the modules
        for module in modules:
            users, before = _modes.get(module, (0, module.training))
            _modes[module] = users + 1, before
        if any(module.training for module in modules):
            network.eval()
    try:
        yield
    finally:
        with _lock:
            unused = dict[nn.Module, bool]()
            for module in modules:
                users, before = _modes.pop(module)
                if users > 1:
                    _modes[module] = users - 1, before
                else:
                    unused[module] = before
            if len(unused) == len(modules) and any(unused.values()):
                network.train(unused[network])  # which a user's module may define
            for module, before in unused.items():
                module.training = before


def check_features(features: Mapping[str, Any], layers: Iterable[str], images: Tensor) -> None:
    """Raise unless the features of some layers are floating, finite and `(N, C, h, w)`."""
    for layer in layers:
        if fault := _fault(features[layer], tuple(images.shape)):
            error, found, remedy = fault
            raise error(
                f"`extractor` returned {found} for {layer!r}; a finite floating feature map (N, C, "
                f"h, w) with N = {len(images)} is needed. {remedy}"
            )


def _fault(feature: Any, images: tuple[int, ...]) -> tuple[type[Exception], str, str] | None:
    """Return what is wrong about the features of a layer: an error, its cause and the remedy."""
    if not isinstance(feature, Tensor):
        return TypeError, f"a {type(feature).__name__}", "Choose one tensor of it."
    if not feature.is_floating_point():
        return TypeError, str(feature.dtype), "Convert it, for example with .float()."
    shape = tuple(feature.shape)
    if len(shape) == 3 and shape[0] == images[0]:
        remedy = "Reshape tokens (N, L, C) with tokens.mT.unflatten(2, (h, w))."
    elif len(shape) != 4 or shape[0] != images[0]:
        remedy = "Keep the batch, and choose a layer before pooling and flattening."
    elif 0 in shape:
        remedy = "Use larger pictures, or a shallower layer."
    elif _is_in_proportion(shape[1:3], images[2:]) and not _is_in_proportion(shape[2:], images[2:]):
        remedy = "Move channels that come last, with permute(0, 3, 1, 2)."
    elif feature.isfinite().all():
        return None
    else:
        remedy = f"Check the weights, or use a type with a wider range than {feature.dtype}."
        return ValueError, "NaN or infinity", remedy
    return ValueError, str(shape), remedy


def _is_in_proportion(shape: Sequence[int], picture: Sequence[int]) -> bool:
    """Return whether height and width are about those of a reduced picture."""
    expected = picture[1] * shape[0] / picture[0]
    return abs(shape[1] - expected) <= 2 + expected / 4
