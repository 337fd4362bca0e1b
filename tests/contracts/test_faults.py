"""Faults during a run: full disks, folders that vanish, failing callbacks, Ctrl-C.

A run ends in order, and its best picture is not lost.
"""

import errno
import math
import os
import re
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from nst import RunState, SaveImages, StyleTransfer, StyleTransferResult, save_image
from nst.cli.main import main
from nst.images import read_record
from tests.helpers import (
    PAINTING,
    PHOTO,
    Recorder,
    at_step,
    fail_at,
    hooked,
    paint,
    picture,
    raising,
    small,
)

OLD = b"what was there before"


@pytest.mark.parametrize("kind", [ZeroDivisionError, MemoryError, SystemExit])
@pytest.mark.parametrize("step", [1, 3])
def test_an_error_carries_the_picture_painted_so_far(kind: type[BaseException], step: int) -> None:
    recorders = [Recorder(), Recorder()]
    callbacks = [recorders[0], fail_at(step, kind()), recorders[1]]
    with pytest.raises(kind) as caught:
        paint(num_scales=2, callbacks=callbacks)
    result = caught.value.result  # type: ignore[attr-defined]
    if sys.version_info >= (3, 11):  # where errors have notes
        (note,) = caught.value.__notes__
        assert note.endswith(": error.result.save('rescued.png').")
    assert isinstance(result, StyleTransferResult)
    assert result.stop_reason == f"failed: {kind.__name__}"
    assert result.num_steps == step
    assert [len(values) for values in result.history.values()] == [step, step]
    stopped = paint(num_scales=2, callbacks=at_step(step, lambda state: state.stop("here")))
    assert torch.equal(result.image, stopped.image)
    for recorder in recorders:
        assert (recorder.calls[0], recorder.calls[-1]) == ("start", "end")
        assert recorder.reason == result.stop_reason
        assert torch.equal(recorder.images[-1], result.image)


def test_an_error_raised_again_carries_the_later_picture_but_keeps_a_result_of_its_own() -> None:
    error, own = ZeroDivisionError(), ValueError("mine")
    for step in (1, 3):
        with pytest.raises(ZeroDivisionError):
            paint(callbacks=fail_at(step, error))
        assert vars(error)["result"].num_steps == step
    vars(own)["result"] = 42
    with pytest.raises(ValueError, match="mine"):
        paint(callbacks=fail_at(2, own))
    assert vars(own)["result"] == 42


def test_a_run_that_a_callback_refuses_or_whose_result_cannot_be_made_has_no_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, last = Recorder(), Recorder()
    refuses = hooked(on_start=raising(ValueError("not today")))
    with pytest.raises(ValueError, match="not today") as caught:
        paint(callbacks=[first, refuses, last])
    assert not hasattr(caught.value, "result")
    assert (first.calls, last.calls) == (["start", "end"], [])
    monkeypatch.setattr(StyleTransferResult, "__init__", raising(RuntimeError("broken")))
    with pytest.raises(ZeroDivisionError) as raised:
        paint(callbacks=fail_at(2, ZeroDivisionError()))
    assert not hasattr(raised.value, "result")


