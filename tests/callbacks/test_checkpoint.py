"""A run resumes from its checkpoint as if it had never been interrupted."""

import errno
import itertools
import logging
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import Checkpoint, GramStyleLoss, RunState, Style, StyleTransfer, StyleTransferResult
from nst._engine.picture import OptimizedPicture
from nst._utils.device import generators_restored
from nst._utils.files import reserve
from nst._utils.plain import hash_values
from nst.callbacks.base import CallbackLike, as_callbacks
from nst.callbacks.checkpoint import read_checkpoint_record
from nst.images import read_record
from nst.optim import OptimizerLike
from nst.testing import tiny_extractor
from tests.cli.running import nst_command
from tests.helpers import (
    PAINTING,
    PHOTO,
    Recorder,
    assert_same,
    at_step,
    fail_at,
    in_turn,
    names,
    picture,
    places_in,
    raising,
)

STEPS = 9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.ckpt"


class PowerCut(BaseException):
    """The process is gone."""


class CutLast(nst.Callback):
    """Ends the run by an error after a step, after everybody else has seen the step."""

    called_last = True

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, state: RunState) -> None:
        if state.step == self.step:
            raise PowerCut


def transfer(**arguments: Any) -> StyleTransfer:
    losses = {
        "content": nst.ContentLoss(["relu2_1"], weight=0.1),
        "style": GramStyleLoss({"relu1_1": 0.3, "relu2_1": 0.7}),
    }
    settings = {"num_steps": STEPS, "num_scales": 2, "losses": losses, **arguments}
    return StyleTransfer(tiny_extractor(), **settings)


def repainting(**arguments: Any) -> Callable[..., StyleTransferResult]:
    return partial(transfer(**arguments).run, PHOTO, PAINTING)


Run = Callable[..., StyleTransferResult]


def cut(run: Run, path: Path, every: int, *callbacks: CallbackLike) -> None:
    """Make a run that stores checkpoints until a callback ends it as a power cut would."""
    with pytest.raises(PowerCut):
        run(callbacks=[Checkpoint(path, every), *callbacks])


def cut_and_resume(run: Run, path: Path, step: int, **given: Any) -> StyleTransferResult:
    cut(run, path, step, CutLast(step))
    return resume(path, **given)


def resume(path: Path, **given: Any) -> StyleTransferResult:
    return StyleTransfer.resume(path, **{"extractor": tiny_extractor(), **given})


def sgd(params: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.5, momentum=0.9)


class Halting(torch.optim.SGD):
    """An optimizer of the user's: too fast, and done after some steps."""

    def __init__(self, params: list[Tensor]) -> None:
        super().__init__(params, lr=40.0)

    @property
    def stop_reason(self) -> str | None:
        return "had enough" if self.steps == 3 else None

    @property
    def steps(self) -> int:
        found: int = self.state[self.param_groups[0]["params"][0]].get("steps", 0)
        return found

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.state[self.param_groups[0]["params"][0]]["steps"] = self.steps + 1
        return loss


OPTIMIZERS: dict[str, OptimizerLike] = {
    "lbfgs": "lbfgs",
    "adam": "adam",
    "sgd": sgd,
    "plain_lbfgs": lambda params: torch.optim.LBFGS(params, max_iter=2, history_size=3),
    # Clamped after a step, it is moved by somebody else and has to begin anew.
    "unbounded": lambda params: nst.BoundedLBFGS(params, bounds=None, first_step=0.5),
    "halting": Halting,
    "nadam": lambda params: torch.optim.NAdam(params, lr=0.02),
}


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_cut_after_any_step_ends_with_the_same_bits(name: str, step: int, path: Path) -> None:
    optimizer = OPTIMIZERS[name]
    run = repainting(optimizer=optimizer, average=0.9 if step % 2 else 0.0)
    given: dict[str, Any] = {} if isinstance(optimizer, str) else {"optimizer": optimizer}
    whole = run()
    if step <= whole.num_steps:
        assert_same(cut_and_resume(run, path, step, **given), whole)


SKY = torch.zeros(1, 3, 32, 40)
SKY[..., :16, :] = 1


