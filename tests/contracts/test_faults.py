"""What goes wrong on the way: full disks, folders that vanish, failing callbacks, Ctrl-C.

A run ends in order, and what it has painted is not lost.
"""

from __future__ import annotations

import errno
import io
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
from torch import Tensor

import nst.cli.main
from nst import (
    Callback,
    FeatureExtractor,
    RunState,
    SaveImages,
    StyleTransfer,
    StyleTransferResult,
    save_image,
)
from nst._engine.run import Run
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor

OLD = b"what was there before"


def transfer(**arguments: Any) -> StyleTransfer:
    return StyleTransfer(tiny_extractor(), **{"num_steps": 4, "num_scales": 2, **arguments})


class Witness(Callback):
    """Sees whether it was started and ended, and with what."""

    def __init__(self) -> None:
        self.started, self.ended = 0, 0
        self.image: Tensor | None = None

    def on_start(self, state: RunState) -> None:
        self.started += 1

    def on_end(self, state: RunState) -> None:
        self.ended += 1
        self.image = state.image


def fail_at(step: int, error: BaseException) -> Callable[[RunState], None]:
    def fail(state: RunState) -> None:
        if state.step == step:
            raise error

    return fail


# Callbacks that raise


@pytest.mark.parametrize("kind", [ZeroDivisionError, MemoryError, SystemExit])
@pytest.mark.parametrize("step", [1, 3])
def test_an_error_carries_the_picture_painted_so_far(
    kind: type[BaseException], step: int, photo: Tensor, painting: Tensor
) -> None:
    witnesses = [Witness(), Witness()]
    callbacks: list[Any] = [witnesses[0], fail_at(step, kind()), witnesses[1]]
    with pytest.raises(kind) as caught:
        transfer().run(photo, painting, callbacks=callbacks)
    result = caught.value.result  # type: ignore[attr-defined]
    assert isinstance(result, StyleTransferResult)
    assert result.stop_reason == f"failed: {kind.__name__}"
    assert result.num_steps == step
    assert [len(values) for values in result.history.values()] == [step, step]
    stopped = transfer().run(
        photo, painting, callbacks=lambda s: s.stop("here") if s.step == step else None
    )
    assert torch.equal(result.image, stopped.image)
    for witness in witnesses:
        assert (witness.started, witness.ended) == (1, 1)
        assert witness.image is not None and torch.equal(witness.image, result.image)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have notes since Python 3.11")
def test_the_traceback_says_where_the_picture_is(photo: Tensor, painting: Tensor) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        transfer().run(photo, painting, callbacks=fail_at(2, ZeroDivisionError()))
    (note,) = caught.value.__notes__
    assert note == "The best picture so far is kept: error.result.save('rescued.png')."


def test_an_error_that_is_raised_again_carries_the_later_picture(
    photo: Tensor, painting: Tensor
) -> None:
    error = ZeroDivisionError()
    for step in (1, 3):
        with pytest.raises(ZeroDivisionError):
            transfer().run(photo, painting, callbacks=fail_at(step, error))
        assert vars(error)["result"].num_steps == step


def test_what_an_error_carries_already_is_left_to_it(photo: Tensor, painting: Tensor) -> None:
    error = ValueError("mine")
    vars(error)["result"] = 42
    with pytest.raises(ValueError, match="mine"):
        transfer().run(photo, painting, callbacks=fail_at(2, error))
    assert vars(error)["result"] == 42


def test_a_run_that_a_callback_refuses_has_no_picture(photo: Tensor, painting: Tensor) -> None:
    class Refuses(Callback):
        def on_start(self, state: RunState) -> None:
            raise ValueError("not today")

    first, last = Witness(), Witness()
    with pytest.raises(ValueError, match="not today") as caught:
        transfer().run(photo, painting, callbacks=[first, Refuses(), last])
    assert not hasattr(caught.value, "result")
    assert (first.ended, last.started, last.ended) == (1, 0, 0)


