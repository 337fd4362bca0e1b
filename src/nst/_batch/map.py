"""Stylize many photographs, one after another or on the workers of an executor."""

import copy
import os
import pickle
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor, nn

from nst._batch import worker
from nst._batch.frames import FrameTransfer, callbacks_of_many
from nst._batch.styles import SharedStyles, Sizes
from nst._batch.worker import PARTS, Failed, Lacking, Network, Outcome, Task
from nst._engine.configuration import INITS, Configuration, RunOptions
from nst._utils.checks import at_least
from nst._utils.device import resolve_device
from nst.callbacks.base import CallbackLike
from nst.images import ImageLike
from nst.result import StyleTransferResult
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style, StyleLike, as_styles


@dataclass(frozen=True, eq=False)
class MapResult:
    """The result of a picture of `StyleTransfer.map`, or its error.

    Examples:
        >>> failed = MapResult(3, "photos/cat.jpg", None, ValueError("`content` is no picture"))
        >>> failed.name
        'cat.jpg'
    """

    index: int
    """Index of the picture in the contents."""
    content: ImageLike
    """The photograph, as given."""
    result: StyleTransferResult | None
    """Result of `run`; None if it failed."""
    error: Exception | None
    """Error of `run` or of the executor; None if it succeeded. Its cause is the traceback in the
    other process; its attribute `result` is the picture before the error."""

    @property
    def name(self) -> str:
        """Name of the file, or index of a picture in memory."""
        if isinstance(self.content, (str, os.PathLike)):
            return Path(os.fsdecode(self.content)).name
        return f"contents[{self.index}]"


class BatchTransfer(FrameTransfer):
    """The method of `StyleTransfer` for many photographs."""

    def map(
        self,
        contents: Iterable[ImageLike],
        style: StyleLike,
        *,
        executor: Executor | None = None,
        max_in_flight: int | None = None,
        num_threads: int = 1,
        devices: Iterable[str | torch.device] | None = None,
        callbacks: CallbackLike | Iterable[CallbackLike] | None = (),
        **arguments: Any,
    ) -> Generator[MapResult, None, None]:
        """Stylize many photographs, and yield each result as soon as it is finished.

        A picture that fails is reported, and the others continue. Each result is bit-identical to
        that of `run` with the same number of threads. Closing the generator discards the pictures
        in progress.

        An executor can be a `ProcessPoolExecutor`, or Dask's `Client.get_executor()` for a cluster
        of machines with the same packages and folders. Each worker receives losses and styles once,
        5 MB with VGG19 and two scales, and the network (VGG19: 80 MB) unless it has the same named
        weights and no hooks; then a path, or the pixels, for each picture.

        Args:
            contents: The photographs, as in `run`; taken one by one, when there is room.
            style: As in `run`.
            executor: Executor to use, which is not shut down. None computes in this process.
            max_in_flight: Number of pictures in the executor, or finished and not yet taken; use
                twice the number of workers. The default is twice this machine's processors.
            num_threads: Number of PyTorch threads per picture in other processes.
            devices: Devices to use instead of an executor, such as `["cuda:0", "cuda:1"]`, each in
                its own process; a script must start under `if __name__ == "__main__":`.
            callbacks: As in `run`, but no `Checkpoint` or `SaveImages`; only without an executor
                and devices.
            **arguments: Other arguments of `run`, the same for all pictures.

        Yields:
            A `MapResult` for each photograph, with a result or an error.

        Raises:
            ValueError: As in `run`, except for pictures; or callbacks or devices with an executor.
            TypeError: An argument has a wrong type, or a part of the transfer cannot be pickled.
            concurrent.futures.BrokenExecutor: A worker was killed, or the executor was shut down;
                raised after an error for each unfinished picture.

        Examples:
            >>> from nst import StyleTransfer
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> photos = [torch.rand(1, 3, 32, 48), "missing.jpg"]
            >>> for each in transfer.map(photos, torch.rand(1, 3, 40, 40)):
            ...     print(each.name, "done" if each.result else type(each.error).__name__)
            contents[0] done
            missing.jpg FileNotFoundError
        """
        if isinstance(contents, (str, os.PathLike)) or not isinstance(contents, Iterable):
            raise TypeError(
                f"`contents` is {contents!r}; several pictures are needed. Pass [photo], or "
                "sorted(Path('photos').glob('*.jpg'))."
            )
        remedy = "Save each result, or call `run` for each picture, with its own callbacks."
        followers = callbacks_of_many(callbacks, remedy)
        options = RunOptions.from_arguments("map", arguments)
        names = [] if devices is None else _device_names(devices, executor)
        if max_in_flight is None:
            max_in_flight = 2 * (len(names) or os.cpu_count() or 1)
        at_least("max_in_flight", max_in_flight, 1)
        at_least("num_threads", num_threads, 1)
        self.check_parts()
        styles = as_styles(style)
        if executor is None and not names:
            shared = SharedStyles(self, styles, options)
            return _one_by_one(self, contents, shared, {**arguments, "callbacks": followers})
        if executor is not None:
            _check_executor(executor, num_threads)
        if followers:
            raise ValueError(
                "`callbacks` cannot be called in another process, where an executor or `devices` "
                "may run pictures. Leave them out, or leave out `executor` and `devices`."
            )
        shared = SharedStyles(self, [_with_absolute_paths(each) for each in styles], options)
        init, where = _absolute(options.init, INITS), _absolute(options.where, ("alpha",))
        dispatcher = _Dispatcher(
            self, shared, {**arguments, "init": init, "where": where}, num_threads
        )
        pool = worker.worker_pool(len(names), names) if executor is None else nullcontext(executor)
        return dispatcher.dispatch(pool, enumerate(contents), max_in_flight)


