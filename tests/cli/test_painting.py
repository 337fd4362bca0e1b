from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from nst.cli.painting import paint
from nst.cli.prints import mosaic, woodcut

Painter = Callable[..., Image.Image]
PAINTERS: list[Painter] = [paint, mosaic, woodcut]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return paint(160, 120)


@pytest.mark.parametrize("painter", PAINTERS)
def test_the_same_arguments_paint_the_same_bytes(painter: Painter) -> None:
    assert painter(64, 48, seed=3).tobytes() == painter(64, 48, seed=3).tobytes()


@pytest.mark.parametrize("painter", PAINTERS)
def test_another_seed_paints_another_picture(painter: Painter) -> None:
    one, two = (np.asarray(painter(64, 48, seed=seed), np.float32) for seed in (0, 1))
    assert np.abs(one - two).mean() > 10


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (40, 2), (31, 57), (120, 20)])
@pytest.mark.parametrize("painter", PAINTERS)
def test_any_positive_size_is_painted(painter: Painter, size: tuple[int, int]) -> None:
    picture = painter(*size)
    assert picture.mode == "RGB"
    assert picture.size == size


def test_light_and_dark_are_far_apart(picture: Image.Image) -> None:
    low, high = np.percentile(np.asarray(picture.convert("L")), (5, 95))
    assert high - low > 100


def test_many_hues_are_present_both_warm_and_cool(picture: Image.Image) -> None:
    hue, saturation, _ = np.moveaxis(np.asarray(picture.convert("HSV")), -1, 0)
    counts, _ = np.histogram(hue[saturation > 60], bins=12, range=(0, 256))
    shares = counts / hue.size
    assert (shares > 0.01).sum() >= 5
    assert shares[:3].sum() > 0.15  # red to yellow
    assert shares[6:9].sum() > 0.15  # cyan to blue


def test_no_patch_is_flat(picture: Image.Image) -> None:
    gray = np.asarray(picture.convert("L"), np.float32)
    patches = gray.reshape(10, 12, 10, 16).swapaxes(1, 2).reshape(100, -1)
    assert patches.std(axis=1).min() > 4


@pytest.mark.parametrize(("width", "height", "name"), [(0, 9, "width"), (9, -2, "height")])
@pytest.mark.parametrize("painter", PAINTERS)
def test_a_size_below_one_is_refused(painter: Painter, width: int, height: int, name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` is .*, but must be at least 1: give"):
        painter(width, height)
