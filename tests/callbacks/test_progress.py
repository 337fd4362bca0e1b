import importlib.util
import io
import logging
import re
import sys
from collections.abc import Sequence

import pytest

from nst import ProgressBar
from tests.callbacks.conftest import interrupt_at, paint, state_at
from tests.helpers import Unwritable


@pytest.fixture
def without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tqdm" else find(name)
    )


@pytest.fixture(params=["tqdm", "plain"])
def with_tqdm(request: pytest.FixtureRequest) -> bool:
    if request.param == "plain":
        request.getfixturevalue("without_tqdm")
    elif importlib.util.find_spec("tqdm") is None:
        pytest.skip("needs tqdm")
    return bool(request.param == "tqdm")


def set_clock(monkeypatch: pytest.MonkeyPatch, times: Sequence[float]) -> None:
    clock = iter(times)
    monkeypatch.setattr("nst.callbacks.progress.monotonic", lambda: next(clock))


def test_the_time_left_accounts_for_the_cost_of_each_scale(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, with_tqdm: bool
) -> None:
    bar, state = ProgressBar(), state_at(0, ((256, 20), (512, 5)))
    # At the start and after the steps below: one second for each of the 40 units.
    set_clock(monkeypatch, [100.0, 110.0, 120.0, 132.0])
    bar.on_start(state)
    for state.step, left in [(10, "30 s"), (20, "20 s"), (23, "8 s")]:
        bar.on_step(state)
        if with_tqdm:
            bar._bar.refresh()  # tqdm itself does so only ten times a second
        shown = capsys.readouterr().err.split("\r")[-1]
        assert re.search(f"32x24: +{state.progress:.0%}", shown)
        assert f"{state.step}/25 steps, {left} left, loss=0.25" in shown
    state.stop("enough")
    bar.on_end(state)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "23/25 steps, loss=0.25" in last and last.endswith("\n")


@pytest.mark.usefixtures("without_tqdm")
def test_the_time_left_of_a_resumed_run_is_estimated_from_its_own_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, [0.0, 10.0])
    bar, state = ProgressBar(), state_at(4)
    bar.on_resume(state, {})
    state.step = 5
    bar.on_step(state)
    assert "5/8 steps, 30 s left" in capsys.readouterr().err


@pytest.mark.usefixtures("without_tqdm")
def test_a_shorter_line_overwrites_a_longer_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, [0.0, 1000.0, 1000.0])
    bar, state = ProgressBar(), state_at(0)
    bar.on_start(state)
    state.step = 1
    bar.on_step(state)
    state.stop("enough")
    bar.on_step(state)
    _, first, second = capsys.readouterr().err.split("\r")
    assert "1.9 h left" in first and "left" not in second
    assert len(second) >= len(first.rstrip()) > len(second.rstrip())


@pytest.mark.usefixtures("with_tqdm")
@pytest.mark.parametrize("steps", [2, 4])
def test_the_bar_is_shown_on_standard_error_and_closed_at_any_end(
    capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    result = paint(ProgressBar(), interrupt_at(steps if steps < 4 else 0))
    out, err = capsys.readouterr()
    last = err.split("\r")[-1]
    assert out == "" and last.endswith("\n")
    assert "40x32" in last and f"{steps}/4" in last
    total = sum(values[-1] for values in result.history.values())
    assert f"loss={total:.4g}" in last


@pytest.mark.usefixtures("with_tqdm")
@pytest.mark.parametrize("stream", ["missing", "closed", "broken", "broken later"])
def test_a_stream_that_cannot_be_written_silences_the_bar_and_not_the_run(
    stream: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = io.StringIO()
    closed.close()
    streams = {"missing": None, "closed": closed, "broken": Unwritable()}
    bar = ProgressBar()
    monkeypatch.setattr(sys, "stderr", streams.get(stream, Unwritable(after=3)))
    assert paint(bar).num_steps == 4
    if stream != "closed":  # which tqdm itself ignores
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("ProgressBar shows nothing more of this run (")
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    paint(bar)
    assert "4/4" in shown.getvalue()
