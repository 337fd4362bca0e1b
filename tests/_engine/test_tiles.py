"""Whether a picture is computed in tiles: by argument, by the free memory, on the command line."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nst
from nst import ContentLoss, FeatureExtractor, GramStyleLoss, SlicedWassersteinStyleLoss
from nst._engine import configuration
from nst.optim import optimizer_factory
from nst.testing import tiny_extractor
from tests import helpers
from tests.helpers import picture, spy

PICTURE, PAINTING = picture(70, 50), picture(64, 90, seed=1)
LOSSES = {"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}
OPTIONS: dict[str, Any] = {"losses": LOSSES, "num_steps": 4, "num_scales": 2}
small = partial(helpers.small, **OPTIONS)
paint = partial(helpers.paint, content=PICTURE, style=PAINTING, **OPTIONS)


@pytest.fixture
def leave_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let there be so few bytes that even a small picture may not fit."""

    def leave(count: int) -> None:
        monkeypatch.setattr(configuration, "free_memory", lambda device: count)
        monkeypatch.setattr(configuration, "_SMALL", 0)

    return leave


@pytest.mark.float64
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("extra", [{}, {"tv": nst.TotalVariationLoss(weight=0.1)}])
def test_a_run_in_tiles_paints_the_same_picture(optimizer: str, extra: dict[str, Any]) -> None:
    how: dict[str, Any] = {"losses": {**LOSSES, **extra}, "optimizer": optimizer}
    results = [paint(extractor=tiny_extractor().double(), **how, tile=tile) for tile in (None, 12)]
    torch.testing.assert_close(results[1].image, results[0].image, rtol=0, atol=1e-6)
    assert [result.settings["tile"] for result in results] == [None, 12]


@pytest.mark.cpu  # a step takes more elsewhere
def test_tiles_are_taken_where_memory_is_short_and_the_log_says_so(
    leave_free: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    leave_free(1_000_000)
    caplog.set_level(logging.INFO, "nst")
    assert paint().settings["tile"] == 64
    needed = "50x70 pixels would take about 5 MB, and 1 MB are free: in tiles of 64 rows"
    assert needed in caplog.text
    caplog.clear()
    small().capture(PAINTING, [60])
    assert "are free: in tiles of 64 rows" in caplog.text
    losses = {"style": SlicedWassersteinStyleLoss(["relu2_1"])}  # which must see everything
    assert paint(losses=losses).settings["tile"] is None
    leave_free(10_000_000)
    assert paint().settings["tile"] is None
    assert paint(content=PICTURE.expand(12, -1, -1, -1), num_steps=1).settings["tile"] == 64


def test_tiles_of_what_must_see_everything_are_refused_by_name() -> None:
    class Network(nn.Module):
        def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
            return {"image": images}

    for loss in (nst.NearestNeighborStyleLoss(), SlicedWassersteinStyleLoss()):
        message = f"the loss .own. .{type(loss).__name__}. is not a sum"
        with pytest.raises(ValueError, match=message):
            small(losses={"own": loss}, tile=64)
    with pytest.raises(ValueError, match="a Network, which cannot be computed in parts"):
        small(extractor=Network(), tile=64)


def test_a_captured_style_gives_the_same_bits_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = small(tile=12).capture(PAINTING, sizes=[35, 70])
    assert torch.equal(paint(tile=12, style=captured).image, paint(tile=12).image)
    calls = spy(monkeypatch, FeatureExtractor, "forward")  # targets are captured in tiles as well
    paint(tile=12, num_scales=1, style=captured)
    assert max(images.shape[-2] for _, images, *_ in calls) <= 64  # on which losses are tried


@pytest.mark.parametrize(("side", "history"), [(512, 20), (4096, 5), (16384, 4)])
def test_the_optimizers_history_of_a_large_picture_is_short(side: int, history: int) -> None:
    whole = torch.zeros(1).expand(1, 3, side, side).requires_grad_()
    assert optimizer_factory("lbfgs")([whole]).param_groups[0]["history_size"] == history