@contextmanager
def interrupted_after(n: int) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at the n-th line of nst that is executed within the block."""
    seen = [0]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if "/nst/_" not in frame.f_code.co_filename:
            return None
        seen[0] += event == "line"
        if event == "line" and seen[0] == n:
            sys.settrace(None)
            frame.f_trace = None
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_at_any_instant_ctrl_c_ends_the_run_with_its_picture() -> None:
    own = small(num_steps=3, num_scales=2)
    whole = own.run(PHOTO, PAINTING).image
    with interrupted_after(-1) as lines:
        own.run(PHOTO, PAINTING, callbacks=Recorder())
    outcomes = {"before": 0, "interrupted": 0, "completed": 0, "raised": 0}
    # All over the run, and more often at its end.
    last = lines[0] - 150
    for instant in [*range(1, last, last // 40), *range(last, lines[0], 5)]:
        recorder, result = Recorder(), None
        try:
            with interrupted_after(instant):
                result = own.run(PHOTO, PAINTING, callbacks=recorder)
        except KeyboardInterrupt:
            outcomes["raised" if recorder.calls else "before"] += 1
        if result is not None:
            outcomes[result.stop_reason] += 1
            assert recorder.calls.count("end") == recorder.calls.count("start")
            assert bool(result.image.isfinite().all())
            assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
            assert len({len(values) for values in result.history.values()}) <= 1
            if result.stop_reason == "completed":
                assert torch.equal(result.image, whole)
    # Python itself passes from one part of the end to the next in a few lines.
    assert outcomes["raised"] <= 2, outcomes
    assert outcomes["interrupted"] > 25 and outcomes["completed"] > 5, outcomes
    assert torch.equal(own.run(PHOTO, PAINTING).image, whole)  # nothing is left behind
    assert torch.is_grad_enabled()


def test_ctrl_c_at_the_end_of_a_callback_does_not_cost_the_picture() -> None:
    recorders = [Recorder(), Recorder()]
    slow = hooked(on_end=lambda _: signal.raise_signal(signal.SIGINT))
    result = paint(callbacks=[recorders[0], slow, recorders[1]])
    assert (result.num_steps, result.stop_reason) == (6, "completed")
    assert [recorder.calls[-1] for recorder in recorders] == ["end", "end"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let the system refuse to write files beyond a size, as a full disk would."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def write_animation(path: Path) -> None:
    saver, state = SaveImages(path, every=1), RunState(image=picture(32, 32), num_steps=1)
    saver.on_start(state)
    state.step = 1
    saver.on_step(state)
    saver.on_end(state)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.png": lambda path: save_image(torch.rand(3, 64, 64), path),
    "a.nst": lambda path: small().capture(picture(40, 40), sizes=[32]).save(path),
    "a.gif": write_animation,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    path, message = tmp_path / name, f"{name}', which could not be written"
    path.write_bytes(OLD)
    for size in (0, 1, 100, 1000):
        with room_for(size), pytest.raises(OSError, match=message):
            WRITERS[name](path)
        assert path.read_bytes() == OLD
        assert list(tmp_path.iterdir()) == [path]
    WRITERS[name](path)
    assert path.stat().st_size > 1000


def test_a_folder_that_vanishes_during_a_run_does_not_cost_the_picture(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    vanish = at_step(2, lambda _: shutil.rmtree(steps))
    with pytest.raises(FileNotFoundError, match="whose folder does not exist") as caught:
        paint(callbacks=[SaveImages(steps, every=1), vanish])
    result = caught.value.result  # type: ignore[attr-defined]
    assert result.num_steps == 3
    with pytest.raises(FileNotFoundError, match="whose folder does not exist"):
        result.save(steps / "made.png")
    assert result.save(tmp_path / "made.png") == [tmp_path / "made.png"]


COMMAND = "stylize photo.png painting.png -o out/made.png --steps 4 --quiet"


@pytest.fixture
def out(folder: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which `COMMAND` runs in moments."""
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    Path("out").mkdir()


def follow(callback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = StyleTransfer.run

    def followed(self: StyleTransfer, *pictures: Any, callbacks: Any = (), **options: Any) -> Any:
        return run(self, *pictures, callbacks=[*callbacks, callback], **options)

    monkeypatch.setattr(StyleTransfer, "run", followed)


@pytest.mark.usefixtures("out")
def test_the_command_line_saves_elsewhere_if_its_folder_has_vanished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(at_step(2, lambda _: shutil.rmtree("out")), monkeypatch)
    assert main(COMMAND.split()) == 2
    message = capsys.readouterr().err
    assert "whose folder does not exist" in message
    (rescued,) = Path().glob("nst-*/made.png")
    assert f"The picture is in {str(rescued.resolve())!r} instead." in message


@pytest.mark.usefixtures("out")
@pytest.mark.parametrize("step", [4, 0])
def test_where_nothing_can_be_saved_the_own_file_is_named_first(
    step: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail = raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    broken = "os.fsync" if step else "tempfile.mkdtemp"
    follow(at_step(4, lambda _: monkeypatch.setattr(broken, fail)), monkeypatch)
    if not step:
        follow(at_step(4, lambda _: shutil.rmtree("out")), monkeypatch)
    assert main(COMMAND.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("nst: error: `path` is '(.*/)?out/made.png', ", line)
    assert "could not be saved in " in line or "no temporary folder" in line
    assert not list(Path().glob("nst-*"))


@pytest.mark.usefixtures("out")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("the disk is gone"), "the disk is gone"),
        (torch.OutOfMemoryError("CUDA"), "`size` is 40: .* Use tile=64, a smaller size, or .*"),
    ],
)
def test_the_command_line_reports_an_error_in_a_line_and_saves_what_was_painted_before(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    follow(fail_at(3, error), monkeypatch)
    assert main(COMMAND.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"nst: error: {message}", line)
    kind = "OSError" if isinstance(error, OSError) else "MemoryError"
    assert read_record("out/made.png")["stop_reason"] == f"failed: {kind}"


def test_a_run_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = raising(OSError("no network"))
    for name in ("connect", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert all(math.isfinite(values[-1]) for values in paint().history.values())
