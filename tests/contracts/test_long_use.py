"""Many runs in one process, several at once, and whatever else the process is set to."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nst import FeatureExtractor, StyleTransfer, save_image
from nst.images import load_image

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")


def memory() -> int:
    """The bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a folder's own descriptor counts too


def hooks_and_buffers(network: nn.Module) -> tuple[int, int]:
    modules = list(network.modules())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
    return hooks, len(list(network.buffers()))


@linux
def test_run_after_run_nothing_is_left_behind(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    """The long form is scripts/long_use.py."""
    transfer = StyleTransfer(extractor, num_steps=2)
    save_image(photo, tmp_path / "photo.png")
    methods = [None, "luminance", "histogram"]

    def run(i: int) -> None:
        result = transfer.run(tmp_path / "photo.png", painting, preserve_color=methods[i % 3])
        result.save(tmp_path / "made.png")
        if i % 10 == 0:
            transfer.capture(painting, sizes=[40]).save(tmp_path / "style.nst")

    for i in range(20):  # until everything is loaded that is loaded once
        run(i)
    gc.collect()
    before = memory(), open_files(), hooks_and_buffers(extractor), len(gc.get_objects())
    for i in range(60):
        run(i)
    gc.collect()
    after = memory(), open_files(), hooks_and_buffers(extractor), len(gc.get_objects())
    assert after[0] - before[0] < 10_000_000
    assert after[1:3] == before[1:3]
    assert abs(after[3] - before[3]) < 200


def test_runs_in_threads_do_not_disturb_each_other(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    transfer = StyleTransfer(extractor, num_steps=4, num_scales=2)
    save_image(photo, tmp_path / "photo.png")
    jobs: list[Callable[[], Tensor]] = [
        lambda: transfer.run(tmp_path / "photo.png", painting).image,
        lambda: transfer.run(photo, painting.flip(-1), init="noise").image,
        lambda: transfer.synthesize(painting, (24, 40), seed=3).image,
        lambda: load_image(tmp_path / "photo.png"),
    ]
    alone, filters = [job() for job in jobs], list(warnings.filters)
    found: dict[int, list[Tensor]] = {i: [] for i in range(len(jobs))}

    def repeat(i: int) -> None:
        for _ in range(5):
            found[i].append(jobs[i]())

    threads = [threading.Thread(target=repeat, args=(i,)) for i in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, images in found.items():
        assert len(images) == 5
        assert all(torch.equal(image, alone[i]) for image in images)
    assert list(warnings.filters) == filters


def settings_of_the_process() -> dict[str, Any]:
    logger = logging.getLogger("nst")
    return {
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": repr(np.random.get_state()),
        "generator": random.getstate(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "precision": torch.get_float32_matmul_precision(),
        "onednn": torch.backends.mkldnn.enabled,
        "warnings": list(warnings.filters),
        "logging": (logger.level, list(logger.handlers), logger.propagate),
        "folder": Path.cwd(),
        "environment": dict(os.environ),
    }


def test_the_process_is_set_as_it_was_before(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    transfer = StyleTransfer(extractor, num_steps=2)
    before = settings_of_the_process()
    transfer.run(photo, painting, init="noise", preserve_color="pca").save(tmp_path / "made.png")
    transfer.synthesize(painting, (24, 24))
    transfer.capture(painting, sizes=[32])
    transfer.estimate(photo)
    load_image(tmp_path / "made.png")
    assert settings_of_the_process() == before

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transfer.run(photo, painting, callbacks=fail)
    assert settings_of_the_process() == before


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "another default type": default_dtype,
    "deterministic algorithms": deterministic,
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no autocast cache": lambda: torch.autocast("cpu", cache_enabled=False),
    "saved tensors elsewhere": lambda: torch.autograd.graph.save_on_cpu(),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_however_the_process_is_set_the_picture_is_the_same(
    setting: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = StyleTransfer(extractor, num_steps=3, num_scales=2)
    expected = transfer.run(photo, painting).image
    captured = transfer.capture(painting, sizes=[20, 40])
    with SETTINGS[setting]():
        result = transfer.run(photo, painting)
        recaptured = transfer.capture(painting, sizes=[20, 40])
        transfer.estimate(photo)
    assert result.image.dtype == torch.float32
    assert torch.equal(result.image, expected)
    again = transfer.run(photo, recaptured).image
    assert torch.equal(again, transfer.run(photo, captured).image)
