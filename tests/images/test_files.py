"""Reading, resizing and saving pictures, against independent readings made by hand."""

import io
import logging
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

from nst.images import (
    Picture,
    check_output,
    fit,
    load_image,
    read_picture,
    resize,
    save_image,
    to_pil,
)
from nst.images.decode import picture_shape

RAMP = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = np.linspace(0, 255, 35).astype(np.uint8).reshape(5, 7)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def chw(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Reads (H, W, 3) bytes as a viewer would, without the module under test."""
    return torch.tensor(array.astype(np.float32) / 255).permute(2, 0, 1)[None]


def on_white(color: np.ndarray[Any, Any], alpha: np.ndarray[Any, Any]) -> torch.Tensor:
    a = alpha.astype(np.float64)[..., None] / 255
    return chw(color * a + 255 * (1 - a))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + body


def gamma_one_profile() -> bytes:
    """Gives the sRGB profile with linear curves: its numbers are light, not sRGB."""
    profile = bytearray(SRGB_PROFILE)
    for i in range(struct.unpack(">I", profile[128:132])[0]):
        tag, offset, size = struct.unpack(">4sII", profile[132 + 12 * i : 144 + 12 * i])
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            linear = b"curv" + bytes(8)  # no entries: identity
            profile[offset : offset + size] = linear.ljust(size, b"\0")
    return bytes(profile)


# What read_picture accepts


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tiff", "ein Bild é 写真.png"])
def test_lossless_file_is_read_exactly(tmp_path: Path, name: str, kind: type) -> None:
    Image.fromarray(RAMP).save(tmp_path / name)
    picture = read_picture(kind(tmp_path / name))
    assert torch.equal(picture.pixels, chw(RAMP))
    assert picture.alpha is None


def test_file_may_be_deleted_and_overwritten_after_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"  # Pillow may map this format into memory
    Image.fromarray(RAMP).save(path)
    pixels = read_picture(path).pixels
    path.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    assert torch.equal(pixels, chw(RAMP))


def test_path_array_and_tensor_of_one_picture_agree(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    floats = RAMP.astype(np.float32) / 255
    sources = [
        tmp_path / "a.png",
        Image.fromarray(RAMP),
        RAMP,
        RAMP.astype(np.uint16) * 257,
        floats,
        floats.astype(np.float64),
        torch.tensor(RAMP).permute(2, 0, 1),
        torch.tensor(floats).permute(2, 0, 1)[None],
    ]
    for source in sources:
        picture = read_picture(source)  # type: ignore[arg-type]
        torch.testing.assert_close(picture.pixels, chw(RAMP), rtol=0, atol=1e-7)
        assert picture.pixels.dtype == torch.float32
        assert picture.pixels.is_contiguous()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_every_opaque_mode_reads_like_pillows_rgb(mode: str) -> None:
    image = Image.fromarray(RAMP).convert(mode)
    picture = read_picture(image)
    assert torch.equal(picture.pixels, chw(np.asarray(image.convert("RGB"))))
    assert picture.alpha is None


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_every_mode_with_alpha_is_composed_on_white(mode: str) -> None:
    straight = Image.fromarray(np.dstack((RAMP, ALPHA)))
    if mode in ("LA", "La"):
        straight = straight.convert("LA")
    image = Image.new("PA", (7, 5)) if mode == "PA" else straight.convert(mode)
    if mode == "PA":
        image.putpalette([10, 20, 30] * 256)
        image.putalpha(Image.fromarray(ALPHA))
        straight = Image.new("RGB", (7, 5), (10, 20, 30))
        straight.putalpha(Image.fromarray(ALPHA))
    picture = read_picture(image)
    color = np.asarray(straight.convert("RGBA"))[..., :3]
    # Premultiplied modes have lost bits of the color where alpha is small, never of its product.
    tolerance = 1.01 / 255 if mode in ("La", "RGBa") else 1e-6
    torch.testing.assert_close(picture.pixels, on_white(color, ALPHA), rtol=0, atol=tolerance)
    assert picture.alpha is not None
    assert torch.equal(picture.alpha, chw(ALPHA[..., None]))


def test_hidden_color_of_transparent_pixels_does_not_show() -> None:
    picture = read_picture(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))
    assert torch.equal(picture.pixels, torch.ones(1, 3, 2, 2))


def test_alpha_that_is_opaque_everywhere_is_none() -> None:
    assert read_picture(Image.new("RGBA", (2, 2), (1, 2, 3, 255))).alpha is None
    assert read_picture(torch.ones(2, 4, 3, 3)).alpha is None


def test_palette_entry_marked_transparent_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for path, key in ((tmp_path / "a.png", 0), (tmp_path / "a.gif", 0), (tmp_path / "b.png", 1)):
        image.save(path, transparency=key)
        pixels, alpha = read_picture(path)
        assert alpha is not None
        assert alpha.flatten().tolist() == ([0, 1] if key == 0 else [1, 0])
        shown = [0, 0, 1] if key == 0 else [1, 0, 0]
        assert pixels[0, :, 0, 1 - key].tolist() == shown
        assert pixels[0, :, 0, key].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("depth", "color", "row", "key"),
    [
        (8, 0, b"\xff\0", [255]),
        (16, 0, b"\xff\xff\0\0", [65535]),
        (8, 2, b"\xff\xff\xff\0\0\0", [255, 255, 255]),
    ],
)
def test_transparent_color_of_png_is_honored(
    tmp_path: Path, depth: int, color: int, row: bytes, key: list[int]
) -> None:
    extra = png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    (tmp_path / "a.png").write_bytes(png(2, 1, depth, color, b"\0" + row, extra))
    pixels, alpha = read_picture(tmp_path / "a.png")
    assert alpha is not None
    assert alpha.flatten().tolist() == [0, 1]
    assert pixels[0, 0, 0].tolist() == [1, 0]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_16_bit_gray_is_read_in_full_precision(mode: str) -> None:
    values = [0, 1, 255, 256, 257, 32768, 65534, 65535]
    image = Image.new(mode, (8, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    pixels = read_picture(image).pixels
    for channel in pixels[0, :, 0]:
        assert torch.equal(channel, torch.tensor(values, dtype=torch.float32) / 65535)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray_file_is_read_in_full_precision(tmp_path: Path, suffix: str) -> None:
    gray = np.arange(0, 65536, 1111, dtype=np.uint16)[None]
    Image.fromarray(gray).save(tmp_path / f"a.{suffix}")
    pixels = read_picture(tmp_path / f"a.{suffix}").pixels
    assert torch.equal(pixels[0, 0], torch.tensor(gray.astype(np.float32)) / 65535)


def test_float_image_is_read_exactly() -> None:
    gray = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert torch.equal(read_picture(Image.fromarray(gray)).pixels[0, 2], torch.tensor(gray))


def test_only_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for name in ("a.gif", "a.tiff", "a.png"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert read_picture(tmp_path / name).pixels[0, :, 0, 0].tolist() == [1, 0, 0]


def test_callers_image_is_left_as_it_was() -> None:
    image = Image.fromarray(RAMP)
    image.info.update(icc_profile=SRGB_PROFILE, transparency=tuple(RAMP[0, 0].tolist()))
    image.getexif()[0x0112] = 6
    read_picture(image)
    assert (image.mode, image.size) == ("RGB", (7, 5))
    assert np.array_equal(np.asarray(image), RAMP)
    assert set(image.info) == {"icc_profile", "transparency"}
    assert image.getexif()[0x0112] == 6


# EXIF

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_picture_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}", exif=exif)
    pixels = read_picture(tmp_path / f"a.{suffix}").pixels
    assert torch.equal(pixels, chw(TURNS[orientation](RAMP)))


def test_orientation_of_16_bit_gray_turns_it() -> None:
    image = Image.fromarray(np.array([[1, 2, 3]], dtype=np.uint16))
    image.getexif()[0x0112] = 6
    assert tuple(read_picture(image).pixels.shape) == (1, 3, 3, 1)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff"]
)
def test_broken_exif_does_not_cost_the_picture(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif)
    assert tuple(read_picture(tmp_path / "a.jpg").pixels.shape) == (1, 3, 5, 7)


def test_orientation_is_applied_although_another_tag_is_odd(tmp_path: Path) -> None:
    # A tag that Pillow reads but could not write again, as ImageOps.exif_transpose would.
    entries = [(0x0112, 3, 1, b"\0\6\0\0"), (0x011A, 5, 1, b"\0\0\xff\xff")]
    body = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(4)
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif)
    assert tuple(read_picture(tmp_path / "a.jpg").pixels.shape) == (1, 3, 7, 5)


def test_exif_that_raises_is_reported_and_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Image.Image) -> None:
        raise struct.error("odd")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert torch.equal(read_picture(Image.fromarray(RAMP), name="style").pixels, chw(RAMP))
    assert "`style` has unreadable EXIF data" in caplog.text


# Color profiles


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


def test_cmyk_file_keeps_its_black(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "a.jpg", quality=100)
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "b.tiff")
    assert read_picture(tmp_path / "a.jpg").pixels.max() < 0.02
    assert read_picture(tmp_path / "b.tiff").pixels[0, :, 0, 0].tolist() == [0, 1, 1]


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


def test_profile_of_16_bit_gray_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    image = Image.new("I;16", (2, 2))
    image.info["icc_profile"] = SRGB_PROFILE
    read_picture(image)
    assert "has a color profile, unused in mode I;16" in caplog.text


# Files that are refused


def failure(path: Path, name: str = "content") -> str:
    with pytest.raises(ValueError) as caught:
        read_picture(path, name=name)
    message = str(caught.value)
    assert message.startswith(f"`{name}` is {str(path)!r}, which ")
    return message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`content` is '.*x\.jpg', which does not exist"):
        read_picture(tmp_path / "x.jpg", name="content")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="Check the spelling"):
        read_picture(tmp_path / "file" / "x.jpg")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Name one picture in it"):
        read_picture(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert "is not a regular file" in failure(tmp_path / "a.png")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.touch()
    assert failure(path) == (
        f"`content` is {str(path)!r}, which is empty (0 bytes). Save or copy the picture again."
    )


def test_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("<html>404</html>")
    message = failure(tmp_path / "x.jpg", name="style")
    assert "is not a picture that Pillow can read. Save it as PNG or JPEG" in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert "copy" in failure(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp", "tga", "ppm"])
def test_damaged_file_is_read_or_refused_but_never_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)  # damage may turn 5 rows into millions
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(RAMP).save(path)
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    for seed in range(20):
        random, content = np.random.default_rng(seed), whole.copy()
        content[random.integers(0, len(content), 4)] = random.integers(0, 256, 4)
        path.write_bytes(content.tobytes())
        try:
            pixels = read_picture(path).pixels
        except ValueError as err:
            assert str(path) in str(err)
        else:
            assert 0 <= pixels.min() <= pixels.max() <= 1


def test_the_shape_of_a_file_is_told_by_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert picture_shape(path) == (30, 40)
    assert picture_shape(torch.rand(3, 5, 7)) == (5, 7)
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="is not a picture that Pillow can read"):
        picture_shape(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        picture_shape(tmp_path / "missing.png")


@pytest.mark.parametrize("error", [EOFError, IndexError, OverflowError, SyntaxError, zlib.error])
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")

    def broken(self: Image.Image) -> None:
        raise error("odd")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    message = failure(tmp_path / "x.png")
    assert f"is truncated or corrupt ({error.__name__}: odd)" in message


@pytest.mark.parametrize(("side", "pixels"), [(30000, 900000000), (10000, 100000000)])
def test_decompression_bomb_is_refused_from_its_header(
    tmp_path: Path, side: int, pixels: int
) -> None:
    (tmp_path / "x.png").write_bytes(png(side, side, 8, 2, b""))
    message = failure(tmp_path / "x.png")
    assert "is too large to be trusted" in message
    assert f"{pixels} pixels" in message
    assert f"raise PIL.Image.MAX_IMAGE_PIXELS (now {Image.MAX_IMAGE_PIXELS})" in message


def test_limit_on_pixels_is_the_one_set_in_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    image = Image.open(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 34)
    assert "35 pixels" in failure(tmp_path / "x.png")
    with image, pytest.raises(ValueError, match=r"`source` is too large to be trusted \(7 x 5 pix"):
        read_picture(image)
    for limit in (35, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert tuple(read_picture(tmp_path / "x.png").pixels.shape) == (1, 3, 5, 7)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_unreadable_file_is_a_permission_error(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(PermissionError, match=r"may not be read\. Check its permissions"):
        read_picture(tmp_path / "x.png")


def test_integers_beyond_16_bits_have_no_scale(tmp_path: Path) -> None:
    Image.new("I", (2, 2), 70000).save(tmp_path / "x.tiff")
    assert "has integers from 70000 to 70000" in failure(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match=r"must lie in 0\.\.65535\. Pass an array scaled"):
        read_picture(Image.new("I", (2, 2), -1))


def test_float_image_beyond_one_is_refused(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 255.0).save(tmp_path / "x.tiff")
    assert "has values from 255 to 255" in failure(tmp_path / "x.tiff")


def test_unknown_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (2, 2))
    monkeypatch.setattr(Image.Image, "mode", "XYZ")
    with pytest.raises(ValueError, match="`source` has the PIL mode 'XYZ', which is not supported"):
        read_picture(image)


@pytest.mark.parametrize("source", [None, 3, b"a.png", ["a.png"], io.BytesIO(b"x")])
def test_other_types_are_refused_with_the_list_of_good_ones(source: Any) -> None:
    kind = type(source).__name__
    with pytest.raises(TypeError, match=f"`style` is of type {kind}, but must be a path"):
        read_picture(source, name="style")


# Arrays


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, ">u2", "<u2", np.float16, "f4", ">f4", "f8"])
def test_array_of_each_dtype_is_read(kind: Any) -> None:
    dtype = np.dtype(kind)
    top = np.iinfo(dtype).max if dtype.kind == "u" else 1
    array = np.array([[0, top]], dtype=dtype)
    pixels = read_picture(array).pixels
    assert pixels.dtype == torch.float32
    assert pixels[0, :, 0].tolist() == [[0, 1]] * 3


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_array_of_each_shape_is_read(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(2).random(shape, dtype=np.float32)
    pixels, alpha = read_picture(array)
    channels = array.reshape(5, 7, -1)
    if channels.shape[2] in (2, 4):
        assert alpha is not None
        assert np.array_equal(alpha[0, 0].numpy(), channels[..., -1])
        a = channels[..., -1:]
        expected = channels[..., :-1] * a + (1 - a)
    else:
        assert alpha is None
        expected = channels
    expected = np.broadcast_to(expected, (5, 7, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(pixels[0].numpy(), expected, atol=1e-7)


def test_views_and_read_only_arrays_are_read() -> None:
    frozen = RAMP.copy()
    frozen.flags.writeable = False
    assert torch.equal(read_picture(frozen).pixels, chw(RAMP))
    assert torch.equal(read_picture(RAMP[::-1, ::-2]).pixels, chw(RAMP[::-1, ::-2]))
    floats = np.asfortranarray(RAMP.astype(np.float32) / 255)
    assert torch.equal(read_picture(floats).pixels, chw(RAMP))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int64, np.complex64, object])
def test_array_of_another_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match="must be uint8, uint16 or floating"):
        read_picture(np.zeros((2, 2), dtype=dtype))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 8, 8), r"transpose\(1, 2, 0\)"),
        ((8,), "one picture"),
        ((1, 8, 8, 3), "one picture at a time"),
    ],
)
def test_array_of_another_shape_is_refused(shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(ValueError, match=rf"must be \(H, W\) or \(H, W, C\).*{hint}"):
        read_picture(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((0, 4, 3), dtype=np.uint8),
        torch.zeros(3, 0, 4),
        torch.zeros(0, 3, 2, 2),
        Image.new("RGB", (0, 4)),
        Image.new("I", (0, 4)),
    ],
)
def test_picture_without_pixels_is_refused(source: Any) -> None:
    with pytest.raises(ValueError, match="`source` has no pixels"):
        read_picture(source)


# Tensors


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 5, 7), (2, 1, 5, 7), (2, 3, 5, 7)])
def test_tensor_of_each_opaque_shape_is_read(shape: tuple[int, ...]) -> None:
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    pixels, alpha = read_picture(tensor)
    batch = shape[0] if len(shape) == 4 else 1
    assert torch.equal(pixels, tensor.reshape(batch, -1, 5, 7).expand(batch, 3, 5, 7))
    assert alpha is None


@pytest.mark.parametrize("channels", [2, 4])
def test_tensor_with_alpha_is_composed_on_white(channels: int) -> None:
    tensor = torch.rand(2, channels, 5, 7, generator=torch.Generator().manual_seed(0))
    pixels, alpha = read_picture(tensor)
    expected = 1 - tensor[:, -1:] * (1 - tensor[:, :-1])
    torch.testing.assert_close(pixels, expected.expand(2, 3, 5, 7))
    assert alpha is not None
    assert torch.equal(alpha, tensor[:, -1:])
    assert pixels.max() <= 1


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),
    ],
)
def test_dtype_of_the_result(dtype: torch.dtype, result: torch.dtype) -> None:
    top = 255 if dtype == torch.uint8 else 1
    pixels = read_picture(torch.full((3, 2, 2), top, dtype=dtype)).pixels
    assert pixels.dtype == result
    assert pixels.min() == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_result_shares_no_memory_and_no_graph(channels: int) -> None:
    source = torch.rand(1, channels, 4, 4, requires_grad=True)
    before = source.detach().clone()
    pixels, alpha = read_picture(source)
    pixels[:, 0].zero_()  # nor may the channels share memory with each other
    assert pixels[:, 1].max() > 0
    assert not pixels.requires_grad
    if alpha is not None:
        alpha.zero_()
    assert torch.equal(source, before)
    array = np.ones((2, 2, 3), dtype=np.float32)
    read_picture(array).pixels.zero_()
    assert array.min() == 1


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int8, torch.complex64])
def test_tensor_of_another_dtype_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"must be floating in \[0, 1\] or uint8\. Convert it"):
        read_picture(torch.zeros(3, 2, 2, dtype=dtype))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((8, 9, 3), r"permute\(2, 0, 1\)"),
        ((1, 8, 9, 3), r"permute\(0, 3, 1, 2\)"),
        ((5, 8, 9), "Add or remove axes"),
        ((9,), "Add or remove axes"),
        ((1, 1, 3, 8, 9), "Add or remove axes"),
    ],
)
def test_tensor_of_another_shape_is_refused(shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(ValueError, match=rf"must be \(H, W\), \(C, H, W\).*{hint}"):
        read_picture(torch.zeros(shape))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0, 255), "values from 0 to 255, but floats must lie in [0, 1]. Divide by 255?"),
        ((0, 60000), "values from 0 to 60000, but floats must lie in [0, 1]. Divide by 65535?"),
        ((-2.1, 2.6), "from -2.1 to 2.6, but floats must lie in [0, 1]. Undo a normalization"),
        ((0, 1.01), "from 0 to 1.01, but floats must lie in [0, 1]. Call clamp(0, 1)"),
        ((0, float("nan")), "has NaN. Replace them, e.g. with torch.nan_to_num"),
        ((0, float("inf")), "has infinite values. Replace them"),
    ],
)
def test_values_out_of_range_are_named_with_a_remedy(
    values: tuple[float, float], words: str
) -> None:
    tensor = torch.tensor([values], dtype=torch.float32)
    for source in (tensor, tensor.numpy(), tensor.numpy().astype(np.float64)):
        with pytest.raises(ValueError) as caught:
            read_picture(source, name="init")
        assert str(caught.value).startswith("`init` has ")
        assert words in str(caught.value)


# Sizes


def test_load_image_is_read_picture_and_resize() -> None:
    image = Image.fromarray(RAMP)
    pixels = read_picture(image).pixels
    assert torch.equal(load_image(image), pixels)
    assert torch.equal(load_image(image, size=4), resize(pixels, 4))


def test_bad_size_is_refused_before_reading() -> None:
    with pytest.raises(ValueError, match="`size` has 0, but a side must be at least 1 pixel"):
        load_image("missing.png", size=0)


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


def test_resize_returns_a_small_picture_unchanged() -> None:
    image = torch.rand(1, 3, 4, 5)
    assert resize(image, 5) is image
    assert resize(image, (4, 5)) is image


def test_resize_to_a_pair_is_height_and_width() -> None:
    assert tuple(resize(torch.rand(2, 3, 4, 5), (9, 2)).shape) == (2, 3, 9, 2)


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
    with pytest.raises(ValueError, match="a side must be at least 1 pixel"):
        resize(torch.rand(1, 3, 4, 5), size)


@pytest.mark.parametrize("size", [2.5, "8", None, [4, 4], (4, 4, 4), (4.0, 4)])
def test_size_of_another_type_is_refused(size: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an integer or \(height, width\)"):
        resize(torch.rand(1, 3, 4, 5), size)


def test_resize_needs_a_batch() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, C, H, W\). Add the batch axis"):
        resize(torch.rand(3, 4, 5), 2)


# PIL images out


def test_to_pil_rounds_and_clamps() -> None:
    values = torch.tensor([254.9, 254.4, 0.6, 0.4, -9.0, 999.0]) / 255
    image = to_pil(values.expand(3, 1, 6))
    assert np.asarray(image)[0, :, 0].tolist() == [255, 254, 1, 0, 0, 255]


def test_every_byte_comes_back() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for dtype in (torch.float32, torch.float64):
        image = to_pil(read_picture(gray).pixels.to(dtype))
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.dstack([gray] * 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_to_pil_takes_other_floats_and_graphs(dtype: torch.dtype) -> None:
    image = torch.ones(1, 3, 2, 2, dtype=dtype, requires_grad=True)
    assert to_pil(image).getpixel((0, 0)) == (255, 255, 255)


def test_picture_with_alpha_reads_back_the_same() -> None:
    random = np.random.default_rng(3)
    color = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    first = read_picture(np.dstack((color, alpha)))
    image = to_pil(*first)
    assert image.mode == "RGBA"
    again = read_picture(image)
    assert again.alpha is not None
    assert first.alpha is not None
    assert torch.equal(again.alpha, first.alpha)
    torch.testing.assert_close(again.pixels, first.pixels, rtol=0, atol=0.51 / 255)


def test_white_under_transparent_parts_does_not_fringe() -> None:
    red = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert to_pil(*read_picture(red)).getpixel((0, 0)) == (255, 0, 0, 128)


def test_to_pil_refuses_what_is_not_one_picture() -> None:
    with pytest.raises(ValueError, match=r"`image` has shape \(2, 3, 4, 4\).*e\.g\. image\[0\]"):
        to_pil(torch.rand(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"must be \(3, H, W\)"):
        to_pil(torch.rand(4, 4, 3))
    with pytest.raises(ValueError, match="at least one pixel is needed"):
        to_pil(torch.rand(3, 0, 4))
    with pytest.raises(ValueError, match=r"`alpha` has shape \(3, 4, 4\)"):
        to_pil(torch.rand(3, 4, 4), torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match=r"`alpha` is \(4, 5\) in size, but `image` is \(4, 4\)"):
        to_pil(torch.rand(3, 4, 4), torch.rand(1, 4, 5))
    with pytest.raises(TypeError, match=r"`image` has dtype torch\.uint8"):
        to_pil(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(("value", "words"), [("nan", "has NaN"), ("inf", "has infinite values")])
def test_to_pil_refuses_a_diverged_picture(value: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"`image` {words}. Lower the step size"):
        to_pil(torch.full((3, 2, 2), float(value)))


# Files out


@pytest.mark.parametrize("suffix", ["png", "PNG", "webp", "tiff", "tif", "tga", "jp2"])
def test_alpha_is_put_back_where_the_format_can_hold_it(tmp_path: Path, suffix: str) -> None:
    picture = read_picture(np.dstack((np.full((8, 8, 3), 90), np.full((8, 8), 128))).astype("u1"))
    path = save_image(picture.pixels, tmp_path / f"a.{suffix}", alpha=picture.alpha)
    again = read_picture(path)
    assert again.alpha is not None
    assert picture.alpha is not None
    torch.testing.assert_close(again.alpha, picture.alpha, rtol=0, atol=1e-6)
    torch.testing.assert_close(again.pixels, picture.pixels, rtol=0, atol=2.01 / 255)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "bmp", "ppm", "gif"])
def test_formats_without_alpha_get_the_composed_picture(tmp_path: Path, suffix: str) -> None:
    picture = read_picture(Image.new("RGBA", (8, 8), (90, 90, 90, 128)))
    again = read_picture(save_image(picture.pixels, tmp_path / f"a.{suffix}", alpha=picture.alpha))
    assert again.alpha is None
    torch.testing.assert_close(again.pixels, picture.pixels, rtol=0, atol=2.01 / 255)


def test_every_accepted_suffix_can_be_saved_and_read(tmp_path: Path) -> None:
    accepted = 0
    for suffix in Image.registered_extensions():
        try:
            check_output(tmp_path / f"a{suffix}")
        except ValueError:
            continue
        path = save_image(torch.full((3, 8, 16), 0.5), tmp_path / f"a{suffix}")
        pixels = read_picture(path).pixels
        assert tuple(pixels.shape) == (1, 3, 8, 16)
        assert (pixels - 0.5).abs().max() < 0.02
        accepted += 1
    assert accepted >= 10


def test_jpeg_is_saved_with_full_color_resolution(tmp_path: Path) -> None:
    image = torch.zeros(3, 8, 8)
    image[0, :, ::2] = 1  # columns of red and black, which subsampling would mix
    pixels = read_picture(save_image(image, tmp_path / "a.jpg")).pixels[0]
    assert (pixels - image).abs().max() < 0.08


def test_saved_file_holds_no_metadata(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "tiff", "sgi"):
        path = save_image(torch.rand(3, 8, 8), tmp_path / f"secret.{suffix}")
        content = path.read_bytes()
        assert b"secret" not in content
        assert b"nst" not in content
        with Image.open(path) as image:
            assert not {"exif", "icc_profile", "comment"} & set(image.info)


def test_save_returns_the_path_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "ein Bild é 写真.png")
    assert save_image(torch.rand(1, 3, 4, 4), path) == Path(path)
    assert [p.name for p in tmp_path.iterdir()] == [Path(path).name]


@pytest.mark.skipif(os.name == "nt", reason="no umask here")
def test_saved_file_has_normal_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = save_image(torch.rand(3, 4, 4), tmp_path / "a.png")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
def test_failed_encoding_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = save_image(torch.rand(3, 4, 4), tmp_path / "a.png")
    before = path.read_bytes()

    def broken(self: Image.Image, fp: Any, *args: Any, **kwargs: Any) -> None:
        fp.write(b"half a file")
        raise error("disk is tired")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(error, match="disk is tired"):
        save_image(torch.rand(3, 4, 4), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_failed_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: type[BaseException]
) -> None:
    path = save_image(torch.rand(3, 4, 4), tmp_path / "a.png")
    before = path.read_bytes()

    def broken(*args: Any) -> None:
        raise error("no space left")

    monkeypatch.setattr(call, broken)
    with pytest.raises(error, match="no space left"):
        save_image(torch.rand(3, 4, 4), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_followed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = save_image(torch.zeros(3, 4, 4), tmp_path / "there" / "a.png")
    link = tmp_path / "link.png"
    link.symlink_to(target)
    save_image(torch.ones(3, 4, 4), link)
    assert link.is_symlink()
    assert read_picture(target).pixels.min() == 1


def test_too_large_for_the_format_names_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="could not encode 70000 x 1 pixels as JPEG"):
        save_image(torch.zeros(3, 1, 70000), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a", "whose name has no suffix. Use .png, .jpg"),
        ("a.xyz", "whose suffix '.xyz' names no known picture format. Use .png"),
        ("a.psd", "whose suffix '.psd'"),  # read, never written
        ("a.h5", "whose suffix '.h5'"),  # no handler for it
        ("a.xbm", "whose suffix '.xbm'"),  # black and white only
        ("a.pdf", "whose suffix '.pdf'"),
    ],
)
def test_check_output_refuses_suffixes(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_output(tmp_path / name, name="output")
    assert str(caught.value).startswith(f"`output` is {str(tmp_path / name)!r}, ")
    assert words in str(caught.value)


def test_check_output_refuses_folders(tmp_path: Path) -> None:
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Add a file name"):
        check_output(tmp_path / "dir.png")
    with pytest.raises(FileNotFoundError, match=r"whose folder does not exist. Create '.*new'"):
        check_output(tmp_path / "new" / "a.png")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        check_output(tmp_path / "file" / "a.png")


def test_check_output_asks_for_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_image(torch.rand(3, 4, 4), tmp_path / "a.png")
    with monkeypatch.context() as patched:
        # What the file system says counts, not `os.access`, which tells an administrator yes.
        patched.setattr(Path, "open", lambda *args: (_ for _ in ()).throw(OSError(30, "read-only")))
        with pytest.raises(PermissionError, match=r"may not be written \(read-only\)"):
            check_output(path)
    monkeypatch.setattr(os, "access", lambda where, mode: Path(where) == tmp_path)
    with pytest.raises(
        PermissionError, match=r"exists and may not be written\. Choose another name"
    ):
        save_image(torch.rand(3, 4, 4), path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_check_output_refuses_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="whose folder may not be written"):
            check_output(tmp_path / "a.png")
    finally:
        tmp_path.chmod(0o700)


def test_only_tensors_are_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="`image` is a Image, but must be a tensor"):
        save_image(Image.new("RGB", (4, 4)), tmp_path / "a.png")  # type: ignore[arg-type]


def test_check_output_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="which is not a regular file"):
        check_output(tmp_path / "pipe.png")


def test_check_output_makes_nothing(tmp_path: Path) -> None:
    assert check_output(str(tmp_path / "a.png")) == tmp_path / "a.png"
    assert not list(tmp_path.iterdir())


def test_pillow_is_left_as_it_was(tmp_path: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    picture = read_picture(save_image(torch.rand(3, 4, 4), tmp_path / "a.png"))
    assert isinstance(picture, Picture)
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert after == before


def test_whole_numbers_are_not_resized() -> None:
    with pytest.raises(TypeError, match=r"`image` has dtype torch\.uint8, but must be floating"):
        resize(torch.full((1, 3, 8, 8), 200, dtype=torch.uint8), 4)
