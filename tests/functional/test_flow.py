"""Warping and reliability of a flow: naive loops in float64, and motions with a known answer."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Tensor

from nst import functional
from tests.helpers import normal as random

HEIGHT, WIDTH = 24, 30


def constant(x: float, y: float) -> Tensor:
    return torch.tensor([x, y], dtype=torch.float64).expand(1, HEIGHT, WIDTH, 2)


def rotation(degrees: float) -> Tensor:
    """Return the flow of a rotation about the middle of the frame."""
    turn = math.radians(degrees)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    x, y = x.double() - (WIDTH - 1) / 2, y.double() - (HEIGHT - 1) / 2
    turned = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    return torch.stack([turned[0] - x, turned[1] - y], dim=-1)[None]


def test_warping_agrees_with_the_interpolation_of_scipy() -> None:
    image, flow = random(2, 3, HEIGHT, WIDTH), 4 * random(2, HEIGHT, WIDTH, 2, seed=1)
    found = functional.warp(image, flow)
    # One flow serves a batch, in the dtype of the pictures.
    shared = functional.warp(image.float(), flow[:1])
    torch.testing.assert_close(shared[:1], found[:1].float())
    torch.testing.assert_close(shared[1:], functional.warp(image[1:].float(), flow[:1]))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for n in range(2):
        points = [y + flow[n, ..., 1].numpy(), x + flow[n, ..., 0].numpy()]
        for channel in range(3):
            expected = map_coordinates(image[n, channel], points, order=1, mode="nearest")
            np.testing.assert_allclose(found[n, channel], expected, atol=1e-12)


@pytest.mark.parametrize("length", [2.0, 100.0, 1e6])
def test_points_outside_have_the_color_of_the_border_in_single_precision_too(length: float) -> None:
    image, flow = random(1, 3, HEIGHT, WIDTH).float(), length * random(1, HEIGHT, WIDTH, 2, seed=1)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    points = flow + torch.stack([x, y], dim=-1)
    grid = ((2 * points + 1) / torch.tensor([WIDTH, HEIGHT]) - 1).float()
    expected = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(functional.warp(image, flow), expected, rtol=0, atol=2e-5)


def test_a_smooth_picture_that_is_turned_there_and_back_is_the_same() -> None:
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    image = torch.sin(x.double() / 7 + y.double() / 9)[None, None]
    there, back = rotation(1.5), rotation(-1.5)
    found = functional.warp(functional.warp(image, there), back)
    assert functional.flow_reliability(there, back)[..., 1:-1, 1:-1].all()
    assert float((found - image)[..., 1:-1, 1:-1].abs().max()) < 0.01


def naive_reliability(forward: Tensor, backward: Tensor) -> Tensor:
    w, found = backward[0].numpy(), torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.float64)
    for i, j in itertools.product(range(HEIGHT), range(WIDTH)):
        u, v = w[i, j]
        axes, point = forward[0].movedim(-1, 0), [[i + v], [j + u]]
        there = [map_coordinates(axis, point, order=1, mode="nearest")[0] for axis in axes]
        apart = (there[0] + u) ** 2 + (there[1] + v) ** 2
        size = there[0] ** 2 + there[1] ** 2 + u**2 + v**2
        beside = w[i, min(j + 1, WIDTH - 1)] - w[i, max(j - 1, 0)]
        below = w[min(i + 1, HEIGHT - 1), j] - w[max(i - 1, 0), j]
        slope = ((beside / 2) ** 2).sum() + ((below / 2) ** 2).sum()
        inside = -0.5 <= i + v <= HEIGHT - 0.5 and -0.5 <= j + u <= WIDTH - 0.5
        good = apart <= 0.01 * size + 0.5 and slope <= 0.01 * (u**2 + v**2) + 0.002
        found[0, 0, i, j] = float(good and inside)
    return found


def test_reliability_agrees_with_naive_loops() -> None:
    smooth = torch.nn.functional.interpolate(
        random(1, 2, 4, 5), (HEIGHT, WIDTH), mode="bicubic", align_corners=True
    )
    backward = 0.4 * smooth.movedim(1, -1) + constant(3, 2)
    forward = -functional.warp(backward.movedim(-1, 1), -backward).movedim(1, -1)
    forward = forward + 0.3 * random(1, HEIGHT, WIDTH, 2, seed=2)
    found = functional.flow_reliability(forward, backward)
    expected = naive_reliability(forward, backward)
    assert 0.1 < float(expected.mean()) < 0.9
    assert torch.equal(found, expected)


def test_what_a_moving_square_uncovers_its_outline_and_points_from_outside_are_unreliable() -> None:
    forward, backward = constant(0, 0).clone(), constant(0, 0).clone()
    forward[:, 8:16, 8:16, 0] = 5  # the square moves 5 pixels to the right
    backward[:, 8:16, 13:21, 0] = -5
    found = functional.flow_reliability(forward, backward)[0, 0]
    assert not found[8:16, 8:13].any(), "uncovered"
    assert found[9:15, 14:20].all(), "within the square"
    assert not found[8:16, 12:14].any() and not found[8:16, 20:22].any(), "its outline"
    still = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    still[7:17, 7:22] = False
    assert found[still].all(), "the background"
    found = functional.flow_reliability(constant(4, 0), constant(-4, 0))
    assert not found[..., :4].any()
    assert found[..., 4:].all()


def test_long_term_weights_take_the_latest_frame_that_shows_a_pixel() -> None:
    shown = torch.tensor([[1.0, 0, 0, 0.25], [1, 1, 0, 0.5], [1, 1, 1, 1]])
    weights = functional.long_term_weights(list(shown))
    assert [w.tolist() for w in weights] == [[1, 0, 0, 0.25], [0, 1, 0, 0.25], [0, 0, 1, 0.25]]


@pytest.mark.parametrize(
    "shape", [(1, 2, HEIGHT, WIDTH), (1, HEIGHT, WIDTH - 1, 2), (HEIGHT, WIDTH, 2)]
)
def test_flows_of_another_form_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`flow` is .* it must be \(N, 24, 30, 2\)"):
        functional.warp(random(1, 3, HEIGHT, WIDTH), torch.zeros(shape))
    with pytest.raises(ValueError, match="`forward` is"):
        functional.flow_reliability(torch.zeros(shape), constant(0, 0))


def test_a_flow_is_of_one_picture_or_of_each_and_half_precision_stays_in_place() -> None:
    picture = random(2, 3, 1, 400).half()
    moved = functional.warp(picture, torch.zeros(1, 1, 400, 2))
    torch.testing.assert_close(moved, picture, atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match=r"`flow` is \(3, 1, 400, 2\); it must be"):
        functional.warp(picture, torch.zeros(3, 1, 400, 2))
