from collections.abc import Callable
from typing import Any

import pytest
import torch

import nst
from nst import HistogramStyleLoss, NearestNeighborStyleLoss, SlicedWassersteinStyleLoss, Style
from tests import helpers
from tests.losses.test_losses import features

SORTING = [HistogramStyleLoss, SlicedWassersteinStyleLoss]
SAMPLING = [NearestNeighborStyleLoss, nst.RelaxedTransportStyleLoss]
every_loss = pytest.mark.parametrize("kind", [*SORTING, *SAMPLING])


@every_loss
def test_a_blend_is_the_weighted_mean_of_the_losses_without_those_of_weight_0(kind: Any) -> None:
    picture, styles, loss = features(0), [features(1), features(2)], kind(["a"])
    alone = []
    for style in styles:
        loss.capture(style)
        alone.append(float(loss(picture)))
    loss.capture(styles, [3, 1])
    assert float(loss(picture)) == pytest.approx(0.75 * alone[0] + 0.25 * alone[1])
    both = len(list(loss.buffers()))
    loss.capture(styles, [0, 1])
    assert len(list(loss.buffers())) == both / 2
    assert float(loss(picture)) == alone[1]


@pytest.mark.parametrize("kind", SORTING)
def test_relative_units_do_not_depend_on_the_scale_of_the_features(kind: Any) -> None:
    values = []
    for scale in (1, 255):
        loss = kind(["a"])
        loss.capture({"a": scale * features(1)["a"]})
        values.append(float(loss({"a": scale * features(0)["a"]})))
    assert values[0] == pytest.approx(values[1])


def test_directions_are_drawn_once_and_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def value(seed: int) -> float:
        loss = SlicedWassersteinStyleLoss(["a"], seed=seed, num_directions=2)
        loss.capture(features(1))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", None)
            return float(loss({"a": feature}))

    feature, before = features(0)["a"], torch.random.get_rng_state()
    assert value(0) == value(0) != value(1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", SAMPLING)
def test_more_positions_than_allowed_are_sampled(kind: Any) -> None:
    loss = kind(["a"], max_positions=7)
    loss.capture(features(1, size=20))
    (kept,) = loss.buffers()
    assert kept.shape == (1, 3, 7)
    assert bool(loss(features(0, size=17)).isfinite())


@every_loss
def test_features_and_references_that_do_not_fit_are_refused_and_change_nothing(kind: Any) -> None:
    loss, one, other = kind(["a"]), features(1), features(2)
    with pytest.raises(RuntimeError, match="no target"):
        loss(features(0))
    loss.capture(features(1, n=2))
    with pytest.raises(ValueError, match=r"captured \(2, 3, 4, 4\) at 'a' and is given \(3, 3"):
        loss(features(0, n=3))
    loss.capture(one)
    before = float(loss(features(0)))
    name, wide = kind.__name__, {"a": torch.rand(1, 9, 4, 4).double()}
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: loss(wide), rf"{name} captured \(1, 3, 4, 4\) at 'a' and is given \(1, 9, 4, 4\)"),
        (lambda: loss.capture({**one, "mask": torch.ones(1, 1, 4, 4)}), "has a mask"),
        (lambda: loss.capture([one, other], [0, 0]), "`blend`"),
        (lambda: loss.capture([{"c": one["a"]}, other]), "has no 'a'"),
    ]
    for use, message in refused:
        with pytest.raises(ValueError, match=message):
            use()
    assert float(loss(features(0))) == before
    with pytest.raises(ValueError, match="has a mask"):
        nst.SelfSimilarityLoss(["a"]).capture({**one, "mask": torch.ones(1, 1, 4, 4)})


@every_loss
def test_a_run_lowers_the_loss_and_refuses_regions(kind: Any) -> None:
    losses = {"content": nst.ContentLoss(weight=0.01), "match": kind(["relu2_1"])}
    transfer = helpers.small(losses=losses, num_steps=8, num_scales=1)
    history = transfer.run(helpers.PHOTO, helpers.PAINTING).history["match"]
    assert history[-1] < 0.9 * history[0]
    with pytest.raises(ValueError, match=f"{kind.__name__}.* is not a mean over positions"):
        transfer.run(helpers.PHOTO, Style(helpers.PAINTING, region=helpers.LEFT))
