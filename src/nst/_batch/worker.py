"""What a worker of an executor does for `StyleTransfer.map`: one picture at a time.

What all pictures have in common, the network above all, does not travel with each of them. A task
names its parts by key; a worker that lacks one says so, is sent it once, and keeps it.
"""

from __future__ import annotations

import copy
import os
import pickle
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from nst._utils.hashing import fingerprint
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import NAMED_WEIGHTS
from nst.images import ImageLike
from nst.result import StyleTransferResult

__all__ = [
    "SHELF",
    "Failed",
    "Lacking",
    "Network",
    "Outcome",
    "Recipient",
    "Task",
    "own_process",
    "packed",
    "work",
]


class Recipient(Protocol):
    """What is known here of a `StyleTransfer`."""

    extractor: nn.Module
    device: torch.device

    @property
    def run(self) -> Callable[..., StyleTransferResult]:
        """Repaints one picture."""


class Network(NamedTuple):
    """The network of a task: what it is called, and how it may be had without being sent."""

    key: str
    fingerprint: str | None
    arguments: Mapping[str, Any] | None
    """Those of the `FeatureExtractor` that it is; None if it must be sent."""

    @classmethod
    def of(cls, extractor: nn.Module, device: torch.device, token: str) -> Network:
        """Describe a network.

        Args:
            extractor: The network.
            device: Where it lies.
            token: What to call it if it cannot be told from others.
        """
        found = fingerprint(extractor)
        if type(extractor) is not FeatureExtractor or found is None:
            return cls(f"{token} network", found, None)  # it may compute anything
        settings = extractor.settings()
        named = settings if extractor.weights in NAMED_WEIGHTS else None
        return cls(f"{found} {settings} {device}", found, named)

    def load(self) -> nn.Module | None:
        """Make the network from weights that are here; None if they are not, or are others."""
        if self.arguments is None:
            return None
        try:
            made = FeatureExtractor(**self.arguments)
        except (ImportError, OSError, ValueError):
            return None
        return made if fingerprint(made) == self.fingerprint else None


@dataclass(frozen=True)
class Task:
    """One picture to repaint, and what with."""

    content: ImageLike
    network: Network
    parts: tuple[str, ...]
    """The keys of the network, of the recipe (the transfer without its network, and the other
    arguments of `run`), and of the styles."""
    num_threads: int
    sender: tuple[str, int]
    """The process that `map` was called in; there, the number of threads is its own affair."""
    sent: Mapping[str, bytes]
    """The parts that a worker was found to lack, by key."""


class Lacking(NamedTuple):
    """Instead of a result: the parts that a worker has to be sent."""

    parts: frozenset[str]


class Failed(NamedTuple):
    """Instead of a result: why there is none."""

    error: Exception
    trace: str


Outcome = StyleTransferResult | Lacking | Failed


class Shelf:
    """Keeps the values that were used last, by key; for all threads of a process.

    Args:
        room: For how many.
    """

    def __init__(self, room: int) -> None:
        self._room, self._values, self._lock = room, dict[str, Any](), threading.Lock()

    def put(self, key: str, value: object) -> None:
        """Keep a value, if need be in place of the one that was not used for longest."""
        with self._lock:
            self._values.pop(key, None)
            self._values[key] = value
            while len(self._values) > self._room:
                del self._values[next(iter(self._values))]

    def get(self, key: str) -> Any:
        """Return a value; None if it is not there."""
        with self._lock:
            return self._values.get(key)

    def drop(self, key: str) -> None:
        """Keep a value no longer."""
        with self._lock:
            self._values.pop(key, None)


# A call of `map` has one network, one recipe, and styles for some sizes of picture. A process that
# is forked from the caller's, or is the caller's, finds them there.
SHELF = Shelf(room=8)


def own_process() -> tuple[str, int]:
    """Return what tells this process from others, also on other machines."""
    return platform.node(), os.getpid()


def packed(value: object) -> bytes:
    """Return a value as bytes, by cloudpickle if that is in use, as it is with Dask.

    Not left to the executor: among processes of one machine, tensors would be moved to shared
    memory, the caller's own included, and would need an open file each.

    Args:
        value: What a worker is sent, or returns. cloudpickle can also send what a notebook defines.
    """
    data: bytes = sys.modules.get("cloudpickle", pickle).dumps(value)
    return data


def work(data: bytes) -> bytes:
    """Repaint one picture.

    Args:
        data: A `Task`, packed.

    Returns:
        An `Outcome`, packed. Errors are returned as well: an executor could lose their text, or
        break over one that cannot be pickled.
    """
    try:
        return packed(_outcome(pickle.loads(data)))
    except Exception as error:
        return packed(Failed(_portable(error), traceback.format_exc()))


def _outcome(task: Task) -> Outcome:
    with _threads(None if task.sender == own_process() else task.num_threads):
        parts = {key: _part(key, task) for key in task.parts}
        lacking = frozenset(key for key, part in parts.items() if part is None)
        if lacking:
            return Lacking(lacking)
        network, (bare, arguments), styles = parts.values()
        transfer: Recipient = copy.copy(bare)
        object.__setattr__(transfer, "extractor", network.to(transfer.device))
        return transfer.run(task.content, styles, **arguments)


def _part(key: str, task: Task) -> Any:
    """Return a part of a task; None if it is not here."""
    part = SHELF.get(key)
    if part is None and key in task.sent:
        try:
            part = pickle.loads(task.sent[key])
        except Exception as error:  # nearly anything: classes decide how they are pickled
            raise TypeError(
                f"`executor` has a worker that cannot read a part of the transfer ({error}). "
                "Losses, optimizers and networks of yours must be in a module that it can import."
            ) from error
    elif part is None and key == task.network.key:
        part = task.network.load()
    if part is not None:
        SHELF.put(key, part)
    return part


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads for a while; None changes nothing."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number is not None:
            torch.set_num_threads(before)


def _portable(error: Exception) -> Exception:
    """Return an error as it can be sent."""
    try:
        pickle.loads(packed(error))
    except Exception:  # nearly anything, as its class decides
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
