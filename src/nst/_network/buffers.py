"""Memory for what is computed on the way, kept from one call to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["Workspace", "Workspaces"]


class Workspace:
    """Named buffers that grow as needed.

    Fresh memory of a few megabytes costs the system as much time as what is computed in it. A
    workspace is not to be used by two threads at once.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(
        self, name: str, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return memory of a shape, with whatever it holds.

        Args:
            name: What it is for; the same name is the same memory.
            shape: Any.
            like: Has the device, and the type unless one is given.
            dtype: The type.
        """
        dtype = like.dtype if dtype is None else dtype
        key = name, dtype, like.device
        size = torch.Size(shape).numel()
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[key] = torch.empty(size, dtype=dtype, device=like.device)
        return buffer[:size].view(*shape)


class Workspaces:
    """Lends workspaces, to each thread its own."""

    def __init__(self) -> None:
        self._idle: list[Workspace] = []

    @contextmanager
    def borrow(self) -> Iterator[Workspace]:
        """Lend one that nobody else has."""
        try:
            workspace = self._idle.pop()  # in one step, whatever other threads do
        except IndexError:
            workspace = Workspace()
        yield workspace
        self._idle.append(workspace)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory out of copies."""
        return {"_idle": []}
