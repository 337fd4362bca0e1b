"""Figures of a run, in a script and in a notebook."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import nst.plotting
from nst import RunState, StyleTransferResult
from nst.plotting import LiveDisplay, plot_losses, show_images, show_transfer
from tests import helpers
from tests.helpers import PAINTING, PHOTO, Recorder, fail_at, raising


@pytest.fixture(autouse=True)
def no_figure_left_open() -> Iterator[None]:
    yield
    assert plt.get_fignums() == []


def paint(**arguments: Any) -> StyleTransferResult:
    return helpers.paint(**{"num_steps": 5, **arguments})


@pytest.fixture
def result() -> StyleTransferResult:
    return paint(style=[PAINTING, 1 - PHOTO])


def shown(axes: Any) -> Tensor:
    """Give the picture of an axes as (3, H, W) in [0, 1]."""
    (image,) = axes.images
    return torch.tensor(image.get_array() / 255, dtype=torch.float32).permute(2, 0, 1)


def test_show_transfer_puts_content_styles_and_result_side_by_side_for_one_of_a_batch(
    result: StyleTransferResult, tmp_path: Path
) -> None:
    figure = show_transfer(result)
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes] == ["content", "style", "style", "result"]
    pictures = [result.content, *result.styles, result.image]
    for axes, picture in zip(figure.axes, pictures, strict=True):
        assert torch.allclose(shown(axes), picture[0], atol=0.51 / 255)
        assert not axes.axison
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 0
    result = paint(content=torch.cat([PHOTO, 1 - PHOTO]))
    content, _, last = show_transfer(result, index=1).axes
    assert torch.allclose(shown(content), result.content[1], atol=0.51 / 255)
    assert torch.allclose(shown(last), result.image[1], atol=0.51 / 255)
    with pytest.raises(IndexError, match="`index` is 2; it must be below 2"):
        show_transfer(result, index=2)
    with pytest.raises(TypeError, match="`images` is of type list, but must be a mapping"):
        show_images([PHOTO])  # type: ignore[arg-type]


def test_plot_losses_draws_every_loss_and_their_sum(result: StyleTransferResult) -> None:
    (axes,) = plot_losses(result).axes
    curves: dict[Any, Any] = {line.get_label(): line for line in axes.lines}
    assert list(curves) == ["content", "style", "total"]
    for name, values in (result.history | {"total": helpers.total(result)}).items():
        assert list(curves[name].get_xdata()) == [1, 2, 3, 4, 5]
        assert list(curves[name].get_ydata()) == values
    assert (axes.get_xlabel(), axes.get_yscale()) == ("step", "log")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(curves)
    # It needs no sum of one loss, no logarithm of zero, and no step.
    result.history.clear()
    assert len(plot_losses(result).axes[0].lines) == 0
    result.history["style"] = [0.0, 0.0]
    (axes,) = plot_losses(result).axes
    assert [line.get_label() for line in axes.lines] == ["style"]
    assert axes.get_yscale() == "linear" and axes.lines[0].get_marker() == "None"
    result.history["style"] = [1.0]  # a point, which a line does not show
    assert plot_losses(result).axes[0].lines[0].get_marker() == "o"


def test_live_display_shows_every_few_steps_and_the_result() -> None:
    titles: list[str] = []
    display = LiveDisplay(every=2)
    assert display.figure is None

    def note(state: RunState) -> None:
        assert display.figure is not None
        titles.append(display.figure.axes[0].get_title().split(",")[0])

    result = paint(callbacks=[display, note])
    assert titles == ["step 0", "step 2", "step 2", "step 4", "step 4"]
    assert display.figure is not None
    (axes,) = display.figure.axes
    assert axes.get_title().startswith("step 5, loss 0.")
    assert torch.allclose(shown(axes), result.image[0], atol=0.51 / 255)


def test_live_display_follows_the_scales_and_shows_a_batch_side_by_side() -> None:
    shapes, display = list[tuple[int, ...]](), LiveDisplay(every=1)

    def note(state: RunState) -> None:
        assert display.figure is not None
        shapes.append(tuple(shown(display.figure.axes[0]).shape))

    paint(content=torch.cat([PHOTO, PHOTO]), num_steps=2, num_scales=2, callbacks=[display, note])
    assert shapes == [(3, 16, 40), (3, 32, 80)]
    with pytest.raises(ArithmeticError):  # which closes the figure
        paint(callbacks=[LiveDisplay(), fail_at(2, ArithmeticError())])


def test_live_display_opens_one_window_which_may_be_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(nst.plotting, "_has_window", lambda figure: True)
    monkeypatch.setattr(plt, "show", lambda *, block: calls.append(("show", block)))
    monkeypatch.setattr(FigureCanvasAgg, "draw_idle", lambda self: calls.append("draw"))
    monkeypatch.setattr(FigureCanvasAgg, "flush_events", lambda self: calls.append("flush"))
    display = LiveDisplay(every=2)
    paint(callbacks=[display])
    calls = calls[calls.index(("show", False)) :]  # making a figure draws too
    assert [call for call in calls if call != "draw"] == [("show", False), *["flush"] * 3]
    assert "draw" in calls
    (number,) = plt.get_fignums()
    assert plt.figure(number) is display.figure
    plt.close(number)
    closed = raising(RuntimeError("the application has been destroyed"))
    monkeypatch.setattr(nst.plotting, "_has_window", lambda figure: True)
    monkeypatch.setattr(plt, "show", lambda *, block: None)
    monkeypatch.setattr(FigureCanvasAgg, "flush_events", closed)
    assert paint(callbacks=[LiveDisplay(every=1)]).num_steps == 5
    (record,) = caplog.records
    assert "the application has been destroyed" in record.getMessage()
    plt.close("all")


def test_live_display_replaces_one_notebook_output_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[tuple[object, list[object]]] = []

    def ipython_display(figure: object, *, display_id: bool) -> SimpleNamespace:
        assert display_id
        updates.append((figure, []))
        return SimpleNamespace(update=updates[-1][1].append)

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=ipython_display))
    monkeypatch.setattr(nst.plotting, "_in_notebook", lambda: True)
    display = LiveDisplay(every=2)
    for _ in range(2):
        paint(callbacks=[display])
    (first, of_first), (second, of_second) = updates
    assert first is not second and second is display.figure
    assert (of_first, of_second) == ([first] * 3, [second] * 3)  # steps 2 and 4, result


def test_a_notebook_is_an_ipython_with_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not nst.plotting._in_notebook()
    for shell in (None, SimpleNamespace(), SimpleNamespace(kernel=object())):
        module = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert nst.plotting._in_notebook() == hasattr(shell, "kernel")


def test_matplotlib_is_imported_only_when_something_is_drawn_and_else_named_as_missing(
    monkeypatch: pytest.MonkeyPatch, result: StyleTransferResult
) -> None:
    recorder = Recorder()
    calls: list[Callable[[], object]] = [lambda: show_transfer(result), lambda: plot_losses(result)]
    calls.append(lambda: paint(callbacks=[LiveDisplay(), recorder]))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.pyplot", None)
        for call in calls:
            with pytest.raises(ImportError, match=r"pip install 'nst\[plot\]'"):
                call()
        patch.setitem(sys.modules, "matplotlib", None)
        patch.delitem(sys.modules, "nst.plotting")
        patch.setattr(nst, "plotting", nst.plotting)  # the import sets it; put it back
        importlib.import_module("nst.plotting")
    assert recorder.calls == []  # refused before any step
