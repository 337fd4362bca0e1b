"""Many runs in one process, several at once, and whatever else the process is set to."""

import copy
import logging
import os
import random
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nst import Style, save_image
from nst.images import load_image
from nst.losses import LOSSES
from nst.testing import check_loss, tiny_extractor
from tests.helpers import PAINTING, PHOTO, fail_at, small

LONG_USE = Path(__file__).parents[2] / "scripts" / "long_use.py"


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_many_runs_leak_nothing() -> None:
    assert runpy.run_path(str(LONG_USE))["main"](runs=40) == 0


@pytest.mark.cpu  # the pretended device is that of one thread
def test_runs_in_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    transfer, path = small(num_steps=4, num_scales=2), save_image(PHOTO, tmp_path / "photo.png")
    jobs: list[Callable[[], Tensor]] = [
        lambda: transfer.run(path, PAINTING).image,
        lambda: transfer.run(PHOTO, PAINTING.flip(-1), init="noise").image,
        lambda: transfer.synthesize(PAINTING, (24, 40), seed=3).image,
        lambda: load_image(path),
    ]
    alone, filters = [job() for job in jobs], list(warnings.filters)
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(lambda job: job(), jobs * 5))
    assert all(torch.equal(*pair) for pair in zip(found, alone * 5, strict=True))
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


def test_a_run_does_not_change_the_settings_of_the_process(tmp_path: Path) -> None:
    transfer, before = small(num_steps=2), settings_of_the_process()
    transfer.run(PHOTO, PAINTING, init="noise", preserve_color="pca").save(tmp_path / "made.png")
    transfer.synthesize(PAINTING, (24, 24))
    transfer.capture(PAINTING, sizes=[32])
    transfer.estimate(PHOTO)
    load_image(tmp_path / "made.png")
    with pytest.raises(ZeroDivisionError):
        transfer.run(PHOTO, PAINTING, callbacks=fail_at(1, ZeroDivisionError()))
    assert settings_of_the_process() == before


@contextmanager
def changed(change: Callable[[Any], None], value: Any, usual: Any) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(usual)


FULL = torch.float32
SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "another default type": lambda: changed(torch.set_default_dtype, torch.float64, FULL),
    "default half precision": lambda: changed(torch.set_default_dtype, torch.bfloat16, FULL),
    "another default device": lambda: changed(torch.set_default_device, "meta", None),
    "deterministic algorithms": lambda: changed(torch.use_deterministic_algorithms, True, False),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "no autocast cache": lambda: torch.autocast("cpu", cache_enabled=False),
    "saved tensors elsewhere": lambda: torch.autograd.graph.save_on_cpu(),
}


@pytest.mark.cpu  # the pretended device has no inference mode
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_process_do_not_change_the_picture(setting: str, tmp_path: Path) -> None:
    transfer = small(num_steps=3, num_scales=2)
    expected = transfer.run(PHOTO, PAINTING).image
    with SETTINGS[setting]():
        image = transfer.run(PHOTO, PAINTING).image
        captured = transfer.capture(PAINTING, sizes=[20, 40])
        loaded = Style.load(captured.save(tmp_path / "style.nst"))
        rotated = transfer.run(PHOTO, Style(PAINTING, rotation=30)).image
        transfer.estimate(PHOTO)
        small(optimizer="adam", num_steps=1).run(PHOTO, PAINTING, init="pink-noise")
        within, copied = small(num_steps=3, num_scales=2), copy.deepcopy(transfer)
    assert image.dtype == torch.float32
    assert torch.equal(image, expected)
    assert torch.equal(transfer.run(PHOTO, captured).image, expected)
    assert torch.equal(transfer.run(PHOTO, loaded).image, expected)
    assert torch.equal(transfer.run(PHOTO, Style(PAINTING, rotation=30)).image, rotated)
    assert torch.equal(within.run(PHOTO, PAINTING).image, expected)
    assert torch.equal(copied.run(PHOTO, PAINTING).image, expected)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", LOSSES)
def test_settings_of_the_process_do_not_change_a_loss_in_own_loops(setting: str, name: str) -> None:
    extractor, loss = tiny_extractor(), LOSSES[name]()
    photo, painting = (torch.nn.functional.interpolate(x, 64) for x in (PHOTO, PAINTING))
    layers = [layer for layer in loss.layers if layer != "image"]
    loss.capture(extractor(painting, layers))
    expected = loss(extractor(photo, layers))
    with SETTINGS[setting]():
        other, network = LOSSES[name](), tiny_extractor()
        other.capture(network(painting, layers))
        found = other(network(photo, layers))
        if name == "GramStyleLoss":
            check_loss(other)
    torch.testing.assert_close(found, expected)
    picture = photo.clone().requires_grad_()
    value = other(network(picture, layers))
    value.backward()
    torch.testing.assert_close(value, expected)
    assert picture.grad is not None and bool(picture.grad.any())
