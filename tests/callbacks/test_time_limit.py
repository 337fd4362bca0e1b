"""`TimeLimit`: a run ends in time."""

import pytest

from nst import RunState, TimeLimit
from nst.callbacks import time_limit
from tests.helpers import paint


def test_the_run_ends_after_the_step_that_passes_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([3.0, 9.9, 10.5])

    def set_start(state: RunState) -> None:
        state.started = 100.0 - next(ends)

    monkeypatch.setattr(time_limit, "perf_counter", lambda: 100.0)
    result = paint(num_steps=6, callbacks=[set_start, TimeLimit(10)])
    assert result.num_steps == 3
    assert result.stop_reason == "time limit of 10 s"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="`seconds` is"):
        TimeLimit(seconds)
