import importlib.util
from collections.abc import Callable

import pytest

import nst.cli.main
from nst import Callback, RunState, StyleTransfer, StyleTransferResult

needs_skimage = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="needs the `demo` extra"
)


class Run:
    """One call of `StyleTransfer.run`, and its result."""

    def __init__(self, transfer: StyleTransfer, result: StyleTransferResult) -> None:
        self.transfer, self.result, self.settings = transfer, result, result.settings


def nst_command(line: str) -> int:
    """Run a command line and return its exit status."""
    try:
        return nst.cli.main.main(line.split())
    except SystemExit as exit_:  # raised by argparse
        assert isinstance(exit_.code, int)
        return exit_.code


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert err.startswith("nst")
    return err


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line in which a command line is refused."""
    assert nst_command(line) == 2
    return refusal(capsys)


def interrupting(step: int) -> Callable[[], Callback]:
    class Interrupt(Callback):
        def on_step(self, state: RunState) -> None:
            if state.step == step:
                raise KeyboardInterrupt

    return Interrupt