def test_a_picture_that_cannot_be_kept_does_not_hide_the_error(
    photo: Tensor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("nst._engine.inputs.RunInputs.result", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        transfer().run(photo, painting, callbacks=fail_at(2, ZeroDivisionError()))
    assert not hasattr(caught.value, "result")


# Ctrl-C


@contextmanager
def interrupted_after(n: int) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at the n-th line of nst that is executed within the block."""
    seen = [0]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if "/nst/_" not in frame.f_code.co_filename:
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == n:
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


# The few lines in which Python itself passes from one part of the end to the next.
_UNPROTECTED = {"complete", "end", "persistently"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_at_any_instant_ctrl_c_ends_the_run_with_its_picture(
    photo: Tensor, painting: Tensor
) -> None:
    own, whole = transfer(num_steps=3), transfer(num_steps=3).run(photo, painting).image
    with interrupted_after(-1) as lines:
        own.run(photo, painting, callbacks=Witness())
    outcomes = {"before": 0, "interrupted": 0, "completed": 0, "raised": 0}
    for instant in range(1, lines[0], max(1, lines[0] // 100)):
        witness, result = Witness(), None
        try:
            with interrupted_after(instant):
                result = own.run(photo, painting, callbacks=witness)
        except KeyboardInterrupt as error:
            functions = []
            trace = error.__traceback__
            while trace is not None:
                functions.append(trace.tb_frame.f_code.co_name)
                trace = trace.tb_next
            if witness.started == 0:
                outcomes["before"] += 1
            else:
                assert functions[-2] in _UNPROTECTED, functions
                outcomes["raised"] += 1
        if result is not None:
            outcomes[result.stop_reason] += 1
            assert witness.ended == witness.started
            assert bool(result.image.isfinite().all())
            assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
            assert len({len(values) for values in result.history.values()}) <= 1
            if result.stop_reason == "completed":
                assert torch.equal(result.image, whole)
    assert outcomes["interrupted"] > 60 and outcomes["raised"] <= 2, outcomes
    assert torch.equal(own.run(photo, painting).image, whole)  # nothing is left behind
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["settings", "image"])
def test_ctrl_c_after_the_last_step_is_too_late_to_cost_the_picture(
    name: str, photo: Tensor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = transfer().run(photo, painting).image
    pressed: list[bool] = []
    original = getattr(Run, name)

    def press_once(*arguments: Any) -> Any:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(Run, name, press_once)
    result = transfer().run(photo, painting)
    assert pressed and result.stop_reason == "completed"
    assert torch.equal(result.image, expected)


def test_ctrl_c_in_a_callbacks_end_does_not_cost_the_picture(
    photo: Tensor, painting: Tensor
) -> None:
    class Slow(Callback):
        def on_end(self, state: RunState) -> None:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("unreachable")

    witnesses = [Witness(), Witness()]
    result = transfer().run(photo, painting, callbacks=[witnesses[0], Slow(), witnesses[1]])
    assert (result.num_steps, result.stop_reason) == (4, "completed")
    assert [witness.ended for witness in witnesses] == [1, 1]


# Full disks


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let the system refuse to write files beyond a size, as a full disk would."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def write_png(path: Path) -> None:
    save_image(torch.rand(3, 64, 64), path)


def write_style(path: Path) -> None:
    transfer().capture(torch.rand(1, 3, 40, 40), sizes=[32]).save(path)


def write_animation(path: Path) -> None:
    saver = SaveImages(path, every=1)
    state = RunState(image=torch.rand(1, 3, 32, 32), num_steps=1)
    saver.on_start(state)
    state.step = 1
    saver.on_step(state)
    saver.on_end(state)


WRITERS = {"a.png": write_png, "a.nst": write_style, "a.gif": write_animation}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_a_full_disk_leaves_what_was_there(name: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(OLD)
    with room_for(size), pytest.raises(OSError, match=f"{name}', which could not be written"):
        WRITERS[name](path)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]
    WRITERS[name](path)
    assert path.stat().st_size > 1000


class Failing(io.BytesIO):
    """A file that fails in one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, self.fail)

    def __del__(self) -> None:
        """Do not close: Python 3.13 and later would tell of the failure."""

    def fail(self, *_: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("call", ["create", "write", "flush", "fsync", "close", "replace"])
def test_whichever_call_fails_the_old_file_is_left(
    name: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(OLD)
    opened = Path.open

    def open_failing(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if call == "create" and mode == "xb" and created:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        created.append(mode)
        if mode == "wb" and call in ("write", "flush", "close"):
            return Failing(call)
        return opened(self, mode, *arguments, **options)

    def fail(*_: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # A picture's place is tried before: there, the first file is made for that.
    created: list[str] = ["xb"] if name == "a.nst" else []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_failing)
        if call == "fsync":
            patch.setattr(os, "fsync", fail)
        if call == "replace":
            patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left on device"):
            WRITERS[name](path)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_in_the_middle_of_a_run_does_not_cost_the_picture(
    photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    def fill(state: RunState) -> None:
        if state.step == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught:
        transfer().run(photo, painting, callbacks=[SaveImages(tmp_path / "steps", every=2), fill])
    result = caught.value.result  # type: ignore[attr-defined]
    (rescued,) = result.save(tmp_path / "rescued.png")
    assert rescued.is_file()
    # Also the callback that saves has ended in order.
    assert [path.name for path in sorted((tmp_path / "steps").iterdir())] == [
        "step-0002.png",
        "step-0003.png",
    ]


# Folders that vanish, and the command line


def remove(folder: Path) -> Callable[[RunState], None]:
    return lambda state: shutil.rmtree(folder) if state.step == 2 else None


def test_a_folder_that_vanishes_in_the_middle_of_a_run_does_not_cost_the_picture(
    photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    with pytest.raises(FileNotFoundError, match="whose folder does not exist") as caught:
        transfer().run(photo, painting, callbacks=[SaveImages(steps, every=1), remove(steps)])
    result = caught.value.result  # type: ignore[attr-defined]
    assert result.num_steps == 3
    with pytest.raises(FileNotFoundError, match="whose folder does not exist"):
        result.save(steps / "made.png")
    assert result.save(tmp_path / "made.png") == [tmp_path / "made.png"]


@pytest.fixture
def command(
    tmp_path: Path, photo: Tensor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A command line that paints in moments, without weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    tiny = Weights(tiny_extractor().state_dict(), "tiny")
    monkeypatch.setattr("nst.extractors.vgg.load_weights", lambda source="auto": tiny)
    save_image(photo, "photo.png")
    save_image(painting, "painting.png")
    Path("out").mkdir()
    return ["stylize", "photo.png", "painting.png", "-o", "out/made.png", "--steps", "4", "--quiet"]


def test_the_command_line_saves_elsewhere_if_its_folder_has_vanished(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nst.cli.build.make_callbacks", lambda options: [Removes()])
    assert nst.cli.main.main(command) == 2
    message = capsys.readouterr().err
    assert "whose folder does not exist" in message
    (rescued,) = Path().glob("nst-*/made.png")
    assert f"The picture is in {str(rescued.resolve())!r} instead." in message


class Removes(Callback):
    def on_step(self, state: RunState) -> None:
        if state.step == 2:
            shutil.rmtree("out")


@pytest.mark.parametrize(
    ("error", "told", "kind"),
    [
        (OSError("the disk is gone"), "the disk is gone", "OSError"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "`size` is 40: .* Use tile=64, a smaller size, or .*",
            "MemoryError",
        ),
    ],
)
def test_the_command_line_tells_an_error_in_a_line_and_saves_what_was_painted_before(
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    told: str,
    kind: str,
) -> None:
    class Fails(Callback):
        def on_step(self, state: RunState) -> None:
            if state.step == 3:
                raise error

    monkeypatch.setattr("nst.cli.build.make_callbacks", lambda options: [Fails()])
    assert nst.cli.main.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"nst: error: {told}", line)
    assert nst.images.read_record("out/made.png")["stop_reason"] == f"failed: {kind}"


# No network


def test_a_run_needs_no_network(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network")

    for name in ("connect", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = StyleTransfer(extractor, num_steps=2).run(photo, painting)
    assert all(math.isfinite(values[-1]) for values in result.history.values())
