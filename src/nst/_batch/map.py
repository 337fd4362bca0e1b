"""Many pictures in one style: one after another, or on the workers of an executor."""

from __future__ import annotations

import copy
import os
import pickle
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from nst._batch.shared_styles import SharedStyles, Sizes
from nst._batch.worker import (
    SHELF,
    Failed,
    Lacking,
    Network,
    Outcome,
    Task,
    own_process,
    packed,
    work,
)
from nst._engine.configuration import INITS, RunOptions
from nst._utils.checks import at_least
from nst.callbacks.base import Callback, CallbackLike, as_callbacks
from nst.images import ImageLike
from nst.result import StyleTransferResult
from nst.styles.style import Style, StyleLike, as_styles

__all__ = ["MapResult", "map_pictures"]


@dataclass(frozen=True, eq=False)
class MapResult:
    """What became of one of the pictures of `StyleTransfer.map`: a result, or an error.

    Examples:
        >>> failed = MapResult(3, "photos/cat.jpg", None, ValueError("`content` is no picture"))
        >>> failed.name
        'cat.jpg'
    """

    index: int
    """Which of the contents it is, from 0."""
    content: ImageLike
    """The photograph, as it was given."""
    result: StyleTransferResult | None
    """What `run` would have returned; None if it failed."""
    error: Exception | None
    """What `run` would have raised, or why it could not be run; None if it succeeded. One from
    another process has the traceback from there as its cause. What was painted before it is its
    attribute `result`."""

    @property
    def name(self) -> str:
        """What to call the picture: the file's name, or its number for what is in memory."""
        if isinstance(self.content, (str, os.PathLike)):
            return Path(os.fsdecode(self.content)).name
        return f"contents[{self.index}]"


def map_pictures(
    transfer: Any,
    contents: Iterable[ImageLike],
    style: StyleLike,
    arguments: Mapping[str, Any],
    *,
    executor: Executor | None,
    callbacks: CallbackLike | Iterable[CallbackLike],
    max_in_flight: int | None,
    num_threads: int,
) -> Generator[MapResult, None, None]:
    """Do what `StyleTransfer.map` says; see there for the arguments.

    Args:
        transfer: What repaints the pictures.
        contents: The pictures.
        style: As in `run`.
        arguments: Others of `run`.
        executor: As in `map`.
        callbacks: As in `map`.
        max_in_flight: As in `map`.
        num_threads: As in `map`.
    """
    pictures, followers = _each(contents), as_callbacks(callbacks)
    if max_in_flight is None:
        max_in_flight = 2 * (os.cpu_count() or 1)
    at_least("max_in_flight", max_in_flight, 1)
    at_least("num_threads", num_threads, 1)
    handles, styles = RunOptions.from_arguments("map", arguments), as_styles(style)
    transfer.check_losses()
    if executor is None:
        shared = SharedStyles(styles, handles, transfer)
        return _one_by_one(transfer, pictures, shared, arguments, followers)
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"`executor` is {executor!r}; a concurrent.futures.Executor is needed, such as "
            "ProcessPoolExecutor(4), or of Dask, Client().get_executor()."
        )
    if followers:
        raise ValueError(
            "`callbacks` cannot follow runs on an executor, which may be in another process. "
            "Leave them out, or leave out the executor."
        )
    shared = SharedStyles([_style_from_anywhere(each) for each in styles], handles, transfer)
    sent = {
        **arguments,
        "init": _from_anywhere(handles.init, INITS),
        "where": _from_anywhere(handles.where, ("alpha",)),
    }
    return _Crew(executor, transfer, shared, sent, num_threads).follow(pictures, max_in_flight)


def _each(contents: Iterable[ImageLike]) -> Iterator[ImageLike]:
    if isinstance(contents, (str, os.PathLike)) or not isinstance(contents, Iterable):
        raise TypeError(
            f"`contents` is {contents!r}; several pictures are needed. Pass [photo], or "
            "sorted(Path('photos').glob('*.jpg'))."
        )
    return iter(contents)


def _from_anywhere(source: Any, words: Sequence[str] = ()) -> Any:
    """Return a path as it is found from any folder, which a worker may be in; else the source."""
    if not isinstance(source, (str, os.PathLike)) or source in words:
        return source
    return str(Path(os.fsdecode(source)).absolute())


def _style_from_anywhere(style: Style) -> Style:
    return replace(
        style,
        image=_from_anywhere(style.image),
        region=_from_anywhere(style.region, ("alpha",)),
        mask=_from_anywhere(style.mask, ("alpha",)),
    )


