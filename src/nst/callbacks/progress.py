"""A progress bar."""

import importlib.util
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

from nst._utils.text import duration
from nst.callbacks.base import Callback, RunState


class ProgressBar(Callback):
    """Shows the completed share of the work, the steps, the loss and the time left.

    With tqdm (extra `progress`), the bar also works in notebooks; without it, it is one line on
    standard error.

    Examples:
        >>> bar = ProgressBar()
        >>> # transfer.run(content, style, callbacks=[bar])
    """

    _bar: Any = None  # of tqdm, if there is one
    _start_time = 0.0
    _start_progress = 0.0

    def on_start(self, state: RunState) -> None:
        """Open the bar."""
        self._bar, self._start_time, self._start_progress = None, monotonic(), 0.0
        if importlib.util.find_spec("tqdm") is not None:
            from tqdm.auto import tqdm

            # tqdm's own estimate assumes that all steps cost the same, so the postfix has ours.
            # `miniters=0` because one step adds only a fraction of the total of 1.
            form = "{l_bar}{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=1.0, bar_format=form, miniters=0, dynamic_ncols=True)

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Open the bar at the progress of the checkpoint."""
        self.on_start(state)
        self._start_progress = state.progress

    def on_step(self, state: RunState) -> None:
        """Advance the bar."""
        self._show(state)

    def on_end(self, state: RunState) -> None:
        """Show the last step and close the bar."""
        if state.step > 0:
            self._show(state)
        if self._bar is not None:
            self._bar.close()
        else:
            sys.stderr.write("\n")

    def _show(self, state: RunState) -> None:
        progress, (height, width) = state.progress, state.image.shape[-2:]
        left = ""
        if state.stop_reason is None:
            elapsed = monotonic() - self._start_time
            seconds = elapsed * (1 - progress) / (progress - self._start_progress)
            left = f", {duration(seconds)} left"
        text = f"{state.step}/{state.num_steps} steps{left}, loss={state.loss:.4g}"
        if self._bar is None:
            # Padding overwrites a longer line.
            sys.stderr.write(f"\r{f'{width}x{height}: {progress:.0%}, {text}':<79}")
            sys.stderr.flush()
        else:
            self._bar.set_description(f"{width}x{height}", refresh=False)
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(progress - self._bar.n)
