"""Base classes of feature extractors, and an adapter for a user's module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from nst._utils.plain import fingerprint


class Block(Protocol):
    """A part of a network that can be computed in bands of rows."""

    halo: int
    """Number of rows above and below that its result depends on, a multiple of four."""

    def __call__(
        self, x: Tensor, span: tuple[int, int] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the requested layers and the result of `(N, C, H, W)` by name.

        The last convolution may be computed for a span of rows only.
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
    """Returns a hash that differs wherever features differ; None if that cannot be told."""

    def bytes_to_derive(self, layers: Iterable[str]) -> int:
        """Return the memory that the first use of some layers takes for transformed weights."""
        return 0

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

    def forward(self, images: Tensor, layers: Iterable[str]) -> Mapping[str, Tensor]:
        features: Mapping[str, Tensor] = self.module(images, layers)
        return features

    def settings(self) -> dict[str, Any]:
        return {"repr": self.module.extra_repr()}

    def fingerprint(self) -> str | None:
        return fingerprint(self.module)


def as_extractor(module: nn.Module) -> Extractor:
    """Return a module with the methods of an extractor: itself if it has them."""
    return module if isinstance(module, Extractor) else _Adapter(module)
