"""How much memory tensors take while something is computed, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Allocations"]


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's
    """Counts the bytes of the tensors that are made within its `with` block, in this thread.

    What was there before does not count. What an operation needs for itself is not seen.

    Examples:
        >>> kept = torch.zeros(100)
        >>> with Allocations() as allocations:
        ...     total = (kept + kept).sum()
        >>> allocations.peak, allocations.now
        (404, 4)
    """

    now: int
    """Bytes of those tensors that are still there; falls also after the block."""
    peak: int
    """The most there have been at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call an operation of PyTorch, and see what it made."""
        kwargs = kwargs or {}
        for storage in _storages([args, kwargs]):
            self._meet(storage, 0)
        result = func(*args, **kwargs)
        for storage in _storages(result):
            self._meet(storage, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        # PyTorch returns the same object for the same memory as long as that is there.
        key = id(storage)
        if key in self._known:
            return

        def forget(_: object) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, forget)
        self.now += size


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    for value in tree_leaves(values):
        if isinstance(value, Tensor) and value.layout == torch.strided:
            yield value.untyped_storage()
