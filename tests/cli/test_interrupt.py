"""SIGTERM and SIGHUP end a command as Ctrl-C does, and lose neither picture nor checkpoint."""

import itertools
import signal
import time
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

from nst import StyleTransferResult
from nst._engine.picture import OptimizedPicture
from nst.callbacks.checkpoint import read_checkpoint_record
from tests.cli.running import Run, nst_command

pytestmark = pytest.mark.usefixtures("loaded", "folder")
ENDING = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
STYLIZE = "stylize photo.png painting.png -o out.png --steps 9 --quiet"


def raise_in_step(number: int, step: int, patch: pytest.MonkeyPatch, seconds: int = 0) -> None:
    """Let a step receive a signal twice, as `timeout` and a closed terminal send it."""
    take_step, steps = OptimizedPicture.step, itertools.count(1)

    def interrupted(self: OptimizedPicture) -> None:
        if next(steps) == step:
            signal.raise_signal(number)
            if number != signal.SIGINT:
                signal.raise_signal(number)
            for _ in range(10 * seconds):
                time.sleep(0.1)
        take_step(self)

    patch.setattr(OptimizedPicture, "step", interrupted)


@ENDING
@pytest.mark.parametrize("ignored", [False, True])  # as `nohup` does
def test_a_signal_ends_the_run_with_its_picture_unless_it_is_ignored(
    number: int, ignored: bool, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_step(number, 3, monkeypatch)
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        assert nst_command(STYLIZE) == 0
        assert signal.getsignal(number) is (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(number, before)
    assert runs[0].result.stop_reason == ("completed" if ignored else "interrupted")
    assert Path("out.png").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_a_checkpoint_a_run_ends_between_two_steps(
    number: int, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_step(number, 3, monkeypatch)
    assert nst_command(f"{STYLIZE} --checkpoint run.ckpt") == 0
    assert (runs[0].result.stop_reason, runs[0].result.num_steps) == ("interrupted", 3)
    assert read_checkpoint_record("run.ckpt")["steps_done"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_slow_step_is_interrupted(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nst.cli.interrupt._PATIENCE", 0.1)
    raise_in_step(signal.SIGTERM, 3, monkeypatch, seconds=60)
    assert nst_command(f"{STYLIZE} --checkpoint run.ckpt") == 0
    assert runs[0].result.num_steps == 2


def test_a_signal_while_the_picture_is_saved_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    save = StyleTransferResult.save

    @wraps(save)
    def interrupted(*arguments: Any, **options: Any) -> list[Path]:
        signal.raise_signal(signal.SIGTERM)
        return save(*arguments, **options)

    monkeypatch.setattr(StyleTransferResult, "save", interrupted)
    assert nst_command(STYLIZE) == 0
    assert Path("out.png").exists()


def test_before_there_is_a_picture_a_signal_ends_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt = partial(signal.raise_signal, signal.SIGTERM)
    monkeypatch.setattr("nst.cli.build.FeatureExtractor", lambda **_: interrupt())
    assert nst_command(STYLIZE) == 130
    assert not Path("out.png").exists()
