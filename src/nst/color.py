"""Color preservation: the brushwork of the painting in the colors of the photograph.

Images are `(N, 3, H, W)`, sRGB, floating in [0, 1], each recolored separately; a reference is
`(N, 3, h, w)`, or `(1, 3, h, w)` for all. Another type raises `TypeError`, another shape or range
`ValueError`. `preserve_color` recolors the style image *before* the transfer, or the result *after*
it:

| method | before: the style image | after: the result |
|---|---|---|
| `"luminance"` | turns gray, with the mean and deviation of the content's luminance | \
keeps its luminance and gets the content's chrominance, pixel by pixel |
| `"cholesky"`, `"pca"`, `"symmetric"` | gets the content's mean and covariance | the same |
| `"histogram"` | gets the content's histogram in each channel | the same |

`"luminance"` before the transfer gives a gray result; Gatys et al. apply it before and after.
Statistics are computed in float64 without gradient. A variance below that of rounding to 8 bits is
raised to it, so noise is not amplified.

Papers: Gatys, Bethge, Hertzmann & Shechtman, "Preserving Color in Neural Artistic Style Transfer"
(2016); Hertzmann et al., "Image Analogies" (SIGGRAPH 2001).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from nst._utils.checks import floating_image, one_of, within_0_and_1

__all__ = [
    "COLOR_METHODS",
    "ColorMethod",
    "luminance",
    "match_covariance",
    "match_histogram",
    "match_luminance",
    "preserve_color",
    "with_luminance",
]

_Linear: TypeAlias = Literal["cholesky", "pca", "symmetric"]
_FLAT = (1 / 255) ** 2 / 12  # variance of rounding to 8 bits


def luminance(image: Tensor) -> Tensor:
    r"""Return the luminance, \(Y = 0.299 R + 0.587 G + 0.114 B\), as `(N, 1, H, W)` in [0, 1].

    This is the Y of YIQ and YCbCr (ITU-R BT.601), computed from sRGB values without linearizing.
    """
    return _luminance(_check(image, "image"))


def with_luminance(image: Tensor, luminance: Tensor) -> Tensor:
    r"""Replace the luminance and preserve the chrominance: \(x' = x + (Y' - Y)\) in every channel.

    Saturated colors may be clipped. The luminance is `(N, 1, H, W)` or `(1, 1, H, W)` in [0, 1].

    Examples:
        >>> blue = torch.tensor([0.25, 0.25, 0.5]).reshape(1, 3, 1, 1)
        >>> with_luminance(blue, luminance(blue) + 0.25).flatten().tolist()
        [0.5, 0.5, 0.75]
    """
    image, luminance = _check_pair(image, luminance, "luminance", channels=1, paired=True)
    # The other coordinates depend only on differences of channels, and Y's weights sum to 1.
    return (image + (luminance.to(image.dtype) - _luminance(image))).clamp(0, 1)


def match_luminance(image: Tensor, reference: Tensor) -> Tensor:
    r"""Match the luminance, \(Y' = (Y - \mu) \sigma_r / \sigma + \mu_r\); keep the chrominance."""
    pixels, target = _pixels(image, reference)
    y = _luminance(pixels)
    (mu, variance), (target_mu, wanted) = _moments(y), _moments(_luminance(target))
    matched = pixels + (wanted / variance.clamp_min(_FLAT)).sqrt() * (y - mu) + target_mu - y
    return _image(matched, image)


def match_covariance(image: Tensor, reference: Tensor, *, method: _Linear = "symmetric") -> Tensor:
    r"""Match the mean and covariance of the colors to a reference, by a linear map.

    $$x' = A (x - \mu) + \mu_r, \qquad A \Sigma A^\top = \Sigma_r$$

    - `"cholesky"`: \(A = L_r L^{-1}\), \(L L^\top = \Sigma\); the new red depends only on red.
    - `"pca"`: \(A = \Sigma_r^{1/2} \Sigma^{-1/2}\), of *Image Analogies*.
    - `"symmetric"`: \(A = \Sigma^{-1/2} (\Sigma^{1/2} \Sigma_r \Sigma^{1/2})^{1/2}
      \Sigma^{-1/2}\), optimal transport between Gaussians: it changes the colors least.
    """
    one_of("method", method, get_args(_Linear))
    pixels, target = _pixels(image, reference)
    (mu, covariance), (target_mu, wanted) = _moments(pixels), _moments(target)
    root, inverse = _power(covariance, 0.5, _FLAT), _power(covariance, -0.5, _FLAT)
    if method == "cholesky":
        linear = _triangle(_power(wanted, 0.5)) @ torch.inverse(_triangle(root))
    elif method == "pca":
        linear = _power(wanted, 0.5) @ inverse
    else:
        linear = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    return _image(linear @ (pixels - mu) + target_mu, image)


def match_histogram(image: Tensor, reference: Tensor) -> Tensor:
    """Match the histogram of each channel to a reference; exact if no two values are equal.

    Of P pixels, the one of rank k gets the mean of the reference's sorted values between the
    quantiles k/P and (k+1)/P; equal values get the mean over their ranks. Flat areas may get colors
    that neither image has: linear maps are safer.

    Examples:
        >>> image = torch.tensor([0.1, 0.2, 0.3]).expand(1, 3, 1, 3)
        >>> reference = torch.tensor([0.75, 0.25, 0.5]).expand(1, 3, 1, 3)
        >>> match_histogram(image, reference)[0, 0].tolist()
        [[0.25, 0.5, 0.75]]
    """
    pixels, target = (x.detach() for x in _pixels(image, reference))
    pairs = zip(pixels.flatten(0, 1), target.expand(len(image), -1, -1).flatten(0, 1), strict=True)
    return _image(torch.stack([_match_channel(*pair) for pair in pairs]), image)


def preserve_color(
    image: Tensor, content_image: Tensor, method: str, *, when: Literal["before", "after"] = "after"
) -> Tensor:
    """Recolor the style image before the transfer, or the result after it, as in `nst.color`.

    `method` is a key of `COLOR_METHODS`. Only `"luminance"` depends on `when`; after the transfer,
    it requires a `content_image` of the size of `image`.

    Examples:
        >>> photo, painting = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 9, 7)
        >>> tuple(preserve_color(painting, photo, "symmetric", when="before").shape)
        (1, 3, 9, 7)
    """
    one_of("method", method, COLOR_METHODS)
    one_of("when", when, ColorMethod._fields)
    paired = method == "luminance" and when == "after"
    image, content_image = _check_pair(image, content_image, "content_image", paired=paired)
    recolor: Callable[[Tensor, Tensor], Tensor] = getattr(COLOR_METHODS[method], when)
    return recolor(image, content_image)


class ColorMethod(NamedTuple):
    """The functions of a method: `(image, content_image) -> image`."""

    before: Callable[[Tensor, Tensor], Tensor]
    after: Callable[[Tensor, Tensor], Tensor]


_covariances = {name: partial(match_covariance, method=name) for name in get_args(_Linear)}
COLOR_METHODS: Mapping[str, ColorMethod] = {
    "luminance": ColorMethod(
        before=lambda x, content: match_luminance(luminance(x).expand_as(x), content),
        after=lambda x, content: with_luminance(content.to(x.dtype).expand_as(x), luminance(x)),
    ),
    **{name: ColorMethod(recolor, recolor) for name, recolor in _covariances.items()},
    "histogram": ColorMethod(match_histogram, match_histogram),
}
"""Methods of `preserve_color` by name."""


def _luminance(image: Tensor) -> Tensor:
    y = 0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]
    return y.clamp(0, 1)  # fused multiplications may round white to above 1


