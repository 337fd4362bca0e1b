"""What one run works with: everything it is given, read and checked before any work is done."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from nst import color
from nst._engine.canvas import Canvas
from nst._engine.config import Handles, Recipe
from nst._engine.plan import check_captured, check_masks, picture_shapes, plan_run
from nst._engine.reader import Material, Reader
from nst._engine.references import Reference, Region
from nst._engine.scales import Scale
from nst._engine.tiles import choose_tile, explaining_memory
from nst._utils.checks import at_least
from nst.callbacks.base import RunState
from nst.images import ImageLike, Picture, fit, resize
from nst.losses import Loss
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style, StyleLike, as_styles, read_mask

__all__ = ["Job"]

_MOST_PIXELS = 2**31


@dataclass
class Job:
    """What one run works with."""

    photo: Picture
    handles: Handles
    losses: Mapping[str, Loss]
    styles: list[Style]
    materials: list[list[Material]]
    """One for each style, as large as it came. One such list for all pictures of the batch; or,
    where the styles get the colors of the photograph, one for each picture."""
    regions: dict[Hashable, Tensor | None]
    """Masks on the photograph, `(1, 1, H, W)`, by the styles' `region_key`."""
    where: Tensor | None
    """What of the photograph may change, `(1, 1, H, W)`; None for all of it."""
    shape: tuple[int, int]
    """Height and width of the result."""
    scales: list[Scale]
    canvases: list[Canvas]
    """One for each picture of the batch."""
    state: RunState
    tile: int | None = None
    """How many rows of every block are computed at a time; None for all."""
    inputs: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """Names and hashes of the pictures, by argument."""

    @classmethod
    def prepare(cls, content: ImageLike, style: StyleLike, handles: Handles, recipe: Recipe) -> Job:
        """Read and check what `StyleTransfer.run` is given; see there for the arguments."""
        reader = recipe.reader
        photo, styles = reader.read(content, "content"), as_styles(style)
        materials = _read_materials(reader, styles)
        where = None
        if handles.where is not None:
            where = read_mask(handles.where, photo.pixels, photo.alpha, "where")
        # What may change at all is styled fully; how much of it shows is decided at the end.
        free = None if where is None or bool(where.all()) else (where > 0).to(where)
        regions = {
            key: _both(mask, free) for key, mask in reader.read_regions(styles, photo).items()
        }
        if handles.strength == 0 and not _refer_to(recipe.losses, "content"):
            raise ValueError(
                "`strength` is 0, which leaves only losses that refer to the content, and there "
                "are none. Add a ContentLoss, or use a strength above 0."
            )
        size = recipe.size_of(photo.pixels.shape[-2:])
        return cls._assemble(photo, handles, styles, materials, regions, where, size, recipe)

    @classmethod
    def prepare_texture(
        cls, style: StyleLike, shape: Sequence[int] | None, handles: Handles, recipe: Recipe
    ) -> Job:
        """Read and check what `StyleTransfer.synthesize` is given; see there for the arguments."""
        styles = as_styles(style)
        if any(each.region is not None for each in styles):
            raise ValueError("`style` has a region, but a texture has none. Leave it out.")
        if not _refer_to(recipe.losses, "style"):
            raise ValueError(
                "`losses` has no style loss of positive weight, which a texture needs. Add one, "
                "such as GramStyleLoss()."
            )
        reader = recipe.reader
        materials = _read_materials(reader, styles)
        if shape is None:
            first = materials[0]
            if isinstance(first, StyleStatistics):
                raise ValueError(
                    "`shape` is needed for a style without its picture; say shape=(height, width)."
                )
            whole = first.pixels.shape[-2:]
            shape = fit(whole, recipe.size or max(whole))
        height, width = _sides(shape)
        like = torch.empty(0, device=recipe.device, dtype=recipe.dtype)
        with explaining_memory((height, width), lambda: None, like):
            blank = like.new_zeros(1, 3, height, width)
        size = max(height, width)
        photo = Picture(blank, None)
        return cls._assemble(photo, handles, styles, materials, {None: None}, None, size, recipe)

    @classmethod
    def _assemble(
        cls,
        photo: Picture,
        handles: Handles,
        styles: list[Style],
        materials: list[Material],
        regions: dict[Hashable, Tensor | None],
        where: Tensor | None,
        size: int,
        recipe: Recipe,
    ) -> Job:
        check_masks(recipe.losses, materials, regions)
        scales = plan_run(photo.pixels.shape[-2:], styles, materials, size, recipe)
        check_captured(materials, styles, scales, recipe)
        shape = fit(photo.pixels.shape[-2:], size)
        coarse = fit(photo.pixels.shape[-2:], scales[0].size)
        tile = choose_tile(recipe.tile, recipe.extractor, recipe.losses, shape, photo.pixels)
        with explaining_memory(shape, lambda: tile, photo.pixels):
            recolored = _recolor(materials, photo, handles)
            first = _first_pictures(photo, handles, recolored, coarse, recipe.reader)
            image = resize(first, coarse).clone()
        pictures, beginnings = (torch.split(each, 1) for each in (photo.pixels, first))
        return cls(
            photo=photo,
            handles=handles,
            losses=recipe.losses,
            styles=styles,
            materials=recolored,
            regions=regions,
            where=where,
            shape=shape,
            scales=scales,
            canvases=[
                Canvas(picture, beginning, where=where, average=recipe.average)
                for picture, beginning in zip(pictures, beginnings, strict=True)
            ],
            state=RunState(image, recipe.num_steps, len(scales), plan=tuple(scales)),
            tile=tile,
        )

    def best(self) -> Tensor:
        """Return a copy of the best pictures so far, at the result's size: `(N, 3, H, W)`."""
        image = torch.cat([resize(canvas.best, self.shape) for canvas in self.canvases])
        if not self.handles.recolors_result and self.where is None:
            return image
        photo = resize(self.photo.pixels, self.shape)
        if self.handles.recolors_result:
            method = str(self.handles.preserve_color)
            image = color.preserve_color(image, photo, method, when="after")
        if self.where is not None:
            image = photo + resize(self.where, self.shape) * (image - photo)
        return image

    def shapes_at(self, size: int) -> list[tuple[int, int]]:
        """Return the height and width of all pictures at a scale: the photograph's, the styles'.

        Args:
            size: The longer side of the picture, in pixels.
        """
        photo = self.photo.pixels.shape[-2:]
        return list(picture_shapes(photo, self.styles, self.materials[0], size).values())

    def paintings_at(self, size: int, picture: int = 0) -> list[Painting | StyleStatistics]:
        """Return the styles as they are used for a picture of this size.

        Args:
            size: The longer side of the picture, in pixels.
            picture: Which one of the batch.
        """
        materials = self.materials[picture if len(self.materials) > 1 else 0]
        return [
            each if isinstance(each, StyleStatistics) else each.resized(style.size_at(size))
            for style, each in zip(self.styles, materials, strict=True)
        ]

    def regions_at(
        self, size: int, picture: int = 0, *, captured_for: int | None = None
    ) -> list[Region]:
        """Return the regions and their styles for a picture of this size.

        Args:
            size: The longer side of the picture, in pixels.
            picture: Which one of the batch.
            captured_for: Another size, for the styles of which only statistics were kept.
        """
        regions = []
        pairs = list(zip(self.styles, self.paintings_at(size, picture), strict=True))
        for key, mask in self.regions.items():
            members = [(style, each) for style, each in pairs if style.region_key == key]
            regions.append(
                Region(
                    mask=None if mask is None else resize(mask, size),
                    references=[_reference(each, captured_for or size) for _, each in members],
                    blend=[style.weight for style, _ in members],
                )
            )
        return regions


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = shape
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"`shape` is {shape!r}; height and width are needed, such as (384, 512)."
        ) from error
    height, width = at_least("shape", height, 1), at_least("shape", width, 1)
    if height * width > _MOST_PIXELS:
        raise ValueError(
            f"`shape` is {(height, width)}; it must have at most {_MOST_PIXELS} pixels."
        )
    return height, width


