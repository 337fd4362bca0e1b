"""Files and PIL images are decoded as an image viewer shows them.

`tests/contracts/test_hostile_pictures.py` reads every mode of every format, and damaged files.
"""

import io
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from nst.images import load_image, read_picture
from nst.images.deep import tiff_file
from nst.images.load import picture_shape
from tests.encoders import Array, png_chunk, png_of
from tests.helpers import raising

RAMP = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def chw(array: Array) -> torch.Tensor:
    """Convert (H, W, 3) bytes without the module under test."""
    return torch.tensor(array.astype(np.float32) / 255).permute(2, 0, 1)[None]


def gamma_one_profile() -> bytes:
    profile = bytearray(SRGB_PROFILE)
    for i in range(struct.unpack(">I", profile[128:132])[0]):
        tag, offset, size = struct.unpack(">4sII", profile[132 + 12 * i : 144 + 12 * i])
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            linear = b"curv" + bytes(8)  # no entries: identity
            profile[offset : offset + size] = linear.ljust(size, b"\0")
    return bytes(profile)


def test_file_may_be_overwritten_and_deleted_after_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"  # Pillow may map this format into memory
    Image.fromarray(RAMP).save(path)
    pixels = read_picture(path).pixels
    path.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    assert torch.equal(pixels, chw(RAMP))


def test_image_of_the_caller_is_not_changed() -> None:
    image = Image.fromarray(RAMP)
    image.info.update(icc_profile=SRGB_PROFILE, transparency=tuple(RAMP[0, 0].tolist()))
    image.getexif()[0x0112] = 6
    read_picture(image)
    assert (image.mode, image.size, image.getexif()[0x0112]) == ("RGB", (7, 5), 6)
    assert np.array_equal(np.asarray(image), RAMP)
    assert set(image.info) == {"icc_profile", "transparency"}


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparent_palette_entry_becomes_white(tmp_path: Path, suffix: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / f"a.{suffix}", transparency=0)
    pixels, alpha = read_picture(tmp_path / f"a.{suffix}")
    assert alpha is not None and alpha.flatten().tolist() == [0, 1]
    assert pixels[0, :, 0].T.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_orientation_is_applied_beside_an_invalid_tag_and_to_16_bits(tmp_path: Path) -> None:
    # Pillow reads this tag but cannot write it again, as ImageOps.exif_transpose would.
    entries = [(0x0112, 3, 1, b"\0\6\0\0"), (0x011A, 5, 1, b"\0\0\xff\xff")]
    body = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    invalid = b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(4)
    for data, shape in (
        (invalid, (1, 3, 7, 5)),
        (b"", (1, 3, 5, 7)),
        (b"garbage", (1, 3, 5, 7)),
        (b"MM\0*\xff\xff\xff\xff", (1, 3, 5, 7)),
    ):
        Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + data)
        assert tuple(read_picture(tmp_path / "a.jpg").pixels.shape) == shape
    image = Image.fromarray(np.array([[1, 2, 3]], dtype=np.uint16))
    image.getexif()[0x0112] = 6
    assert tuple(read_picture(image).pixels.shape) == (1, 3, 3, 1)


def test_exif_that_raises_is_reported_and_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Image.Image, "getexif", lambda self: struct.unpack(">I", b"odd"))
    assert torch.equal(read_picture(Image.fromarray(RAMP), name="style").pixels, chw(RAMP))
    assert "`style` has unreadable EXIF data" in caplog.text


