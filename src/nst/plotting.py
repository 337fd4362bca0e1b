"""Plot a run: a live display, a comparison, the loss curves. Requires the extra `plot`.

Functions return the figure, which a notebook shows; in a script, call `matplotlib.pyplot.show()` or
`figure.savefig(path)`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nst._utils.checks import Checked, at_least, check_index, required
from nst.callbacks.base import Display, RunState
from nst.images import side_by_side, to_pil
from nst.result import StyleTransferResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LiveDisplay", "plot_losses", "show_images", "show_transfer"]


def show_images(images: Mapping[str, Tensor]) -> Figure:
    """Show images, `(3, H, W)` or `(1, 3, H, W)` in [0, 1], side by side with titles.

    Examples:
        >>> figure = show_images({"one": torch.rand(3, 8, 8), "two": torch.rand(1, 3, 8, 6)})
    """
    if not isinstance(images, Mapping):
        what = f"`images` is of type {type(images).__name__}, but must be a mapping of titles"
        raise TypeError(f"{what} to images. Pass e.g. {{'result': image}}.")
    return _side_by_side(list(images.items()))


def show_transfer(result: StyleTransferResult, *, index: int = 0) -> Figure:
    """Show content, styles and result side by side, for the picture `index` of a batch."""
    index = check_index("index", index, len(result.image))
    styles = [("style", style[0]) for style in result.styles]
    return _side_by_side(
        [("content", result.content[index]), *styles, ("result", result.image[index])]
    )


def plot_losses(result: StyleTransferResult) -> Figure:
    """Plot every loss, and their sum if there are several, by step on a logarithmic scale.

    Examples:
        >>> from nst import StyleTransfer
        >>> from nst.testing import tiny_extractor
        >>> photo, painting = torch.rand(2, 1, 3, 32, 32)
        >>> result = StyleTransfer(tiny_extractor(), num_steps=3).run(photo, painting)
        >>> figure = plot_losses(result)
    """
    figure = _pyplot().figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    curves = dict(result.history)
    if len(curves) > 1:
        curves["total"] = [sum(values) for values in zip(*result.history.values(), strict=True)]
    for name, values in curves.items():
        marker = "o" if len(values) == 1 else None  # a line through one point is invisible
        axes.plot(range(1, len(values) + 1), values, label=name, marker=marker)
    if any(value > 0 for values in curves.values() for value in values):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("weighted loss")
    if curves:  # none if the run ended before its first step
        axes.legend()
    return _detached(figure)


class LiveDisplay(Display):
    """Shows the evolving picture during the run, in a notebook or a window; a batch side by side.

    Without either, the picture is only drawn into `figure`.

    Args:
        every: Number of steps between pictures; `ValueError` if below 1.

    Examples:
        >>> display = LiveDisplay(every=5)
        >>> # transfer.run(content, style, callbacks=[display])
    """

    figure: Figure | None = None
    """The displayed figure; None before the first run."""
    every = Checked(at_least)

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._handle: Any = None  # of the output in a notebook

    def on_start(self, state: RunState) -> None:
        super().on_start(state)
        _pyplot()  # raises if matplotlib is not installed
        self._try(self._open, state)

    def on_step(self, state: RunState) -> None:
        if state.step % self.every == 0:
            self._try(self._refresh, state)

    def on_end(self, state: RunState) -> None:
        self._try(self._refresh, state)
        if self.figure is not None:
            _detached(self.figure)

    def _open(self, state: RunState) -> None:
        self.figure = _pyplot().figure(figsize=(6, 6), layout="constrained")
        self._axes = self.figure.subplots()
        self._draw(state)
        if _in_notebook():
            display = importlib.import_module("IPython.display").display
            _pyplot().close(self.figure)  # else the notebook shows it again at the end
            self._handle = display(self.figure, display_id=True)
        elif _has_window(self.figure):
            _pyplot().show(block=False)

    def _refresh(self, state: RunState) -> None:
        assert self.figure is not None
        self._draw(state)
        if self._handle is not None:
            self._handle.update(self.figure)
        elif _has_window(self.figure):
            self.figure.canvas.draw_idle()
            self.figure.canvas.flush_events()

    def _draw(self, state: RunState) -> None:
        self._axes.clear()
        self._axes.set_axis_off()
        self._axes.imshow(to_pil(side_by_side(state.image)))
        loss = f", loss {state.loss:.4g}" if state.losses else ""
        self._axes.set_title(f"step {state.step}{loss}")


def _side_by_side(pictures: Sequence[tuple[str, Tensor]]) -> Figure:
    figure = _pyplot().figure(figsize=(4 * len(pictures), 4), layout="constrained")
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    for each, (title, picture) in zip(axes, pictures, strict=True):
        each.imshow(to_pil(picture))
        each.set_title(title)
        each.set_axis_off()
    return _detached(figure)


def _pyplot() -> Any:
    return required("matplotlib.pyplot", "`nst.plotting` needs matplotlib", "plot")


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _has_window(figure: Figure) -> bool:
    return getattr(figure.canvas, "required_interactive_framework", None) is not None


def _detached(figure: Figure) -> Figure:
    """Close a figure without a window, which a notebook would otherwise show twice."""
    if not _has_window(figure):
        _pyplot().close(figure)
    return figure
