"""The work of an executor's worker for `StyleTransfer.map`: one picture at a time.

Network, losses and styles are not sent with every picture. A task names them by key; a worker that
lacks some says so, gets them once, and stores them.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from nst._utils.plain import fingerprint
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import NAMED_WEIGHTS
from nst.images import ImageLike
from nst.result import StyleTransferResult


class PartCache:
    """The parts that were stored last, by key; shared by the threads of a process."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._parts, self._lock = capacity, dict[str, Any](), threading.Lock()

    def __len__(self) -> int:
        return len(self._parts)

    def store(self, key: str, part: object) -> None:
        """Store a part, and discard the oldest ones beyond the capacity."""
        with self._lock:
            self._parts.pop(key, None)
            self._parts[key] = part
            while len(self._parts) > self._capacity:
                del self._parts[next(iter(self._parts))]

    def get(self, key: str) -> Any:
        """Return a part, or None."""
        return self._parts.get(key)

    def discard(self, key: str) -> None:
        """Remove a part if it is there."""
        with self._lock:
            self._parts.pop(key, None)


# A call of `map` stores its parts here as well: workers that are threads, or processes forked from
# this one, find them.
PARTS = PartCache(capacity=8)


class Network(NamedTuple):
    """The network of a task."""

    key: str
    fingerprint: str | None
    settings: Mapping[str, Any] | None
    """Arguments with which a worker can create it as a `FeatureExtractor`; None if it is sent."""

    @classmethod
    def of(cls, extractor: nn.Module, device: str | torch.device, token: str) -> Network:
        """Describe a network; the token is the key of one that may compute anything."""
        found = fingerprint(extractor)
        if type(extractor) is not FeatureExtractor or found is None:
            return cls(f"{token} network", found, None)
        settings = extractor.settings()
        named = settings if extractor.weights in NAMED_WEIGHTS else None
        return cls(f"{found} {settings} {device}", found, named)

    def create(self) -> nn.Module | None:
        """Create the network from weights on this machine; None if they are missing or differ."""
        if self.settings is None:
            return None
        try:
            network = FeatureExtractor(**self.settings)
        except (ImportError, OSError, ValueError):
            return None
        return network if fingerprint(network) == self.fingerprint else None


class Task(NamedTuple):
    """One picture to repaint."""

    content: ImageLike
    network: Network
    job: str
    """Key of the class of the transfer, its options but the network, and the arguments of `run`."""
    num_threads: int
    sender: tuple[str, int]
    """The process that called `map`, whose number of threads must not be changed."""
    sent: Mapping[str, bytes]
    """Parts that a worker lacked, by key."""


class Lacking(NamedTuple):
    """An outcome: the keys of the parts that a worker lacks."""

    parts: frozenset[str]


class Failed(NamedTuple):
    """An outcome: an error, and its traceback."""

    error: Exception
    trace: str


Outcome: TypeAlias = StyleTransferResult | Lacking | Failed


def own_process() -> tuple[str, int]:
    """Return an identifier of this process that is unique among machines."""
    return platform.node(), os.getpid()


def packed(value: object) -> bytes:
    """Pickle a value, with cloudpickle if that is in use, as it is with Dask.

    cloudpickle can send what a notebook defines. An executor is not left to pickle tensors: between
    processes it would move them to shared memory, with an open file for each.
    """
    data: bytes = sys.modules.get("cloudpickle", pickle).dumps(value)
    return data


def work(data: bytes) -> bytes:
    """Repaint one picture: turn a packed `Task` into a packed `Outcome`.

    Errors are returned, as an executor could lose their text or break over them.
    """
    try:
        return packed(_outcome(pickle.loads(data)))
    except Exception as error:
        return packed(Failed(_portable(error), traceback.format_exc()))


def _outcome(task: Task) -> Outcome:
    parts = {key: _part(task, key) for key in (task.network.key, task.job)}
    lacking = frozenset(key for key, part in parts.items() if part is None)
    if lacking:
        return Lacking(lacking)
    network, (kind, options, styles, arguments) = parts.values()
    before, is_own = torch.get_num_threads(), task.sender == own_process()
    if not is_own:
        torch.set_num_threads(task.num_threads)
    try:
        result: StyleTransferResult = kind(network, **options).run(
            task.content, styles, **arguments
        )
    finally:
        if not is_own:
            torch.set_num_threads(before)
    return result


def _part(task: Task, key: str) -> Any:
    """Return a part of a task; None if this worker lacks it."""
    part = PARTS.get(key)
    if part is None and key in task.sent:
        try:
            part = pickle.loads(task.sent[key])
        except Exception as error:  # classes decide how they are unpickled
            raise TypeError(
                f"`executor` has a worker that cannot read a part of the transfer ({error}). "
                "Put custom losses, optimizers and networks in a module that it can import."
            ) from error
    elif part is None and key == task.network.key:
        part = task.network.create()
    if part is not None:
        PARTS.store(key, part)
    return part


def _portable(error: Exception) -> Exception:
    """Return an error, or a `RuntimeError` with its text if it cannot be pickled."""
    try:
        pickle.loads(packed(error))
    except Exception:  # its class decides
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
