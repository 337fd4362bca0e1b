"""A worker of `StyleTransfer.map`: it stylizes one picture at a time.

A task names its network, losses and styles by key; a worker requests those that it lacks, once.
"""

import multiprocessing
import os
import pickle
import platform
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import Self

from nst._engine.reading import identify_pictures
from nst._utils.plain import fingerprint
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import NAMED_WEIGHTS
from nst.images import ImageLike
from nst.images.decode import image_array
from nst.images.metadata import read_exif
from nst.result import StyleTransferResult


class PartCache(dict[str, Any]):
    """The parts that were stored last, by key; shared by the threads of a process."""

    capacity = 8

    def store(self, key: str, part: object) -> None:
        """Store a part, and discard the oldest ones beyond the capacity."""
        self.pop(key, None)
        self[key] = part
        for oldest in list(self)[: -self.capacity]:  # a copy, as threads store at the same time
            self.pop(oldest, None)


# `map` also stores its parts here, for workers that are threads or forks of this process.
PARTS = PartCache()
_own = dict[str, torch.device]()  # the device of this process, if it has one of its own


def take_device(devices: Any) -> None:
    """Take the next device of a queue for this process."""
    _own["device"] = torch.device(devices.get())
    if _own["device"].type == "cuda":
        torch.cuda.set_device(_own["device"])


@contextmanager
def worker_pool(count: int, devices: Sequence[str] = ()) -> Iterator[Executor]:
    """Yield a pool of processes that end with the block; each takes one of the devices, if any."""
    # A fork can hang where PyTorch has started threads.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    queue, initializer = context.SimpleQueue(), take_device if devices else None
    for device in devices:
        queue.put(device)
    with ProcessPoolExecutor(count, context, initializer, (queue,)) as pool:  # type: ignore[arg-type]
        try:
            yield pool
        except BaseException:  # such as Ctrl-C; the pool would finish all submitted work
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


class Network(NamedTuple):
    """The network of a task."""

    key: str
    fingerprint: str | None
    settings: Mapping[str, Any] | None
    """Arguments with which a worker creates a `FeatureExtractor`; None if the network is sent."""

    @classmethod
    def of(cls, extractor: nn.Module, device: str | torch.device, token: str) -> Self:
        """Describe a network; the token makes the key of one without a fingerprint unique."""
        found = fingerprint(extractor)
        if type(extractor) is not FeatureExtractor or found is None:
            return cls(f"{token} network", found, None)
        settings = extractor.settings()
        named = settings if extractor.weights in NAMED_WEIGHTS else None
        return cls(f"{found} {settings} {device}", found, named)

    def create(self) -> nn.Module | None:
        """Create the network from weights on this machine; None if they are missing or differ."""
        if self.settings is not None:
            with suppress(ImportError, OSError, ValueError):
                network = FeatureExtractor(**self.settings)
                return network if fingerprint(network) == self.fingerprint else None
        return None


class Task(NamedTuple):
    """A picture to stylize."""

    content: ImageLike
    network: Network
    job: str
    """Key of a tuple: class and options of the transfer, styles, and arguments of `run`."""
    num_threads: int
    sender: tuple[str, int]
    """The process that called `map`; its own number of threads does not change."""


class Lacking(NamedTuple):
    """Keys of the parts that a worker lacks."""

    parts: frozenset[str]


class Failed(NamedTuple):
    """An error and its traceback."""

    error: Exception
    trace: str


Outcome: TypeAlias = StyleTransferResult | Lacking | Failed


def own_process() -> tuple[str, int]:
    """Return an identifier of this process that is unique among machines."""
    return platform.node(), os.getpid()


def packed(value: object) -> bytes:
    """Pickle a value, if possible with cloudpickle, which supports the classes of a notebook."""
    # An executor that pickled tensors itself would move each to shared memory, with an open file.
    return bytes(sys.modules.get("cloudpickle", pickle).dumps(value))


def as_sent(content: ImageLike) -> ImageLike:
    """Return a picture as it is sent: as an array if it is a PIL image, whose file is not sent."""
    return image_array(content, "`content`") if isinstance(content, Image.Image) else content


def as_received(result: StyleTransferResult, content: ImageLike) -> StyleTransferResult:
    """Return the result of a picture with what only the PIL image has that was not sent."""
    if not isinstance(content, Image.Image):
        return result
    inputs = {**result.settings["inputs"], **identify_pictures(content, [])}
    return replace(result, settings={**result.settings, "inputs": inputs}, exif=read_exif(content))


def work(task: bytes, sent: Mapping[str, bytes]) -> bytes:
    """Stylize one picture: turn a packed `Task` into a packed `Outcome`, which may be an error.

    `sent` has the packed parts that a worker lacked, by key.
    """
    try:
        return packed(_outcome(pickle.loads(task), sent))
    except Exception as error:  # an executor could lose its text, or break over it
        trace = traceback.format_exc()
        with suppress(Exception):  # classes decide how they are pickled
            failed = packed(Failed(error, trace))
            pickle.loads(failed)
            return failed
        return packed(Failed(RuntimeError(f"{type(error).__name__}: {error}"), trace))


def _outcome(task: Task, sent: Mapping[str, bytes]) -> Outcome:
    parts = {key: _part(task, key, sent) for key in (task.network.key, task.job)}
    lacking = frozenset(key for key, part in parts.items() if part is None)
    if lacking:
        return Lacking(lacking)
    network, (kind, options, styles, arguments) = parts.values()
    before, is_own = torch.get_num_threads(), task.sender == own_process()
    torch.set_num_threads(before if is_own else task.num_threads)
    try:
        transfer = kind(network, **(options | _own))
        outcome: Outcome = transfer.run(task.content, styles, **arguments)
        return outcome
    finally:
        torch.set_num_threads(before)


def _reserve_hooks(part: object) -> None:
    """Keep PyTorch from replacing the hooks of a network from another process by new ones.

    It numbers hooks in each process, and `BackboneExtractor` adds some for each pass.
    """
    for module in part.modules() if isinstance(part, nn.Module) else ():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            RemovableHandle.next_id = max([RemovableHandle.next_id, *(each + 1 for each in hooks)])


def _part(task: Task, key: str, sent: Mapping[str, bytes]) -> Any:
    """Return a part of a task; None if this worker lacks it."""
    part = PARTS.get(key)
    if part is None and key in sent:
        try:
            part = pickle.loads(sent[key])
            _reserve_hooks(part)
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
