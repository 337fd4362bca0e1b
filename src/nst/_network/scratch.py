"""Scratch memory that is allocated once per thread and used again by the next call."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor


class Scratch(threading.local):
    """Named buffers that grow as needed.

    Fresh pages cost the operating system as much time as computing their content.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return an uninitialized CPU tensor; the same name returns the same memory."""
        size, key = math.prod(shape), (name, like.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            # A tensor made in a caller's inference mode could not be written outside of it.
            with torch.inference_mode(False):
                buffer = self._buffers[key] = torch.empty(size, dtype=like.dtype, device="cpu")
        return buffer[:size].view(*shape)


scratch = Scratch()
