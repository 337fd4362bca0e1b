"""Arrays, tensors, files and PIL images become (N, 3, H, W) in [0, 1], and are resized."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.images import fit, load_image, read_picture, resize

RAMP = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
PIXELS = torch.tensor(RAMP.astype(np.float32) / 255).permute(2, 0, 1)[None]


def test_alpha_that_is_opaque_everywhere_is_none() -> None:
    assert read_picture(Image.new("RGBA", (2, 2), (1, 2, 3, 255))).alpha is None
    assert read_picture(torch.ones(2, 4, 3, 3)).alpha is None


@pytest.mark.parametrize("source", [None, 3, b"a.png", ["a.png"], io.BytesIO(b"x")])
def test_other_types_are_refused_with_the_supported_ones(source: Any) -> None:
    kind, remedy = type(source).__name__, "map" if isinstance(source, list) else "open"
    with pytest.raises(TypeError, match=f"`style` is of type {kind}, but must be a path.*{remedy}"):
        read_picture(source, name="style")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, ">u2", "<u2", np.float16, "f4", ">f4", "f8"])
def test_array_of_each_dtype_is_read(kind: Any) -> None:
    dtype = np.dtype(kind)
    top = np.iinfo(dtype).max if dtype.kind == "u" else 1
    pixels = read_picture(np.array([[0, top]], dtype=dtype)).pixels
    assert pixels.dtype == torch.float32
    assert pixels[0, :, 0].tolist() == [[0, 1]] * 3


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "uint8", "uint16"])
def test_a_tensor_becomes_float32_unless_it_is_float64(name: str) -> None:
    dtype: torch.dtype = getattr(torch, name)
    top = 1 if dtype.is_floating_point else torch.iinfo(dtype).max
    pixels = read_picture(torch.full((3, 2, 2), top, dtype=dtype)).pixels
    assert pixels.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert pixels.min() == 1


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_an_array_is_read_like_a_tensor(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(2).random(shape, dtype=np.float32)
    pixels, alpha = read_picture(array)
    assert pixels.is_contiguous()
    expected = read_picture(torch.tensor(array.reshape(5, 7, -1)).permute(2, 0, 1))
    assert torch.equal(pixels, expected.pixels)
    if alpha is None or expected.alpha is None:
        assert alpha is expected.alpha is None
    else:
        assert torch.equal(alpha, expected.alpha)


def test_views_and_read_only_arrays_are_read() -> None:
    frozen = RAMP.copy()
    frozen.flags.writeable = False
    assert torch.equal(read_picture(frozen).pixels, PIXELS)
    assert torch.equal(read_picture(RAMP[::-1, ::-2]).pixels, PIXELS.flip(2, 3)[..., ::2])
    floats = np.asfortranarray(RAMP.astype(np.float32) / 255)
    assert torch.equal(read_picture(floats).pixels, PIXELS)


@pytest.mark.parametrize("batch", [(), (1,), (2,)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tensor_of_each_shape_is_read(batch: tuple[int, ...], channels: int) -> None:
    tensor = torch.rand(*batch, channels, 5, 7, generator=torch.Generator().manual_seed(0))
    pixels, alpha = read_picture(tensor[0] if channels == 1 and not batch else tensor)
    expected = tensor.reshape(-1, channels, 5, 7)
    if channels in (2, 4):
        assert alpha is not None
        assert torch.equal(alpha, expected[:, -1:])
        expected = 1 - alpha * (1 - expected[:, :-1])
    else:
        assert alpha is None
    torch.testing.assert_close(pixels, expected.expand(-1, 3, 5, 7))
    assert pixels.max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_result_shares_no_memory_and_no_graph(channels: int) -> None:
    source = torch.rand(1, channels, 4, 4, requires_grad=True)
    before = source.detach().clone()
    pixels, alpha = read_picture(source)
    pixels[:, 0].zero_()  # the channels must not share memory either
    assert pixels[:, 1].max() > 0
    assert not pixels.requires_grad
    if alpha is not None:
        alpha.zero_()
    assert torch.equal(source, before)
    array = np.ones((2, 2, 3), dtype=np.float32)
    read_picture(array).pixels.zero_()
    assert array.min() == 1


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.complex64, object])
def test_another_dtype_is_refused(dtype: Any) -> None:
    array = np.zeros((3, 2, 2), dtype=dtype)
    pictures: list[Any] = [array] if dtype is object else [array, torch.tensor(array)]
    for picture in pictures:
        with pytest.raises(TypeError, match="must be uint8, uint16, bool or floating"):
            read_picture(picture)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        (np.zeros((3, 8, 8)), r"\(H, W, C\).*transpose\(1, 2, 0\)"),
        (np.zeros((8,)), r"\(H, W, C\).*one picture"),
        (np.zeros((1, 8, 8, 3)), r"\(H, W, C\).*one picture at a time"),
        (torch.zeros(8, 9, 3), r"\(C, H, W\).*permute\(2, 0, 1\)"),
        (torch.zeros(1, 8, 9, 3), r"\(C, H, W\).*permute\(0, 3, 1, 2\)"),
        (torch.zeros(5, 8, 9), r"\(C, H, W\).*Add or remove axes"),
        (torch.zeros(1, 1, 3, 8, 9), r"\(C, H, W\).*Add or remove axes"),
    ],
)
def test_another_shape_is_refused_with_a_hint(source: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"has shape \({source.shape[0]},.*must be .*{hint}"):
        read_picture(source)


def test_picture_without_pixels_is_refused() -> None:
    arrays: list[Any] = [np.zeros((0, 4, 3), np.uint8), torch.zeros(3, 0, 4)]
    pictures = [Image.new("RGB", (0, 4)), Image.new("I", (0, 4))]
    for source in (*arrays, torch.zeros(0, 3, 2, 2), *pictures):
        with pytest.raises(ValueError, match="`source` has no pixels"):
            read_picture(source)


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
def test_values_out_of_range_are_named_with_remedy(values: tuple[float, float], words: str) -> None:
    tensor = torch.tensor([values], dtype=torch.float32)
    for source in (tensor, tensor.numpy(), tensor.numpy().astype(np.float64)):
        with pytest.raises(ValueError) as caught:
            read_picture(source, name="init")
        assert str(caught.value).startswith("`init` has ")
        assert words in str(caught.value)


def test_load_image_is_read_picture_and_resize_and_checks_the_size_first() -> None:
    assert torch.equal(load_image(RAMP), PIXELS)
    assert torch.equal(load_image(RAMP, size=4), resize(PIXELS, 4))
    with pytest.raises(ValueError, match="`size` is 0; it must be at least 1"):
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


def test_resize_returns_an_image_of_the_size_itself_and_keeps_flat_pictures_and_ranges() -> None:
    image = torch.rand(1, 3, 4, 5)
    assert resize(image, 5) is resize(image, (4, 5)) is image
    assert tuple(resize(image, (9, 2)).shape) == (1, 3, 9, 2)
    flat = torch.full((1, 3, 40, 30), 0.3)
    torch.testing.assert_close(resize(flat, 7), torch.full((1, 3, 7, 5), 0.3))
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    large = resize(edge, (32, 32))
    assert large.min() == 0 and large.max() == 1


def test_half_precision_is_resized_as_single() -> None:
    image = torch.rand(1, 3, 8, 8).half()
    assert torch.equal(resize(image, 4), resize(image.float(), 4).half())


def test_resize_does_not_alias() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    # Taking every fourth pixel would give all black or all white.
    torch.testing.assert_close(resize(stripes, 16)[..., 2:-2].mean(), torch.tensor(0.5))
    assert resize(stripes, 16)[..., 2:-2].std() < 0.05


@pytest.mark.parametrize(
    "size", [0, -3, (0, 4), (4, -1), 2.5, "8", None, [4, 4], (4, 4, 4), (4.0, 4)], ids=str
)
def test_a_side_below_one_or_of_another_type_is_refused(size: Any) -> None:
    below = size in (0, -3, (0, 4), (4, -1))
    rule = r"-?\d; it must be at least 1" if below else ".*(whole number|integer or \\(height)"
    with pytest.raises(ValueError if below else TypeError, match=rf"`size(\[\d\])?` is {rule}"):
        resize(torch.rand(1, 3, 4, 5), size)


def test_only_floating_batches_are_resized() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, C, H, W\), .* Add the batch axis"):
        resize(torch.rand(3, 4, 5), 2)
    with pytest.raises(TypeError, match=r"`image` has dtype torch\.uint8, but must be floating"):
        resize(torch.full((1, 3, 8, 8), 200, dtype=torch.uint8), 4)