def test_a_run_resumes_with_all_its_options(path: Path) -> None:
    photos, other = torch.cat([PHOTO, picture(32, 40, 4)]), picture(30, 30, 3)
    masked = Style(other, 0.3, SKY, other.round()[:, :1], 0.8, 30)
    every_options: list[dict[str, Any]] = [
        {},
        {"where": SKY, "strength": 0.7},
        {"where": torch.ones_like(SKY)},
        {"preserve_color": "luminance", "color_when": "both"},
        {"preserve_color": "symmetric", "color_when": "before"},
        {"preserve_color": "luminance"},
        {"init": "pink-noise", "seed": 3},
        {"init": "style"},
        {"init": photos.flip(-1)},
    ]
    regions = [Style(PAINTING, 0.7, region=SKY), masked, Style(PAINTING)]
    every_style: list[Any] = [PAINTING, regions, [Style(PAINTING), other]]
    for options, style in itertools.product(every_options, every_style):
        run = partial(transfer(num_steps=4).run, photos, style, **options)
        assert_same(cut_and_resume(run, path, 2), run())


def test_a_run_resumes_without_its_input_files(path: Path) -> None:
    clear = torch.ones(1, 32, 40)
    clear[..., :20] = 0
    photo, painting = path.with_name("photo.png"), path.with_name("painting.png")
    nst.save_image(PHOTO, photo, alpha=clear)
    nst.save_image(PAINTING, painting)
    run = partial(transfer().run, photo, painting, where="alpha")
    whole = run()
    cut(run, path, 2, fail_at(5, PowerCut()))
    photo.unlink()
    painting.unlink()
    assert_same(resume(path), whole)
    # Nothing tells whose machine it was; pictures of 8 bits take no more than that.
    content = path.read_bytes()
    assert str(path.parent).encode() not in content and b"photo.png" in content
    # 14 pictures in 32 bits: pixels and best, and two for each of the five pairs and the gradient.
    assert len(content) < 32 * 40 * 3 * 4 * 14


def test_captured_styles_and_textures_resume(path: Path) -> None:
    captured = transfer().capture(PAINTING, sizes=[20, 40])
    for style in (captured, Style.load(captured.save(path.with_name("style.nst")), region=SKY)):
        repaint = partial(transfer().run, PHOTO, [style, style], init="noise")
        assert_same(cut_and_resume(repaint, path, 3), repaint())
    synthesize = partial(transfer(num_steps=4).synthesize, PAINTING, (20, 24), seed=5)
    assert_same(cut_and_resume(synthesize, path, 2), synthesize())


class Jumpy(nst.TotalVariationLoss):
    """A loss of the user's: it draws from the global generator, and counts in a buffer."""

    reference = "content"
    count: Tensor
    factor: Tensor

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("factor", torch.ones(()), persistent=False)

    def capture(self, *_: object) -> None:
        self.factor = torch.rand(())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        self.count += 1
        noise = torch.rand(()) * 0.1 + self.factor * torch.sin(self.count)
        return super().forward(features).double() * (2 + noise)


@pytest.mark.float64
@pytest.mark.parametrize("step", [4, 5, STEPS])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_loss_resumes_with_its_noise_and_buffers(optimizer: str, step: int, path: Path) -> None:
    losses = {"style": GramStyleLoss(["relu1_1"]), "jumpy": Jumpy()}
    run = repainting(losses=losses, optimizer=optimizer)
    torch.manual_seed(3)
    whole = run()
    torch.manual_seed(3)
    cut(run, path, step, CutLast(step))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert_same(resume(path, losses=losses), whole)

    @contextmanager
    def drawing() -> Iterator[None]:
        with generators_restored(torch.device("cpu")):
            torch.rand(1)
            yield

    in_turn(drawing(), drawing())
    assert torch.equal(torch.get_rng_state(), before)


