"""What every callback promises; they are found among the public classes."""

import copy
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

import nst
from nst import Callback, Checkpoint, RunState, StyleTransfer, plotting
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, Recorder, at_step, fail_at, hooked, paint, raising, small

CALLBACKS = sorted(
    {
        value
        for module in (nst, plotting)
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name))
        and issubclass(value, Callback)
        and value is not Callback
    },
    key=lambda callback: callback.__name__,
)
every_callback = pytest.mark.parametrize("kind", CALLBACKS)


@contextmanager
def made(kind: type[Callback]) -> Iterator[Callback]:
    """Make a callback that writes to a folder or serves a free port, and close it."""
    parameters = inspect.signature(kind).parameters
    arguments = {"path": "steps", "port": 0, "seconds": 1e6}
    callback = kind(**{name: arguments[name] for name in arguments.keys() & parameters.keys()})
    yield callback
    getattr(callback, "close", lambda: None)()


@pytest.fixture(autouse=True)
def _callbacks_write_to_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@every_callback
def test_every_callback_follows_a_run_and_changes_nothing(
    kind: type[Callback], capsys: pytest.CaptureFixture[str]
) -> None:
    transfer = small(num_steps=3, num_scales=2)
    plain = transfer.run(PHOTO, PAINTING)
    with made(kind) as callback:
        for _ in range(2):  # a callback can be used again
            followed = transfer.run(PHOTO, PAINTING, callbacks=callback)
            assert torch.equal(followed.image, plain.image)
            assert followed.history == plain.history
            assert followed.stop_reason == "completed"
    assert capsys.readouterr().out == ""


@every_callback
@pytest.mark.parametrize("error", [None, ZeroDivisionError(), KeyboardInterrupt()])
def test_every_callback_is_ended_however_the_run_ends(
    kind: type[Callback], error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def noted(name: str) -> Callable[[Callback, RunState], None]:
        def hook(self: Callback, state: RunState) -> None:
            calls.append(name)
            getattr(kind, name)(self, state)

        return hook

    hooks = {name: noted(name) for name in ("on_start", "on_step", "on_end")}
    ending = fail_at(2, error) if error else at_step(2, lambda state: state.stop("enough"))
    expected = pytest.raises(ZeroDivisionError) if isinstance(error, Exception) else nullcontext()
    with made(type("Noted", (kind,), hooks)) as callback, expected:
        paint(num_steps=3, callbacks=[callback, ending])
    if kind.called_last and error is not None:
        calls.insert(2, "on_step")  # the error came first
    assert calls == ["on_start", "on_step", "on_step", "on_end"]
    assert not [record for record in caplog.records if record.exc_info]


@every_callback
def test_every_callback_is_resumed_as_if_the_run_had_never_stopped(kind: type[Callback]) -> None:
    with made(kind) as callback:
        whole = paint(callbacks=callback)
        state = copy.deepcopy(callback.state_dict())
    with made(kind) as callback, pytest.raises(ZeroDivisionError):
        paint(callbacks=[callback, Checkpoint("kept.ckpt", 2), fail_at(5, ZeroDivisionError())])
    with made(kind) as callback:
        resumed = StyleTransfer.resume("kept.ckpt", extractor=tiny_extractor(), callbacks=callback)
        assert callback.state_dict() == state
    assert torch.equal(resumed.image, whole.image)
    assert resumed.history == whole.history


@every_callback
def test_every_callback_has_a_plain_state_and_refuses_a_forged_one(kind: type[Callback]) -> None:
    assert len(CALLBACKS) >= 7 and ">>>" in (kind.__doc__ or "")  # an example
    with made(kind) as callback:
        paint(callbacks=callback)
        state = callback.state_dict()
        assert json.loads(json.dumps(state)) == state
        if forged := {name: {"a": ["text"]} for name in state}:
            message = f"`callbacks` has a {kind.__name__}, whose values"
            with pytest.raises(ValueError, match=message):
                callback.on_resume(RunState(image=PHOTO, num_steps=2), forged)


@pytest.mark.cpu  # NumPy cannot write to another device
def test_an_error_at_a_callbacks_end_costs_no_picture_and_its_changes_are_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder, full = Recorder(), hooked(on_end=raising(OSError("no space left on device")))
    result = paint(callbacks=[recorder, full])
    assert (result.stop_reason, recorder.calls[-1]) == ("completed", "end")
    assert "Callback failed at the end of the run" in caplog.text

    def destroy(state: RunState) -> None:
        state.image.numpy()[...] = 0
        for loss in state.losses.values():
            loss.zero_()

    vandal = hooked(on_start=destroy, on_step=destroy, on_end=destroy)
    expected, seen = Recorder(), Recorder()
    plain = small(num_steps=3).run(PHOTO, PAINTING, callbacks=expected)
    result = small(num_steps=3).run(PHOTO, PAINTING, callbacks=[vandal, seen])
    assert torch.equal(result.image, plain.image) and result.history == plain.history
    assert all(torch.equal(a, b) for a, b in zip(seen.images, expected.images, strict=True))
