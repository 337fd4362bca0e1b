import importlib.util
import io
import logging
import re
import sys

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


def set_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("nst.callbacks.base.time.perf_counter", lambda: seconds)


def test_the_time_left_accounts_for_the_cost_of_each_scale(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, with_tqdm: bool
) -> None:
    bar, state = ProgressBar(), state_at(0, ((256, 20), (512, 5)))
    state.started = 100.0
    bar.on_start(state)
    # One second for each of the 40 units.
    for state.step, now, left in [(10, 110, "30 s"), (20, 120, "20 s"), (23, 132, "8 s")]:
        set_time(monkeypatch, now)
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
def test_a_shorter_line_overwrites_a_longer_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bar, state = ProgressBar(), state_at(0)
    set_time(monkeypatch, state.started + 1000.0)
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