class FailsAt(Jumpy):
    """Becomes NaN for pictures that are dark, after some steps."""

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        self.count += 1
        loss = nst.TotalVariationLoss.forward(self, features)
        dark = features["image"].mean() < 0.3 and self.count > 2
        return loss * float("nan") if dark else loss


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 8])
def test_a_batch_with_a_failed_picture_resumes(step: int, path: Path) -> None:
    losses = {"style": GramStyleLoss(["relu1_1"], weight=0.1), "fails": FailsAt(1e-3)}
    made = transfer(losses=losses, optimizer="adam", average=0.9, num_steps=8)
    run = partial(made.run, torch.cat([PHOTO * 0.2, PHOTO]), PAINTING)
    before, after = Recorder(), Recorder()
    whole = run(callbacks=before)
    assert "diverged" in whole.stop_reason
    cut(run, path, step, CutLast(step))
    assert_same(resume(path, losses=losses, callbacks=after), whole)
    assert len(after.losses) == len(before.losses) - step
    pairs = zip(after.images[1:], before.images[1 + step :], strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


class Counting(nst.Callback):
    """A callback of the user's that knows of every step."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.best = torch.zeros(())

    def on_step(self, state: RunState) -> None:
        self.steps.append(state.step)
        self.best = state.image.mean()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "best": self.best}

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        self.steps, self.best = kept["steps"], kept["best"]


def test_callbacks_resume_with_their_state(path: Path) -> None:
    run = repainting()
    history, counting, late = nst.LossHistory(), Counting(), nst.EarlyStopping(patience=1)
    cut(run, path, 4, nst.LossHistory(), Counting(), CutLast(6))
    resume(path, callbacks=[counting, history, late])
    assert history.losses == run().history
    assert counting.steps == list(range(1, STEPS + 1))


def steps_done(path: Path) -> int:
    return int(read_checkpoint_record(path)["steps_done"])


def test_ctrl_c_leaves_the_last_checkpoint_and_a_resumed_run_is_stored_in_it(path: Path) -> None:
    stopped = repainting()(callbacks=[Checkpoint(path, 2), fail_at(5, KeyboardInterrupt())])
    assert stopped.stop_reason == "interrupted" and steps_done(path) == 4
    done: list[int] = []
    resumed = resume(path, callbacks=lambda _: done.append(steps_done(path)))
    assert done == [4, 4, 6, 6, 8]  # before it is written, in the same step
    assert steps_done(path) == STEPS and resumed.seconds > 0
    assert_same(resumed, repainting()())


@pytest.mark.parametrize("steps", [STEPS, 2 * STEPS])
def test_an_unfinished_run_is_not_replaced_by_another(steps: int, kept: Path) -> None:
    before, counting = kept.read_bytes(), Counting()
    with pytest.raises(ValueError, match=r"holds an unfinished run\. Resume it with"):
        repainting(num_steps=steps)(callbacks=[Checkpoint(kept, 1), counting])
    cut(repainting(), kept.with_name("b"), 2, CutLast(2))
    with pytest.raises(ValueError, match="holds an unfinished run"):  # nor by one that is resumed
        resume(kept.with_name("b"), callbacks=Checkpoint(kept))
    again, broken = Checkpoint(kept, 1), Counting()
    vars(broken)["on_resume"] = raising(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):  # before the checkpoint is started
        resume(kept, callbacks=[broken, again])
    with pytest.raises(ValueError, match="holds an unfinished run"):
        repainting(num_steps=steps)(callbacks=again)
    assert kept.read_bytes() == before and counting.steps == []
    resume(kept)
    repainting(num_steps=steps)(callbacks=[Checkpoint(kept), fail_at(3, KeyboardInterrupt())])
    assert read_checkpoint_record(kept)["num_steps"] == STEPS  # replaced by the first write


def test_two_runs_cannot_share_a_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[Checkpoint] = []

    def run_again(state: RunState) -> None:
        for checkpoint in (Checkpoint(path), shared):
            with pytest.raises(BlockingIOError, match="another run is using"):
                repainting()(callbacks=checkpoint)
            refused.append(checkpoint)

    shared = Checkpoint(path, 100)
    repainting()(callbacks=[at_step(2, run_again), shared])
    repainting()(callbacks=shared)
    assert len(refused) == 2 and names(path.parent) == ["run.ckpt"]
    # Where nothing can be locked, a run goes on.
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    repainting()(callbacks=Checkpoint(path))
    assert names(path.parent) == ["run.ckpt"]


def reserve_and_wait(path: Path, reserved: Any) -> None:
    reserve(path)
    reserved.set()
    time.sleep(60)


def test_what_a_killed_run_reserved_is_free(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    reserved = context.Event()
    process = context.Process(target=reserve_and_wait, args=(path, reserved))
    process.start()
    assert reserved.wait(60)
    with pytest.raises(BlockingIOError):
        reserve(path)
    process.kill()
    process.join()
    reserve(path)()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("scales", [1, 2])
def test_a_stalled_scale_is_stored(scales: int, path: Path) -> None:
    run, written = repainting(optimizer=Halting, num_scales=scales), list[int]()

    def look(state: RunState) -> None:
        if path.exists():
            written.append(steps_done(path))

    whole = run(callbacks=[Checkpoint(path, 100), look])
    assert whole.num_steps == 3 * scales == steps_done(path) and set(written) <= {3}
    steps = Counting()
    assert_same(resume(path, callbacks=steps.on_step, optimizer=Halting), whole)
    assert steps.steps == []
    run(callbacks=Checkpoint(path))  # the run in it is finished


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs content", torch.zeros(2)),
        ("inputs scales", [[20, 5], [0, 4]]),
        ("inputs start", {}),
        ("inputs options", {"seed": -1, "init": "content", "where": False}),
        ("run plan", [[20, 5]]),
        ("run scale", 7),
        ("run step", "x"),
        ("run pictures", []),
        ("generators step", {"cpu": torch.zeros(3)}),
        ("record", {}),
    ],
)
def test_a_file_with_wrong_values_is_refused(name: str, value: Any, kept: Path) -> None:
    *parents, last = name.split()
    forge(kept, lambda values: reduce(dict.__getitem__, parents, values).update({last: value}))
    with pytest.raises(ValueError, match=r"must be a checkpoint of version 2|cannot be used: it"):
        resume(kept)


@pytest.fixture
def kept(path: Path) -> Path:
    cut(repainting(), path, 6, fail_at(7, PowerCut()))
    return path


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content["value"])
    with path.open("wb") as file:
        torch.save(content, file)


# Ends a run where it would go on: a forged one could ask for any number of steps.
HALT = nst.Callback()
vars(HALT)["on_resume"] = raising(KeyboardInterrupt)
HOSTILE: tuple[Any, ...] = (None, -1, 10**30, 1.5, True, "x", [], {}, (), float("nan"))
HOSTILE += (torch.ones(1),)


@pytest.mark.cpu  # a forged device is refused for another reason
def test_a_forged_checkpoint_is_refused_with_a_reason_or_used(kept: Path, tmp_path: Path) -> None:
    content, network, path = torch.load(kept, weights_only=True), tiny_extractor(), tmp_path / "a"
    rng, used = random.Random(0), 0
    forged = [(*place, new) for place in places_in(content) for new in HOSTILE]
    for container, key, new in rng.sample(forged, 800):
        before, container[key] = container[key], new
        with path.open("wb") as file:
            torch.save(content, file)
        container[key] = before
        try:
            resume(path, extractor=network, callbacks=[Checkpoint(kept), HALT])
        except ValueError as error:
            assert str(error).startswith("`"), (key, new)
        else:
            used += 1
    assert used > 10


def test_a_file_of_another_kind_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    nst.save_image(picture(8, 8, 1), tmp_path / "a.png")
    transfer().capture(picture(30, 30, 1), [32]).save(tmp_path / "style.nst")
    for name in ("a.png", "style.nst"):
        with pytest.raises(ValueError, match="must be a checkpoint"):
            resume(tmp_path / name)
        with pytest.raises(ValueError, match="exists and is not a checkpoint"):
            repainting()(callbacks=Checkpoint(tmp_path / name))
    assert nst.load_image(tmp_path / "a.png").shape == (1, 3, 8, 8)
    with pytest.raises(FileNotFoundError, match="missing"):
        StyleTransfer.resume(tmp_path / "missing.ckpt")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extractor": None}, r"cannot be found by name\. Pass extractor"),
        ({"extractor": tiny_extractor(seed=1)}, "`extractor` is not the run's"),
        ({"losses": {"style": GramStyleLoss()}}, r"`losses` is .* but the run's were"),
        ({"optimizer": sgd}, "makes a SGD, but the run was made with a BoundedLBFGS"),
    ],
)
def test_parts_of_another_run_are_refused(given: dict[str, Any], message: str, kept: Path) -> None:
    with pytest.raises(ValueError, match=message):
        resume(kept, **given)


@pytest.mark.float64
def test_a_users_own_parts_have_to_be_given(path: Path) -> None:
    losses, other = {"style": GramStyleLoss(["relu1_1"]), "own": Jumpy()}, Jumpy()
    other.count = torch.zeros(3)
    repainting(losses=losses, optimizer=sgd)(callbacks=Checkpoint(path))
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "'own' of type 'Jumpy', which is not nst's own"),
        ({"losses": losses}, "`optimizer` is 'sgd'; it must be 'lbfgs' or 'adam', or"),
        ({"losses": {**losses, "own": other}, "optimizer": sgd}, "`losses` has one that cannot re"),
        ({"losses": {**losses, "own": Jumpy(2.0)}, "optimizer": sgd}, "2.0.* but the run's"),
    ]
    for given, message in refused:
        with pytest.raises(ValueError, match=message):
            resume(path, **given)
    resume(path, losses=losses, optimizer=sgd)


def test_a_disk_that_fails_leaves_the_checkpoint_before(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail = raising(OSError(errno.ENOSPC, "No space left on device"))
    break_disk = at_step(4, lambda state: monkeypatch.setattr("os.fsync", fail))
    result = repainting()(callbacks=[Checkpoint(path, 3), break_disk])
    assert result.stop_reason == "completed"
    first, _ = [r.message for r in caplog.records if r.levelno == logging.WARNING]  # at 6 and 9
    assert "could not be written after step 6 (No space left on device)" in first
    assert names(path.parent) == ["run.ckpt"]
    monkeypatch.undo()
    assert_same(resume(path), result)


def test_a_place_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    steps, missing = Counting(), tmp_path / "missing" / "run.ckpt"
    for path, error in ((tmp_path, IsADirectoryError), (missing, FileNotFoundError)):
        with pytest.raises(error, match="`path` is"):
            repainting()(callbacks=[steps, Checkpoint(path)])
    assert steps.steps == []
    with pytest.raises(ValueError, match="`every` is 0; it must be at least 1"):
        Checkpoint(tmp_path / "run.ckpt", every=0)


def test_a_state_that_cannot_be_stored_is_refused_after_the_first_step(path: Path) -> None:
    steps, secretive = Counting(), Counting()
    vars(secretive)["state_dict"] = lambda: {"file": path}
    with pytest.raises(TypeError, match=r"\['callbacks'\].*cannot be stored without"):
        repainting()(callbacks=[Checkpoint(path, 5), secretive, steps])
    assert steps.steps == [1] and not path.exists()


def test_other_versions_and_threads_are_logged(
    kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    states: list[RunState] = []
    resume(kept, callbacks=states.append)
    assert "the run had num_threads 1 before and has 7 now" in caplog.text
    # A state that is stored does not hold the run.
    with pytest.raises(RuntimeError, match=r"no run is under way. Call it in Callback.on_step"):
        states[0].snapshot()


@pytest.mark.usefixtures("folder", "networks")
def test_the_command_line_resumes_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stylize = "stylize photo.png painting.png --steps 5 --scales 2 --quiet --weights original"
    assert nst_command(f"{stylize} -o whole.png") == 0
    step, checkpoint = OptimizedPicture.step, Path("run.ckpt")

    def killed(self: OptimizedPicture) -> None:
        if checkpoint.exists() and steps_done(checkpoint) > 3:
            raise PowerCut
        step(self)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(OptimizedPicture, "step", killed)
        nst_command(f"{stylize} -o out.png --checkpoint run.ckpt --checkpoint-every 2")
    assert not Path("out.png").exists()
    assert nst_command("resume run.ckpt -o out.png --save-every 1") == 0
    said = capsys.readouterr()
    assert "5 steps" in said.out and "5/5 steps" in said.err
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()  # the record, too
    assert names(Path("out-steps")) == ["step-0005.png"]
    assert nst_command("rerun out.png -o again.png --quiet") == 0
    assert Path("again.png").read_bytes() == Path("whole.png").read_bytes()
    for line in ("run.ckpt -o photo.png", "photo.png -o new.png", "missing.ckpt -o new.png"):
        assert nst_command(f"resume {line} --quiet") == 2
    assert "which 'run.ckpt' was made from and which would be" in capsys.readouterr().err


@pytest.mark.cpu  # it resumes there
@pytest.mark.usefixtures("folder", "networks")
@pytest.mark.parametrize(
    ("command", "options"),
    [("stylize photo.png painting.png", "--init noise"), ("synthesize painting.png", "")],
)
def test_the_same_command_resumes_a_run_and_another_is_refused(
    command: str, options: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{command} {options} --size 40 --steps 5 --scales 1 --weights original"
    stored = f"{line} -o out.png --checkpoint run.ckpt"
    assert nst_command(f"{line} -o whole.png") == 0
    with monkeypatch.context() as patch:
        stop = at_step(3, lambda state: state.stop("interrupted"))
        patch.setattr("nst.cli.build.EndAfterStep", lambda: as_callbacks(stop)[0])
        assert nst_command(stored) == 0
    before = Path("run.ckpt").read_bytes()
    others = {"seed": "--seed 1", "losses": "--style-weight 2", "num_steps": "--steps 6"}
    for name, other in others.items():
        capsys.readouterr()
        assert nst_command(f"{stored} {other}") == 2
        message = f"another run (its {name} differs), unfinished after 3 of 5"
        assert message in capsys.readouterr().err
    assert nst_command(f"{stored} --weights torchvision") == 2
    assert "`extractor` is not the run's" in capsys.readouterr().err
    assert Path("run.ckpt").read_bytes() == before
    assert nst_command(f"{stored} --device cpu") == 0
    assert "'run.ckpt' is resumed" in capsys.readouterr().err
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert nst_command(f"{stored} --seed 1") == 0  # the run in it is finished


@pytest.mark.usefixtures("folder", "networks")
@pytest.mark.cpu  # the record has the device
def test_the_command_line_resumes_a_batch_on_another_device_in_tiles(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = StyleTransfer(nst.FeatureExtractor("original"), num_steps=4, num_scales=1)
    made.run(torch.cat([PHOTO, PHOTO]), PAINTING, callbacks=Checkpoint("run.ckpt"))
    forge(path, lambda values: values["record"].update(device="cuda:7"))
    assert nst_command("resume run.ckpt -o out.png --quiet") == 2
    assert "Use 'auto' or 'cpu'" in capsys.readouterr().err
    assert nst_command("resume run.ckpt -o out.png --device cpu --tile 8") == 0
    said = capsys.readouterr().out
    for name in ("out-0.png", "out-1.png"):
        assert str(path.with_name(name)) in said and read_record(name)["tile"] == 8
    assert nst_command("rerun out-0.png -o a.png --device cpu") == 2  # in memory


def paint(path: Path, log: Path, result: Path) -> None:
    """Paint in a process of its own, from the checkpoint if there is one."""
    torch.set_num_threads(1)

    def note(state: RunState) -> None:
        with log.open("a") as file:
            file.write(f"{state.step}\n")

    callbacks: list[CallbackLike] = [Checkpoint(path, every=3), note]
    run = partial(resume, path) if path.exists() else repainting(num_steps=60)
    result.write_text(hash_values(run(callbacks=callbacks).image))


@pytest.mark.cpu  # other processes know no pretended device
def test_a_process_killed_at_random_moments_loses_few_steps_and_no_bit(tmp_path: Path) -> None:
    path, log, result = (tmp_path / name for name in ("run.ckpt", "log", "result"))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["nst.testing"])
    moments, kills = random.Random(0), 0
    while not result.exists():
        process = processes.Process(target=paint, args=(path, log, result))
        process.start()
        if kills < 3:
            started = len(log.read_text()) if log.exists() else 0
            while not log.exists() or len(log.read_text()) == started:
                time.sleep(0.001)  # until it has made a step
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
            kills += 1
        process.join()
    assert result.read_text() == hash_values(repainting(num_steps=60)().image)
    steps = [int(line) for line in log.read_text().splitlines()]
    lost = [before - after + 1 for before, after in itertools.pairwise(steps)]
    assert max(lost) <= 3
