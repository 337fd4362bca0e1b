"""The worker processes of `nst batch` and `nst video`."""

import os
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from nst._batch.worker import worker_pool
from nst._utils.checks import at_least, required
from nst._utils.device import resolve_device
from nst.cli import build


def complete_devices(options: Namespace) -> None:
    """Turn `--devices` into a list; its first one captures the styles."""
    if options.devices is not None:
        if "device" in options:
            options.parser.error("`--device` has no effect with `--devices`")
        options.devices = [str(resolve_device(each.strip())) for each in options.devices.split(",")]
        options.device = options.devices[0]


def has_workers(options: Namespace) -> bool:
    """Return whether other processes compute the pictures."""
    return any(getattr(options, each) is not None for each in ("workers", "dask", "devices"))


@contextmanager
def workers(options: Namespace) -> Iterator[tuple[Executor | None, dict[str, Any]]]:
    """Yield the executor, and further arguments of `StyleTransfer.map`."""
    if options.dask is not None:
        distributed = required("distributed", "`--dask` needs Dask", "dask")
        with distributed.Client(options.dask, set_as_default=False, timeout=10) as client:
            count = sum(client.nthreads().values())
            if count == 0:
                raise ValueError(
                    f"`--dask` is {options.dask!r}, which has no workers; one is needed. "
                    "Run `dask worker` with the same address."
                )
            yield client.get_executor(), {"max_in_flight": 2 * count}
    elif options.workers is not None or options.devices is not None:
        devices = options.devices or []
        count = len(devices) or at_least("--workers", options.workers, 1)
        threads = max(1, (os.cpu_count() or 1) // count)
        with worker_pool(count, devices) as pool:
            yield pool, {"max_in_flight": 2 * count, "num_threads": threads}
    else:
        yield None, {"callbacks": build.make_callbacks(options)}
