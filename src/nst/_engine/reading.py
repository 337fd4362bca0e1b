"""Read the pictures, styles, regions and starting pictures of a run."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nst import color
from nst._engine.configuration import INITS, RunOptions
from nst._utils.plain import hash_file, hash_values
from nst.functional import square_root
from nst.images import ImageLike, Picture, read_picture, resize
from nst.styles.mask import read_mask
from nst.styles.statistics import StyleStatistics
from nst.styles.style import ONLY_ZEROS, Painting, Style

StyleSource: TypeAlias = Painting | StyleStatistics
"""A style's picture, or statistics that were captured from it."""


def read_content(source: ImageLike, like: Tensor, name: str = "content") -> Picture:
    """Read a picture or a batch, to the device and the dtype of `like`; `name` is for errors."""
    pixels, alpha = read_picture(source, name=name)
    return Picture(pixels.to(like), None if alpha is None else alpha.to(like))


def read_style(style: Style, like: Tensor, name: str = "style") -> StyleSource:
    """Read a style's picture, with its mask and rotation; see `read_content`."""
    if isinstance(style.image, StyleStatistics):
        return style.image.to(like.device, like.dtype)
    pixels, alpha = read_content(style.image, like, name)
    if len(pixels) != 1:
        raise ValueError(
            f"`{name}` is a batch of {len(pixels)} pictures; a style is one picture. "
            "Pass a list to blend several, for example list(images.split(1))."
        )
    mask = None
    if style.mask is not None:
        mask = read_mask(style.mask, pixels, alpha, f"{name}.mask")
    return Painting(pixels, mask).rotated(style.rotation)


def read_regions(
    styles: Sequence[Style], content: Picture, where: Tensor | None
) -> list[tuple[Tensor | None, list[int]]]:
    """Return the masks of the regions, clipped to `where`, each with the indices of its styles."""
    regions: list[tuple[Tensor | None, list[int]]] = []
    for i, style in enumerate(styles):
        mask = None
        if style.region is not None:
            mask = read_mask(style.region, *content, f"style[{i}].region")
        for other, members in regions:
            if other is mask or (mask is not None and other is not None and other.equal(mask)):
                members.append(i)
                break
        else:
            regions.append((mask, [i]))
    if not all(any(styles[i].weight for i in members) for _, members in regions):
        raise ValueError(ONLY_ZEROS)
    if where is None or bool(where.all()):
        return regions
    # Gray areas of `where` are stylized fully, then the result is blended with the photograph.
    free = (where > 0).to(where)
    clipped = [(free if mask is None else mask * free, members) for mask, members in regions]
    if not all(bool(mask.any()) for mask, _ in clipped):
        raise ValueError("`where` and a style's region have no part in common; let them overlap.")
    return [*clipped]


def recolor_styles(
    sources: Sequence[StyleSource], content: Tensor, options: RunOptions
) -> list[list[StyleSource]]:
    """Return the styles in the colors of each picture of the batch."""
    if any(isinstance(source, StyleStatistics) for source in sources):
        raise ValueError(
            f"`color_when` is {options.color_when!r}, but a captured style has no picture left "
            "to recolor. Use color_when='after', or the painting."
        )
    method = str(options.preserve_color)
    return [
        [_recolored(each, photo, method) for each in sources if isinstance(each, Painting)]
        for photo in torch.split(content, 1)
    ]


def _recolored(painting: Painting, content: Tensor, method: str) -> Painting:
    """Give the pixels in a painting's mask the colors of the content."""
    recolor = partial(color.preserve_color, content_image=content, method=method, when="before")
    if painting.mask is None:
        return Painting(recolor(painting.pixels), None)
    inside, pixels = painting.mask[0, 0] > 0, painting.pixels.clone()
    pixels[..., inside] = recolor(pixels[..., inside].unsqueeze(-1)).squeeze(-1)
    return Painting(pixels, painting.mask)


def read_start(
    options: RunOptions,
    content: Tensor,
    sources: Sequence[Sequence[StyleSource]],
    shape: tuple[int, int],
) -> Tensor:
    """Return the pictures to start from, `(N, 3, h, w)`; noise has the first scale's `shape`."""
    if options.init_picture is not None:
        try:
            picture = read_content(options.init_picture, content, "init").pixels
        except FileNotFoundError as error:
            *names, last = map(repr, INITS)
            raise FileNotFoundError(f"{error} Or use {', '.join(names)} or {last}.") from error
        if len(picture) not in (1, len(content)):
            raise ValueError(
                f"`init` has {len(picture)} pictures for {len(content)} contents. "
                "Pass one, or one for each."
            )
        return _fitted(picture, content)
    if options.init == "content":
        return content
    if options.init == "gray":
        return torch.full_like(content, 0.5)
    # Recolored styles have other colors for each picture of the batch.
    batches = [content] if len(sources) == 1 else torch.split(content, 1)
    return torch.cat(
        [
            _start_from_style(options, batch, first, shape)
            for batch, (first, *_) in zip(batches, sources, strict=True)
        ]
    )


