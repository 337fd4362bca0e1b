"""Flat pictures, dead networks, numbers at the edge: no NaN leaves the library, and it says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import (
    ContentLoss,
    CrossLayerGramStyleLoss,
    FeatureExtractor,
    GramStyleLoss,
    Loss,
    Style,
    StyleTransfer,
    StyleTransferResult,
)
from nst.color import COLOR_METHODS
from nst.optim.lbfgs import BoundedLBFGS
from nst.testing import tiny_extractor
from tests.contracts.test_every_loss import variants

SHAPE = (1, 3, 24, 32)


def noise(seed: int = 3) -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


PICTURES = {
    "black": torch.zeros(SHAPE),
    "white": torch.ones(SHAPE),
    "red": torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(SHAPE).clone(),
    "grey": torch.full(SHAPE, 0.5),
    "faint": 0.5 + 1e-6 * noise(),
    "nearly black": torch.full(SHAPE, 1e-42),
    "noise": noise(),
}


def dead_extractor() -> FeatureExtractor:
    extractor = tiny_extractor()
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.zero_()
    return extractor


NETWORKS = {"alive": tiny_extractor(), "dead": dead_extractor()}


def sound(result: StyleTransferResult) -> bool:
    """Whether all that comes back can be used."""
    image, history = result.image, result.history.values()
    within = 0 <= float(image.min()) <= float(image.max()) <= 1
    return within and all(math.isfinite(value) for values in history for value in values)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("make", list(variants()))
def test_every_loss_takes_flat_pictures_and_dead_channels(
    make: Callable[..., Loss], network: str
) -> None:
    for content in PICTURES:
        for style in ("black", "red", "faint", "noise"):
            transfer = StyleTransfer(NETWORKS[network], {"loss": make()}, num_steps=2)
            if transfer.losses["loss"].reference is None and style != "black":
                continue
            result = transfer.run(PICTURES[content], PICTURES[style])
            assert sound(result), (content, style)
            assert not result.stop_reason.startswith("diverged"), (content, style)


@pytest.mark.parametrize("method", COLOR_METHODS)
@pytest.mark.parametrize("init", ["noise", "pink-noise"])
def test_colors_of_flat_pictures_can_be_kept_and_drawn_from(method: str, init: str) -> None:
    transfer = StyleTransfer(NETWORKS["alive"], num_steps=1)
    for content in PICTURES.values():
        for style in PICTURES.values():
            result = transfer.run(
                content, style, preserve_color=method, color_when="both", init=init
            )
            assert sound(result)
            assert not result.stop_reason.startswith("diverged")


def test_a_style_that_is_the_content_changes_nothing() -> None:
    for optimizer in ("lbfgs", "adam"):
        transfer = StyleTransfer(NETWORKS["alive"], num_steps=3, optimizer=optimizer)
        result = transfer.run(PICTURES["noise"], PICTURES["noise"])
        torch.testing.assert_close(result.image, PICTURES["noise"], atol=1e-4, rtol=0)


def weighted(weight: float, **arguments: Any) -> StyleTransfer:
    losses = {"content": ContentLoss(weight=weight), "style": GramStyleLoss(weight=weight)}
    return StyleTransfer(NETWORKS["alive"], losses, **{"num_steps": 6, **arguments})


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
def test_a_factor_of_all_weights_changes_nothing_for_lbfgs(exponent: int) -> None:
    """1e-30 and 1e30, as powers of two, which rounding does not tell from 1."""
    one, other = (weighted(2.0**power).run(PICTURES["noise"], noise(5)) for power in (0, exponent))
    assert other.stop_reason == "completed"
    assert torch.equal(one.image, other.image)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_bounded_lbfgs_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    x = torch.full((20,), 0.5).requires_grad_()
    goal = torch.linspace(-0.5, 1.5, 20)
    optimizer = BoundedLBFGS([x])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = scale * (x - goal).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(20):
        optimizer.step(closure)
    torch.testing.assert_close(x.detach(), goal.clamp(0, 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("weight", [1e-320, 1e-45, 1e39, 1e300])
def test_weights_that_are_no_numbers_in_32_bits_do_no_harm(weight: float, optimizer: str) -> None:
    result = weighted(weight, optimizer=optimizer).run(PICTURES["noise"], noise(5))
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    if weight > 1:
        assert result.stop_reason.startswith("diverged: loss ")
        assert torch.equal(result.image, PICTURES["noise"])


@pytest.mark.parametrize("power", [1, 8, 15, 25, 38])
def test_an_optimizer_that_runs_away_is_noticed_and_the_best_is_kept(power: int) -> None:
    def wild(params: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=10.0**power)

    result = weighted(1.0, optimizer=wild).run(PICTURES["noise"], noise(5))
    assert bool(result.image.isfinite().all())
    start = weighted(1.0, optimizer=wild, num_steps=1)
    assert sum(v[0] for v in result.history.values()) >= min(
        map(sum, zip(*result.history.values(), strict=True))
    )
    assert sound(start.run(PICTURES["noise"], noise(5)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 1e103}, r"`strength` is 1e\+103; it must be at most 1e\+100"),
        ({"strength": 1e308}, r"`strength` is 1e\+308; it must be at most 1e\+100"),
        ({"seed": 2**64}, r"`seed` is 18446744073709551616; it must be below 2\*\*64"),
    ],
)
def test_numbers_whose_powers_are_none_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted(1.0).run(PICTURES["noise"], PICTURES["red"], **arguments)


def test_a_scale_whose_multiples_are_no_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`scale` is 1e\+308; it must be at most 1e\+100"):
        Style(PICTURES["red"], scale=1e308)
    result = weighted(1.0).run(PICTURES["noise"], Style(noise(5), scale=1e99))
    assert torch.equal(result.image, weighted(1.0).run(PICTURES["noise"], noise(5)).image)


def test_style_weights_whose_sum_is_no_number_are_shares_all_the_same() -> None:
    styles = [noise(5), noise(6)]
    huge = weighted(1.0).run(PICTURES["noise"], [Style(each, 1e308) for each in styles])
    equal = weighted(1.0).run(PICTURES["noise"], [Style(each, 1.0) for each in styles])
    assert torch.equal(huge.image, equal.image)


@pytest.mark.parametrize("shape", [(16,), (16, 16, 16), 5, (10**6, 10**6), (10**10, 10**10)])
def test_a_shape_that_no_picture_has_is_refused(shape: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^`shape` is "):
        weighted(1.0).synthesize(noise(5), shape)


@pytest.mark.parametrize("layers", [["relu1_1"], "relu1_1", {"relu1_1": 1.0}])
def test_too_few_layers_for_a_pair_are_told_as_they_were_given(layers: Any) -> None:
    with pytest.raises(ValueError, match="at least two are needed"):
        CrossLayerGramStyleLoss(layers)
