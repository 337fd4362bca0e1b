"""What a run returns, and how it is saved."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst import StyleTransferResult, load_image
from nst.images import to_pil
from tests.helpers import LEFT, PAINTING, PHOTO, names, paint


@pytest.fixture(scope="module")
def result() -> StyleTransferResult:
    return paint(num_steps=2)


@pytest.fixture(scope="module")
def batch() -> StyleTransferResult:
    return paint(content=torch.cat([PHOTO, PHOTO.flip(-1), 1 - PHOTO]), num_steps=2)


@pytest.fixture(scope="module")
def cutout() -> StyleTransferResult:
    return paint(content=to_pil(PHOTO, 1 - LEFT), size=20, num_steps=2)


def same(found: Image.Image | Path, expected: Tensor) -> bool:
    return torch.allclose(load_image(found)[0], expected, atol=0.51 / 255)


def test_the_result_holds_picture_content_and_styles_and_its_repr_fits_on_a_line(
    result: StyleTransferResult,
) -> None:
    both = paint(style=[PAINTING, PHOTO], size=30)
    assert both.image.shape == both.content.shape == (1, 3, 24, 30)
    assert [tuple(style.shape) for style in both.styles] == [(1, 3, 30, 23), (1, 3, 24, 30)]
    assert both.image.device.type == "cpu" and not both.image.requires_grad
    assert 0 <= float(both.image.min()) <= float(both.image.max()) <= 1
    assert both.alpha is None and both.seconds > 0
    expected = "StyleTransferResult(num_steps=2, stop_reason='completed', seconds="
    assert repr(result).startswith(expected) and len(repr(result)) < 100


def test_to_pil_returns_one_picture_in_8_bits_and_a_notebook_shows_it_as_png(
    result: StyleTransferResult, batch: StyleTransferResult
) -> None:
    image = result.to_pil()
    assert (image.mode, image.size) == ("RGB", (40, 32))
    assert same(image, result.image[0]) and same(batch.to_pil(2), batch.image[2])
    with pytest.raises(IndexError):
        batch.to_pil(3)
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert np.array_equal(np.asarray(shown), np.asarray(image))


def test_save_numbers_the_pictures_of_a_batch_and_a_file_takes_one(
    batch: StyleTransferResult, tmp_path: Path
) -> None:
    paths = batch.save(tmp_path / "out.v2.png")
    assert [path.name for path in paths] == ["out.v2-0.png", "out.v2-1.png", "out.v2-2.png"]
    assert names(tmp_path) == [path.name for path in paths]
    assert all(same(*pair) for pair in zip(paths, batch.image, strict=True))
    buffer = io.BytesIO()
    with pytest.raises(ValueError, match="a batch of 3 pictures"):
        batch.save(buffer)
    assert buffer.getvalue() == b""
    assert batch.to_bytes(index=1) != batch.to_bytes(index=0)
    assert batch.to_bytes(index=-1) == batch.to_bytes(index=2)
    for read in (batch.to_pil, lambda index: batch.to_bytes(index=index)):
        with pytest.raises(IndexError, match="`index` is 3; it must be below 3, the number of pic"):
            read(3)
    with pytest.raises(IsADirectoryError, match=r"`path` is '\.', which is a folder. Add a file"):
        batch.save("")


def test_the_transparency_of_the_content_stays(cutout: StyleTransferResult, tmp_path: Path) -> None:
    assert cutout.alpha is not None and cutout.alpha.shape == (1, 1, 16, 20)
    image = cutout.to_pil()
    assert (image.mode, image.size) == ("RGBA", (20, 16))
    opaque = np.asarray(image)[..., 3]
    assert (opaque[:, :8] == 0).all() and (opaque[:, 12:] == 255).all()
    cutout.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as saved:
        assert saved.mode == "RGBA"
        assert np.array_equal(np.asarray(saved), np.asarray(image))


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("TIFF", "TIFF")])
def test_the_bytes_of_a_result_are_those_of_its_file(
    result: StyleTransferResult, tmp_path: Path, name: str, kind: str
) -> None:
    content = result.to_bytes(name)
    assert Image.open(io.BytesIO(content)).format == kind
    assert result.save(tmp_path / f"out.{name}")[0].read_bytes() == content
    buffer = io.BytesIO()
    assert result.save(buffer, format=name) == []
    assert buffer.getvalue() == content


def test_a_lower_quality_makes_a_smaller_file(result: StyleTransferResult, tmp_path: Path) -> None:
    usual = result.to_bytes("jpg", record=False)
    small = result.to_bytes("jpg", record=False, quality=30)
    assert len(small) < len(usual) == len(result.to_bytes("jpg", record=False, quality=95))
    assert result.save(tmp_path / "a.jpg", record=False, quality=30)[0].read_bytes() == small


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "png"}, "`format` is 'png', but the suffix"),
        ({"quality": 80}, "`quality` is 80, but PNG has none"),
        ({"path": "out.jpg", "quality": 0}, "`quality` is 0; it must be at least 1"),
        ({"path": "out.jpg", "quality": 101}, "`quality` is 101; it must be at most 100"),
        ({"path": io.BytesIO(), "format": "docx"}, "`format` is 'docx', which is not known"),
    ],
)
def test_formats_and_qualities_that_there_are_not_are_refused(
    result: StyleTransferResult, folder: Path, arguments: dict[str, Any], message: str
) -> None:
    before = names(folder)
    with pytest.raises(ValueError, match=message):
        result.save(**{"path": "out.png", **arguments})
    assert names(folder) == before


def test_show_opens_a_picture(batch: StyleTransferResult, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture))
    batch.show(2)
    assert same(shown[0], batch.image[2])
