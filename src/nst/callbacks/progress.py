"""A progress bar."""

import importlib.util
import sys
from typing import Any

from nst._utils.text import duration
from nst.callbacks.base import Display, RunState


class ProgressBar(Display):
    """Shows the completed share of the work, the steps, the loss and the time left.

    With tqdm (extra `progress`), it also works in notebooks; otherwise, it is a line on stderr.

    Examples:
        >>> bar = ProgressBar()
        >>> # transfer.run(content, style, callbacks=[bar])
    """

    def on_start(self, state: RunState) -> None:
        super().on_start(state)
        self._bar: Any = None
        self._try(self._open, state)

    def on_step(self, state: RunState) -> None:
        self._try(self._show, state)

    def on_end(self, state: RunState) -> None:
        self._try(self._close, state)
        if self._is_silent and self._bar is not None:
            self._bar.disable = True  # else it writes again when it is deleted

    def _open(self, state: RunState) -> None:
        if importlib.util.find_spec("tqdm") is not None:
            from tqdm.auto import tqdm

            # tqdm's own estimate assumes steps of equal cost, so the postfix shows another.
            # `miniters=0`, as one step adds only a fraction of the total of 1.
            form = "{l_bar}{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=1.0, bar_format=form, miniters=0, dynamic_ncols=True)

    def _close(self, state: RunState) -> None:
        if state.step > 0:
            self._show(state)
        if self._bar is not None:
            self._bar.close()
        else:
            sys.stderr.write("\n")

    def _show(self, state: RunState) -> None:
        progress, (height, width), eta = state.progress, state.image.shape[-2:], state.eta
        left = "" if eta is None or state.stop_reason else f", {duration(eta)} left"
        text = f"{state.step}/{state.num_steps} {state.unit}s{left}, loss={state.loss:.4g}"
        if self._bar is None:
            # Padding overwrites a longer line.
            sys.stderr.write(f"\r{f'{width}x{height}: {progress:.0%}, {text}':<79}")
            sys.stderr.flush()
        else:
            self._bar.set_description(f"{width}x{height}", refresh=False)
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(progress - self._bar.n)
