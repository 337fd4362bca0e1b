"""Color methods in float64, against independent ones in numpy and scipy and by their identities."""

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nst import color

Linear = Literal["cholesky", "pca", "symmetric"]
LINEAR: tuple[Linear, ...] = get_args(Linear)
Matching = Callable[[Tensor, Tensor], Tensor]
Array = npt.NDArray[Any]

MATCHINGS: dict[str, Matching] = {
    "luminance": color.match_luminance,
    "cholesky": lambda x, y: color.match_covariance(x, y, method="cholesky"),
    "pca": lambda x, y: color.match_covariance(x, y, method="pca"),
    "symmetric": lambda x, y: color.match_covariance(x, y, method="symmetric"),
    "histogram": color.match_histogram,
}
any_matching = pytest.mark.parametrize("name", sorted(MATCHINGS))
any_linear = pytest.mark.parametrize("method", LINEAR)
sizes = st.tuples(st.integers(4, 9), st.integers(4, 9))
seeds = st.integers(0, 10_000)
few = settings(deadline=None, max_examples=25)


def picture(
    seed: int, size: tuple[int, int] = (7, 9), *, batch: int = 1, width: float = 0.15
) -> Tensor:
    """Correlated colors around a mean near 0.5, so narrow that no matching clips."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(batch, 3, *size, generator=generator, dtype=torch.float64)
    # So far from singular that no direction is flatter than rounding.
    mixing = 2 * torch.eye(3, dtype=torch.float64)
    mixing = mixing + torch.rand(3, 3, generator=generator, dtype=torch.float64)
    mixing = mixing / mixing.sum(1, keepdim=True)
    center = 0.45 + 0.1 * torch.rand(1, 3, 1, 1, generator=generator, dtype=torch.float64)
    return center + width * (torch.einsum("ij,njhw->nihw", mixing, pixels) - 0.5)


def moments(image: Tensor) -> tuple[Array, Array]:
    pixels = image.flatten(2)[0].numpy()
    return pixels.mean(1), np.cov(pixels, bias=True)


def flat(value: float | tuple[float, float, float], size: tuple[int, int] = (5, 6)) -> Tensor:
    channels = torch.tensor(value, dtype=torch.float64).expand(3)
    return channels[None, :, None, None].expand(1, 3, *size)


def gray(seed: int) -> Tensor:
    return picture(seed)[:, :1].expand(1, 3, 7, 9)


PICTURES: dict[str, Tensor] = {
    "ordinary": picture(1),
    "gray": gray(3),
    "black": flat(0.0),
    "white": flat(1.0),
    "constant": flat((0.1, 0.7, 0.3)),
    "one pixel": flat((0.1, 0.7, 0.3), (1, 1)),
    "two pixels": picture(8, (1, 2)),
    "one channel": torch.cat((picture(8)[:, :1], flat(0.4, (7, 9))[:, 1:]), 1),
    "nearly constant": 0.5 + 1e-9 * (picture(8) - 0.5),
    "black and white": (picture(8) > 0.5).double(),
}
any_picture = pytest.mark.parametrize("kind", sorted(PICTURES))


YIQ = [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


@pytest.mark.parametrize("matrix", [YIQ, YCBCR], ids=["YIQ", "YCbCr"])
def test_with_luminance_is_the_round_trip_through_yiq_or_ycbcr(matrix: list[list[float]]) -> None:
    image, y = picture(1), color.luminance(picture(2))
    coded = np.einsum("ij,jhw->ihw", matrix, image[0].numpy())
    np.testing.assert_allclose(color.luminance(image)[0, 0], coded[0], rtol=1e-12)
    coded[0] = y[0, 0].numpy()
    expected = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), coded)
    # The published chrominance rows sum to 0 only to their four digits.
    np.testing.assert_allclose(color.with_luminance(image, y)[0], expected, rtol=0, atol=2e-5)


def test_replacing_luminance_by_itself_is_bit_identical_and_vivid_colors_are_clipped() -> None:
    image = torch.rand(2, 3, 5, 6)
    assert torch.equal(color.with_luminance(image, color.luminance(image)), image)
    blue = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    found = color.with_luminance(blue, torch.full((1, 1, 1, 1), 0.614)).flatten().tolist()
    assert found == pytest.approx([0.5, 0.5, 1.0])
    for dtype in (torch.float32, torch.float64):
        y = color.luminance(torch.ones(1, 3, 3, 17, dtype=dtype))
        assert float(y.max()) <= 1 and float(y.min()) == pytest.approx(1)


@few
@given(seed=seeds, other=seeds, size=sizes)
def test_match_luminance_sets_mean_and_deviation_and_keeps_chrominance(
    seed: int, other: int, size: tuple[int, int]
) -> None:
    image, reference = picture(seed), picture(other, size)
    matched = color.match_luminance(image, reference)
    y, wanted = color.luminance(matched).numpy(), color.luminance(reference).numpy()
    np.testing.assert_allclose([y.mean(), y.std()], [wanted.mean(), wanted.std()], rtol=1e-9)
    torch.testing.assert_close(matched.diff(dim=1), image.diff(dim=1))


def independent_map(method: str, covariance: Array, wanted: Array) -> Array:
    if method == "cholesky":
        factors = [np.linalg.cholesky(matrix) for matrix in (wanted, covariance)]
        return np.asarray(factors[0] @ np.linalg.inv(factors[1]))
    root, root_wanted = (scipy.linalg.sqrtm(matrix).real for matrix in (covariance, wanted))
    inverse = np.linalg.inv(root)
    if method == "pca":
        return np.asarray(root_wanted @ inverse)
    return np.asarray(inverse @ scipy.linalg.sqrtm(root @ wanted @ root).real @ inverse)


@few
@given(seed=seeds, other=seeds, size=sizes)
@any_linear
def test_match_covariance_agrees_with_scipy(
    method: Linear, seed: int, other: int, size: tuple[int, int]
) -> None:
    image, reference = picture(seed), picture(other, size)
    (mu, covariance), (wanted_mu, wanted) = moments(image), moments(reference)
    pixels = image[0].flatten(1).numpy()
    expected = independent_map(method, covariance, wanted) @ (pixels - mu[:, None])
    expected = (expected + wanted_mu[:, None]).reshape(3, 7, 9)
    assert 0 < expected.min() < expected.max() < 1, "nothing may clip here"
    found = color.match_covariance(image, reference, method=method)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-9)
    for each, target in zip(moments(found), (wanted_mu, wanted), strict=True):
        np.testing.assert_allclose(each, target, rtol=0, atol=1e-9)


@pytest.mark.parametrize("live", range(3))
def test_cholesky_never_inverts_a_channel(live: int) -> None:
    reference = flat(0.4, (7, 9)).clone()
    reference[:, live] = picture(8)[:, live]
    image = gray(1)
    matched = color.match_covariance(image, reference, method="cholesky")
    both = torch.stack((image[0, live].flatten(), matched[0, live].flatten()))
    assert float(torch.corrcoef(both)[0, 1]) > 0
    colored = color.match_covariance(picture(1), reference, method="cholesky")
    np.testing.assert_allclose(moments(colored)[1], moments(reference)[1], rtol=0, atol=1e-9)


@any_linear
def test_rounding_noise_is_not_amplified(method: Linear) -> None:
    colored = picture(2, width=0.3)
    noisy = (0.5 + (picture(1, width=1.0) - 0.5) / 255 / 100).clamp(0, 1)  # a 100th of a step
    matched = color.match_covariance(noisy, colored, method=method)
    assert float(matched.std()) < 0.25 * float(colored.std())


ONE_CHANNEL = torch.cat((flat(0.4, (7, 9))[:, :2], picture(8)[:, :1]), 1)


@any_linear
@pytest.mark.parametrize("reference", [gray(2), ONE_CHANNEL], ids=["gray", "one channel"])
def test_a_singular_reference_is_matched(method: Linear, reference: Tensor) -> None:
    matched = color.match_covariance(picture(1), reference, method=method)
    np.testing.assert_allclose(moments(matched)[1], moments(reference)[1], rtol=0, atol=1e-9)


def naive_histogram(channel: list[float], wanted: list[float]) -> list[float]:
    """Pour the sorted reference into the ranked pixels, a unit of 1/(P*M) at a time."""
    poured = np.repeat(sorted(wanted), len(channel)).reshape(len(channel), len(wanted)).mean(1)
    ordered = sorted(channel)
    shares: dict[float, list[float]] = {}
    for value, share in zip(ordered, poured.tolist(), strict=True):
        shares.setdefault(value, []).append(share)
    return [float(np.mean(shares[value])) for value in channel]


@few
@given(
    channel=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    wanted=st.lists(st.integers(0, 255), min_size=1, max_size=12),
)
def test_match_histogram_agrees_with_a_naive_one(channel: list[int], wanted: list[int]) -> None:
    values, targets = [v / 8 for v in channel], [v / 255 for v in wanted]
    image, reference = [values, values[::-1], sorted(values)], [targets, [1 - t for t in targets]]
    reference.append([t / 2 for t in targets])
    found = color.match_histogram(
        *(torch.tensor(x, dtype=torch.float64)[None, :, None] for x in (image, reference))
    )
    for i in range(3):
        expected = naive_histogram(image[i], reference[i])
        np.testing.assert_allclose(found[0, i, 0], expected, rtol=0, atol=1e-12)


@any_picture
@any_matching
def test_matching_to_itself_is_the_identity(name: str, kind: str) -> None:
    image = PICTURES[kind]
    # What keeps flat directions from being divided by 0 tilts a triangle a little: 1/100 of a step.
    atol = 4e-5 if name == "cholesky" else 1e-7
    torch.testing.assert_close(MATCHINGS[name](image, image), image, rtol=0, atol=atol)


@any_picture
@any_matching
def test_the_mean_of_a_degenerate_picture_or_reference_is_matched(name: str, kind: str) -> None:
    ordinary, degenerate = picture(2, (5, 6), width=0.05), PICTURES[kind]
    for image, reference in ((degenerate, ordinary), (ordinary, degenerate)):
        matched = MATCHINGS[name](image, reference)
        assert bool(matched.isfinite().all())
        if kind != "black and white" and name != "luminance":  # these are clipped
            torch.testing.assert_close(matched.mean((2, 3)), reference.mean((2, 3)))


@any_matching
@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, (0.1, 0.7, 0.3)])
def test_a_flat_picture_stays_flat(name: str, value: float | tuple[float, float, float]) -> None:
    # Its mean rounds, so its deviation is not quite 0; dividing by that would paint noise.
    matched = MATCHINGS[name](flat(value, (31, 37)).float(), picture(2))
    assert float(matched.flatten(2).std(2).max()) < 1e-6


@any_matching
def test_a_batch_equals_its_pictures_alone(name: str) -> None:
    images, references = picture(1, batch=3), picture(2, (5, 4), batch=3)
    matching = MATCHINGS[name]
    each = [matching(x[None], y[None]) for x, y in zip(images, references, strict=True)]
    torch.testing.assert_close(matching(images, references), torch.cat(each))
    shared = [matching(x[None], references[:1]) for x in images]
    torch.testing.assert_close(matching(images, references[:1]), torch.cat(shared))


@any_matching
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_images_dtype_is_kept_and_no_input_changed(name: str, dtype: torch.dtype) -> None:
    image, reference = picture(1).to(dtype), picture(2)
    strided, before = image.contiguous(memory_format=torch.channels_last), reference.clone()
    with torch.no_grad():
        matched = MATCHINGS[name](strided, reference)
    assert matched.dtype == dtype and matched.shape == image.shape
    torch.testing.assert_close(matched.double(), MATCHINGS[name](image.double(), reference))
    assert torch.equal(strided, image) and torch.equal(reference, before)


@any_matching
@pytest.mark.parametrize("kind", ["gray", "constant"])
def test_no_gradient_flows_through_statistics(name: str, kind: str) -> None:
    # It would be NaN where eigenvalues coincide.
    image = PICTURES[kind].clone().requires_grad_()
    reference = picture(2).requires_grad_()
    matched = MATCHINGS[name](image, reference)
    assert matched.requires_grad == (name != "histogram")
    if name != "histogram":
        matched.square().sum().backward()  # type: ignore[no-untyped-call]
        assert reference.grad is None
        assert image.grad is not None and bool(image.grad.isfinite().all())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", [*LINEAR, "histogram"])
def test_most_methods_do_not_depend_on_when(method: str, when: Literal["before", "after"]) -> None:
    image, content = picture(1), picture(2, (5, 4))
    found = color.preserve_color(image, content, method, when=when)
    assert torch.equal(found, MATCHINGS[method](image, content))


def test_luminance_before_makes_the_style_gray_and_after_takes_the_contents_chrominance() -> None:
    style, content = picture(1), picture(2, (5, 4))
    found = color.preserve_color(style, content, "luminance", when="before")
    assert found.shape == style.shape
    assert torch.equal(found[:, :1].expand_as(found), found)
    y, wanted = found[:, 0].numpy(), color.luminance(content).numpy()
    np.testing.assert_allclose([y.mean(), y.std()], [wanted.mean(), wanted.std()], rtol=1e-9)
    result, content = picture(1, batch=2), picture(2)
    found = color.preserve_color(result, content, "luminance")
    torch.testing.assert_close(color.luminance(found), color.luminance(result))
    torch.testing.assert_close(found.diff(dim=1), content.diff(dim=1).expand(2, -1, -1, -1))


GOOD = torch.full((2, 3, 4, 5), 0.5)


def with_value(value: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x.index_fill(3, torch.tensor([0]), value)


SHAPE = r"has shape \(.*\), but must be \(N, [13], H, W\), none of them 0\. Add the batch axis"


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("luminance", color.with_luminance),
        *(("reference", matching) for matching in MATCHINGS.values()),
        ("content_image", lambda x, y: color.preserve_color(x, y, "pca")),
        ("content_image", lambda x, y: color.preserve_color(x, y, "luminance", when="before")),
    ],
)
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x: x.numpy(), TypeError, "is of type ndarray, but must be a tensor"),
        (lambda x: x.to(torch.uint8), TypeError, "has dtype torch.uint8, .* Divide by 255\\?"),
        (lambda x: x[0], ValueError, SHAPE),
        (lambda x: x.movedim(1, 3), ValueError, SHAPE),
        (lambda x: x[:, :0], ValueError, SHAPE),
        (lambda x: x[:0], ValueError, SHAPE),
        (lambda x: x[..., :0], ValueError, SHAPE),
        (with_value(255.0), ValueError, "has values from 0.5 to 255, .* Divide by 255"),
        (with_value(-0.25), ValueError, "has values from -0.25 to 0.5, .* overshoot"),
        (with_value(float("nan")), ValueError, "has NaN. Replace them, .* torch.nan_to_num"),
    ],
)
def test_a_wrong_image_is_refused(
    name: str, function: Matching, spoil: Any, error: type[Exception], message: str
) -> None:
    other = GOOD[:, :1] if name == "luminance" else GOOD
    for argument, image, reference in (("image", spoil(GOOD), other), (name, GOOD, spoil(other))):
        with pytest.raises(error, match=f"^`{argument}` {message}"):
            function(image, reference)


PAIRED = (
    "`{0}` is (2, 5) in size, but `image` is (4, 5), and their pixels are paired. "
    "Call nst.images.resize({0}, (4, 5))."
)
MORE = "`reference` has 4 pictures for 2 of `image`. Pass 1 or as many."
WRONG: Any = "oklab"
LINEAR_ONLY = "'cholesky', 'pca', 'symmetric'"


@pytest.mark.parametrize(
    ("function", "others", "message"),
    [
        (color.match_histogram, (torch.cat((GOOD, GOOD)),), MORE),
        (color.with_luminance, (GOOD[:, :1, :2],), PAIRED.format("luminance")),
        (color.preserve_color, (GOOD[:, :, :2], "luminance"), PAIRED.format("content_image")),
        (
            color.preserve_color,
            (GOOD, WRONG),
            f"`method` is 'oklab'; it must be one of 'luminance', {LINEAR_ONLY}, 'histogram'.",
        ),
        (
            lambda *both: color.match_covariance(*both, method=WRONG),
            (GOOD,),
            f"`method` is 'oklab'; it must be one of {LINEAR_ONLY}.",
        ),
        (
            lambda x, y: color.preserve_color(x, y, "pca", when=WRONG),
            (GOOD,),
            "`when` is 'oklab'; it must be one of 'before', 'after'.",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(function: Any, others: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(GOOD, *others)
