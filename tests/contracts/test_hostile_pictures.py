"""Pictures of every kind, odd and damaged ones: decoded correctly, or refused with the reason.

The expected pixels are computed with NumPy from the numbers that were written into the file.
"""

import colorsys
import io
import re
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from nst.images import load_image, read_picture, read_record
from tests.encoders import Array, png_chunk, png_of, tiff_of

HEIGHT, WIDTH = 9, 13
RNG = np.random.default_rng(0)
BANDS = {
    **dict.fromkeys(["1", "L", "P"], 1),
    **dict.fromkeys(["LA", "La", "PA"], 2),
    **dict.fromkeys(["RGB", "YCbCr", "HSV", "LAB"], 3),
    **dict.fromkeys(["RGBA", "RGBa", "RGBX", "CMYK"], 4),
}
MODES = [*BANDS, "I;16", "I;16B", "I", "F"]
_PREMULTIPLIED = {"La", "RGBa"}


def bytes_of(*shape: int) -> Array:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def composed(color: Array, alpha: Array | None = None) -> Array:
    """Return (H, W, 3) on white, from values in [0, 1]."""
    color = color[..., None] if color.ndim == 2 else color
    color = np.broadcast_to(color, (*color.shape[:2], 3))
    return color if alpha is None else color * alpha[..., None] + 1 - alpha[..., None]


def difference(source: Any, expected: Array) -> float:
    pixels = read_picture(source).pixels[0].permute(1, 2, 0).double().numpy()
    assert pixels.shape == expected.shape
    return float(np.abs(pixels - expected).max())


def refused(source: Any, *, words: str = "") -> bool:
    """Whether a picture is refused with the library's own message."""
    try:
        pixels = read_picture(source).pixels
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error).startswith("`source`") and words in str(error), error
        return True
    assert bool(pixels.isfinite().all()) and 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
    return False


def picture_in(mode: str) -> Image.Image:
    size = (WIDTH, HEIGHT)
    if mode.startswith("I;16"):
        values = RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
        kind = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, size, values.astype(kind).tobytes())
    if mode == "I":
        return Image.fromarray(RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.int32))
    if mode == "F":
        return Image.fromarray(RNG.random((HEIGHT, WIDTH), dtype=np.float32))
    values = bytes_of(HEIGHT, WIDTH, BANDS[mode])
    if mode == "1":
        return Image.fromarray(values[..., 0] > 127)
    if mode in _PREMULTIPLIED:  # no color may be brighter than its alpha
        values = np.minimum(values, values[..., -1:])
    image = Image.frombytes(mode, size, values.tobytes())
    if mode in ("P", "PA"):
        image.putpalette(bytes_of(768).tobytes())
    return image


def appearance(image: Image.Image) -> Array:
    """Return what a viewer shows of a picture in memory, by the arithmetic of its mode."""
    mode, values = image.mode, np.asarray(image).astype(np.float64)
    if mode in ("1", "F"):
        return composed(values)
    if mode.startswith("I"):
        return composed(values / 65535)
    values /= 255
    if mode in ("L", "RGB"):
        return composed(values)
    if mode == "RGBX":
        return values[..., :3]
    if mode in ("P", "PA"):
        palette = np.frombuffer(image.palette.tobytes(), np.uint8).reshape(-1, 3) / 255  # type: ignore[union-attr]
        index = np.asarray(image.getchannel(0) if mode == "PA" else image)
        alpha = np.asarray(image.getchannel("A")) / 255 if mode == "PA" else None
        return composed(palette[index], alpha)
    if mode in ("LA", "RGBA"):
        return composed(values[..., :-1], values[..., -1])
    if mode in _PREMULTIPLIED:
        return composed(values[..., :-1] + 1 - values[..., -1:])
    if mode == "CMYK":
        return (1 - values[..., :3]) * (1 - values[..., 3:])
    if mode == "YCbCr":
        luma, blue, red = (values[..., i] - (0.0 if i == 0 else 128 / 255) for i in range(3))
        green = luma - 0.344136 * blue - 0.714136 * red
        return np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], -1).clip(0, 1)
    assert mode == "HSV", mode
    return np.apply_along_axis(lambda hsv: colorsys.hsv_to_rgb(*hsv), -1, values)


@pytest.mark.parametrize("mode", sorted({*MODES, "I;16L"} - {"LAB"}))
def test_every_mode_in_memory_is_read_as_its_arithmetic_says(mode: str) -> None:
    image = picture_in(mode)
    levels = 2.5 if mode in ("CMYK", "HSV", "YCbCr", *_PREMULTIPLIED) else 0.001
    assert difference(image, appearance(image)) <= levels / 255
    alpha = read_picture(image).alpha
    if mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        assert alpha is not None
        assert np.array_equal(alpha[0, 0] * 255, np.asarray(image.getchannel(image.getbands()[-1])))
    else:
        assert alpha is None


DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""The bits that a PNG may have for each kind of color: grey, RGB, palette, and with alpha."""

PNG_KINDS = [
    (color, depth, interlaced, transparent)
    for color, depths in DEPTHS.items()
    for depth in depths
    for interlaced in (False, True)
    for transparent in ((False, True) if color in (0, 2, 3) else (False,))
]


@pytest.mark.parametrize(("color", "depth", "interlaced", "transparent"), PNG_KINDS)
def test_every_kind_of_png_is_read_by_its_numbers(
    color: int, depth: int, interlaced: bool, transparent: bool, tmp_path: Path
) -> None:
    channels, most = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color], 2**depth - 1
    values = RNG.integers(0, most + 1, (HEIGHT, WIDTH, channels))
    extra, alpha = b"", None
    if color == 3:
        palette, opacity = bytes_of(most + 1, 3), bytes_of(most + 1)
        extra, shown = png_chunk(b"PLTE", palette.tobytes()), palette[values[..., 0]] / 255
        if transparent:
            extra += png_chunk(b"tRNS", opacity.tobytes())
            alpha = opacity[values[..., 0]] / 255
    else:
        values[2:5, 3:6] = values[0, 0]
        shown = values / most
        if color in (4, 6):
            shown, alpha = shown[..., :-1], shown[..., -1]
        if transparent:
            extra = png_chunk(b"tRNS", struct.pack(f">{channels}H", *values[0, 0].tolist()))
            alpha = 1.0 - (values == values[0, 0]).all(-1)
    path = tmp_path / "picture.png"
    path.write_bytes(png_of(values, depth, color, extra, interlaced=interlaced))
    if transparent and (color, depth) == (2, 16):
        assert refused(path, words="16-bit colors of which one is transparent")
        return
    assert difference(path, composed(shown, alpha)) <= 1e-5
    assert (read_picture(path).alpha is None) == (alpha is None)
    with Image.open(path) as image:  # an open one is not changed
        key = image.info.get("transparency")
        assert difference(image, composed(shown, alpha)) <= 1e-5
        assert image.info.get("transparency") == key


GREY = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
FLOATS = RNG.random((HEIGHT, WIDTH), dtype=np.float32)
COLORS = bytes_of(HEIGHT, WIDTH, 3)
DEEP_COLORS = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "photometric", "planar", "expected"),
    [
        (GREY, 1, False, GREY / 255),
        (GREY, 0, False, 1 - GREY / 255),
        (DEEP, 1, False, DEEP / 65535),
        (FLOATS, 1, False, FLOATS),
        (COLORS, 2, False, COLORS / 255),
        (COLORS, 2, True, COLORS / 255),
        (DEEP_COLORS, 2, False, DEEP_COLORS / 65535),
    ],
    ids=["grey", "white is 0", "16 bits", "floats", "colors", "planes", "16-bit colors"],
)
def test_every_kind_of_tiff_is_read_by_its_numbers(
    values: Array, photometric: int, planar: bool, expected: Array, order: Any, tmp_path: Path
) -> None:
    path = tmp_path / "picture.tiff"
    path.write_bytes(tiff_of(values, photometric, order=order, planar=planar))
    assert difference(path, composed(expected)) <= 0.001 / 255


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff_of(DEEP, 0), "0 is white, which Pillow would read as a negative"),
        (tiff_of(FLOATS, 0), "0 is white, which Pillow would read as a negative"),
        (tiff_of((DEEP // 2).astype(np.int16), 1), "signed numbers"),
        (tiff_of((GREY // 2).astype(np.int8), 1), "signed numbers"),
        (tiff_of(DEEP_COLORS, 2, planar=True), "planar 16-bit channels"),
        (tiff_of(DEEP >> 4, 1, bits=12), "12 bits"),
        (
            b"\0\0\0\x18ftypcrx \0\0\0\1",
            "a camera raw, which Pillow cannot read. Develop it",
        ),
    ],
    ids=["white is 0", "0.0", "16 signed", "8 signed", "16-bit planes", "12 bits", "CR3"],
)
def test_a_tiff_that_would_be_wrong_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.CR3" if b"ftyp" in content[:8] else "picture.tiff")
    path.write_bytes(content)
    assert refused(path, words=words)
    if path.suffix == ".tiff":
        with Image.open(path) as image:  # as well if it was opened before
            assert refused(image, words=words)


NEW_SUBFILE, SUBFILE, MAKE, SUB_IFDS, DNG = 254, 255, 271, 330, 50706
RAW, REDUCED = "a camera raw, of which Pillow would read only a preview. Develop", "a reduced copy"


@pytest.mark.parametrize(
    ("tags", "name", "words"),
    [
        ({NEW_SUBFILE: 1, MAKE: 1, SUB_IFDS: 8}, "a.tif", RAW),
        ({DNG: 1}, "a.tif", RAW),
        ({}, "a.NEF", RAW),
        ({NEW_SUBFILE: 1}, "a.tif", REDUCED),
        ({SUBFILE: 2}, "a.tif", REDUCED),
        ({NEW_SUBFILE: 4}, "a.tif", "only a mask of another. Save it as PNG"),
        ({NEW_SUBFILE: 5}, "a.tif", "only a mask of another"),
        ({NEW_SUBFILE: 2}, "a.tif", None),  # a page of many
        ({NEW_SUBFILE: 0, SUBFILE: 1, MAKE: 1, SUB_IFDS: 8}, "a.tif", None),
    ],
)
def test_a_preview_or_mask_is_not_taken_for_the_picture(
    tags: dict[int, int], name: str, words: str | None, tmp_path: Path
) -> None:
    directory, path = TiffImagePlugin.ImageFileDirectory_v2(), tmp_path / name
    for tag, value in tags.items():
        directory.tagtype[tag] = {MAKE: 2, DNG: 1}.get(tag, 4)
        directory[tag] = {MAKE: "Make", DNG: b"\1\4\0\0"}.get(tag, value)
    Image.fromarray(COLORS).save(path, "TIFF", tiffinfo=directory)
    with Image.open(path) as image:
        for source in (path, image):
            assert refused(source, words=words or "") == (words is not None)


def test_reading_pictures_runs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **kwargs: started.append(args))
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    assert refused(path, words="a vector drawing that only an external program can render")
    assert started == []


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation: int, suffix: str, tmp_path: Path) -> None:
    upright = np.kron(bytes_of(3, 4, 3), np.ones((8, 8, 1), np.uint8))
    # What a camera that is held like this stores: the inverse of what a viewer does.
    turn = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
    turn += [upright.transpose(1, 0, 2), np.rot90(upright)]
    turn += [np.rot90(upright, 2).transpose(1, 0, 2), np.rot90(upright, -1)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{suffix}"
    exact: dict[str, Any] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    stored = Image.fromarray(np.ascontiguousarray(turn[orientation - 1]))
    stored.save(path, exif=exif, **exact.get(suffix, {}))
    assert difference(path, upright / 255) <= (0.05 if suffix == "jpg" else 1e-6)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif"])
def test_the_thinnest_pictures_are_read(suffix: str, tmp_path: Path) -> None:
    for shape in ((1, 1), (1, 5000), (5000, 1)):
        values, path = bytes_of(*shape), tmp_path / f"picture.{suffix}"
        Image.fromarray(values).save(path)
        assert difference(path, composed(values / 255)) <= 1e-6
        assert max(load_image(path, size=7).shape[-2:]) == min(7, max(shape))


ANIMATIONS = [s for s in ("gif", "png", "webp", "tiff", "avif") if s.upper() in Image.SAVE_ALL]


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_the_first_frame_of_an_animation_is_read(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 8), color) for color in ("white", "black", "gray")]
    path = tmp_path / f"picture.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert difference(path, np.ones((8, 16, 3))) <= 0.01


def encoded(name: str) -> bytes:
    """Return a picture in a format, with a profile and EXIF, a record too, where it has them."""
    picture = Image.fromarray(np.kron(bytes_of(5, 6, 3), np.ones((8, 8, 1), np.uint8)))
    exif, buffer = picture.getexif(), io.BytesIO()
    exif[0x0112] = 6
    exif[0x010E] = '{"nst record": 1, "seed": 7}'
    rich = {"icc_profile": PROFILE, "exif": exif} if name in ("PNG", "JPEG", "TIFF", "WEBP") else {}
    picture.save(buffer, name, **rich)
    return buffer.getvalue()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NAMES = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA", "PPM")
SOURCES = {name: encoded(name) for name in NAMES if name in Image.SAVE}  # AVIF is recent


@pytest.mark.parametrize("name", SOURCES)
def test_a_truncated_file_is_refused_and_one_with_flipped_bits_is_read_or_refused(
    name: str, tmp_path: Path
) -> None:
    whole, path = SOURCES[name], tmp_path / "picture"
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        assert refused(path), tenth
    for _ in range(60):
        content = bytearray(whole)
        for place in RNG.integers(0, min(len(content), 4096), RNG.integers(1, 4)):
            content[place] ^= 1 << RNG.integers(0, 8)
        path.write_bytes(content)
        refused(path)
        with suppress(ValueError):
            assert isinstance(read_record(path), dict)


def peak_memory() -> int:
    """Return the most kilobytes that this process had in memory since the last reset."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shape", [(10_000, 10_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_a_tiny_file_of_a_huge_picture_takes_no_memory_and_warns_of_nothing(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    path, header = tmp_path / "picture.png", struct.pack(">IIBBBBB", *shape, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"x"))
    Path("/proc/self/clear_refs").write_text("5")  # the reset
    before = peak_memory()
    assert refused(path, words="too large to be trusted")
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="too large to be trusted"):
            read_record(path)
    assert leaked == []
    assert peak_memory() - before < 50_000