def _check_executor(executor: Any, num_threads: int) -> None:
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"`executor` is {executor!r}; a concurrent.futures.Executor is needed, such as "
            "ProcessPoolExecutor(4), or of Dask, Client().get_executor()."
        )
    context = getattr(executor, "_mp_context", None)  # of a ProcessPoolExecutor
    if num_threads > 1 and getattr(context, "get_start_method", str)() == "fork":
        raise ValueError(
            f"`num_threads` is {num_threads}, but `executor` forks processes, in which PyTorch's "
            'threads can hang. Use ProcessPoolExecutor(4, multiprocessing.get_context("spawn")), '
            "or num_threads=1."
        )


def _device_names(devices: Any, executor: Executor | None) -> list[str]:
    if isinstance(devices, (str, torch.device)) or not isinstance(devices, Iterable):
        raise TypeError(
            f"`devices` is {devices!r}; it must be a list, such as ['cuda:0', 'cuda:1']."
        )
    names = [str(resolve_device(each)) for each in devices]
    if not names:
        raise ValueError("`devices` is empty; name at least one, or leave it out.")
    if executor is not None:
        raise ValueError("`devices` and `executor` are both given. Leave one of them out.")
    return names


def _with_absolute_paths(style: Style) -> Style:
    region, mask = (_absolute(each, ("alpha",)) for each in (style.region, style.mask))
    return replace(style, image=_absolute(style.image), region=region, mask=mask)


def _absolute(source: Any, words: Sequence[str] = ()) -> Any:
    """Return a source without what a worker may lack: the working folder, a device or a file."""
    if isinstance(source, Tensor):
        return source.cpu()
    if isinstance(source, TiffImageFile):  # Pillow cannot unpickle it
        return source.copy()
    if isinstance(source, tuple):  # a picture of labels, and the color of one
        return _absolute(source[0]), *source[1:]
    if not isinstance(source, (str, os.PathLike)) or source in words:
        return source
    return str(Path(os.fsdecode(source)).absolute())


def _one_by_one(
    transfer: Any, contents: Iterable[ImageLike], shared: SharedStyles, arguments: dict[str, Any]
) -> Generator[MapResult, None, None]:
    for index, content in enumerate(contents):
        try:
            styles, sizes = shared.for_picture(content)
            result = shared.restore(transfer.run(content, styles, **arguments), sizes)
        except Exception as error:
            yield MapResult(index, content, None, error)
            continue
        yield MapResult(index, content, result, None)
        if result.stop_reason == "interrupted":  # Ctrl-C ends all
            return


