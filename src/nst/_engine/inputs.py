"""Read and check the inputs of a run before any work is done."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from nst._engine import reading
from nst._engine.configuration import (
    Configuration,
    RunOptions,
    Scale,
    explaining_memory,
    plan_scales,
)
from nst._engine.objective import Objective, Previous, Region
from nst._engine.passing import check_divisible
from nst._engine.reading import StyleSource
from nst._utils.checks import at_least
from nst._utils.group import Group
from nst._utils.plain import hash_network
from nst._utils.text import logger
from nst.images import ImageLike, Picture, fit, resize
from nst.images.metadata import read_exif
from nst.losses.base import layers_of
from nst.losses.storable import is_storable
from nst.result import StyleTransferResult
from nst.styles.mask import read_mask
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style, StyleLike, as_styles

_MOST_PIXELS = 2**31
# Factor of the content losses at all scales but the last, as a finer scale does not recover the
# details of the photograph that a coarse scale loses.
_COARSE_EMPHASIS = 3.0


@dataclass(frozen=True, eq=False)
class RunInputs:
    """The inputs of one run; none of them changes during the run."""

    configuration: Configuration
    options: RunOptions
    content: Picture
    styles: Sequence[Style]
    sources: Sequence[Sequence[StyleSource]]
    """The styles in full size, for the whole batch or, if they are recolored, for each picture."""
    regions: Sequence[tuple[Tensor | None, Sequence[int]]]
    """Masks on the content, `(1, 1, H, W)`, None for everywhere; each with its styles' indices."""
    where: Tensor | None
    """Mask of the pixels to repaint, `(1, 1, H, W)`; None for all."""
    shape: tuple[int, int]
    """Height and width of the result."""
    scales: Sequence[Scale]
    tile: int | None
    """Number of rows of each block to compute at a time; None for all."""
    start: Tensor
    """Pictures that the run starts from, `(N, 3, h, w)`."""
    identities: Mapping[str, Mapping[str, str | None]]
    """Names and hashes of the pictures, by argument."""
    exif: bytes | None = None
    """EXIF data of the content."""
    previous: Previous | None = None
    """The previous frame of a video, whose frames have one scale; of the size of the result."""

    @classmethod
    def read(
        cls,
        configuration: Configuration,
        content: ImageLike | None,
        style: StyleLike,
        options: RunOptions | None = None,
        shape: Sequence[int] | None = None,
    ) -> RunInputs:
        """Read and check the arguments of `StyleTransfer.run` or, without content, `synthesize`."""
        configuration.check_parts()
        if temporal := configuration.active_losses("previous"):
            logger.info("There is no previous frame, so %s is left out", ", ".join(temporal))
            configuration = configuration.without("previous")
        options, like = options or RunOptions(), configuration.like
        photo = None if content is None else reading.read_content(content, like)
        styles = as_styles(style)
        sources = [reading.read_style(each, like, f"style[{i}]") for i, each in enumerate(styles)]
        if photo is None:
            configuration = _texture_configuration(configuration, styles)
            photo = _blank(shape, sources[0], configuration)
        elif configuration.upscale:
            photo = _enlarged(photo, configuration)
        given = photo.pixels.shape[-2:]
        size = max(given) if content is None else configuration.size_of(given)
        if shape is None and size < (configuration.size or 0):
            _log_small(configuration, given, "style[0]" if content is None else "content")
        where = None if options.where is None else read_mask(options.where, *photo, "where")
        regions = reading.read_regions(styles, photo, where)
        scales = plan_run(configuration, given, styles, sources, size)
        _check_styles(configuration, options, sources, [mask for mask, _ in regions], scales)
        result_shape = fit(given, size)
        tile = configuration.tile_for(result_shape, photo.pixels)
        with explaining_memory(result_shape, tile, photo.pixels):
            early = options.recolors("before")  # in the colors of each picture of the batch
            colored = reading.recolor_styles(sources, photo.pixels, options) if early else [sources]
            start = reading.read_start(options, photo.pixels, colored, fit(given, scales[0].size))
        return cls(
            configuration=configuration,
            options=options,
            content=photo,
            styles=styles,
            sources=colored,
            regions=regions,
            where=where,
            shape=result_shape,
            scales=scales,
            tile=tile,
            start=start,
            identities=reading.identify_pictures(content, styles, options),
            exif=None if isinstance(content, Tensor) else read_exif(content),
        ).checked_for(Group.current())

    def checked_for(self, group: Group) -> RunInputs:
        """Return these inputs; raise if processes would share losses that cannot be divided."""
        if group.divides(self.shape[0]):
            parts = self.configuration.extractor, self.configuration.losses
            check_divisible(*parts, f"there are {group.size} processes", "a single one")
        return self

    def shape_at(self, size: int) -> tuple[int, int]:
        """Return height and width of the pictures at a scale of this size."""
        return fit(self.content.pixels.shape[-2:], size)

    def shapes_at(self, size: int) -> list[tuple[int, int]]:
        """Return height and width of the content and of the paintings at a scale of this size."""
        content = self.content.pixels.shape[-2:]
        return list(_shapes_at(size, content, self.styles, self.sources[0]).values())

    def regions_at(
        self, size: int, picture: int = 0, *, captured_for: int | None = None
    ) -> list[Region]:
        """Return the regions with their styles for a scale and one picture of the batch."""
        pairs = list(zip(self.styles, self.sources[picture], strict=True))
        return [
            Region(
                mask=None if mask is None else resize(mask, size),
                styles=[
                    each.resized(style.size_at(size))
                    if isinstance(each, Painting)
                    else partial(each.find, size=captured_for or size)
                    for style, each in (pairs[i] for i in members)
                ],
                blend=[self.styles[i].weight for i in members],
            )
            for mask, members in self.regions
        ]

    def objectives_at(self, index: int, group: Group) -> Iterator[Objective]:
        """Yield an objective for each picture, with the targets of the styles at a scale."""
        size, configuration = self.scales[index].size, self.configuration
        height, _ = self.shape_at(size)
        for number in range(len(self.content.pixels)):
            if number < len(self.sources):  # otherwise its styles are those of the first picture
                objective = Objective(
                    configuration.network,
                    configuration.losses,
                    self.content.pixels,
                    strength=self.options.strength,
                    emphasis=1.0 if index == len(self.scales) - 1 else _COARSE_EMPHASIS,
                    normalize_gradients=configuration.normalize_gradients,
                    tile=self.tile,
                    group=group if group.divides(height) else None,
                )
                objective.capture_styles(self.regions_at(size, number))
                if self.previous is not None:
                    image, mask, change = self.previous
                    objective.capture(image, "previous", mask=mask, change=change)
            # Pictures that share an objective's styles capture their own content in a copy.
            yield objective.copy() if len(self.sources) < len(self.content.pixels) else objective

    def result(self, image: Tensor, **outcome: Any) -> StyleTransferResult:
        """Return the result of a run."""
        alpha = self.content.alpha
        return StyleTransferResult(
            image=image.cpu(),
            content=resize(self.content.pixels, self.shape).cpu(),
            styles=resized_paintings(self.styles, self.sources[0], max(self.shape)),
            alpha=None if alpha is None else resize(alpha, self.shape).cpu(),
            exif=self.exif,
            **outcome,
        )


