"""What a frame is compared with, from the flow between two frames."""

import torch
from torch import Tensor

from nst import functional
from nst._batch.flow import follow

from ..helpers import picture

HEIGHT, WIDTH, SIDE, SPEED, RIM = 40, 60, 12, 3, 2
BACKGROUND = torch.nn.functional.interpolate(picture(5, 7, seed=3), (HEIGHT, WIDTH), mode="bicubic")


def square(left: int, grow: int = 0) -> tuple[slice, slice]:
    return slice(14 - grow, 14 + SIDE + grow), slice(left - grow, left + SIDE + grow)


def frame(left: int) -> Tensor:
    image = BACKGROUND.clamp(0.1, 0.6)
    image[(..., *square(left))] = picture(SIDE, SIDE, seed=8) / 5 + 0.8
    return image


def wide_flow(one: Tensor, other: Tensor) -> Tensor:
    """Return the flow of the square, which covers a rim of the background as well."""
    left, sign = (20, 1) if torch.equal(one, frame(20)) else (20 + SPEED, -1)
    flow = torch.zeros(HEIGHT, WIDTH, 2)
    flow[(*square(left, RIM), 0)] = sign * SPEED
    return flow


def test_where_the_flow_is_unreliable_one_nearby_is_taken_that_explains_the_color() -> None:
    before, content = frame(20), frame(20 + SPEED)
    found = follow(wide_flow, before, before, content)
    there, back = (wide_flow(*pair)[None] for pair in ((before, content), (content, before)))
    doubtful = functional.flow_reliability(there, back) == 0
    doubtful[..., : 20 + SPEED + RIM] = False  # where the square was: new
    assert found is not None and doubtful.any() and found.mask[doubtful].all()
    apart = (found.image - content).abs().amax(1, keepdim=True)
    assert float(apart[doubtful].max()) < 0.1


def test_another_picture_is_a_cut_though_some_of_its_colors_are_found_nearby() -> None:
    other = 0.7 * BACKGROUND.flip(-1).clamp(0, 1)
    flow = 30 * torch.randn(HEIGHT, WIDTH, 2, generator=torch.Generator().manual_seed(0))
    assert follow(lambda *_: flow, frame(20), frame(20), other) is None
