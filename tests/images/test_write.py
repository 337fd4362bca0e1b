import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from nst.images import Picture, check_output, read_picture, save_image, to_pil
from tests.helpers import raising


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_byte_comes_back_and_others_are_rounded_and_clamped(dtype: torch.dtype) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = to_pil(read_picture(gray).pixels.to(dtype).requires_grad_())
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image).astype(int) - gray[..., None])
    assert difference.max() <= (1 if dtype == torch.bfloat16 else 0)
    assert image.getpixel((15, 15)) == (255, 255, 255)
    values = torch.tensor([254.9, 254.4, 0.6, 0.4, -9.0, 999.0]) / 255
    image = to_pil(values.expand(3, 1, 6))
    assert np.asarray(image)[0, :, 0].tolist() == [255, 254, 1, 0, 0, 255]


def test_picture_with_alpha_reads_back_the_same_and_does_not_fringe() -> None:
    color = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    first = read_picture(np.dstack((color, np.arange(256, dtype=np.uint8).reshape(16, 16))))
    image = to_pil(*first)
    again = read_picture(image)
    assert image.mode == "RGBA" and again.alpha is not None and first.alpha is not None
    assert torch.equal(again.alpha, first.alpha)
    torch.testing.assert_close(again.pixels, first.pixels, rtol=0, atol=0.51 / 255)
    red = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert to_pil(*read_picture(red)).getpixel((0, 0)) == (255, 0, 0, 128)


RGB = torch.rand(3, 4, 4)


@pytest.mark.parametrize(
    ("image", "alpha", "error", "words"),
    [
        (torch.rand(2, 3, 4, 4), None, ValueError, r"`image` has shape \(2, 3.*e\.g\. image\[0\]"),
        (torch.rand(4, 4, 3), None, ValueError, r"must be \(3, H, W\)"),
        (torch.rand(3, 0, 4), None, ValueError, "none of them 0"),
        (RGB, torch.rand(3, 4, 4), ValueError, r"`alpha` has shape \(3, 4, 4\)"),
        (RGB, torch.rand(1, 4, 5), ValueError, r"`alpha` is \(4, 5\) in size, but .* is \(4, 4"),
        (RGB * torch.nan, None, ValueError, "`image` has NaN. Lower the step size"),
        (RGB + torch.inf, None, ValueError, "`image` has infinite values. Lower the step size"),
        (RGB.to(torch.uint8), None, TypeError, r"`image` has dtype torch\.uint8"),
        (Image.new("RGB", (4, 4)), None, TypeError, "`image` is a Image, but must be a tensor"),
    ],
)
def test_only_one_finite_floating_picture_is_converted(
    image: Any, alpha: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        to_pil(image, alpha)


ALPHA_SUFFIXES = ["png", "PNG", "webp", "tiff", "tif", "tga", "jp2"]


@pytest.mark.parametrize("suffix", [*ALPHA_SUFFIXES, "jpg", "jpeg", "bmp", "ppm", "gif"])
def test_alpha_is_saved_by_formats_that_have_it(tmp_path: Path, suffix: str) -> None:
    picture = read_picture(Image.new("RGBA", (8, 8), (90, 90, 90, 128)))
    again = read_picture(save_image(picture.pixels, tmp_path / f"a.{suffix}", alpha=picture.alpha))
    torch.testing.assert_close(again.pixels, picture.pixels, rtol=0, atol=2.01 / 255)
    assert (again.alpha is not None) == (suffix in ALPHA_SUFFIXES)
    if again.alpha is not None:
        assert picture.alpha is not None
        torch.testing.assert_close(again.alpha, picture.alpha, rtol=0, atol=1e-6)


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


@pytest.mark.skipif(os.name == "nt", reason="no umask here")
def test_saved_file_has_normal_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = save_image(torch.rand(3, 4, 4), tmp_path / "a.png")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = save_image(torch.zeros(3, 4, 4), tmp_path / "there/a.png"), tmp_path / "link.png"
    link.symlink_to(target)
    save_image(torch.ones(3, 4, 4), link)
    assert link.is_symlink() and read_picture(target).pixels.min() == 1


def test_a_picture_too_large_for_its_format_is_refused_and_costs_no_file(tmp_path: Path) -> None:
    path = save_image(torch.zeros(3, 4, 4), tmp_path / "a.jpg")
    before = path.read_bytes()
    with pytest.raises(OSError, match="could not encode 70000 x 1 pixels as JPEG"):
        save_image(torch.zeros(3, 1, 70000), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("a", ValueError, "whose name has no suffix. Use .png, .jpg"),
        ("a.xyz", ValueError, "whose suffix '.xyz' names no known picture format. Use .png or"),
        ("a.psd", ValueError, "whose suffix '.psd'"),  # read, never written
        ("a.h5", ValueError, "whose suffix '.h5'"),  # no handler for it
        ("a.xbm", ValueError, "whose suffix '.xbm'"),  # black and white only
        ("a.pdf", ValueError, "whose suffix '.pdf'"),
        ("dir.png", IsADirectoryError, "is a folder. Add a file name"),
        ("new/a.png", FileNotFoundError, "whose folder does not exist. Create '"),
        ("file/a.png", NotADirectoryError, "is not a folder"),
    ],
)
def test_check_output_refuses_suffixes_and_places(
    tmp_path: Path, name: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(error) as caught:
        check_output(tmp_path / name, name="output")
    assert str(caught.value).startswith(f"`output` is {str(tmp_path / name)!r}, ")
    assert words in str(caught.value)


def test_check_output_asks_for_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_image(torch.rand(3, 4, 4), tmp_path / "a.png")
    with monkeypatch.context() as patched:
        # What the file system says counts, not `os.access`, which tells an administrator yes.
        patched.setattr(Path, "open", raising(OSError(30, "read-only")))
        with pytest.raises(PermissionError, match=r"may not be written \(read-only\)"):
            check_output(path)
    monkeypatch.setattr(os, "access", lambda where, mode: Path(where) == tmp_path)
    with pytest.raises(
        PermissionError, match=r"exists and may not be written\. Choose another name"
    ):
        save_image(torch.rand(3, 4, 4), path)


def test_settings_of_pillow_are_not_changed(tmp_path: Path) -> None:
    def settings() -> Any:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    before = settings()
    picture = read_picture(save_image(torch.rand(3, 4, 4), tmp_path / "a.png"))
    assert isinstance(picture, Picture) and settings() == before


def test_exchanged_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"`image` is 'a.png', and `path` a tensor\. Call save_im"):
        save_image("a.png", torch.rand(3, 4, 4))  # type: ignore[arg-type]
