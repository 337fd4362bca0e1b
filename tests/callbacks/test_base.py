"""When callbacks are called, what the state holds then, and how they can end a run."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import Callback, EarlyStopping, LivePage, Loss, LossHistory, RunState, SaveImages
from nst.losses.base import Features
from tests.callbacks.conftest import interrupt_at, paint, state_at
from tests.helpers import PHOTO, Recorder, hooked, raising, stop_at


class BrightnessLoss(Loss):
    """Calls a function at each evaluation; a copied loss still calls the same one."""

    def __init__(self, called: Callable[[], object] = lambda: None, weight: float = 1.0) -> None:
        super().__init__()
        self.called, self.weight = called, weight

    def forward(self, features: Features) -> Tensor:
        self.called()
        return (features["image"] - 0.25).square().mean()


def test_hooks_nest_around_the_steps_and_what_a_function_returns_is_ignored() -> None:
    calls: list[str] = []
    paint(Recorder("a ", calls), Recorder("b ", calls), num_steps=2)
    steps = ["a step 1", "b step 1", "a step 2", "b step 2"]
    assert calls == ["a start", "b start", *steps, "b end", "a end"]
    seen: dict[int, bool] = {}
    assert paint(lambda state: seen.setdefault(state.step, True)).stop_reason == "completed"
    assert list(seen) == [1, 2, 3, 4]


def test_the_state_has_the_plan_the_initial_picture_and_the_result() -> None:
    recorder, scales = Recorder(), list[tuple[int, int]]()

    def start(state: RunState) -> None:
        assert (state.step, state.num_steps, state.num_scales) == (0, 4, 2)
        assert math.isnan(state.loss) and state.losses == {}
        assert state.stop_reason is None

    step = hooked(on_start=start, on_step=lambda s: scales.append((s.scale, s.image.shape[-1])))
    result = paint(step, recorder, num_scales=2)
    assert recorder.reason == "completed" and recorder.images[0].shape == (1, 3, 16, 20)
    assert torch.equal(recorder.images[-1], result.image)
    assert set(scales) == {(0, 20), (1, 40)} and scales == sorted(scales)


@pytest.mark.parametrize("wrong", [nst.ProgressBar, LossHistory, 3, "progress", None])
def test_an_object_that_is_not_a_callback_is_refused_before_any_work(wrong: object) -> None:
    recorder = Recorder()
    with pytest.raises(TypeError, match=re.escape(repr(wrong))) as caught:
        paint(recorder, wrong)
    assert "must be a Callback (an instance) or a function" in str(caught.value)
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [
        (EarlyStopping, {"patience": 0}, ValueError, "`patience` is 0; it must be at least 1."),
        (EarlyStopping, {"min_improvement": -1.0}, ValueError, "is -1.0; it must be finite and"),
        (LivePage, {"port": 65536}, ValueError, "`port` is 65536; it must be at most 65535."),
        (LivePage, {"every": 0}, ValueError, "`every` is 0; it must be at least 1."),
        (LivePage, {"host": ""}, ValueError, "`host` is empty. Name an address, such as '127."),
        (SaveImages, {"every": 0}, ValueError, "`every` is 0; it must be at least 1."),
        (SaveImages, {"frame_ms": 0}, ValueError, "`frame_ms` is 0; it must be at least 1."),
        (SaveImages, {"path": "a.png"}, ValueError, "`path` is 'a.png', which is neither a folder"),
        (SaveImages, {"path": "%04d.png"}, ValueError, "`path` is '%04d.png', a pattern. Name a"),
    ],
)
def test_a_wrong_argument_is_refused(
    kind: type[Callback], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        kind(**arguments)


def test_the_history_is_that_of_the_result_and_losses_are_named_weighted_and_summed() -> None:
    history, recorder = LossHistory(), Recorder()
    result = paint(history, recorder)
    assert history.losses == result.history
    assert [*map(len, history.losses.values())] == [4, 4]
    assert history.total == pytest.approx(recorder.losses)

    def check(state: RunState) -> None:
        assert list(state.losses) == ["plain", "doubled"]
        plain, doubled = state.losses.values()
        assert not plain.requires_grad and plain.ndim == 0
        assert torch.allclose(doubled, 2 * plain)
        assert state.loss == pytest.approx(3 * float(plain))

    paint(check, losses={"plain": BrightnessLoss(), "doubled": BrightnessLoss(weight=2.0)})


def test_stop_ends_the_run_after_the_step_for_the_first_reason() -> None:
    recorder = Recorder()
    result = paint(stop_at(2), stop_at(2, "late"), recorder)
    assert recorder.calls == ["start", "step 1", "step 2", "end"]
    assert (result.num_steps, result.stop_reason) == (2, "enough")


def test_stop_before_the_first_step_returns_the_initial_picture(photo: Tensor) -> None:
    result = paint(hooked(on_start=lambda state: state.stop("not today")))
    assert (result.num_steps, result.stop_reason, result.history) == (0, "not today", {})
    assert torch.equal(result.image, photo)


@pytest.mark.parametrize("where", ["callback", "loss"])
def test_ctrl_c_returns_the_best_picture(where: str) -> None:
    recorder = Recorder()

    def interrupt() -> None:
        if where == "loss" and len(recorder.losses) == 3:
            raise KeyboardInterrupt

    interrupting = interrupt_at(3 if where == "callback" else 0)
    result = paint(recorder, interrupting, losses={"bright": BrightnessLoss(interrupt)})
    assert (result.num_steps, result.stop_reason) == (3, "interrupted")
    assert recorder.calls[-1] == "end"
    best = recorder.losses.index(min(recorder.losses))
    assert torch.equal(result.image, recorder.images[1 + best])
    # In the first evaluation, it returns the initial picture.
    result = paint(losses={"brightness": BrightnessLoss(raising(KeyboardInterrupt))})
    assert (result.num_steps, result.stop_reason) == (0, "interrupted")
    assert torch.equal(result.image, PHOTO)


def test_progress_weighs_a_step_by_its_pixels_and_counts_steps_without_a_plan() -> None:
    # 20 steps of one unit and 5 of four units: 40 units in total.
    plan = ((256, 20), (512, 5))
    assert [state_at(step, plan).progress for step in (0, 10, 20, 23, 25)] == [0, 0.25, 0.5, 0.8, 1]
    assert [state_at(step).progress for step in (0, 2, 8)] == [0, 0.25, 1]
    assert RunState(torch.zeros(1, 3, 1, 1), num_steps=0).progress == 1


def test_the_time_left_assumes_the_mean_speed_since_the_start_or_the_resumption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nst.callbacks.base.time.perf_counter", lambda: 130.0)
    state = state_at(0, ((256, 20), (512, 5)))
    state.started = 100.0
    assert state.eta is None
    state.step = 10  # a quarter of the work
    assert state.elapsed == 30 and state.eta == pytest.approx(90)
    resumed = replace(state, earlier=1000.0)
    assert resumed.eta is None
    resumed.step = 20  # another quarter
    assert resumed.elapsed == 1030 and resumed.eta == pytest.approx(60)


def test_progress_goes_from_0_to_1_or_stays_and_steps_that_are_left_out_do_not_count() -> None:
    whole = [0, 1 / 7, 2 / 7, 3 / 7, 1, 1]
    ended = [*whole[:4], 3 / 7]
    for end, expected in ((stop_at(0), whole), (interrupt_at(3), ended), (stop_at(3), ended)):
        recorder = Recorder()
        paint(recorder, end, num_scales=2)
        assert recorder.progress == expected
    recorder = Recorder()
    result = paint(recorder, num_steps=9, num_scales=2, optimizer=lambda p: OfTwoSteps(p, lr=0.0))
    assert (result.num_steps, result.stop_reason) == (4, "no way down")
    # 5 + 16 units at first; 2 + 16 when the first scale stalls; 2 + 8 when the second does.
    assert recorder.progress == [0, 1 / 21, 2 / 18, 6 / 18, 1, 1]


class OfTwoSteps(torch.optim.SGD):
    """Cannot continue after two steps, like L-BFGS without a descent direction."""

    stop_reason: str | None = None
    steps = 0

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        self.steps += 1
        self.stop_reason = "no way down" if self.steps == 2 else None
        return closure()
