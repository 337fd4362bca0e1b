"""What one run works with: everything it is given, read and checked before any work is done."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from nst import color
from nst._callbacks import RunState
from nst._canvas import Canvas
from nst._checks import at_least, non_negative, one_of
from nst._features import FeatureExtractor
from nst._hashes import hash_network
from nst._losses import Loss, SummaryLoss
from nst._objective import Reference, Region
from nst._optimizers import OptimizerLike
from nst._reader import INITS, Material, Reader
from nst._scales import NumScales, Scale, plan_scales
from nst._statistics import StyleStatistics
from nst._style import Painting, Style, StyleLike, as_styles, read_mask
from nst._tiles import Tile, choose_tile
from nst.images import ImageLike, Picture, fit, resize

__all__ = ["ColorWhen", "Handles", "Job", "Recipe", "plan_run"]

ColorWhen = Literal["before", "after", "both"]


@dataclass(frozen=True)
class Recipe:
    """What runs of one transfer have in common; see `StyleTransfer`."""

    extractor: nn.Module
    losses: Mapping[str, Loss]
    device: torch.device
    size: int | None
    num_steps: int
    num_scales: NumScales
    average: float
    optimizer: OptimizerLike
    normalize_gradients: bool
    tile: Tile

    @property
    def reader(self) -> Reader:
        """Reads pictures for the network."""
        return Reader(self.device, self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The type of number that the network works with."""
        return next(self.extractor.parameters(), torch.empty(0)).dtype

    @property
    def layers(self) -> set[str]:
        """What any of the losses reads."""
        return {layer for loss in self.losses.values() for layer in loss.layers}

    def size_of(self, shape: Sequence[int]) -> int:
        """Return the longer side of what a photograph becomes.

        Args:
            shape: The photograph's height and width.
        """
        return max(shape) if self.size is None else min(self.size, max(shape))


@dataclass(frozen=True, eq=False)
class Handles:
    """What can be said about a single run; see `StyleTransfer.run`.

    Raises:
        ValueError: An unknown name, or a number out of range.
        TypeError: An argument of a wrong type.
    """

    init: ImageLike = "content"
    seed: int = 0
    strength: float = 1.0
    preserve_color: str | None = None
    color_when: ColorWhen = "after"
    where: ImageLike | None = None

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        object.__setattr__(self, "strength", non_negative("strength", self.strength))
        if self.preserve_color is not None:
            one_of("preserve_color", self.preserve_color, color.COLOR_METHODS)
        one_of("color_when", self.color_when, get_args(ColorWhen))

    @property
    def pictures(self) -> dict[str, ImageLike | None]:
        """The pictures among the handles; None where there is none."""
        named = isinstance(self.init, str) and self.init in INITS
        return {"where": self.where, "init": None if named else self.init}

    @property
    def recolors_styles(self) -> bool:
        """Whether the styles get the photograph's colors before the run."""
        return self.preserve_color is not None and self.color_when != "after"

    @property
    def recolors_result(self) -> bool:
        """Whether the result gets the photograph's colors."""
        return self.preserve_color is not None and self.color_when != "before"


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
        height, width = (at_least("shape", side, 1) for side in shape)
        blank = torch.zeros(1, 3, height, width, device=recipe.device, dtype=recipe.dtype)
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
        _check_masks(recipe.losses, materials, regions)
        scales = plan_run(photo.pixels.shape[-2:], styles, materials, size, recipe)
        _check_captured(materials, styles, scales, recipe)
        recolored = _recolor(materials, photo, handles)
        shape = fit(photo.pixels.shape[-2:], scales[0].size)
        start = partial(recipe.reader.first_picture, handles.init, shape=shape, seed=handles.seed)
        first = torch.cat(
            [
                start(content=picture, material=each[0])
                for picture, each in _by_palette(photo.pixels, recolored)
            ]
        )
        canvases = [
            Canvas(
                picture[None],
                beginning[None],
                where=where,
                average=recipe.average,
            )
            for picture, beginning in zip(photo.pixels, first, strict=True)
        ]
        state = RunState(
            image=resize(first, shape).clone(),
            num_steps=recipe.num_steps,
            num_scales=len(scales),
            plan=tuple(scales),
        )
        shape = fit(photo.pixels.shape[-2:], size)
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
            canvases=canvases,
            state=state,
            tile=choose_tile(recipe.tile, recipe.extractor, recipe.losses, shape, photo.pixels),
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
        return list(_shapes(photo, self.styles, self.materials[0], size).values())

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