class _WorkerTraceback(Exception):
    """Shows where in a worker an error came from."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _packed_part(part: object) -> bytes:
    try:
        return packed(part)
    except Exception as error:  # nearly anything: classes decide how they are pickled
        raise TypeError(
            f"`executor` has processes of its own, to which a part cannot be sent ({error}). "
            "Losses, optimizers and networks of your own must be defined at the top of a module."
        ) from error


def _one_by_one(
    transfer: Any,
    contents: Iterator[ImageLike],
    styles: SharedStyles,
    arguments: Mapping[str, Any],
    callbacks: Sequence[Callback],
) -> Generator[MapResult, None, None]:
    for index, content in enumerate(contents):
        try:
            paintings, sizes = styles.for_picture(content)
            result = transfer.run(content, paintings, callbacks=callbacks, **arguments)
            result = styles.tell(result, sizes)
        except Exception as error:
            yield MapResult(index, content, None, error)
            continue
        yield MapResult(index, content, result, None)
        if result.stop_reason == "interrupted":  # Ctrl-C ends them all
            return


@dataclass(frozen=True)
class _Ticket:
    """A picture on its way to a worker and back."""

    index: int
    content: ImageLike
    sizes: Sizes
    parts: Mapping[str, object]
    """By key: the network, the recipe and the styles."""
    lacking: frozenset[str] = frozenset()
    """The parts that a worker was found to lack."""


class _Crew:
    """The workers of an executor, while they repaint pictures for one call of `map`."""

    def __init__(
        self,
        executor: Executor,
        transfer: Any,
        styles: SharedStyles,
        arguments: Mapping[str, Any],
        num_threads: int,
    ) -> None:
        self._executor, self._styles, self._num_threads = executor, styles, num_threads
        # Other calls, also of other processes, may share the workers.
        self._token = secrets.token_hex(8)
        self._network = Network.of(transfer.extractor, transfer.device, self._token)
        self._recipe = f"{self._token} recipe"
        bare = copy.copy(transfer)
        object.__setattr__(bare, "extractor", nn.Module())  # the network is a part of its own
        self._parts = transfer.extractor, (bare, arguments)
        self._shelved: set[str] = set()
        self._in_flight: dict[Future[bytes], _Ticket] = {}
        self._broken: Exception | None = None
        self._undone = 0

    def follow(
        self, contents: Iterator[ImageLike], max_in_flight: int
    ) -> Generator[MapResult, None, None]:
        """Have pictures repainted; yield what becomes of each when that is known.

        Args:
            contents: The pictures.
            max_in_flight: How many are with the executor at a time.
        """
        waiting = enumerate(contents)
        try:
            while True:
                while len(self._in_flight) < max_in_flight and (each := next(waiting, None)):
                    yield from self._submit(self._ticket(*each))
                if not self._in_flight:
                    break
                done, _ = wait(self._in_flight, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda each: self._in_flight[each].index):
                    yield from self._take_back(future, self._in_flight.pop(future))
        finally:
            for future in self._in_flight:
                future.cancel()
            for key in self._shelved:
                SHELF.drop(key)
        if self._broken is not None:
            raise BrokenExecutor(
                f"`executor` is broken ({self._broken}), and {self._undone} pictures are not "
                "done. Pass those again with another one; most often, memory ran out."
            ) from self._broken

    def _ticket(self, index: int, content: ImageLike) -> _Ticket:
        styles, sizes = self._styles.for_picture(content)
        keys = self._network.key, self._recipe, f"{self._token} styles for {sizes}"
        parts = dict(zip(keys, (*self._parts, styles), strict=True))
        return _Ticket(index, content, sizes, parts)

    def _submit(self, ticket: _Ticket) -> Iterator[MapResult]:
        """Hand a picture to the workers; only if that fails, something is yielded."""
        sent = {key: _packed_part(ticket.parts[key]) for key in ticket.lacking}
        try:
            task = Task(
                _from_anywhere(ticket.content),
                self._network,
                tuple(ticket.parts),
                self._num_threads,
                own_process(),
                sent,
            )
            data = packed(task)
        except Exception as error:  # of pickling a picture: nearly anything
            yield MapResult(ticket.index, ticket.content, None, error)
            return
        for key, part in ticket.parts.items():
            SHELF.put(key, part)
        self._shelved.update(ticket.parts)
        if self._broken is None:
            try:
                self._in_flight[self._executor.submit(work, data)] = ticket
                return
            except Exception as error:  # it was broken or shut down meanwhile
                self._broken = error
        yield self._not_done(ticket, self._broken)

    def _take_back(self, future: Future[bytes], ticket: _Ticket) -> Iterator[MapResult]:
        try:
            outcome: Outcome = pickle.loads(future.result())
        except BrokenExecutor as error:
            self._broken = error
            yield self._not_done(ticket, error)
        except Exception as error:  # the executor's own, such as of Dask for a worker killed
            yield MapResult(ticket.index, ticket.content, None, error)
        else:
            if isinstance(outcome, Lacking):
                yield from self._submit(replace(ticket, lacking=ticket.lacking | outcome.parts))
            elif isinstance(outcome, Failed):
                outcome.error.__cause__ = _WorkerTraceback(outcome.trace)
                yield MapResult(ticket.index, ticket.content, None, outcome.error)
            else:
                result = self._styles.tell(outcome, ticket.sizes)
                yield MapResult(ticket.index, ticket.content, result, None)

    def _not_done(self, ticket: _Ticket, error: Exception) -> MapResult:
        self._undone += 1
        return MapResult(ticket.index, ticket.content, None, error)
