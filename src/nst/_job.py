"""What one run works with: everything it is given, read and checked before any work is done."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from nst._callbacks import RunState
from nst._canvas import Canvas
from nst._features import FeatureExtractor
from nst._losses import Loss, StatisticLoss
from nst._objective import Region
from nst._scales import NumScales, Scale, plan_scales
from nst._style import Painting, Style, StyleLike, as_styles, read_mask
from nst.images import ImageLike, Picture, fit, read_picture, resize

__all__ = ["INITS", "Job"]

INITS = ("content", "noise", "style")
"""What a picture may start as, by name."""


@dataclass
class Job:
    """What one run works with."""

    photo: Picture
    styles: list[Style]
    paintings: list[Painting]
    """One for each style, as large as it came."""
    regions: dict[Hashable, Tensor | None]
    """Masks on the photograph, `(1, 1, H, W)`, by the styles' `region_key`."""
    shape: tuple[int, int]
    """Height and width of the result."""
    scales: list[Scale]
    canvases: list[Canvas]
    """One for each picture of the batch."""
    state: RunState

    @classmethod
    def prepare(
        cls,
        content: ImageLike,
        style: StyleLike,
        init: ImageLike,
        seed: int,
        *,
        extractor: nn.Module,
        losses: Mapping[str, Loss],
        device: torch.device,
        size: int | None,
        num_steps: int,
        num_scales: NumScales,
    ) -> Job:
        """Read and check what `StyleTransfer.run` is given; see there for the arguments."""
        reader = _Reader(device, next(extractor.parameters(), torch.empty(0)).dtype)
        photo, styles = reader.read(content, "content"), as_styles(style)
        paintings = [reader.read_style(each, f"style[{i}]") for i, each in enumerate(styles)]
        regions = _read_regions(styles, photo)
        _check_masks(losses, paintings, regions)
        longer = max(photo.pixels.shape[-2:])
        final = longer if size is None else min(size, longer)
        scales = plan_scales(final, num_steps, num_scales)
        if isinstance(extractor, FeatureExtractor):
            layers = {layer for loss in losses.values() for layer in loss.layers}
            for name, (height, width) in _shapes(photo, styles, paintings, final).items():
                extractor.check_size(height, width, layers, name=name)
            # Scales at which a picture would be too small for the network are left out.
            smallest = extractor.smallest_side(layers)
            while len(scales) > 1 and smallest > min(
                chain.from_iterable(_shapes(photo, styles, paintings, scales[0].size).values())
            ):
                scales = plan_scales(final, num_steps, len(scales) - 1)
        shape = fit(photo.pixels.shape[-2:], scales[0].size)
        first = reader.first_picture(init, photo.pixels, paintings[0].pixels, shape, seed)
        canvases = [
            Canvas(picture[None], beginning[None])
            for picture, beginning in zip(photo.pixels, first, strict=True)
        ]
        state = RunState(
            image=resize(first, shape).clone(), num_steps=num_steps, num_scales=len(scales)
        )
        result_shape = fit(photo.pixels.shape[-2:], final)
        return cls(photo, styles, paintings, regions, result_shape, scales, canvases, state)

    def best(self) -> Tensor:
        """Return a copy of the best pictures so far, at the result's size: `(N, 3, H, W)`."""
        return torch.cat([resize(canvas.best, self.shape) for canvas in self.canvases])

    def paintings_at(self, size: int) -> list[Painting]:
        """Return the styles as they are used for a picture of this size.

        Args:
            size: The longer side of the picture, in pixels.
        """
        pairs = zip(self.styles, self.paintings, strict=True)
        return [painting.resized(_scaled(size, style)) for style, painting in pairs]

    def regions_at(self, size: int) -> list[Region]:
        """Return the regions and their styles for a picture of this size.

        Args:
            size: The longer side of the picture, in pixels.
        """
        regions, pairs = [], list(zip(self.styles, self.paintings_at(size), strict=True))
        for key, mask in self.regions.items():
            members = [(style, painting) for style, painting in pairs if style.region_key == key]
            regions.append(
                Region(
                    mask=None if mask is None else resize(mask, size),
                    images=[painting.pixels for _, painting in members],
                    masks=[painting.mask for _, painting in members],
                    blend=[style.weight for style, _ in members],
                )
            )
        return regions


class _Reader:
    """Reads pictures onto a device, as a type of number."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype

    def read(self, source: ImageLike, name: str) -> Picture:
        pixels, alpha = read_picture(source, name=name)
        pixels = pixels.to(self._device, self._dtype)
        return Picture(pixels, None if alpha is None else alpha.to(pixels))

    def read_style(self, style: Style, name: str) -> Painting:
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

    def first_picture(
        self,
        init: ImageLike,
        content: Tensor,
        painting: Tensor,
        shape: tuple[int, int],
        seed: int,
    ) -> Tensor:
        if isinstance(init, str) and init == "content":
            return content
        if isinstance(init, str) and init == "noise":
            # Drawn at the first scale's size, as shrinking would average it away; on the CPU and
            # once for all: a picture depends on neither the device nor the rest of its batch.
            generator = torch.Generator().manual_seed(seed)
            noise = torch.rand(1, 3, *shape, generator=generator)
            return noise.to(content).expand(len(content), -1, -1, -1)
        if isinstance(init, str) and init == "style":
            picture = painting
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


def _read_regions(styles: Sequence[Style], photo: Picture) -> dict[Hashable, Tensor | None]:
    regions: dict[Hashable, Tensor | None] = {}
    for i, style in enumerate(styles):
        if style.region_key not in regions:
            mask = None
            if style.region is not None:
                mask = read_mask(style.region, photo.pixels, photo.alpha, f"style[{i}].region")
            regions[style.region_key] = mask
    return regions


def _check_masks(
    losses: Mapping[str, Loss],
    paintings: Sequence[Painting],
    regions: Mapping[Hashable, Tensor | None],
) -> None:
    if all(mask is None for mask in [*(each.mask for each in paintings), *regions.values()]):
        return
    for name, loss in losses.items():
        if loss.reference == "style" and not isinstance(loss, StatisticLoss):
            raise ValueError(
                f"`style` has a region, a mask or a rotation, but the loss {name!r} "
                f"({type(loss).__name__}) is not a mean over positions that could be taken over "
                "a part of them. Use a StatisticLoss, or styles without."
            )


def _shapes(
    photo: Picture, styles: Sequence[Style], paintings: Sequence[Painting], size: int
) -> dict[str, tuple[int, int]]:
    """Return the height and width of every picture at a scale, by the argument's name."""
    shapes = {"content": fit(photo.pixels.shape[-2:], size)}
    for i, (style, painting) in enumerate(zip(styles, paintings, strict=True)):
        shapes[f"style[{i}]"] = fit(painting.pixels.shape[-2:], _scaled(size, style))
    return shapes


def _scaled(size: int, style: Style) -> int:
    return max(1, round(size * style.scale))