def _reference(material: Material, size: int) -> Reference:
    if isinstance(material, StyleStatistics):
        return Reference(summaries=lambda loss: material.find(loss, size))
    return Reference(material.pixels, material.mask)


def _read_materials(reader: Reader, styles: Sequence[Style]) -> list[Material]:
    return [reader.read_style(style, f"style[{i}]") for i, style in enumerate(styles)]


def _both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return where both masks count."""
    if mask is None or other is None:
        return mask if other is None else other
    both = mask * other
    if not bool(both.any()):
        raise ValueError("`where` and a style's region have no part in common; let them overlap.")
    return both


def _refer_to(losses: Mapping[str, Loss], reference: str) -> bool:
    return any(loss.reference == reference and loss.weight > 0 for loss in losses.values())


def _recolor(materials: list[Material], photo: Picture, handles: Handles) -> list[list[Material]]:
    """Give the styles the photograph's colors, if asked: once for each photograph."""
    if not handles.recolors_styles:
        return [materials]
    if any(isinstance(material, StyleStatistics) for material in materials):
        raise ValueError(
            f"`color_when` is {handles.color_when!r}, but of a captured style there is no picture "
            "left to recolor. Use color_when='after', or the painting."
        )
    method = str(handles.preserve_color)
    return [
        [_recolored(each, content, method) for each in materials if isinstance(each, Painting)]
        for content in torch.split(photo.pixels, 1)
    ]


def _recolored(painting: Painting, content: Tensor, method: str) -> Painting:
    """Give a painting the photograph's colors; what its mask leaves out has no say."""
    recolor = partial(color.preserve_color, content_image=content, method=method, when="before")
    if painting.mask is None:
        return Painting(recolor(painting.pixels), None)
    seen, pixels = painting.mask[0, 0] > 0, painting.pixels.clone()
    pixels[..., seen] = recolor(pixels[..., seen].unsqueeze(-1)).squeeze(-1)
    return Painting(pixels, painting.mask)


def _first_pictures(
    photo: Picture,
    handles: Handles,
    materials: list[list[Material]],
    shape: tuple[int, int],
    reader: Reader,
) -> Tensor:
    """Return what the pictures start as, `(N, 3, h, w)`."""
    start = partial(reader.first_picture, handles.init, shape=shape, seed=handles.seed)
    # A start by name has a style's colors, of which each picture of a batch may have its own.
    alike = len(materials) == 1 or handles.pictures["init"] is not None
    batches = [photo.pixels] if alike else torch.split(photo.pixels, 1)
    return torch.cat(
        [
            start(content=batch, material=each[0])
            for batch, each in zip(batches, materials[: len(batches)], strict=True)
        ]
    )