def test_srgb_profile_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png", icc_profile=SRGB_PROFILE)
    pixels = read_picture(tmp_path / "a.png").pixels
    torch.testing.assert_close(pixels, chw(RAMP), rtol=0, atol=1.01 / 255)
    assert not caplog.records


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_profile_of_linear_light_is_converted_by_the_srgb_curve(alpha: float | None) -> None:
    linear = np.array([[[20, 60, 128], [200, 255, 0]]], dtype=np.uint8)
    image = Image.fromarray(linear)
    if alpha is not None:
        image.putalpha(round(alpha * 255))
    image.info["icc_profile"] = gamma_one_profile()
    light = linear / 255
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if alpha is not None:
        expected = expected * 128 / 255 + 127 / 255  # on white, after the conversion
    pixels = read_picture(image).pixels[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(pixels, expected, atol=1.5 / 255)


@pytest.mark.parametrize("profile", [None, LAB_PROFILE])
def test_lab_picture_is_converted(profile: bytes | None) -> None:
    rgb = np.array([[[255, 255, 255], [0, 0, 0], [119, 119, 119], [200, 80, 60]]], dtype=np.uint8)
    # L*a*b* (D50); in bytes L* is 0..255 for 0..100, and a*, b* are signed.
    values = [(100, 0, 0), (0, 0, 0), (50, 0, 0), (50.6, 48, 37)]
    packed = [(round(2.55 * lightness), a, b) for lightness, a, b in values]
    image = Image.frombytes("LAB", (4, 1), bytes(np.array(packed, dtype=np.uint8)))
    if profile is not None:
        image.info["icc_profile"] = profile
    torch.testing.assert_close(read_picture(image).pixels, chw(rgb), rtol=0, atol=0.03)


@pytest.mark.parametrize("profile", [b"garbage", SRGB_PROFILE[:200], LAB_PROFILE])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_unusable_profile_is_reported_and_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, profile: bytes, mode: str
) -> None:
    image = Image.fromarray(RAMP).convert(mode)
    image.save(tmp_path / "a.tiff", icc_profile=profile)
    pixels = read_picture(tmp_path / "a.tiff", name="content").pixels
    assert torch.equal(pixels, chw(np.asarray(image.convert("RGB"))))
    assert [(r.name, r.levelno) for r in caplog.records] == [("nst", logging.WARNING)]
    assert "`content` is " in caplog.text
    assert "has an unusable color profile: read as sRGB" in caplog.text
    image = Image.new("I;16", (2, 2))
    image.info["icc_profile"] = SRGB_PROFILE
    read_picture(image)
    assert "has a color profile, unused in mode I;16" in caplog.text


DEEP = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)


def deep_png(path: Path, profile: bytes | None = None) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    extra = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    if profile is not None:
        extra += png_chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    path.write_bytes(png_of(DEEP, 16, 2, extra))
    return path


@pytest.mark.parametrize("profile", [None, SRGB_PROFILE])
def test_16_bit_colors_of_a_png_are_read_in_full_and_upright(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, profile: bytes | None
) -> None:
    pixels = read_picture(deep_png(tmp_path / "a.png", profile)).pixels
    assert torch.equal(pixels, read_picture(np.rot90(DEEP, -1)).pixels)
    assert not caplog.records


