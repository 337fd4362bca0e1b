"""Styles that many pictures have in common, captured once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from torch import Tensor

from nst._engine.capture import can_capture, capture_painting
from nst._engine.configuration import Configuration, RunOptions
from nst._engine.inputs import plan_run
from nst._engine.reading import identify_pictures, read_style
from nst._record.describe import describe_styles
from nst._utils.device import plain_arithmetic
from nst.images import ImageLike
from nst.images.decode import picture_shape
from nst.result import StyleTransferResult
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style

__all__ = ["SharedStyles", "Sizes"]

logger = logging.getLogger("nst")

Sizes: TypeAlias = tuple[int, ...] | None
"""What styles are captured for, ascending; None where the paintings themselves are needed."""


class SharedStyles:
    """The styles of many pictures, read once, and captured once for each size.

    Args:
        styles: The styles.
        options: Of the runs.
        configuration: Of the transfer.

    Raises:
        OSError: A style cannot be read.
        TypeError: A style is of a wrong type.
        ValueError: A style cannot be read.
    """

    # In a caller's inference mode, what is made here could not be compared with in a run.
    @plain_arithmetic()
    def __init__(
        self, styles: Sequence[Style], options: RunOptions, configuration: Configuration
    ) -> None:
        self._styles, self._configuration = styles, configuration
        self._materials = [
            read_style(style, configuration.like, f"style[{i}]") for i, style in enumerate(styles)
        ]
        starts_as_style = isinstance(options.init, str) and options.init == "style"
        self._needs_pictures = (
            options.recolors_styles or starts_as_style or not can_capture(configuration)
        )
        self._inputs, self._described = identify_pictures(None, styles), describe_styles(styles)
        # Statistics of a size are a few megabytes; most pictures of a folder share theirs.
        self._captured = lru_cache(maxsize=16)(self._capture)
        self._seen = lru_cache(maxsize=4)(self._see)

    @plain_arithmetic()
    def for_picture(self, content: ImageLike) -> tuple[list[Style], Sizes]:
        """Return the styles that a run of this picture is given, and what they are captured for.

        Args:
            content: One of the photographs.
        """
        if not self._needs_pictures:
            try:
                sizes = self._sizes_for(picture_shape(content))
                if sizes is not None:
                    return self._at(sizes), sizes
            except Exception as error:  # what is wrong with a picture is told by its run
                logger.debug("styles are not captured: %s", error)
        return list(self._styles), None

    def _sizes_for(self, shape: tuple[int, int]) -> Sizes:
        configuration = self._configuration
        size = configuration.size_of(shape)
        scales = plan_run(configuration, shape, self._styles, self._materials, size)
        # A painting may be too small for a scale, which its statistics would not tell.
        if scales != plan_run(configuration, shape, [], [], size):
            return None
        return tuple(scale.size for scale in scales)

    def _at(self, sizes: tuple[int, ...]) -> list[Style]:
        return [
            self._of_sizes(style, material, i, sizes)
            for i, (style, material) in enumerate(zip(self._styles, self._materials, strict=True))
        ]

    def _of_sizes(
        self, style: Style, material: object, index: int, sizes: tuple[int, ...]
    ) -> Style:
        if not isinstance(material, Painting):
            return style
        each = [self._captured(index, size) for size in sizes]
        entries = [entry for statistics in each for entry in statistics.entries]
        together = replace(each[0], entries=entries)
        return Style(together, weight=style.weight, region=style.region)

    def _capture(self, index: int, size: int) -> StyleStatistics:
        style, painting = self._styles[index], self._materials[index]
        assert isinstance(painting, Painting)
        return capture_painting(self._configuration, style, painting, [size])

    @plain_arithmetic()
    def tell(self, result: StyleTransferResult, sizes: Sizes) -> StyleTransferResult:
        """Return the result of a run as of one with the paintings: a record names their files.

        Args:
            result: Of the run.
            sizes: What styles were captured for.
        """
        if sizes is None:
            return result
        inputs = {**result.settings["inputs"], **self._inputs}
        settings = {**result.settings, "inputs": inputs, "styles": self._described}
        seen = self._seen(max(result.image.shape[-2:]))
        return replace(result, settings=settings, styles=[each.clone() for each in seen])

    def _see(self, size: int) -> list[Tensor]:
        return [
            each.resized(style.size_at(size)).pixels.cpu()
            for style, each in zip(self._styles, self._materials, strict=True)
            if isinstance(each, Painting)
        ]
