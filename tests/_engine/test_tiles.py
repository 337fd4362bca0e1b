"""Whether a picture is computed in tiles: by argument, by the free memory, on the command line."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nst import (
    ContentLoss,
    FeatureExtractor,
    GramStyleLoss,
    NearestNeighborStyleLoss,
    SlicedWassersteinStyleLoss,
    StyleTransfer,
    TotalVariationLoss,
)
from nst._engine import configuration
from nst.images import read_record
from nst.optim import optimizer_factory
from nst.testing import tiny_extractor


def small(extractor: nn.Module | None = None, **arguments: Any) -> StyleTransfer:
    losses = {"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}
    settings = {"losses": losses, "num_steps": 4, "num_scales": 2, **arguments}
    return StyleTransfer(tiny_extractor() if extractor is None else extractor, **settings)


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(1, 3, 70, 50, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def painting() -> Tensor:
    return torch.rand(1, 3, 64, 90, generator=torch.Generator().manual_seed(1))


def leave_free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let there be so few bytes that even a small picture may not fit."""
    monkeypatch.setattr(configuration, "free_memory", lambda device: count)
    monkeypatch.setattr(configuration, "_SMALL", 0)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("extra", [{}, {"tv": TotalVariationLoss(weight=0.1)}])
def test_a_run_in_tiles_paints_the_same_picture(
    picture: Tensor, painting: Tensor, optimizer: str, extra: dict[str, Any]
) -> None:
    losses = {"content": ContentLoss(weight=0.01), "style": GramStyleLoss(), **extra}
    results = [
        small(tiny_extractor().double(), losses=losses, optimizer=optimizer, tile=tile).run(
            picture, painting
        )
        for tile in (None, 12)
    ]
    torch.testing.assert_close(results[1].image, results[0].image, rtol=0, atol=1e-6)
    assert [result.settings["tile"] for result in results] == [None, 12]


def test_whole_pictures_are_computed_where_memory_is_enough(
    picture: Tensor, painting: Tensor
) -> None:
    assert small().run(picture, painting).settings["tile"] is None


def test_tiles_are_taken_where_it_is_not_and_the_log_says_so(
    picture: Tensor,
    painting: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    leave_free(monkeypatch, 1_000_000)
    with caplog.at_level(logging.INFO, "nst"):
        result = small().run(picture, painting)
    assert result.settings["tile"] == 64
    assert "50x70 pixels would take about 5 MB, and 1 MB are free: in tiles of 64 rows" in (
        caplog.text
    )


def test_each_picture_of_a_batch_is_reckoned_with(
    picture: Tensor,
    painting: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_free(monkeypatch, 10_000_000)
    batch = picture.expand(12, -1, -1, -1)
    assert small().run(picture, painting).settings["tile"] is None
    assert small(num_steps=1).run(batch, painting).settings["tile"] == 64


def test_styles_are_captured_in_tiles_as_well(
    painting: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave_free(monkeypatch, 1_000_000)
    with caplog.at_level(logging.INFO, "nst"):
        small().capture(painting, [60])
    assert "are free: in tiles of 64 rows" in caplog.text


def test_what_must_see_everything_is_not_tiled_by_itself(
    picture: Tensor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, 1_000_000)
    losses = {"style": SlicedWassersteinStyleLoss(["relu2_1"])}
    assert small(losses=losses).run(picture, painting).settings["tile"] is None


@pytest.mark.parametrize("loss", [NearestNeighborStyleLoss(), SlicedWassersteinStyleLoss()])
def test_tiles_of_what_must_see_everything_are_refused_by_name(loss: Any) -> None:
    with pytest.raises(ValueError, match=f"the loss .own. .{type(loss).__name__}. is not a sum"):
        small(losses={"own": loss}, tile=64)


def test_tiles_of_another_network_are_refused() -> None:
    class Network(nn.Module):
        def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
            return {"image": images}

    with pytest.raises(ValueError, match="a Network, which cannot be computed in parts"):
        small(Network(), tile=64)


@pytest.mark.parametrize(
    ("tile", "error", "message"),
    [
        (0, ValueError, "`tile` is 0; it must be at least 1"),
        ("some", ValueError, "`tile` is 'some'"),
        (1.5, TypeError, "`tile` is 1.5; a whole number is needed"),
    ],
)
def test_a_wrong_tile_is_refused(tile: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small(tile=tile)


def test_a_record_tells_the_tile_so_that_the_picture_can_be_made_again(
    picture: Tensor, painting: Tensor, tmp_path: Any
) -> None:
    (path,) = small(tile=12).run(picture, painting).save(tmp_path / "out.png")
    assert read_record(path)["tile"] == 12
    assert StyleTransfer.from_record(path, tiny_extractor()).tile == 12


def test_a_captured_style_gives_the_same_bits_in_tiles(picture: Tensor, painting: Tensor) -> None:
    transfer = small(tile=12)
    captured = transfer.capture(painting, sizes=[35, 70])
    expected = transfer.run(picture, painting).image
    assert torch.equal(transfer.run(picture, captured).image, expected)


def test_targets_are_captured_in_tiles_as_well(
    picture: Tensor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = small(tile=12).capture(painting, sizes=[70])
    heights, forward = [], FeatureExtractor.forward

    def seen(extractor: FeatureExtractor, images: Tensor, layers: Any) -> dict[str, Tensor]:
        heights.append(images.shape[-2])
        return forward(extractor, images, layers)

    monkeypatch.setattr(FeatureExtractor, "forward", seen)
    small(tile=12, num_scales=1).run(picture, captured)
    assert max(heights) <= 64  # the corner on which losses are tried


@pytest.mark.parametrize(("side", "history"), [(512, 20), (4096, 5), (16384, 4)])
def test_the_optimizers_history_of_a_large_picture_is_short(side: int, history: int) -> None:
    whole = torch.zeros(1).expand(1, 3, side, side).requires_grad_()
    group = optimizer_factory("lbfgs")([whole]).param_groups[0]
    assert group["history_size"] == history
