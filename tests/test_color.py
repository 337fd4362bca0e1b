"""Color methods in float64, against independent ones in numpy and scipy and by their identities."""

from __future__ import annotations

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
METHODS = sorted(color.COLOR_METHODS)
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
    return (
        torch.tensor(value, dtype=torch.float64).expand(3)[None, :, None, None].expand(1, 3, *size)
    )


def gray(seed: int) -> Tensor:
    return picture(seed)[:, :1].expand(1, 3, 7, 9)


DEGENERATE: dict[str, Tensor] = {
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
any_degenerate = pytest.mark.parametrize("kind", sorted(DEGENERATE))


# Luminance


def test_luminance_is_that_of_yiq_and_ycbcr() -> None:
    image = picture(1)
    expected = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], image.numpy())[:, None]
    np.testing.assert_allclose(color.luminance(image), expected, rtol=1e-12)


@few
@given(seed=seeds, other=seeds)
def test_with_luminance_sets_luminance_and_keeps_chrominance(seed: int, other: int) -> None:
    image, y = picture(seed), color.luminance(picture(other))
    changed = color.with_luminance(image, y)
    torch.testing.assert_close(color.luminance(changed), y)
    torch.testing.assert_close(changed.diff(dim=1), image.diff(dim=1))


def test_setting_its_own_luminance_changes_no_bit() -> None:
    image = torch.rand(2, 3, 5, 6)
    assert torch.equal(color.with_luminance(image, color.luminance(image)), image)