def _on_cpu(part: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Return a part without tensors on a device that a worker may lack."""
    cpu = torch.device("cpu")
    if isinstance(part, Style) and isinstance(part.image, StyleStatistics):
        return replace(part, image=part.image.to(cpu, dtype))
    if isinstance(part, nn.Module) and any(each.device != cpu for each in part.parameters()):
        return copy.deepcopy(part).to(cpu)
    return part


class _WorkerTraceback(Exception):
    """The traceback of an error in a worker, as the cause of the error."""


@dataclass(frozen=True)
class _Picture:
    """A picture in the executor."""

    index: int
    content: ImageLike
    sizes: Sizes
    parts: Mapping[str, object]
    """The network and the job, by key."""
    lacking: frozenset[str] = frozenset()
    """Keys of the parts that a worker lacked."""
    task: bytes | None = None
    """The packed task, to be sent again: the caller may have changed the picture since."""

    def failed(self, error: Exception) -> MapResult:
        return MapResult(self.index, self.content, None, error)


@dataclass(eq=False)
class _Dispatcher:
    """Submits the pictures of a call of `map` to an executor."""

    transfer: Configuration
    shared: SharedStyles
    arguments: Mapping[str, Any]
    num_threads: int

    def __post_init__(self) -> None:
        self._token = secrets.token_hex(8)  # other calls may share the workers
        self._network = Network.of(self.transfer.extractor, self.transfer.device, self._token)
        self._stored: set[str] = set()
        self._in_flight: dict[Future[bytes], _Picture] = {}
        self._broken: Exception | None = None
        self._undone = 0

    def dispatch(
        self,
        pool: AbstractContextManager[Executor],
        contents: Iterator[tuple[int, ImageLike]],
        max_in_flight: int,
    ) -> Generator[MapResult, None, None]:
        """Yield the result of each picture when it is finished."""
        with pool as executor:
            self._executor = executor
            try:
                while True:
                    while len(self._in_flight) < max_in_flight and (each := next(contents, None)):
                        yield from self._submit(self._prepare(*each))
                    if not self._in_flight:
                        break
                    done, _ = wait(self._in_flight, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda each: self._in_flight[each].index):
                        yield from self._receive(future, self._in_flight.pop(future))
            finally:
                for future in self._in_flight:
                    future.cancel()
                for key in self._stored:
                    PARTS.pop(key, None)
        if self._broken is not None:
            raise BrokenExecutor(
                f"`executor` is broken ({self._broken}), and {self._undone} pictures are not "
                "done. Pass those again with another one; most often, memory ran out."
            ) from self._broken

    def _prepare(self, index: int, content: ImageLike) -> _Picture:
        styles, sizes = self.shared.for_picture(content)
        styles = [_on_cpu(each, self.transfer.like.dtype) for each in styles]
        options = {each.name: getattr(self.transfer, each.name) for each in fields(self.transfer)}
        extractor = options.pop("extractor")
        job = type(self.transfer), options, styles, self.arguments
        parts = {self._network.key: extractor, f"{self._token} {sizes}": job}
        return _Picture(index, content, sizes, parts)

    def _submit(self, picture: _Picture) -> Iterator[MapResult]:
        """Submit a picture; yield a result only if that fails."""
        try:
            sent = {key: worker.packed(_on_cpu(picture.parts[key])) for key in picture.lacking}
        except Exception as error:  # classes decide how they are pickled
            raise TypeError(
                f"`executor` has processes of its own, to which a part cannot be sent ({error}). "
                "Put custom losses, optimizers and networks at the top of a module."
            ) from error
        (_, job), threads, sender = picture.parts, self.num_threads, worker.own_process()
        try:
            data = picture.task or worker.packed(
                Task(
                    _absolute(worker.as_sent(picture.content)), self._network, job, threads, sender
                )
            )
        except Exception as error:  # a picture in memory may be of any class
            yield picture.failed(error)
            return
        for key, part in picture.parts.items():
            PARTS.store(key, part)
        self._stored.update(picture.parts)
        if self._broken is None:
            try:
                future = self._executor.submit(worker.work, data, sent)
                self._in_flight[future] = replace(picture, task=data)
                return
            except Exception as error:  # broken or shut down meanwhile
                self._broken = error
        self._undone += 1
        yield picture.failed(self._broken)

    def _receive(self, future: Future[bytes], picture: _Picture) -> Iterator[MapResult]:
        try:
            outcome: Outcome = pickle.loads(future.result())
        except Exception as error:  # the executor's own, such as Dask's for a killed worker
            if isinstance(error, BrokenExecutor):
                self._broken = error
                self._undone += 1
            yield picture.failed(error)
            return
        if isinstance(outcome, Lacking):
            yield from self._submit(replace(picture, lacking=picture.lacking | outcome.parts))
        elif isinstance(outcome, Failed):
            outcome.error.__cause__ = _WorkerTraceback(f"\n{outcome.trace}")
            yield picture.failed(outcome.error)
        else:
            result = self.shared.restore(outcome, picture.sizes)
            result = worker.as_received(result, picture.content)
            yield MapResult(picture.index, picture.content, result, None)
