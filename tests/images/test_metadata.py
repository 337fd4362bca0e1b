"""A picture carries over the metadata of its photograph that still holds."""

import io
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from nst import Checkpoint, StyleTransfer
from nst.images import read_record, save_image
from nst.images.metadata import carried_over
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, stop_at

SUFFIXES = ["png", "jpg", "webp", "tiff"]
RESOLUTION = (Base.XResolution, Base.YResolution, Base.ResolutionUnit)
DATE, PLACE = "2020:01:02 03:04:05", {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (1.0, 2.0, 3.5)}


def exif() -> Image.Exif:
    made = Image.Exif()
    made[Base.Artist] = "Zoë".encode()
    made[Base.Copyright] = "free"
    made[Base.ImageDescription] = "a cup"
    made[Base.Model] = "camera"
    made[Base.Orientation] = 6
    made[IFD.Exif] = {Base.DateTimeOriginal: DATE, Base.ExifImageWidth: 9999, Base.ISOSpeed: 7}
    made[IFD.GPSInfo] = PLACE
    return made


@pytest.fixture
def photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 48), "navy").save("photo.jpg", exif=exif(), dpi=(300, 300))
    return "photo.jpg"


def paint(content: Any, **arguments: Any) -> Any:
    return StyleTransfer(tiny_extractor(), num_steps=2).run(content, PAINTING, **arguments)


def tags(path: str | Path) -> dict[Any, Any]:
    """Return the tags of the main directory, and those of the others, as one mapping."""
    with Image.open(path) as image:
        found = image.getexif()
        inner = {**found.get_ifd(IFD.Exif), **found.get_ifd(IFD.GPSInfo)}
        return {**found, **inner, "icc": image.info.get("icc_profile"), "size": image.size}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_artist_copyright_date_and_resolution_are_carried(photograph: str, suffix: str) -> None:
    result = paint(photograph)
    (path,) = result.save(f"out.{suffix}")
    found = tags(path)
    assert found[Base.Artist].encode("latin-1").decode() == "Zoë"  # Pillow decodes Latin-1
    assert (found[Base.Copyright], found[Base.DateTimeOriginal]) == ("free", DATE)
    assert (found[Base.XResolution], found[Base.YResolution]) == (300, 300)
    others = {Base.Model, GPS.GPSLatitude, Base.Orientation, Base.ExifImageWidth, Base.ISOSpeed}
    assert not others & found.keys()
    assert read_record(path) == result.settings


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_of_exif_is_carried_over_only_if_asked_for_and_nothing_with_none(
    photograph: str, suffix: str
) -> None:
    (path,) = paint(photograph).save(f"out.{suffix}", metadata="all", record=False)
    found = tags(path)
    assert found[GPS.GPSLatitude] == PLACE[GPS.GPSLatitude]
    assert (found[Base.Model], found[Base.ISOSpeed]) == ("camera", 7)
    assert found[Base.ImageDescription] == "a cup"
    (again,) = paint(photograph).save(f"again.{suffix}")
    (path,) = paint(again).save(f"out.{suffix}", metadata="all", record=False)
    assert Base.ImageDescription not in tags(path)  # the record would be of another run
    assert found.get(Base.Orientation, 1) == 1 and found["size"] == (48, 32)  # it is upright
    assert Base.ExifImageWidth not in found
    result = paint(photograph)
    (path,) = result.save(f"out.{suffix}", metadata="none", record=False)
    assert tags(path).keys() == tags(save_image(PHOTO, f"plain.{suffix}")).keys()
    with pytest.raises(ValueError, match="`metadata` is 'gps'; it must be one of 'default'"):
        result.save("out.png", metadata="gps")


def test_a_pil_image_has_metadata_a_resolution_is_carried_over_alone_and_a_profile_is_not(
    photograph: str,
) -> None:
    with Image.open(photograph) as image:
        assert paint(image).exif is not None
    assert paint(PHOTO).exif is None
    Image.new("RGB", (32, 32)).save("scan.png", dpi=(600, 600))
    assert Image.open(io.BytesIO(paint("scan.png").to_bytes("jpg"))).info["dpi"] == (600, 600)
    with Image.open(photograph) as image:
        image.save("wide.tiff", icc_profile=b"profile")
    (path,) = paint("wide.tiff").save("out.tiff", metadata="all")
    assert tags(path)["icc"] is None  # colors are converted


def test_broken_metadata_costs_a_warning(photograph: str, caplog: pytest.LogCaptureFixture) -> None:
    broken = Image.Exif()
    broken[IFD.Exif] = {Base.DateTimeOriginal: DATE}
    data = bytearray(broken.tobytes())
    data[8:10] = b"\xff\xff"  # the offset of the directory
    Image.new("RGB", (32, 32)).save("broken.png", exif=bytes(data))
    with caplog.at_level(logging.WARNING, logger="nst"):
        paint("broken.png").save("out.png")


@pytest.mark.parametrize("ratio", [(0, 0), (300, 0), (0, 1)])
@pytest.mark.parametrize("source", ["webp", "png"])
def test_a_damaged_tag_is_left_out_and_costs_neither_picture_nor_the_others(
    photograph: str, source: str, ratio: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    made = exif()
    made.update(zip(RESOLUTION, (300.0, 300.0, 2), strict=True))
    data = made.tobytes().replace(struct.pack(">II", 300, 1), struct.pack(">II", *ratio))
    entry = data.index(struct.pack(">HHI", Base.Model, 2, 7))
    number = struct.pack(">HHIf", Base.Model, 11, 1, 1.5)  # instead of a text
    data = data[:entry] + number + data[entry + 12 :]
    Image.new("RGB", (32, 32)).save(f"damaged.{source}", exif=data)
    result = paint(f"damaged.{source}")
    assert "tag 272 of the photograph is left out" in caplog.text
    for path, bits in [("a.png", 8), ("b.png", 16), ("a.jpg", 8), ("a.tiff", 8), ("b.tiff", 16)]:
        found = tags(*result.save(path, metadata="all", bit_depth=bits))
        assert found[Base.Copyright] == "free" and found[Base.ISOSpeed] == 7
        assert not {Base.Model, *RESOLUTION} & found.keys()


def test_metadata_too_long_is_left_out(photograph: str, caplog: pytest.LogCaptureFixture) -> None:
    large = exif()
    large[Base.Artist] = "x" * 70_000
    path = save_image(PHOTO, "out.jpg", exif=large.tobytes(), record={"seed": 7})
    assert "metadata is left out" in caplog.text and Base.Artist not in tags(path)
    assert read_record(path) == {"seed": 7}


@pytest.mark.parametrize("metadata", ["default", "all", "none"])
def test_a_checkpoint_has_the_metadata_that_the_result_has(photograph: str, metadata: Any) -> None:
    checkpoint = Checkpoint("run.ckpt", every=1, metadata=metadata)
    result = paint(photograph, callbacks=[checkpoint, stop_at(1)])
    Path(photograph).unlink()
    resumed = StyleTransfer.resume("run.ckpt", extractor=tiny_extractor())
    assert resumed.exif == carried_over(result.exif, metadata)
    assert (resumed.exif == result.exif is not None) == (metadata == "all")
    assert torch.equal(resumed.styles[0], result.styles[0])