def resized_paintings(
    styles: Sequence[Style], sources: Sequence[StyleSource], size: int
) -> list[Tensor]:
    """Return the pixels of the paintings for a result of this size, on the CPU."""
    return [
        each.resized(style.size_at(size)).pixels.cpu()
        for style, each in zip(styles, sources, strict=True)
        if isinstance(each, Painting)
    ]


def plan_run(
    configuration: Configuration,
    shape: Sequence[int],
    styles: Sequence[Style],
    sources: Sequence[StyleSource],
    size: int,
) -> list[Scale]:
    """Return the scales that are large enough for the network; raise if there is none."""
    network, layers = configuration.network, layers_of(configuration.active_losses().values())
    scales = plan_scales(size, configuration.num_steps, configuration.num_scales)
    for name, (height, width) in _shapes_at(size, shape, styles, sources).items():
        network.check_size(height, width, layers, name=name)
    smallest = network.smallest_side(layers)
    while len(scales) > 1 and smallest > min(
        map(min, _shapes_at(scales[0].size, shape, styles, sources).values())
    ):
        scales = plan_scales(size, configuration.num_steps, len(scales) - 1)
    return scales


def _shapes_at(
    size: int, content: Sequence[int], styles: Sequence[Style], sources: Sequence[StyleSource]
) -> dict[str, tuple[int, int]]:
    shapes = {"content": fit(content, size)}
    for i, (style, each) in enumerate(zip(styles, sources, strict=True)):
        if isinstance(each, Painting):
            shapes[f"style[{i}]"] = fit(each.pixels.shape[-2:], style.size_at(size))
    return shapes


