"""The history of losses."""

from __future__ import annotations

import pytest

from nst import LossHistory
from tests.callbacks.conftest import Paint, Recorder


def test_the_history_equals_that_of_the_result_and_its_total_the_sums(paint: Paint) -> None:
    history, recorder = LossHistory(), Recorder()
    result = paint(history, recorder)
    assert history.losses == result.history
    assert {name: len(values) for name, values in history.losses.items()} == {
        "content": 4,
        "style": 4,
    }
    assert history.total == pytest.approx(recorder.losses)
