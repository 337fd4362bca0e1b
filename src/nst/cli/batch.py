"""A batch of pictures: who does the work, and what is said and saved as they are finished."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from nst._batch.map import MapResult
from nst._utils.checks import at_least
from nst._utils.text import duration, one_line, say
from nst.cli.folder import Batch

__all__ = ["Workers", "save_all", "workers"]


class Workers(NamedTuple):
    """Who does the work."""

    executor: Executor | None
    """None for this process."""
    arguments: Mapping[str, Any]
    """Others of `StyleTransfer.map` that suit it."""


@contextmanager
def workers(options: argparse.Namespace) -> Iterator[Workers]:
    """Provide who does the work: processes of this machine, a Dask cluster, or this process.

    Args:
        options: Of `nst batch`.

    Raises:
        ImportError: Dask is asked for and not installed.
        OSError: Its scheduler does not answer.
        ValueError: It has no workers, or their number is below 1.
    """
    if options.dask is not None:
        try:
            import distributed
        except ImportError as error:
            raise ImportError(
                "`--dask` needs Dask, which is not installed. Run `pip install 'nst[dask]'`."
            ) from error
        untyped: Any = distributed
        with untyped.Client(options.dask, set_as_default=False, timeout=10) as client:
            count = sum(client.nthreads().values())
            if count == 0:
                raise ValueError(
                    f"`--dask` is {options.dask!r}, where no workers are; one is needed. "
                    "Run `dask worker` with the same address."
                )
            yield Workers(client.get_executor(), {"max_in_flight": 2 * count})
    elif options.workers is not None:
        count = at_least("--workers", options.workers, 1)
        threads = max(1, (os.cpu_count() or 1) // count)
        others = set(multiprocessing.active_children())
        # Not forked: that can hang where PyTorch has started threads.
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            try:
                yield Workers(pool, {"max_in_flight": 2 * count, "num_threads": threads})
            except BaseException:  # Ctrl-C, say: what a pool has taken on it would do to the end
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise
    else:
        yield Workers(None, {})


def save_all(outcomes: Iterable[MapResult], batch: Batch, options: argparse.Namespace) -> int:
    """Save pictures as they are finished, tell of those that failed, and sum up.

    Args:
        outcomes: What `StyleTransfer.map` yields for the pictures of the batch.
        batch: Says where each goes.
        options: Of `nst batch`.

    Returns:
        The exit status: 1 if a picture failed.

    Raises:
        KeyboardInterrupt: A run was interrupted; its picture is left to be done another time.
        OSError: A picture cannot be saved.
    """
    start, targets = time.perf_counter(), list(batch.outputs.values())
    done = failed = 0
    try:
        for each in outcomes:
            if each.result is None:
                failed += 1
                sys.stderr.write(f"nst: error: {each.name}: {one_line(each.error)}\n")
                continue
            if each.result.stop_reason == "interrupted":
                raise KeyboardInterrupt
            output = targets[each.index]
            each.result.save(output)
            done += 1
            if not options.quiet:
                say(f"[{done + failed}/{len(targets)}] {output.resolve()}")
    except BrokenExecutor as error:
        sys.stderr.write(f"nst: error: {one_line(error)}\n")
    finally:
        if not options.quiet:
            taken = duration(time.perf_counter() - start)
            parts = [f"{done} of {len(targets)} pictures in {taken}"]
            parts += [f"{failed} failed"] if failed else []
            parts += [f"{batch.num_there} were there already"] if batch.num_there else []
            say(", ".join(parts))
    return 1 if failed else 0