def test_16_bit_colors_that_are_read_with_8_bits_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jpeg2000 = io.BytesIO()
    Image.fromarray(RAMP).save(jpeg2000, "JPEG2000")
    header, mark, rest = jpeg2000.getvalue().partition(b"\xff\x51")
    deeper = header + mark + rest[:38] + bytes([9, 1, 1, 9, 1, 1, 9]) + rest[45:]
    deep_png(tmp_path / "linear.png", gamma_one_profile())
    for name, content, bits in (
        ("linear.png", None, 16),
        ("a.ppm", b"P6 7 5 1023\n" + (DEEP >> 6).astype(">u2").tobytes(), 10),
        ("a.jp2", deeper, 10),
        ("turned.tiff", tiff_file(DEEP, {274: 6}), 16),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        caplog.clear()
        read_picture(tmp_path / name)
        assert f"{name}', which has {bits} bits per channel, of which only 8" in caplog.text


def failure(path: Path, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        read_picture(path, name="content")
    message = str(caught.value)
    assert message.startswith(f"`content` is {str(path)!r}, which ")
    return message


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("missing.jpg", FileNotFoundError, "does not exist. Check the spelling"),
        ("x.jpg/y.jpg", FileNotFoundError, "does not exist. Check the spelling"),
        (".", IsADirectoryError, "is a folder. Name one picture in it."),
        ("empty.jpg", ValueError, "is empty (0 bytes). Save or copy the picture again."),
        ("x.jpg", ValueError, "is not a picture that Pillow can read. Save it as PNG or JPEG"),
        ("pipe.png", ValueError, "is not a regular file"),
    ],
)
def test_path_that_is_not_a_picture_is_refused(
    tmp_path: Path, name: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "x.jpg").write_text("<html>404</html>")
    if name == "pipe.png":
        os.mkfifo(tmp_path / name)
    assert words in failure(tmp_path / name, error)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_unreadable_file_is_a_permission_error(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    assert "may not be read. Check its perm" in failure(tmp_path / "x.png", PermissionError)


def test_shape_of_a_file_is_read_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert "copy the picture again" in failure(path)
    assert picture_shape(path) == (30, 40)
    assert picture_shape(torch.rand(3, 5, 7)) == (5, 7)
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="is not a picture that Pillow can read"):
        picture_shape(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_shape_of_a_turned_picture_is_that_of_its_pixels(tmp_path: Path, suffix: str) -> None:
    exif, path = Image.Exif(), tmp_path / f"turned.{suffix}"
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(RAMP).resize((40, 30)).save(path, exif=exif)
    assert picture_shape(path) == tuple(load_image(path).shape[-2:]) == (40, 30)


@pytest.mark.parametrize("error", [EOFError, SyntaxError, zlib.error])
def test_any_error_of_a_decoder_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", raising(error("odd")))
    assert f"is truncated or corrupt ({error.__name__}: odd)" in failure(tmp_path / "x.png")


def test_limit_on_pixels_is_that_of_pillow_or_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(RAMP).save(path)
    image = Image.open(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 34)
    message = failure(path)
    assert "is too large to be trusted" in message and "35 pixels" in message
    assert "raise PIL.Image.MAX_IMAGE_PIXELS (now 34)" in message
    with image, pytest.raises(ValueError, match=r"`source` is too large to be trusted \(7 x 5 pix"):
        read_picture(image)
    for pillow, own in ((35, None), (None, None), (10, "35")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
        if own is not None:
            monkeypatch.setenv("NST_MAX_PIXELS", own)
        assert tuple(read_picture(path).pixels.shape) == (1, 3, 5, 7)
    monkeypatch.setenv("NST_MAX_PIXELS", "34")
    for pillow in (None, 1000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
        assert "--max-pixels on the command line" in failure(path)
        assert pillow == Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv("NST_MAX_PIXELS", "many")
    assert "NST_MAX_PIXELS is 'many', not a number" in failure(path)


def test_integers_beyond_16_bits_and_unknown_modes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("I", (2, 2), 70000).save(tmp_path / "x.tiff")
    assert "has integers from 70000 to 70000" in failure(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match=r"must lie in 0\.\.65535\. Pass an array scaled"):
        read_picture(Image.new("I", (2, 2), -1))
    monkeypatch.setattr(Image.Image, "mode", "XYZ")
    with pytest.raises(ValueError, match="`source` has the PIL mode 'XYZ', which is not supported"):
        read_picture(Image.new("RGB", (2, 2)))


@pytest.mark.parametrize("how", ["left", "closed", "verified", "handle", "loaded"])
def test_a_closed_image_is_named(tmp_path: Path, how: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        image = Image.open(file if how == "handle" else tmp_path / "a.png")
    if how == "loaded":
        image.load()
    if how == "verified":
        image.verify()
    elif how == "left":
        image.__exit__()
    elif how != "handle":
        image.close()
    with pytest.raises(ValueError, match=r"`source` is a PIL image that is closed .* Open it"):
        read_picture(image)
