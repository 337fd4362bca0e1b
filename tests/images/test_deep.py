"""Colors of 16 bits are written and read exactly."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.images import load_image, read_picture, read_record, save_image
from tests.encoders import png_chunk, png_of

LEVELS = torch.arange(65536).reshape(1, 64, 1024).float() / 65535
COLORS = torch.cat([LEVELS, LEVELS.flip(1), LEVELS.flip(2)])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("with_metadata", [True, False])
def test_every_level_is_read_back(tmp_path: Path, suffix: str, with_metadata: bool) -> None:
    exif = Image.Exif()
    exif.update({282: 300.0, 283: 300.0, 296: 2, 34665: {36867: "2020:01:02 03:04:05"}})
    extra: Any = {"record": {"seed": 7}, "exif": exif.tobytes()} if with_metadata else {}
    path = save_image(COLORS, tmp_path / f"a.{suffix}", bit_depth=16, **extra)
    assert torch.equal(load_image(path)[0], COLORS)
    if with_metadata:
        assert read_record(path) == {"seed": 7}
        with Image.open(path) as image:
            assert np.allclose(image.info["dpi"], 300, atol=0.01)
            assert image.getexif().get_ifd(34665) == {36867: "2020:01:02 03:04:05"}


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_transparency_is_kept(tmp_path: Path, suffix: str) -> None:
    alpha = (torch.arange(65536).reshape(1, 64, 1024).float() / 65535).flip(2)
    first = read_picture(torch.cat([COLORS, alpha]))
    path = save_image(first.pixels, tmp_path / f"a.{suffix}", alpha=first.alpha, bit_depth=16)
    again = read_picture(path)
    assert again.alpha is not None and first.alpha is not None
    assert torch.equal(again.alpha, first.alpha)
    torch.testing.assert_close(again.pixels, first.pixels, rtol=0, atol=0.51 / 65535)
    with Image.open(path) as image:  # other software sees the same with 8 bits
        assert image.mode == "RGBA"


@pytest.mark.parametrize(
    ("name", "depth", "message"),
    [
        ("a.jpg", 16, "`bit_depth` is 16, but JPEG is saved with 8. Use PNG or TIFF"),
        ("a.webp", 16, "`bit_depth` is 16, but WEBP"),
        ("a.png", 12, "`bit_depth` is 12; it must be one of 8, 16"),
    ],
)
def test_other_depths_are_refused(tmp_path: Path, name: str, depth: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_image(COLORS, tmp_path / name, bit_depth=depth)


def test_each_frame_of_an_animated_png_is_its_own(tmp_path: Path) -> None:
    frames = [np.full((5, 7, 3), level, np.uint16) for level in (65535, 0)]
    first, second = (png_of(each, 16, 2) for each in frames)
    control = struct.pack(">IIIIIHHBB", 0, 7, 5, 0, 0, 1, 10, 0, 0)
    start = png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png_chunk(b"fcTL", control)
    data = second[second.index(b"IDAT") + 4 : -16]
    control, data = struct.pack(">I", 1) + control[4:], struct.pack(">I", 2) + data
    end = png_chunk(b"fcTL", control) + png_chunk(b"fdAT", data) + png_chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(png_of(frames[0], 16, 2, start).removesuffix(first[-12:]) + end)
    with Image.open(path) as image:
        assert load_image(image).min() == 1
        image.seek(1)
        assert load_image(image).max() == 0