def _pixels(image: Tensor, reference: Tensor) -> list[Tensor]:
    """Check two images and return their pixels, (N, 3, P) in float64."""
    image, reference = _check_pair(image, reference, "reference")
    # MPS lacks float64.
    return [(x.cpu() if x.is_mps else x).flatten(2).double() for x in (image, reference)]


def _image(pixels: Tensor, like: Tensor) -> Tensor:
    return pixels.reshape(like.shape).to(like).clamp(0, 1)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (N, C, 1) and covariance (N, C, C) over the positions of (N, C, P)."""
    mu = pixels.detach().mean(2, keepdim=True)
    centered = pixels.detach() - mu
    return mu, centered @ centered.mT / pixels.shape[2]


def _power(matrix: Tensor, exponent: float, lowest: float = 0.0) -> Tensor:
    """Return a power of symmetric matrices whose eigenvalues are clamped to `lowest`."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.matmul(vectors * values.clamp_min(lowest).pow(exponent)[:, None], vectors.mT)


def _triangle(root: Tensor) -> Tensor:
    """Return the Cholesky factor of `root @ root`, also if it is singular."""
    factor: Tensor = torch.linalg.qr(root).R.mT
    diagonal = factor.diagonal(dim1=1, dim2=2)[:, None]
    return factor * torch.ones_like(diagonal).copysign(diagonal)


def _match_channel(channel: Tensor, target: Tensor) -> Tensor:
    """Match the values of (P,) to those of (M,): optimal transport that splits no ties."""
    size, total = len(channel), len(target)
    _, inverse, counts = torch.unique(channel, return_inverse=True, return_counts=True)
    ordered = target.sort().values
    sums = torch.cat((ordered.new_zeros(1), ordered.cumsum(0)))  # (M + 1,)
    # Integral of the quantile function up to the last rank of each value, in exact integers.
    ends = torch.cat((counts.new_zeros(1), counts.cumsum(0))) * total
    whole, part = ends // size, (ends % size).double() / size
    integral = sums[whole] + part * ordered[whole.clamp_max(total - 1)]
    return torch.take(integral.diff() / counts * (size / total), inverse)


def _check(picture: Tensor, name: str, channels: int = 3) -> Tensor:
    floating_image(name, picture, channels)
    return within_0_and_1(f"`{name}`", picture)


def _check_pair(
    image: Tensor, other: Tensor, name: str, *, channels: int = 3, paired: bool = False
) -> tuple[Tensor, Tensor]:
    image, other = _check(image, "image"), _check(other, name, channels)
    if len(other) not in (1, len(image)):
        raise ValueError(
            f"`{name}` has {len(other)} pictures for {len(image)} of `image`. Pass 1 or as many."
        )
    size, wanted = tuple(other.shape[2:]), tuple(image.shape[2:])
    if paired and size != wanted:
        raise ValueError(
            f"`{name}` is {size} in size, but `image` is {wanted}, and their pixels are paired. "
            f"Call nst.images.resize({name}, {wanted})."
        )
    return image, other