def _start_from_style(
    options: RunOptions, content: Tensor, source: StyleSource, shape: tuple[int, int]
) -> Tensor:
    if options.init == "style":
        if isinstance(source, StyleStatistics):
            raise ValueError(
                "`init` is 'style', of which only statistics were kept. Use 'noise' or "
                "'pink-noise', which have its colors."
            )
        return _fitted(source.pixels, content)
    if isinstance(source, StyleStatistics):
        moments = source.color_mean, source.color_covariance
    else:
        moments = color_moments(source.pixels, source.mask)
    # At the first scale's size, as shrinking would average the noise away. All pictures of a batch
    # start from the same noise, as none may depend on the others.
    noise = colored_noise(shape, *moments, pink=options.init == "pink-noise", seed=options.seed)
    return noise.to(content).expand(len(content), -1, -1, -1)


def _fitted(picture: Tensor, content: Tensor) -> Tensor:
    height, width = content.shape[-2:]
    return resize(picture, (height, width)).expand_as(content)


def identify_pictures(
    content: ImageLike | None, styles: Sequence[Style], options: RunOptions | None = None
) -> dict[str, dict[str, str | None]]:
    """Return the name (without folder) and SHA-256 of the pictures of a run, by argument.

    A picture in memory has no name, and the hash of its values. The word `"alpha"` is omitted.
    """
    given: dict[str, Any] = {"content": content}
    for i, style in enumerate(styles):
        given[f"style[{i}]"] = style.image
        given[f"style[{i}].region"] = style.region
        given[f"style[{i}].mask"] = style.mask
    if options is not None:
        given.update(where=options.where, init=options.init_picture)
    identities: dict[str, dict[str, str | None]] = {}
    for argument, source in given.items():
        if source is None or (isinstance(source, str) and source == "alpha"):
            continue
        source, *color = source if isinstance(source, tuple) else (source,)  # of a label
        found: tuple[str | None, str | None]
        if isinstance(source, (str, os.PathLike)):
            found = Path(os.fsdecode(source)).name, hash_file(source)
        elif isinstance(source, StyleStatistics):
            found = source.file_name, source.file_hash
        else:
            values = source if isinstance(source, Tensor) else np.array(source)
            found = None, hash_values(values)
        identities[argument] = {"name": found[0], "sha256": found[1]}
        if color:
            identities[argument]["color"] = color[0]
    return identities


def color_moments(image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean color `(3,)` and the covariance `(3, 3)`, in float64 on the CPU."""
    pixels = image[0].flatten(1).cpu().double()
    share = pixels.new_ones(1, pixels.shape[1]) if mask is None else mask.flatten(1).cpu().double()
    share = share / share.sum()
    mean = (share * pixels).sum(1)
    centered = pixels - mean[:, None]
    return mean, (share * centered) @ centered.mT


def colored_noise(
    shape: tuple[int, int], mean: Tensor, covariance: Tensor, *, pink: bool, seed: int
) -> Tensor:
    """Return Gaussian noise of given colors, clamped to [0, 1]: `(1, 3, H, W)` in float64.

    The amplitudes of pink noise fall with frequency, 1/f, as in natural images (Field 1987). It is
    drawn on the CPU, so it does not depend on the device; no global generator is used.
    """
    kind: Any = {"dtype": torch.float64, "device": "cpu"}
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(3, *shape, generator=generator, **kind)
    if pink:
        rows = torch.fft.fftfreq(shape[0], **kind)[:, None]
        columns = torch.fft.rfftfreq(shape[1], **kind)
        frequency = (rows.square() + columns.square()).sqrt()
        frequency[0, 0] = torch.inf  # no constant part
        # Multiplied, as PyTorch 2.4 returns NaN for a complex number divided by infinity.
        noise = torch.fft.irfft2(torch.fft.rfft2(noise) * frequency.reciprocal(), s=shape)
        deviation = noise.flatten(1).std(1, correction=0).clamp_min(1e-12)
        noise = noise / deviation[:, None, None]
    root = square_root(covariance.double()[None])[0]
    colored = mean.double()[:, None] + root @ noise.flatten(1)
    picture: Tensor = colored.reshape(1, 3, *shape).clamp(0, 1)
    return picture
