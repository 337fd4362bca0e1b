"""What every callback and every color method promises, found by discovery."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import Callback, FeatureExtractor, RunState, StyleTransfer, plotting
from nst.color import COLOR_METHODS

CALLBACKS = sorted(
    {
        value
        for module in (nst, plotting)
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name))
        and issubclass(value, Callback)
        and value is not Callback
    },
    key=lambda callback: callback.__name__,
)


@contextmanager
def made(kind: type[Callback], folder: Path) -> Iterator[Callback]:
    """Make a callback, and close it; what it needs can only be a folder to write to."""
    parameters = inspect.signature(kind).parameters.values()
    needed = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    free = {parameter.name: 0 for parameter in parameters if parameter.name == "port"}
    callback = kind(*[folder / "steps" for _ in needed], **free)
    yield callback
    getattr(callback, "close", lambda: None)()


@pytest.fixture(autouse=True)
def _what_callbacks_write_by_default_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)


def test_there_are_callbacks() -> None:
    assert len(CALLBACKS) >= 5


@pytest.mark.parametrize("kind", CALLBACKS)
def test_every_callback_follows_a_run_and_changes_nothing(
    kind: type[Callback],
    extractor: FeatureExtractor,
    photo: Tensor,
    painting: Tensor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transfer = StyleTransfer(extractor, num_steps=3, num_scales=2)
    plain = transfer.run(photo, painting)
    with made(kind, tmp_path) as callback:
        for _ in range(2):  # and can be used again
            followed = transfer.run(photo, painting, callbacks=[callback])
            assert torch.equal(followed.image, plain.image)
            assert followed.history == plain.history
            assert followed.stop_reason == "completed"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", CALLBACKS)
def test_every_callback_comes_through_an_error(
    kind: type[Callback],
    extractor: FeatureExtractor,
    photo: Tensor,
    painting: Tensor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(state: RunState) -> None:
        raise ZeroDivisionError

    transfer = StyleTransfer(extractor, num_steps=3)
    with made(kind, tmp_path) as callback, pytest.raises(ZeroDivisionError):
        transfer.run(photo, painting, callbacks=[callback, fail])
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", COLOR_METHODS)
def test_every_color_method_returns_a_picture_and_changes_none(name: str, when: str) -> None:
    recolor: Any = getattr(COLOR_METHODS[name], when)
    generator = torch.Generator().manual_seed(0)
    image, content = (torch.rand(2, 3, 6, 5, generator=generator) for _ in range(2))
    before = image.clone(), content.clone()
    found = recolor(image, content)
    assert found.shape == image.shape and found.dtype == image.dtype
    assert bool(((found >= 0) & (found <= 1)).all())
    assert torch.equal(image, before[0]) and torch.equal(content, before[1])
    alone = [recolor(image[i : i + 1], content[i : i + 1]) for i in range(2)]
    assert torch.equal(found, torch.cat(alone))
    for flat in (0.0, 0.5, 1.0):
        constant = torch.full_like(image, flat)
        for pair in ((constant, content), (image, constant), (constant, constant)):
            assert bool(recolor(*pair).isfinite().all())
