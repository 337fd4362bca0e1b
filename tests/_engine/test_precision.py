"""Which precision a run computes in: features in half, the rest and the last steps in full."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import Checkpoint, FeatureExtractor, GramStyleLoss, StyleTransfer
from nst._network.stage import Stage
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, assert_same, paint, stop_at, total

HALF, FULL = torch.bfloat16, torch.float32
one_evaluation_a_step = partial(torch.optim.SGD, lr=0.1)


def network(dtype: Any = HALF, factor: float = 1.0) -> FeatureExtractor:
    tensors = dict(tiny_extractor().state_dict())
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"] * factor
    return FeatureExtractor(Weights(tensors, "tiny"), dtype=dtype)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.dtype]]:
    """The types in which the first convolution is computed for the optimizer."""
    seen, compute = list[torch.dtype](), Stage.compute

    def noted(self: Stage, x: Tensor, *args: Any, **options: Any) -> Tensor:
        if x.shape[1] == 3 and x.requires_grad:
            seen.append(x.dtype)
        return compute(self, x, *args, **options)

    monkeypatch.setattr(Stage, "compute", noted)
    yield seen


def test_the_last_steps_and_those_that_rounding_ends_have_full_precision(
    evaluated: list[torch.dtype],
) -> None:
    result = paint(network(), optimizer=one_evaluation_a_step, num_steps=14, num_scales=2)
    assert result.num_steps == 14  # 8 and 6
    assert evaluated == 8 * [HALF] + 4 * [HALF] + 2 * [FULL]
    evaluated.clear()
    paint(network(), optimizer=partial(Stuck, lr=0.1), num_scales=2)
    assert evaluated == 2 * [HALF, FULL]  # as each scale ends


def test_targets_are_those_of_full_precision() -> None:
    half, full = (StyleTransfer(network(dtype)).capture(PAINTING, [32]) for dtype in (HALF, FULL))
    statistics: Any = half.image, full.image
    for one, other in zip(*(each.entries for each in statistics), strict=True):
        for layer, values in other.statistics.items():
            torch.testing.assert_close(one.statistics[layer], values, rtol=0, atol=0)


@pytest.mark.parametrize(("weights", "features"), [(HALF, FULL), (FULL, FULL), (HALF, HALF)])
def test_features_that_are_not_narrower_than_the_weights_are_computed_in_one_precision(
    weights: torch.dtype, features: torch.dtype, evaluated: list[torch.dtype]
) -> None:
    extractor = network(features).to(weights)
    assert extractor.in_full_precision() is extractor
    paint(extractor, optimizer=one_evaluation_a_step, num_steps=5, num_scales=1)
    assert evaluated == 5 * [features]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("tile", [None, 16])
def test_the_losses_become_nearly_those_of_full_precision(optimizer: str, tile: int | None) -> None:
    how: dict[str, Any] = {"optimizer": optimizer, "tile": tile, "num_steps": 12, "num_scales": 2}
    half, full = (paint(network(dtype), **how) for dtype in (HALF, FULL))
    assert not torch.equal(half.image, full.image)
    assert min(total(half)) < 1.5 * min(total(full)) < 0.5 * total(full)[0]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("step", [2, 11, 12, 13])
def test_a_resumed_run_keeps_its_precision(step: int, optimizer: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"optimizer": optimizer, "num_steps": 14, "num_scales": 2}
    whole = paint(network(), **how)
    callbacks = [Checkpoint(tmp_path / "run.ckpt", every=step), stop_at(step)]
    paint(network(), **how, callbacks=callbacks)
    assert_same(StyleTransfer.resume(tmp_path / "run.ckpt", extractor=network()), whole)


def test_the_result_is_the_best_picture_of_full_precision() -> None:
    ascent = partial(torch.optim.SGD, lr=1.0, maximize=True)
    half, full = (paint(network(each), optimizer=ascent, num_scales=1) for each in (HALF, FULL))
    assert torch.equal(full.image, PHOTO)
    assert not torch.equal(half.image, PHOTO)


class Stuck(torch.optim.SGD):
    stop_reason = "stuck"


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_features_beyond_the_range_are_computed_in_full_precision(
    optimizer: str, evaluated: list[torch.dtype], caplog: pytest.LogCaptureFixture
) -> None:
    losses = {"style": GramStyleLoss(["relu1_1"])}
    result = paint(network("float16", factor=1e6), losses=losses, optimizer=optimizer)
    assert result.stop_reason == "completed" and result.num_steps == 6
    assert all(torch.tensor(total(result)).isfinite())
    assert evaluated[:2] == [torch.float16, FULL] and torch.float16 not in evaluated[2:]
    assert "loss 'style' became nan, so the scale is completed in full precision" in caplog.text