def test_a_color_too_vivid_for_its_luminance_is_clipped() -> None:
    blue = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    found = color.with_luminance(blue, torch.full((1, 1, 1, 1), 0.614)).flatten().tolist()
    assert found == pytest.approx([0.5, 0.5, 1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_luminance_of_white_does_not_round_to_above_1(dtype: torch.dtype) -> None:
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


# Mean and covariance


def independent_map(method: str, covariance: Array, wanted: Array) -> Array:
    if method == "cholesky":
        factors = [np.linalg.cholesky(matrix) for matrix in (wanted, covariance)]
        return np.asarray(factors[0] @ np.linalg.inv(factors[1]))
    root, root_wanted = (scipy.linalg.sqrtm(matrix).real for matrix in (covariance, wanted))
    inverse = np.linalg.inv(root)
    if method == "pca":
        return np.asarray(root_wanted @ inverse)
    return np.asarray(inverse @ scipy.linalg.sqrtm(root @ wanted @ root).real @ inverse)


@any_linear
def test_match_covariance_agrees_with_scipy(method: Linear) -> None:
    image, reference = picture(1), picture(2, (6, 5))
    (mu, covariance), (wanted_mu, wanted) = moments(image), moments(reference)
    pixels = image[0].flatten(1).numpy()
    expected = independent_map(method, covariance, wanted) @ (pixels - mu[:, None])
    expected = (expected + wanted_mu[:, None]).reshape(3, 7, 9)
    found = color.match_covariance(image, reference, method=method)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@few
@given(seed=seeds, other=seeds, size=sizes)
@any_linear
def test_match_covariance_meets_mean_and_covariance(
    method: Linear, seed: int, other: int, size: tuple[int, int]
) -> None:
    image, reference = picture(seed), picture(other, size)
    matched = color.match_covariance(image, reference, method=method)
    assert float(matched.min()) > 0 and float(matched.max()) < 1, "nothing may clip here"
    for found, wanted in zip(moments(matched), moments(reference), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("live", range(3))
def test_cholesky_never_turns_a_channel_around(live: int) -> None:
    reference = flat(0.4, (7, 9)).clone()
    reference[:, live] = picture(8)[:, live]
    image = gray(1)
    matched = color.match_covariance(image, reference, method="cholesky")
    both = torch.stack((image[0, live].flatten(), matched[0, live].flatten()))
    assert float(torch.corrcoef(both)[0, 1]) > 0
    colored = color.match_covariance(picture(1), reference, method="cholesky")
    np.testing.assert_allclose(moments(colored)[1], moments(reference)[1], rtol=0, atol=1e-9)


@any_linear
def test_the_noise_of_rounding_is_not_blown_up(method: Linear) -> None:
    colored = picture(2, width=0.3)
    noisy = (0.5 + (picture(1, width=1.0) - 0.5) / 255 / 100).clamp(0, 1)  # a 100th of a step
    matched = color.match_covariance(noisy, colored, method=method)
    assert float(matched.std()) < 0.25 * float(colored.std())


@any_linear
def test_a_gray_reference_leaves_no_color(method: Linear) -> None:
    reference = gray(2)
    matched = color.match_covariance(picture(1), reference, method=method)
    assert float(matched.diff(dim=1).abs().max()) < 1e-7
    np.testing.assert_allclose(moments(matched)[1], moments(reference)[1], rtol=0, atol=1e-9)


@any_linear
def test_a_reference_with_one_live_channel_is_met(method: Linear) -> None:
    reference = torch.cat((flat(0.4, (7, 9))[:, :2], picture(8)[:, :1]), 1)
    matched = color.match_covariance(picture(1), reference, method=method)
    np.testing.assert_allclose(moments(matched)[1], moments(reference)[1], rtol=0, atol=1e-9)


# Histogram


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
    image, reference = (
        torch.tensor(x, dtype=torch.float64).expand(1, 3, 1, len(x)) for x in (values, targets)
    )
    expected = naive_histogram(values, targets)
    for found in color.match_histogram(image, reference)[0, :, 0]:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@few
@given(seed=seeds, other=seeds)
def test_without_ties_the_histogram_is_exactly_the_references(seed: int, other: int) -> None:
    image, reference = picture(seed), picture(other, (9, 7))
    matched = color.match_histogram(image, reference)
    found, wanted = (x.flatten(2).sort(2).values for x in (matched, reference))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    order = image.flatten(2).argsort(2)
    assert bool((matched.flatten(2).gather(2, order).diff(dim=2) >= -1e-12).all())


# Every matching


@few
@given(seed=seeds, size=sizes)
@any_matching
def test_matching_to_itself_is_the_identity(name: str, seed: int, size: tuple[int, int]) -> None:
    image = picture(seed, size)
    torch.testing.assert_close(MATCHINGS[name](image, image), image, rtol=0, atol=1e-9)


@any_degenerate
@any_matching
def test_a_degenerate_picture_to_itself_is_the_identity(name: str, kind: str) -> None:
    image = DEGENERATE[kind]
    # What keeps flat directions from being divided by 0 tilts a triangle a little: 1/100 of a step.
    atol = 4e-5 if name == "cholesky" else 1e-7
    torch.testing.assert_close(MATCHINGS[name](image, image), image, rtol=0, atol=atol)


@any_degenerate
@any_matching
@pytest.mark.parametrize("degenerate", ["picture", "reference"])
def test_a_degenerate_picture_or_reference_gives_the_references_mean(
    name: str, kind: str, degenerate: str
) -> None:
    pair = [DEGENERATE[kind], picture(2, (5, 6), width=0.05)]
    image, reference = pair if degenerate == "picture" else reversed(pair)
    matched = MATCHINGS[name](image, reference)
    assert bool(matched.isfinite().all())
    if kind != "black and white" and name != "luminance":  # which clip
        torch.testing.assert_close(matched.mean((2, 3)), reference.mean((2, 3)))


@any_matching
@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, (0.1, 0.7, 0.3)])
def test_a_constant_picture_stays_constant(
    name: str, value: float | tuple[float, float, float]
) -> None:
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
def test_the_dtype_of_the_image_is_kept(name: str, dtype: torch.dtype) -> None:
    image, reference = picture(1).to(dtype), picture(2)
    matched = MATCHINGS[name](image, reference)
    assert matched.dtype == dtype and matched.shape == image.shape
    torch.testing.assert_close(matched.double(), MATCHINGS[name](image.double(), reference))


@any_matching
@pytest.mark.parametrize("kind", ["gray", "constant"])
def test_no_gradient_flows_through_statistics(name: str, kind: str) -> None:
    # It would be NaN where eigenvalues coincide.
    image = DEGENERATE[kind].clone().requires_grad_()
    reference = picture(2).requires_grad_()
    matched = MATCHINGS[name](image, reference)
    assert matched.requires_grad == (name != "histogram")
    if name != "histogram":
        matched.square().sum().backward()  # type: ignore[no-untyped-call]
        assert reference.grad is None
        assert image.grad is not None and bool(image.grad.isfinite().all())


@any_matching
def test_memory_that_is_not_contiguous_is_read_right(name: str) -> None:
    image, reference = picture(1), picture(2)
    strided = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        MATCHINGS[name](strided, reference), MATCHINGS[name](image, reference)
    )


# preserve_color


