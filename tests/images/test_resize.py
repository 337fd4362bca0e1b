"""Images are resized in proportion, without aliasing."""

from typing import Any

import pytest
import torch

from nst.images import fit, resize


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (300, 400, 200, (150, 200)),
        (400, 300, 200, (200, 150)),
        (30, 40, 40, (30, 40)),
        (30, 40, 512, (30, 40)),
        (1, 1000, 10, (1, 10)),
        (1000, 1, 10, (10, 1)),
        (333, 1000, 100, (33, 100)),
    ],
)
def test_fit_keeps_the_proportion_and_never_enlarges(
    height: int, width: int, size: int, expected: tuple[int, int]
) -> None:
    assert fit((height, width), size) == expected
    assert tuple(resize(torch.rand(1, 1, height, width), size).shape[-2:]) == expected


def test_an_image_of_the_size_is_returned_itself() -> None:
    image = torch.rand(1, 3, 4, 5)
    assert resize(image, 5) is image
    assert resize(image, (4, 5)) is image
    assert tuple(resize(image, (9, 2)).shape) == (1, 3, 9, 2)


def test_resize_keeps_a_flat_picture_and_its_range() -> None:
    flat = torch.full((1, 3, 40, 30), 0.3)
    torch.testing.assert_close(resize(flat, 7), torch.full((1, 3, 7, 5), 0.3))
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    large = resize(edge, (32, 32))
    assert large.min() == 0
    assert large.max() == 1


def test_resize_does_not_alias() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    # Taking every fourth pixel would give all black or all white.
    torch.testing.assert_close(resize(stripes, 16)[..., 2:-2].mean(), torch.tensor(0.5))
    assert resize(stripes, 16)[..., 2:-2].std() < 0.05


@pytest.mark.parametrize("size", [0, -3, (0, 4), (4, -1)])
def test_side_below_one_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=r"`size(\[\d\])?` is -?\d; it must be at least 1"):
        resize(torch.rand(1, 3, 4, 5), size)


@pytest.mark.parametrize("size", [2.5, "8", None, [4, 4], (4, 4, 4), (4.0, 4)])
def test_size_of_another_type_is_refused(size: Any) -> None:
    with pytest.raises(TypeError, match=r"`size(\[\d\])?` is .*(whole number|integer or \(height)"):
        resize(torch.rand(1, 3, 4, 5), size)


def test_only_floating_batches_are_resized() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, C, H, W\). Add the batch axis"):
        resize(torch.rand(3, 4, 5), 2)
    with pytest.raises(TypeError, match=r"`image` has dtype torch\.uint8, but must be floating"):
        resize(torch.full((1, 3, 8, 8), 200, dtype=torch.uint8), 4)
