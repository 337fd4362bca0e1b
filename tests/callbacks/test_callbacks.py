"""What callbacks are told, when, and what they can do to a run."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from torch import Tensor

import nst
import nst.plotting
from nst import (
    Callback,
    EarlyStopping,
    FeatureExtractor,
    LivePage,
    Loss,
    LossHistory,
    ProgressBar,
    RunState,
    SaveImages,
    StyleTransfer,
)
from nst.callbacks.base import as_callbacks
from nst.losses.kinds import Features


class Recorder(Callback):
    """Notes which hook is called, and what the state holds then."""

    def __init__(self, name: str = "", calls: list[str] | None = None) -> None:
        self.name, self.calls = name, [] if calls is None else calls
        self.images: list[Tensor] = []
        self.losses: list[float] = []
        self.state: RunState | None = None

    def on_start(self, state: RunState) -> None:
        self.calls.append(f"{self.name}start")
        self.state = state

    def on_step(self, state: RunState) -> None:
        self.calls.append(f"{self.name}step {state.step}")
        self.images.append(state.image.clone())
        self.losses.append(state.loss)

    def on_end(self, state: RunState) -> None:
        self.calls.append(f"{self.name}end")


class BrightnessLoss(Loss):
    """Calls a function at each evaluation; a copied loss still calls the same one."""

    def __init__(self, called: Callable[[], object]) -> None:
        super().__init__()
        self.called = called

    def forward(self, features: Features) -> Tensor:
        self.called()
        return (features["image"] - 0.25).square().mean()


@pytest.fixture
def transfer(extractor: FeatureExtractor) -> StyleTransfer:
    return StyleTransfer(extractor, num_steps=4)


def interrupt_at(step: int) -> Callable[[RunState], None]:
    def interrupt(state: RunState) -> None:
        if state.step == step:
            raise KeyboardInterrupt

    return interrupt


# Hooks


def test_hooks_are_called_around_the_steps_and_nest(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    calls: list[str] = []
    transfer = replace(transfer, num_steps=2)
    transfer.run(photo, painting, callbacks=[Recorder("a ", calls), Recorder("b ", calls)])
    steps = ["a step 1", "b step 1", "a step 2", "b step 2"]
    assert calls == ["a start", "b start", *steps, "b end", "a end"]


def test_state_tells_the_plan_the_start_and_the_result(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    seen: dict[str, Tensor] = {}
    scales: list[tuple[int, int]] = []

    class Ends(Callback):
        def on_start(self, state: RunState) -> None:
            assert (state.step, state.num_steps, state.num_scales) == (0, 4, 2)
            assert math.isnan(state.loss) and state.losses == {}
            assert state.stop_reason is None
            seen["start"] = state.image.clone()

        def on_step(self, state: RunState) -> None:
            scales.append((state.scale, state.image.shape[-1]))

        def on_end(self, state: RunState) -> None:
            assert state.stop_reason == "completed"
            seen["end"] = state.image.clone()

    transfer = StyleTransfer(extractor, num_steps=4, num_scales=2)
    result = transfer.run(photo, painting, callbacks=[Ends()])
    assert seen["start"].shape == (1, 3, 16, 20)
    assert torch.equal(seen["end"], result.image)
    assert set(scales) == {(0, 20), (1, 40)} and scales == sorted(scales)


def test_a_function_is_called_each_step_and_what_it_returns_is_ignored(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    steps: list[int] = []

    def note(state: RunState) -> bool:
        steps.append(state.step)
        return True

    result = transfer.run(photo, painting, callbacks=[note])
    assert steps == [1, 2, 3, 4]
    assert result.stop_reason == "completed"


@pytest.mark.parametrize("wrong", [ProgressBar, LossHistory, 3, "progress", None])
def test_what_is_no_callback_is_refused_before_any_work(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor, wrong: object
) -> None:
    recorder = Recorder()
    with pytest.raises(TypeError, match=re.escape(repr(wrong))) as caught:
        transfer.run(photo, painting, callbacks=[recorder, wrong])  # type: ignore[list-item]
    assert "must be a Callback (an instance) or a function" in str(caught.value)
    assert recorder.calls == []


def test_a_callback_stays_itself() -> None:
    recorder = Recorder()
    assert as_callbacks(recorder) == as_callbacks([recorder]) == [recorder]


# Ends


def test_stop_ends_the_run_after_the_step_and_the_first_reason_is_kept(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    def stop(reason: str) -> Callable[[RunState], None]:
        return lambda state: state.stop(reason) if state.step == 2 else None

    recorder = Recorder()
    result = transfer.run(photo, painting, callbacks=[stop("enough"), stop("late"), recorder])
    assert recorder.calls == ["start", "step 1", "step 2", "end"]
    assert (result.num_steps, result.stop_reason) == (2, "enough")


def test_stop_on_a_coarse_scale_still_gives_a_result_of_full_size(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = StyleTransfer(extractor, num_steps=4, num_scales=2)
    result = transfer.run(photo, painting, callbacks=[lambda state: state.stop("enough")])
    assert (result.num_steps, result.image.shape) == (1, photo.shape)


def test_stop_before_the_first_step_returns_the_picture_as_it_began(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    class Refuse(Callback):
        def on_start(self, state: RunState) -> None:
            state.stop("not today")

    result = transfer.run(photo, painting, callbacks=[Refuse()])
    assert (result.num_steps, result.stop_reason, result.history) == (0, "not today", {})
    assert torch.equal(result.image, photo)


@pytest.mark.parametrize("hook", ["on_start", "on_step", "on_end"])
def test_every_started_callback_ends_when_another_raises(
    transfer: StyleTransfer,
    photo: Tensor,
    painting: Tensor,
    hook: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(state: RunState) -> None:
        raise ArithmeticError("mine")

    calls: list[str] = []
    failing = Callback()
    monkeypatch.setattr(failing, hook, fail)
    recorders = [Recorder("a ", calls), Recorder("b ", calls)]
    # A run that is over is not lost because somebody could not end well.
    expected = nullcontext() if hook == "on_end" else pytest.raises(ArithmeticError, match="mine")
    with expected:
        transfer.run(photo, painting, callbacks=[recorders[0], failing, recorders[1]])
    assert calls.count("a end") == 1
    assert calls.count("b end") == calls.count("b start") == (hook != "on_start")


def test_ctrl_c_in_a_callback_returns_the_best_picture(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    recorder = Recorder()
    result = transfer.run(photo, painting, callbacks=[recorder, interrupt_at(3)])
    assert (result.num_steps, result.stop_reason) == (3, "interrupted")
    assert recorder.calls[-1] == "end"
    best = recorder.losses.index(min(recorder.losses))
    assert torch.equal(result.image, recorder.images[best])


def test_ctrl_c_in_a_loss_returns_the_best_picture(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    recorder = Recorder()

    def interrupt() -> None:
        if len(recorder.images) == 2:
            raise KeyboardInterrupt

    transfer = StyleTransfer(extractor, {"brightness": BrightnessLoss(interrupt)})
    result = transfer.run(photo, painting, callbacks=[recorder])
    assert (result.num_steps, result.stop_reason) == (2, "interrupted")
    assert recorder.calls[-1] == "end"
    best = recorder.losses.index(min(recorder.losses))
    assert torch.equal(result.image, recorder.images[best])


def test_ctrl_c_before_the_first_score_returns_the_picture_as_it_began(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    transfer = StyleTransfer(extractor, {"brightness": BrightnessLoss(interrupt)})
    result = transfer.run(photo, painting)
    assert (result.num_steps, result.stop_reason) == (0, "interrupted")
    assert torch.equal(result.image, photo)


# Losses


def test_losses_are_named_weighted_detached_and_summed(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    def check(state: RunState) -> None:
        assert list(state.losses) == ["plain", "doubled"]
        plain, doubled = state.losses.values()
        assert not plain.requires_grad and plain.ndim == 0
        assert torch.allclose(doubled, 2 * plain)
        assert state.loss == pytest.approx(3 * float(plain))

    plain, doubled = BrightnessLoss(lambda: None), BrightnessLoss(lambda: None)
    doubled.weight = 2.0
    transfer = StyleTransfer(extractor, {"plain": plain, "doubled": doubled}, num_steps=2)
    transfer.run(photo, painting, callbacks=[check])


def test_loss_history_is_the_history_of_the_result_and_its_total_their_sum(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    history, recorder = LossHistory(), Recorder()
    result = transfer.run(photo, painting, callbacks=[history, recorder])
    assert history.losses == result.history
    assert {name: len(values) for name, values in history.losses.items()} == {
        "content": 4,
        "style": 4,
    }
    assert history.total == pytest.approx(recorder.losses)


# Early stopping


def stops_at(stopping: EarlyStopping, losses: Sequence[float], scale: int = 0) -> int | None:
    """Give the step at which a run with these losses is stopped."""
    state = RunState(torch.zeros(1, 3, 1, 1), num_steps=len(losses), scale=scale)
    state.num_scales = 1 if scale == 0 else 2
    stopping.on_start(state)
    for state.step, loss in enumerate(losses, 1):
        state.losses = {"style": torch.tensor(loss)}
        stopping.on_step(state)
        if state.stop_reason is not None:
            return state.step
    return None


def test_early_stopping_waits_patience_steps_beyond_the_best() -> None:
    losses = [5.0, 4.0, 3.0, 2.0, 2.5, 3.0, 3.5, 4.0]
    assert stops_at(EarlyStopping(patience=3), losses) == 7
    assert stops_at(EarlyStopping(patience=1), losses) == 5


def test_early_stopping_lets_a_falling_loss_be() -> None:
    assert stops_at(EarlyStopping(patience=1), [0.9**i for i in range(40)]) is None


def test_early_stopping_allows_a_rise_within_patience() -> None:
    assert stops_at(EarlyStopping(patience=3), [3, 2, 5, 5, 1, 4, 4, 0.5]) is None


def test_early_stopping_counts_a_drop_over_several_steps() -> None:
    creeping = [0.996**i for i in range(40)]  # 0.4 % a step, 1.2 % in three
    assert stops_at(EarlyStopping(patience=3, min_improvement=0.01), creeping) is None
    assert stops_at(EarlyStopping(patience=2, min_improvement=0.01), creeping) == 3


def test_early_stopping_follows_a_negative_loss_too() -> None:
    falling = [-(1.1**i) for i in range(10)]
    assert stops_at(EarlyStopping(patience=1), falling) is None
    assert stops_at(EarlyStopping(patience=2), [*falling, -2.0, -2.0, -2.0]) == 12


def test_early_stopping_takes_nan_for_no_improvement() -> None:
    assert stops_at(EarlyStopping(patience=2), [1.0, math.nan, math.nan, math.nan]) == 3
    assert stops_at(EarlyStopping(patience=2), [math.nan, 3.0, 2.0, 1.0]) is None


def test_early_stopping_sleeps_until_the_last_scale() -> None:
    stopping = EarlyStopping(patience=1)
    state = RunState(torch.zeros(1, 3, 1, 1), num_steps=9, num_scales=2)
    stopping.on_start(state)
    for state.scale in [0, 0, 0, 0, 1]:
        state.losses = {"style": torch.tensor(1.0)}
        stopping.on_step(state)
    assert state.stop_reason is None
    stopping.on_step(state)
    assert state.stop_reason == "plateau: the loss fell by less than 0.50% in 1 steps"


def test_early_stopping_begins_anew() -> None:
    stopping = EarlyStopping(patience=2)
    assert stops_at(stopping, [1.0, 1.0, 1.0, 1.0]) == 3
    assert stops_at(stopping, [9.0, 9.0, 9.0, 9.0]) == 3


def test_early_stopping_ends_a_run_and_says_why(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    transfer = replace(transfer, num_steps=30)
    stopping = EarlyStopping(patience=2, min_improvement=10.0)
    result = transfer.run(photo, painting, callbacks=[stopping])
    assert (result.num_steps, result.stop_reason.split(":")[0]) == (3, "plateau")


# Progress


def state_of(step: int, plan: Sequence[tuple[int, int]] = ()) -> RunState:
    num_steps = sum(steps for _, steps in plan) or 8
    losses = {"style": torch.tensor(0.25)}
    return RunState(torch.zeros(1, 3, 24, 32), num_steps, step=step, losses=losses, plan=plan)


@pytest.mark.parametrize(("step", "progress"), [(0, 0), (10, 0.25), (20, 0.5), (23, 0.8), (25, 1)])
def test_progress_counts_a_step_by_its_pixels(step: int, progress: float) -> None:
    # 20 steps of one part, 5 of four parts: 40 parts in all.
    assert state_of(step, [(256, 20), (512, 5)]).progress == progress


def test_progress_without_a_plan_counts_steps() -> None:
    assert [state_of(step).progress for step in (0, 2, 8)] == [0, 0.25, 1]
    assert RunState(torch.zeros(1, 3, 1, 1), num_steps=0).progress == 1


class Progress(Callback):
    """Notes the progress at every hook."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_start(self, state: RunState) -> None:
        self.values.append(state.progress)

    on_step = on_end = on_start


