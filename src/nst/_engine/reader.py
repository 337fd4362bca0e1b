"""Reads what a run is given: pictures, styles and masks, checked before any work is done."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from nst._engine.noise import color_moments, colored_noise
from nst.images import ImageLike, Picture, read_picture, resize
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style, read_mask

__all__ = ["INITS", "Material", "Reader"]

INITS = ("content", "style", "noise", "pink-noise", "gray")
"""What a picture may start as, by name."""

Material = Painting | StyleStatistics
"""What there is of a style."""


class Reader:
    """Reads pictures onto a device, as a type of number.

    Args:
        device: Where to.
        dtype: Floating.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype

    def read(self, source: ImageLike, name: str) -> Picture:
        """Read a picture or a batch of pictures.

        Args:
            source: See `nst.load_image`.
            name: What it is called in messages.
        """
        pixels, alpha = read_picture(source, name=name)
        pixels = pixels.to(self._device, self._dtype)
        return Picture(pixels, None if alpha is None else alpha.to(pixels))

    def read_style(self, style: Style, name: str) -> Material:
        """Read a style's picture, masked and turned; captured statistics are taken as they are.

        Args:
            style: What to read.
            name: What it is called in messages.
        """
        if isinstance(style.image, StyleStatistics):
            return style.image.to(self._device, self._dtype)
        pixels, alpha = self.read(style.image, name)
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
        self, styles: Sequence[Style], photo: Picture
    ) -> dict[Hashable, Tensor | None]:
        """Read the styles' regions, each once, by `region_key`.

        Args:
            styles: Whose regions.
            photo: What they are parts of.
        """
        regions: dict[Hashable, Tensor | None] = {}
        for i, style in enumerate(styles):
            if style.region_key not in regions:
                regions[style.region_key] = (
                    None
                    if style.region is None
                    else read_mask(style.region, photo.pixels, photo.alpha, f"style[{i}].region")
                )
        return regions

    def first_picture(
        self,
        init: ImageLike,
        content: Tensor,
        material: Material,
        shape: tuple[int, int],
        seed: int,
    ) -> Tensor:
        """Return what the pictures start as, `(N, 3, H, W)` in the content's proportions.

        Args:
            init: One of `INITS`, or a picture.
            content: The photographs, `(N, 3, H, W)`.
            material: The style that noise has its colors from.
            shape: Height and width of the first scale.
            seed: Makes the noise.

        Raises:
            FileNotFoundError: `init` is neither a file nor one of the names.
            ValueError: It cannot be read, or has another number of pictures than the content.
        """
        name = init if isinstance(init, str) else None
        if name == "content":
            return content
        if name in ("noise", "pink-noise"):
            # At the first scale's size, as shrinking would average it away; once for all: a
            # picture does not depend on the rest of its batch.
            if isinstance(material, StyleStatistics):
                moments = material.color_mean, material.color_covariance
            else:
                moments = color_moments(material.pixels, material.mask)
            noise = colored_noise(shape, *moments, pink=name == "pink-noise", seed=seed)
            return noise.to(content).expand(len(content), -1, -1, -1)
        if name == "gray":
            return torch.full_like(content, 0.5)
        if name == "style":
            if isinstance(material, StyleStatistics):
                raise ValueError(
                    "`init` is 'style', of which only statistics were kept. Use 'noise' or "
                    "'pink-noise', which have its colors."
                )
            picture = material.pixels
        else:
            try:
                picture = self.read(init, "init").pixels
            except FileNotFoundError as error:
                known = f"{', '.join(map(repr, INITS[:-1]))} or {INITS[-1]!r}"
                raise FileNotFoundError(f"{error} Or use {known}.") from error
        if len(picture) not in (1, len(content)):
            raise ValueError(
                f"`init` has {len(picture)} pictures for {len(content)} contents. "
                "Pass one, or one for each."
            )
        height, width = content.shape[-2:]
        return resize(picture, (height, width)).expand_as(content)
