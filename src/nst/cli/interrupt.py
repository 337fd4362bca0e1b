"""End a command by SIGTERM or SIGHUP as by Ctrl-C, and with a checkpoint between two steps."""

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nst.callbacks.base import Callback, RunState

_PATIENCE = 5.0  # seconds for a step to end; `docker stop` kills a process after 10


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # the only one to set handlers


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Treat the first SIGTERM or SIGHUP within the block as Ctrl-C, unless they are ignored."""
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    caught = [each for each in numbers if each and signal.getsignal(each) is signal.SIG_DFL]
    caught = caught if _in_main_thread() else []

    def interrupt(number: int, frame: Any) -> None:
        for each in caught:  # `timeout` and terminals send another, which must not end the saving
            signal.signal(each, signal.SIG_IGN)
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(number, frame)

    for each in caught:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)


class EndAfterStep(Callback):
    """Ends the run after its step at the first Ctrl-C, so that a `Checkpoint` can write it.

    A second Ctrl-C, or a step that takes too long, ends the run within the step.
    """

    def on_start(self, state: RunState) -> None:
        """Take over Ctrl-C."""
        self._timer = threading.Timer(_PATIENCE, _thread.interrupt_main)
        self._timer.daemon = True
        self._is_asked, self._before = False, signal.getsignal(signal.SIGINT)
        if callable(self._before) and _in_main_thread():
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True
        self._timer.start()

    def on_step(self, state: RunState) -> None:
        """Stop the run if Ctrl-C came within the step."""
        if self._is_asked:
            self._timer.cancel()
            state.stop_reason = state.stop_reason or "interrupted"

    def on_end(self, state: RunState) -> None:
        """Give Ctrl-C back."""
        self._timer.cancel()
        if callable(self._before) and _in_main_thread():
            signal.signal(signal.SIGINT, self._before)
