"""The temporal loss, and the weights of positions that pointwise losses take."""

import pytest
import torch
from torch import Tensor

from nst import ContentLoss, PointwiseLoss, TemporalLoss
from tests.helpers import uniform as random

PICTURE, PREVIOUS, CHANGE = (random(1, 3, 12, 10, seed=seed) for seed in range(3))
MASK = random(1, 1, 12, 10, seed=3)


def test_the_error_of_each_pixel_counts_by_its_reliability() -> None:
    loss, total = TemporalLoss(), 0.0
    loss.capture({"image": PREVIOUS, "mask": MASK})
    for i in range(12):
        for j in range(10):
            apart = PICTURE[0, :, i, j] - PREVIOUS[0, :, i, j]
            total += float(MASK[0, 0, i, j] * apart @ apart)
    assert float(loss({"image": PICTURE})) == pytest.approx(total / (3 * 120), rel=1e-12)


def test_unreliable_pixels_do_not_make_the_others_count_more() -> None:
    loss, half = TemporalLoss(), torch.zeros_like(MASK)
    half[..., :5] = 1
    apart = torch.full_like(PREVIOUS, 0.5)
    loss.capture({"image": PREVIOUS, "mask": half})
    assert float(loss({"image": PREVIOUS + apart})) == pytest.approx(0.125)
    loss.capture({"image": PREVIOUS, "mask": 0 * half})
    assert float(loss({"image": PREVIOUS + apart})) == 0


def test_differences_are_compared_with_the_change_of_the_content() -> None:
    for differences, change in ((True, CHANGE), (False, 0 * CHANGE)):
        loss = TemporalLoss(differences=differences)
        loss.capture({"image": PREVIOUS, "mask": MASK, "change": CHANGE})
        expected = float((MASK * ((PICTURE - PREVIOUS) - change).square()).mean())
        assert float(loss({"image": PICTURE})) == pytest.approx(expected, rel=1e-12)


class _Reduced(PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square().mean(1)


@pytest.mark.parametrize(
    "loss",
    [ContentLoss({"deep": 1.0}), ContentLoss({"deep": 1.0}, units="cosine"), _Reduced(["deep"])],
)
def test_the_shares_of_any_rows_add_up_to_the_weighted_loss(loss: PointwiseLoss) -> None:
    feature, target = random(1, 4, 6, 5), random(1, 4, 6, 5, seed=1)
    loss.capture({"deep": target, "mask": MASK})
    whole = float(loss({"deep": feature}))
    parts = [loss.share("deep", feature[..., a:b, :], a, 6) for a, b in ((0, 1), (1, 4), (4, 6))]
    assert float(loss.compare({"deep": torch.stack(parts).sum()})) == pytest.approx(
        whole, rel=1e-12
    )
    loss.capture({"deep": target})
    assert float(loss({"deep": feature})) != pytest.approx(whole, rel=1e-3)
    assert whole > 0


def test_the_mask_is_averaged_over_the_pixels_of_a_position() -> None:
    loss, mask = _Reduced(["deep"]), torch.zeros(1, 1, 4, 4)
    mask[..., :2, :1] = 1  # half of the pixels of the first of four positions
    for given, expected in (({"mask": mask}, 0.5 / 4), ({"mask": mask**0}, 1), ({}, 1)):
        loss.capture({"deep": torch.zeros(1, 3, 2, 2), **given})  # the mask before is forgotten
        assert float(loss({"deep": torch.ones(1, 3, 2, 2)})) == expected
