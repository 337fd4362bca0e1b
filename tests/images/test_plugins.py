"""HEIC and AVIF are pictures like others, where Pillow or its plug-in supports them."""

import importlib
from pathlib import Path

import pytest
import torch
from PIL import Image, features

from nst.images import check_output, load_image, read_record, save_image
from nst.images.metadata import read_exif
from nst.images.plugins import BRANDS, NEEDED, register_plugins
from nst.video.pictures import pictures_in
from tests.helpers import picture

needs_heif = pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="needs the `heif` extra"
)
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF here")


@pytest.mark.parametrize(
    "suffix", [pytest.param("heic", marks=needs_heif), pytest.param("avif", marks=needs_avif)]
)
def test_a_picture_is_written_and_read_with_all_its_metadata(tmp_path: Path, suffix: str) -> None:
    smooth = torch.nn.functional.interpolate(picture(4, 6), (64, 96), mode="bilinear")
    alpha = torch.ones(1, 64, 96)
    alpha[..., :48] = 0.5
    exif = Image.Exif()
    exif[315] = "me"
    path = tmp_path / f"out.{suffix}"
    save_image(smooth, path, alpha=alpha, record={"seed": 7}, exif=exif.tobytes())
    assert read_record(path) == {"seed": 7}
    assert b"me" in (read_exif(path) or b"")
    opaque = load_image(save_image(smooth, path))
    assert (opaque - smooth).abs().max() < 0.06
    coarse = load_image(save_image(smooth, path, quality=1))
    assert (coarse - smooth).abs().mean() > 2 * (opaque - smooth).abs().mean()


@pytest.fixture
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    register_plugins()
    for name in ("OPEN", "SAVE", "EXTENSION"):
        table = getattr(Image, name)
        others = {k: v for k, v in table.items() if not {k, v} & {"HEIF", "AVIF"}}
        monkeypatch.setattr(Image, name, others)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name not in ("HEIF", "AVIF")])


@pytest.mark.usefixtures("without_plugins")
@pytest.mark.parametrize("brand", sorted(BRANDS))
def test_without_the_plugin_the_extra_is_named(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "photo"
    path.write_bytes(b"\0\0\0\x1cftyp" + brand + bytes(40))
    with pytest.raises(ValueError, match=f"is HEIC or AVIF, {NEEDED}".replace("[", r"\[")):
        load_image(path)
    for suffix in (".heic", ".HEIC", ".avif"):
        with pytest.raises(ValueError, match=rf"whose suffix '{suffix}' is of .*nst\[heif"):
            check_output(tmp_path / f"out{suffix}")


@pytest.mark.usefixtures("without_plugins")
def test_without_the_plugin_a_folder_has_its_pictures_which_name_the_extra(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x1cftypheic" + bytes(40))
    (file,) = pictures_in(tmp_path, "FOLDER")
    with pytest.raises(ValueError, match=r"is HEIC or AVIF, .*nst\[heif"):
        load_image(file)