def _texture_configuration(configuration: Configuration, styles: Sequence[Style]) -> Configuration:
    if any(each.region is not None for each in styles):
        raise ValueError("`style` has a region, but a texture has none. Leave it out.")
    if not configuration.active_losses("style"):
        raise ValueError(
            "`losses` has no style loss of positive weight, which a texture needs. Add one, "
            "such as GramStyleLoss()."
        )
    return configuration.without("content")


def _enlarged(photo: Picture, configuration: Configuration) -> Picture:
    """Return the photograph at `size` if it is smaller."""
    shape = configuration.enlarged(photo.pixels.shape[-2:])
    if shape[0] * shape[1] > _MOST_PIXELS:
        raise ValueError(
            f"`size` is {configuration.size}, to which upscale=True would enlarge `content`; that "
            f"must have at most {_MOST_PIXELS} pixels."
        )
    with explaining_memory(shape, None, photo.pixels):
        alpha = None if photo.alpha is None else resize(photo.alpha, shape)
        return Picture(resize(photo.pixels, shape), alpha)


def _log_small(configuration: Configuration, shape: Sequence[int], name: str) -> None:
    level = logging.INFO if configuration.size == Configuration.size else logging.WARNING
    message = "`size` is %d, but `%s` is smaller, so the result has %dx%d pixels; "
    message += "upscale=True (--upscale) enlarges it first"
    logger.log(level, message, configuration.size, name, shape[1], shape[0])


def _blank(
    shape: Sequence[int] | None, first: StyleSource, configuration: Configuration
) -> Picture:
    """Return a black picture as the content of a texture."""
    if shape is None:
        if isinstance(first, StyleStatistics):
            raise ValueError("`shape` is needed for a captured style; pass shape=(height, width).")
        whole = first.pixels.shape[-2:]
        shape = fit(configuration.enlarged(whole), configuration.size or max(whole))
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
    like = configuration.like
    with explaining_memory((height, width), None, like):
        return Picture(like.new_zeros(1, 3, height, width), None)


def _check_styles(
    configuration: Configuration,
    options: RunOptions,
    sources: Sequence[StyleSource],
    regions: Sequence[Tensor | None],
    scales: Sequence[Scale],
) -> None:
    """Raise if no loss remains, or if masks or captured statistics do not fit the style losses."""
    if options.strength == 0 and not configuration.active_losses("content"):
        raise ValueError(
            "`strength` is 0, which leaves only losses that refer to the content, and there are "
            "none. Add a ContentLoss, or use a strength above 0."
        )
    losses = configuration.active_losses("style")
    whole = {name: loss for name, loss in losses.items() if not is_storable(loss)}
    masks = [*regions, *(each.mask for each in sources if isinstance(each, Painting))]
    captured = [each for each in sources if isinstance(each, StyleStatistics)]
    network = hash_network(configuration.extractor) if captured else ""
    for name, loss in whole.items():
        what = f"the loss {name!r} ({type(loss).__name__})"
        if any(mask is not None for mask in masks):
            raise ValueError(
                f"`style` has a region, a mask or a rotation, or `where` is given, but {what} is "
                "not a mean over positions that could be taken over a part of them. Use a "
                "StatisticLoss, or styles without."
            )
        if captured:
            raise ValueError(
                f"`style` is captured, but {what} compares with the painting itself. Use the "
                "painting, or a StatisticLoss."
            )
    for statistics in captured:
        if statistics.network != network:
            raise ValueError(
                f"`style` was captured with another network ({statistics.network[:12]}, this is "
                f"{network[:12]}). Capture the painting again with this transfer, or use the "
                "weights, pooling, padding and dtype that it was captured with."
            )
        for loss in losses.values():
            for scale in scales:
                statistics.find(loss, scale.size)