def test_the_progress_of_a_run_goes_from_0_to_1(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    progress = Progress()
    transfer = StyleTransfer(extractor, num_steps=4, num_scales=2)
    transfer.run(photo, painting, callbacks=[progress])
    assert progress.values == [0, 1 / 7, 2 / 7, 3 / 7, 1, 1]


class OfTwoSteps(torch.optim.SGD):
    """Cannot go on after two steps, as L-BFGS where there is no way down."""

    stop_reason: str | None = None
    steps = 0

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        self.steps += 1
        self.stop_reason = "no way down" if self.steps == 2 else None
        return closure()


def test_what_stalled_scales_leave_out_is_not_to_be_done(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    progress = Progress()
    transfer = StyleTransfer(
        extractor, num_steps=9, num_scales=2, optimizer=lambda p: OfTwoSteps(p, lr=0.0)
    )
    result = transfer.run(photo, painting, callbacks=[progress])
    assert (result.num_steps, result.stop_reason) == (4, "no way down")
    # Of 5 + 16 parts at first; of 2 + 16 once the first scale is over; of 2 + 8 in the end.
    assert progress.values == [0, 1 / 21, 2 / 21, 6 / 18, 10 / 18, 1]


def test_the_progress_of_a_run_that_is_stopped_stays_where_it_was(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    for stop in (interrupt_at(3), lambda s: s.stop("enough") if s.step == 3 else None):
        progress = Progress()
        transfer = StyleTransfer(extractor, num_steps=4, num_scales=2)
        transfer.run(photo, painting, callbacks=[progress, stop])
        assert progress.values == [0, 1 / 7, 2 / 7, 3 / 7, 3 / 7]


def hide_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "tqdm" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)


def fake_clock(monkeypatch: pytest.MonkeyPatch, times: Sequence[float]) -> None:
    clock: Iterator[float] = iter(times)
    monkeypatch.setattr("nst.callbacks.progress.monotonic", lambda: next(clock))


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_the_time_left_counts_what_each_scale_costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, with_tqdm: bool
) -> None:
    if not with_tqdm:
        hide_tqdm(monkeypatch)
    elif importlib.util.find_spec("tqdm") is None:
        pytest.skip("needs tqdm")
    bar, state = ProgressBar(), state_of(0, [(256, 20), (512, 5)])
    # At the start, and after the steps below: a second for each of the 40 parts.
    fake_clock(monkeypatch, [100.0, 110.0, 120.0, 132.0])
    bar.on_start(state)
    for state.step, left in [(10, "30 s"), (20, "20 s"), (23, "8 s")]:
        bar.on_step(state)
        if with_tqdm:
            bar._bar.refresh()  # which it does by itself only ten times a second
        shown = capsys.readouterr().err.split("\r")[-1]
        assert re.search(f"32x24: +{state.progress:.0%}", shown)
        assert f"{state.step}/25 steps, {left} left, loss=0.25" in shown
    state.stop("enough")
    bar.on_end(state)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "23/25 steps, loss=0.25" in last and last.endswith("\n")


def test_the_time_left_of_a_resumed_run_is_told_from_its_own_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_tqdm(monkeypatch)
    fake_clock(monkeypatch, [0.0, 10.0])
    bar, state = ProgressBar(), state_of(4)
    bar.on_resume(state, {})
    state.step = 5
    bar.on_step(state)
    assert "5/8 steps, 30 s left" in capsys.readouterr().err


def test_a_bar_that_gets_shorter_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_tqdm(monkeypatch)
    fake_clock(monkeypatch, [0.0, 1000.0, 1000.0])
    bar, state = ProgressBar(), state_of(1)
    bar.on_start(state)
    bar.on_step(state)
    state.stop("enough")
    bar.on_step(state)
    _, first, second = capsys.readouterr().err.split("\r")
    assert "1.9 h left" in first and "left" not in second
    assert len(second) >= len(first.rstrip()) > len(second.rstrip())


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_goes_to_standard_error_and_closes(
    transfer: StyleTransfer,
    photo: Tensor,
    painting: Tensor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    with_tqdm: bool,
) -> None:
    if not with_tqdm:
        hide_tqdm(monkeypatch)
    elif importlib.util.find_spec("tqdm") is None:
        pytest.skip("needs tqdm")
    result = transfer.run(photo, painting, callbacks=[ProgressBar()])
    out, err = capsys.readouterr()
    assert out == ""
    last = err.split("\r")[-1]
    assert last.endswith("\n")
    assert "40x32" in last and "4/4" in last
    total = sum(values[-1] for values in result.history.values())
    assert f"loss={total:.4g}" in last


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_closes_after_an_early_end(
    transfer: StyleTransfer,
    photo: Tensor,
    painting: Tensor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    with_tqdm: bool,
) -> None:
    if not with_tqdm:
        hide_tqdm(monkeypatch)
    elif importlib.util.find_spec("tqdm") is None:
        pytest.skip("needs tqdm")
    transfer.run(photo, painting, callbacks=[ProgressBar(), interrupt_at(2)])
    last = capsys.readouterr().err.split("\r")[-1]
    assert "2/4" in last and last.endswith("\n")


# Pictures on the way


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_save_images_every_few_steps_and_the_result(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "steps"
    transfer = replace(transfer, num_steps=5)
    result = transfer.run(photo, painting, callbacks=[SaveImages(folder, every=2)])
    assert names(folder) == ["step-0002.png", "step-0004.png", "step-0005.png"]
    assert {size_of(path) for path in folder.iterdir()} == {(40, 32)}
    saved = nst.load_image(folder / "step-0005.png")
    assert torch.allclose(saved, result.image, atol=0.51 / 255)


def test_save_images_into_an_existing_folder_leaves_other_files(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    transfer.run(photo, painting, callbacks=[SaveImages(tmp_path, every=4)])
    assert names(tmp_path) == ["mine.txt", "step-0004.png"]


def test_save_images_puts_a_batch_side_by_side(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    batch = torch.cat([photo, 1 - photo, photo])
    result = transfer.run(batch, painting, callbacks=[SaveImages(tmp_path, every=3)])
    row = torch.cat(list(result.image[:, None]), dim=-1)
    saved = nst.load_image(tmp_path / "step-0004.png")
    assert saved.shape == (1, 3, 32, 120)
    assert torch.allclose(saved, row, atol=0.51 / 255)


def test_save_images_of_coarse_scales_are_as_small_as_they_were(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    transfer = StyleTransfer(extractor, num_steps=2, num_scales=2)
    transfer.run(photo, painting, callbacks=[SaveImages(tmp_path, every=1)])
    assert size_of(tmp_path / "step-0001.png") == (20, 16)
    assert size_of(tmp_path / "step-0002.png") == (40, 32)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
def test_an_animation_goes_from_the_start_to_the_result_at_one_size(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"evolution{suffix}"
    transfer = StyleTransfer(extractor, num_steps=4, num_scales=2)
    callback = SaveImages(path, every=2, frame_ms=80)
    transfer.run(photo, painting, callbacks=[callback])
    shown, sizes = 0, set()
    with Image.open(path) as animation:
        assert animation.is_animated  # type: ignore[attr-defined]
        assert animation.info["loop"] == 0
        for i in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(i)
            animation.load()
            sizes.add(animation.size)
            shown += animation.info["duration"]
    assert sizes == {(40, 32)}
    assert shown == 4 * 80  # start, steps 2 and 4, result; Pillow merges equal neighbors
    assert names(tmp_path) == [path.name]


def test_an_animation_has_a_frame_for_each_picture_that_differs(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "evolution.gif"
    transfer = replace(transfer, num_steps=5)
    transfer.run(photo, 1 - painting, init="noise", callbacks=[SaveImages(path, every=2)])
    with Image.open(path) as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]  # start, 2, 4, result


def test_an_interrupted_run_leaves_the_pictures_so_far(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    folder, path = tmp_path / "steps", tmp_path / "evolution.gif"
    transfer.run(
        photo,
        painting,
        callbacks=[SaveImages(folder, every=2), SaveImages(path, every=1), interrupt_at(3)],
    )
    assert names(folder) == ["step-0002.png", "step-0003.png"]
    assert size_of(path) == (40, 32)
    assert names(tmp_path) == ["evolution.gif", "steps"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("file", NotADirectoryError),
        ("file/steps", NotADirectoryError),
        ("nowhere/evolution.gif", FileNotFoundError),
        ("folder.gif", IsADirectoryError),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_step(
    transfer: StyleTransfer,
    photo: Tensor,
    painting: Tensor,
    tmp_path: Path,
    path: str,
    error: type[OSError],
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.gif").mkdir()
    recorder = Recorder()
    with pytest.raises(error, match=re.escape(path)):
        transfer.run(photo, painting, callbacks=[recorder, SaveImages(tmp_path / path)])
    assert recorder.calls == ["start", "end"]
    assert names(tmp_path) == ["file", "folder.gif"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_animation_leaves_the_old_one_and_no_partial_file(
    transfer: StyleTransfer,
    photo: Tensor,
    painting: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "evolution.gif"
    path.write_bytes(b"old")

    def fail(self: Image.Image, fp: io.BytesIO, **options: object) -> None:
        fp.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    result = transfer.run(photo, painting, callbacks=[SaveImages(path)])
    assert result.stop_reason == "completed"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["evolution.gif"]


# Arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(patience=0), "`patience` is 0; it must be at least 1."),
        (
            lambda: EarlyStopping(min_improvement=-0.1),
            "`min_improvement` is -0.1; it must be finite and not negative.",
        ),
        (lambda: EarlyStopping(min_improvement=math.nan), "`min_improvement` is nan"),
        (lambda: SaveImages(every=0), "`every` is 0; it must be at least 1."),
        (lambda: SaveImages(frame_ms=0), "`frame_ms` is 0; it must be at least 1."),
        (lambda: nst.plotting.LiveDisplay(every=0), "`every` is 0; it must be at least 1."),
    ],
)
def test_a_wrong_argument_is_named(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# One contract for all


CALLBACKS = sorted(
    {
        value
        for module in (nst, nst.plotting)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Callback)
    },
    key=lambda kind: kind.__name__,
)


def test_the_contract_covers_the_callbacks() -> None:
    assert {"EarlyStopping", "LiveDisplay", "LossHistory", "ProgressBar", "SaveImages"} <= {
        kind.__name__ for kind in CALLBACKS
    }


@pytest.mark.parametrize("kind", CALLBACKS, ids=lambda kind: kind.__name__)
def test_every_callback_has_defaults_serves_two_runs_and_changes_neither(
    kind: type[Callback],
    transfer: StyleTransfer,
    photo: Tensor,
    painting: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    callback = kind()
    if isinstance(callback, LivePage):  # the usual port may be taken by another program
        callback = LivePage(port=0)
    returned: list[object] = []

    class Wrapped(Callback):
        def on_start(self, state: RunState) -> None:
            returned.append(callback.on_start(state))  # type: ignore[func-returns-value]

        def on_step(self, state: RunState) -> None:
            returned.append(callback.on_step(state))  # type: ignore[func-returns-value]

        def on_end(self, state: RunState) -> None:
            returned.append(callback.on_end(state))  # type: ignore[func-returns-value]

    alone = transfer.run(photo, painting)
    for _ in range(2):
        result = transfer.run(photo, painting, callbacks=[Wrapped()])
        assert (result.num_steps, result.stop_reason) == (4, "completed")
        assert torch.equal(result.image, alone.image)
    assert returned == [None] * 12
    assert plt.get_fignums() == []