def plan_run(
    shape: Sequence[int],
    styles: Sequence[Style],
    materials: Sequence[Material],
    size: int,
    recipe: Recipe,
) -> list[Scale]:
    """Plan the scales; those at which a picture is too small for the network are left out.

    Args:
        shape: The photograph's height and width.
        styles: The styles.
        materials: What there is of each.
        size: The longer side of the result.
        recipe: Of the transfer.

    Raises:
        ValueError: A picture is too small for every scale.
    """
    scales = plan_scales(size, recipe.num_steps, recipe.num_scales)
    if isinstance(recipe.extractor, FeatureExtractor):
        for name, (height, width) in _shapes(shape, styles, materials, size).items():
            recipe.extractor.check_size(height, width, recipe.layers, name=name)
        smallest = recipe.extractor.smallest_side(recipe.layers)
        while len(scales) > 1 and smallest > min(
            chain.from_iterable(_shapes(shape, styles, materials, scales[0].size).values())
        ):
            scales = plan_scales(size, recipe.num_steps, len(scales) - 1)
    return scales


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
        [
            Painting(color.preserve_color(each.pixels, content, method, when="before"), each.mask)
            for each in materials
            if isinstance(each, Painting)
        ]
        for content in _each(photo.pixels)
    ]


def _by_palette(
    pictures: Tensor, materials: list[list[Material]]
) -> list[tuple[Tensor, list[Material]]]:
    """Return the batches of pictures that share their styles' colors."""
    batches = [pictures] if len(materials) == 1 else _each(pictures)
    return list(zip(batches, materials, strict=True))


def _check_masks(
    losses: Mapping[str, Loss],
    materials: Sequence[Material],
    regions: Mapping[Hashable, Tensor | None],
) -> None:
    masks = [each.mask for each in materials if isinstance(each, Painting)]
    if all(mask is None for mask in [*masks, *regions.values()]):
        return
    for name, loss in losses.items():
        if loss.reference == "style" and not isinstance(loss, SummaryLoss):
            raise ValueError(
                f"`style` has a region, a mask or a rotation, or `where` is given, but the loss "
                f"{name!r} ({type(loss).__name__}) is not a mean over positions that could be "
                "taken over a part of them. Use a StatisticLoss, or styles without."
            )


def _check_captured(
    materials: Sequence[Material], styles: Sequence[Style], scales: Sequence[Scale], recipe: Recipe
) -> None:
    """Refuse statistics that some loss could not compare with at some scale."""
    captured = [each for each in materials if isinstance(each, StyleStatistics)]
    network = hash_network(recipe.extractor) if captured else ""
    for material in captured:
        if material.network != network:
            raise ValueError(
                f"`style` was captured with another network ({material.network[:12]}, this is "
                f"{network[:12]}). Capture the painting again with this transfer, or use the "
                "weights, pooling and padding that it was captured with."
            )
        for name, loss in recipe.losses.items():
            if loss.reference != "style" or loss.weight == 0:
                continue
            if not isinstance(loss, SummaryLoss):
                raise ValueError(
                    f"`style` is one of which only statistics were kept, but the loss {name!r} "
                    f"({type(loss).__name__}) compares with the painting itself. Use the painting, "
                    "or a StatisticLoss."
                )
            for scale in scales:
                material.find(loss, scale.size)


def _shapes(
    photo: Sequence[int], styles: Sequence[Style], materials: Sequence[Material], size: int
) -> dict[str, tuple[int, int]]:
    """Return the height and width of every picture at a scale, by the argument's name."""
    shapes = {"content": fit(photo, size)}
    for i, (style, each) in enumerate(zip(styles, materials, strict=True)):
        if isinstance(each, Painting):
            shapes[f"style[{i}]"] = fit(each.pixels.shape[-2:], style.size_at(size))
    return shapes


def _each(pictures: Tensor) -> list[Tensor]:
    return [picture[None] for picture in pictures]
