"""Flat pictures, numbers at the edge: no NaN in a result, and a reason given."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from nst import ContentLoss, GramStyleLoss, Loss, Style, StyleTransfer, StyleTransferResult
from nst.testing import tiny_extractor
from tests import helpers
from tests.contracts.test_every_loss import variants
from tests.helpers import total

EXTRACTOR = tiny_extractor()
NOISE, OTHER = helpers.picture(24, 32, seed=3), helpers.picture(24, 32, seed=5)
RED = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 24, 32).clone()
FLAT = [0 * NOISE, RED, 0.5 + 1e-6 * NOISE, torch.full_like(NOISE, 1e-42)]
# A loss with the previous frame as its reference needs a video.
OF_A_RUN = [make for make in variants() if make.values[0]().reference != "previous"]


def sound(result: StyleTransferResult) -> bool:
    """Whether image and history can be used."""
    image, history = result.image, result.history.values()
    within = 0 <= float(image.min()) <= float(image.max()) <= 1
    return within and all(math.isfinite(value) for values in history for value in values)


@pytest.mark.parametrize("make", OF_A_RUN)
def test_every_loss_takes_flat_pictures(make: Callable[..., Loss]) -> None:
    transfer = StyleTransfer(EXTRACTOR, {"loss": make()}, num_steps=2)
    pairs = [*itertools.product(FLAT, (RED, NOISE)), (NOISE, FLAT[0]), (NOISE, FLAT[2])]
    for i, (content, style) in enumerate(pairs):
        result = transfer.run(content, style)
        assert sound(result) and not result.stop_reason.startswith("diverged"), i


def paint(weight: float = 1.0, *, style: Any = OTHER, **arguments: Any) -> StyleTransferResult:
    losses = {"content": ContentLoss(weight=weight), "style": GramStyleLoss(weight=weight)}
    return helpers.paint(EXTRACTOR, content=NOISE, style=style, losses=losses, **arguments)


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
def test_a_factor_of_all_weights_changes_nothing_for_lbfgs(exponent: int) -> None:
    """1e-30 and 1e30, as powers of two, which are exact."""
    other = paint(2.0**exponent)
    assert other.stop_reason == "completed"
    assert torch.equal(other.image, paint().image)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("weight", [1e-320, 1e-45, 1e39, 1e300])
def test_weights_out_of_the_range_of_32_bits_do_no_harm(weight: float, optimizer: str) -> None:
    result = paint(weight, optimizer=optimizer)
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    if weight > 1:
        assert result.stop_reason.startswith("diverged: loss ")
        assert torch.equal(result.image, NOISE)


@pytest.mark.parametrize("power", [1, 8, 15, 25, 38])
def test_a_diverging_optimizer_does_not_cost_the_best_picture(power: int) -> None:
    wild = partial(torch.optim.SGD, lr=10.0**power)
    result = paint(optimizer=wild)
    assert bool(result.image.isfinite().all())
    assert total(result)[0] >= min(total(result))
    assert sound(paint(optimizer=wild, num_steps=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(paint, strength=1e103), r"`strength` is 1e\+103; it must be at most 1e\+100"),
        (partial(paint, seed=2**64), r"`seed` is 18446744073709551616; it must be below 2\*\*64"),
        (partial(Style, OTHER, scale=1e308), r"`scale` is 1e\+308; it must be at most 1e\+100"),
    ],
)
def test_numbers_too_large_to_use_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_scales_of_any_size_and_style_weights_as_large_as_floats_can_be_computed_with() -> None:
    assert torch.equal(paint(style=Style(OTHER, scale=1e99)).image, paint().image)
    huge, equal = (paint(style=[Style(x, w) for x in (OTHER, NOISE)]) for w in (1e308, 1.0))
    assert torch.equal(huge.image, equal.image)