def test_the_methods_are_those_promised() -> None:
    assert METHODS == ["cholesky", "histogram", "luminance", "pca", "symmetric"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_returns_a_picture_and_changes_no_input(
    method: str, when: Literal["before", "after"]
) -> None:
    image, content = torch.rand(2, 2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    before = image.clone(), content.clone()
    found = color.preserve_color(image, content, method, when=when)
    assert found.shape == image.shape and found.dtype == image.dtype
    assert bool(((found >= 0) & (found <= 1)).all())
    assert torch.equal(image, before[0]) and torch.equal(content, before[1])
    for i in range(2):
        alone = color.preserve_color(image[[i]], content[[i]], method, when=when)
        assert torch.equal(found[[i]], alone)
    for flat in (torch.full_like(image, value) for value in (0.0, 0.5, 1.0)):
        for x, y in ((flat, content), (image, flat), (flat, flat)):
            assert bool(color.preserve_color(x, y, method, when=when).isfinite().all())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", [*LINEAR, "histogram"])
def test_most_methods_act_alike_before_and_after(
    method: str, when: Literal["before", "after"]
) -> None:
    image, content = picture(1), picture(2, (5, 4))
    found = color.preserve_color(image, content, method, when=when)
    assert torch.equal(found, MATCHINGS[method](image, content))


def test_luminance_before_makes_the_style_gray_with_the_contents_luminance() -> None:
    style, content = picture(1), picture(2, (5, 4))
    found = color.preserve_color(style, content, "luminance", when="before")
    assert found.shape == style.shape
    assert torch.equal(found[:, :1].expand_as(found), found)
    y, wanted = found[:, 0].numpy(), color.luminance(content).numpy()
    np.testing.assert_allclose([y.mean(), y.std()], [wanted.mean(), wanted.std()], rtol=1e-9)


def test_luminance_after_keeps_luminance_and_takes_the_contents_chrominance() -> None:
    result, content = picture(1, batch=2), picture(2)
    found = color.preserve_color(result, content, "luminance")
    torch.testing.assert_close(color.luminance(found), color.luminance(result))
    torch.testing.assert_close(found.diff(dim=1), content.diff(dim=1).expand(2, -1, -1, -1))


@pytest.mark.parametrize("method", METHODS)
def test_the_contents_own_colors_change_nothing_after(method: str) -> None:
    content = picture(1)
    found = color.preserve_color(content.float(), content, method)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, content.float(), rtol=0, atol=1e-6)


# What is refused

GOOD = torch.full((2, 3, 4, 5), 0.5)


def refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


TWO_PICTURES: list[tuple[str, Matching]] = [
    ("luminance", color.with_luminance),
    *(("reference", matching) for matching in MATCHINGS.values()),
    ("content_image", lambda x, y: color.preserve_color(x, y, "pca")),
    ("content_image", lambda x, y: color.preserve_color(x, y, "luminance", when="before")),
]
any_function = pytest.mark.parametrize(("name", "function"), TWO_PICTURES)


def good(name: str) -> Tensor:
    return GOOD[:, :1] if name == "luminance" else GOOD


def with_value(image: Tensor, value: float) -> Tensor:
    image = image.clone()
    image[0, 0, 0, 0] = value
    return image


SHAPE = (
    r"has shape \([\d, ]+\), but must be \(N, [13], H, W\), none of them 0\. "
    r"Add the batch axis with \w+\[None\], or permute channels that come last\."
)
RANGE = (
    r"has values from {}, but floats must lie in \[0, 1\]\. Call clamp\(0, 1\) if they only "
    r"overshoot, torch.nan_to_num if they are NaN\."
)
WRONG: dict[str, tuple[Callable[[Tensor], Tensor], type[Exception], str]] = {
    "bytes": (
        lambda x: x.to(torch.uint8),
        TypeError,
        r"has dtype torch\.uint8, but must be floating\. Divide by 255\?",
    ),
    "no batch": (lambda x: x[0], ValueError, SHAPE),
    "channels last": (lambda x: x.movedim(1, 3), ValueError, SHAPE),
    "no channels": (lambda x: x[:, :0], ValueError, SHAPE),
    "no pictures": (lambda x: x[:0], ValueError, SHAPE),
    "no columns": (lambda x: x[..., :0], ValueError, SHAPE),
    "too large": (lambda x: with_value(x, 255.0), ValueError, RANGE.format("0.5 to 255")),
    "negative": (lambda x: with_value(x, -0.25), ValueError, RANGE.format("-0.25 to 0.5")),
    "nan": (lambda x: with_value(x, torch.nan), ValueError, RANGE.format("nan.*")),
}


@any_function
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_pictures_are_refused(name: str, function: Matching, which: int, wrong: str) -> None:
    spoil, error, message = WRONG[wrong]
    pair = [GOOD, good(name)]
    pair[which] = spoil(pair[which])
    refused(error, f"`{('image', name)[which]}` {message}", lambda: function(*pair))


@any_function
def test_batches_that_do_not_fit_are_refused(name: str, function: Matching) -> None:
    message = f"`{name}` has 3 pictures for 2 of `image`. Pass 1 or as many."
    other = torch.cat((good(name), good(name)[:1]))
    refused(ValueError, re.escape(message), lambda: function(GOOD, other))


def test_pictures_of_unequal_sizes_are_refused() -> None:
    calls: dict[str, Callable[[], Tensor]] = {
        "luminance": lambda: color.with_luminance(GOOD, GOOD[:, :1, :2]),
        "content_image": lambda: color.preserve_color(GOOD, GOOD[:, :, :2], "luminance"),
    }
    for name, call in calls.items():
        message = (
            f"`{name}` is (2, 5) in size, but `image` is (4, 5), and their pixels are paired. "
            f"Call nst.images.resize({name}, (4, 5))."
        )
        refused(ValueError, re.escape(message), call)


def test_unknown_names_are_refused() -> None:
    wrong: Any = "oklab"
    rule = "is 'oklab'; it must be one of"
    linear = "'cholesky', 'pca', 'symmetric'"
    for message, call in (
        (
            f"`method` {rule} 'luminance', {linear}, 'histogram'.",
            lambda: color.preserve_color(GOOD, GOOD, wrong),
        ),
        (f"`method` {rule} {linear}.", lambda: color.match_covariance(GOOD, GOOD, method=wrong)),
        (
            f"`when` {rule} 'before', 'after'.",
            lambda: color.preserve_color(GOOD, GOOD, "pca", when=wrong),
        ),
    ):
        refused(ValueError, re.escape(message), call)
