"""What a run returns, and how it is saved."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst import FeatureExtractor, Style, StyleTransfer, StyleTransferResult, load_image


@pytest.fixture
def transfer(extractor: FeatureExtractor) -> StyleTransfer:
    return StyleTransfer(extractor, num_steps=2)


@pytest.fixture
def result(transfer: StyleTransfer, photo: Tensor, painting: Tensor) -> StyleTransferResult:
    return transfer.run(photo, painting)


@pytest.fixture
def batch(transfer: StyleTransfer, photo: Tensor, painting: Tensor) -> StyleTransferResult:
    return transfer.run(torch.cat([photo, photo.flip(-1), 1 - photo]), painting)


def pixels(image: Image.Image) -> Tensor:
    array = np.asarray(image, dtype=np.float32) / 255
    return torch.tensor(array).permute(2, 0, 1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_result_holds_picture_content_and_styles_at_their_sizes(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    transfer = replace(transfer, size=30)
    result = transfer.run(photo, [painting, photo])
    assert result.image.shape == result.content.shape == (1, 3, 24, 30)
    assert [tuple(style.shape) for style in result.styles] == [(1, 3, 30, 23), (1, 3, 24, 30)]
    assert result.image.device.type == "cpu" and not result.image.requires_grad
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    assert result.alpha is None and result.seconds > 0


def test_to_pil_is_the_picture_in_8_bits(result: StyleTransferResult) -> None:
    image = result.to_pil()
    assert (image.mode, image.size) == ("RGB", (40, 32))
    assert torch.allclose(pixels(image), result.image[0], atol=0.51 / 255)


def test_to_pil_chooses_from_a_batch(batch: StyleTransferResult) -> None:
    assert torch.allclose(pixels(batch.to_pil(2)), batch.image[2], atol=0.51 / 255)
    with pytest.raises(IndexError):
        batch.to_pil(3)


def test_save_as_png_is_exact_to_8_bits(result: StyleTransferResult, tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    assert result.save(str(path)) == [path]
    assert torch.allclose(load_image(path), result.image, atol=0.51 / 255)
    assert names(tmp_path) == ["out.png"]


def test_save_as_jpeg(result: StyleTransferResult, tmp_path: Path) -> None:
    (path,) = result.save(tmp_path / "out.jpg")
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (40, 32))


def test_save_numbers_the_pictures_of_a_batch(batch: StyleTransferResult, tmp_path: Path) -> None:
    paths = batch.save(tmp_path / "out.v2.png")
    assert [path.name for path in paths] == ["out.v2-0.png", "out.v2-1.png", "out.v2-2.png"]
    assert names(tmp_path) == [path.name for path in paths]
    for path, image in zip(paths, batch.image, strict=True):
        assert torch.allclose(load_image(path)[0], image, atol=0.51 / 255)


@pytest.mark.parametrize("name", ["out.xyz", "out", "nowhere/out.png"])
def test_save_refuses_what_it_cannot_write(
    result: StyleTransferResult, tmp_path: Path, name: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        result.save(tmp_path / name)
    assert names(tmp_path) == []


@pytest.fixture
def cutout(transfer: StyleTransfer, photo: Tensor, painting: Tensor) -> StyleTransferResult:
    transfer = replace(transfer, size=20)
    alpha = torch.ones(1, 1, 32, 40)
    alpha[..., :20] = 0
    bytes_ = (torch.cat([photo, alpha], dim=1)[0] * 255).round().to(torch.uint8)
    return transfer.run(Image.fromarray(bytes_.permute(1, 2, 0).numpy(), "RGBA"), painting)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_the_contents_transparency_is_put_back(cutout: StyleTransferResult, tmp_path: Path) -> None:
    assert cutout.alpha is not None and cutout.alpha.shape == (1, 1, 16, 20)
    image = cutout.to_pil()
    assert (image.mode, image.size) == ("RGBA", (20, 16))
    opaque = np.asarray(image)[..., 3]
    assert (opaque[:, :8] == 0).all() and (opaque[:, 12:] == 255).all()
    cutout.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as saved:
        assert saved.mode == "RGBA"
        assert np.array_equal(np.asarray(saved), np.asarray(image))


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_a_format_without_transparency_gets_the_picture_on_white(
    cutout: StyleTransferResult, tmp_path: Path
) -> None:
    cutout.save(tmp_path / "out.bmp")
    saved = load_image(tmp_path / "out.bmp")
    assert torch.allclose(saved, cutout.image, atol=0.51 / 255)


def test_settings_are_json_and_tell_the_run(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    result = transfer.run(photo, [Style(painting, weight=3.0), photo], init="noise", seed=7)
    settings = json.loads(json.dumps(result.settings))
    assert settings == result.settings
    assert settings["styles"] == [{"weight": 3.0}, {"weight": 1.0}]
    assert (settings["init"], settings["seed"], settings["num_steps"]) == ("noise", 7, 2)
    assert settings["losses"]["content"]["layers"] == {"relu4_2": 1.0}
    assert settings["losses"]["style"]["type"] == "GramStyleLoss"
    assert settings["extractor"]["weights"] == "tiny, seed 0"


def test_settings_are_json_for_parts_of_the_users_own(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = StyleTransfer(
        extractor, optimizer=lambda params: torch.optim.SGD(params, lr=0.1), size=None, num_steps=1
    )
    result = transfer.run(photo, painting, init=painting)
    assert json.loads(json.dumps(result.settings))["init"] == "picture"


def test_a_notebook_shows_the_picture_as_png(result: StyleTransferResult) -> None:
    with Image.open(io.BytesIO(result._repr_png_())) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), np.asarray(result.to_pil()))


def test_repr_fits_on_a_line(result: StyleTransferResult) -> None:
    assert repr(result).startswith(
        "StyleTransferResult(num_steps=2, stop_reason='completed', seconds="
    )
    assert len(repr(result)) < 100
