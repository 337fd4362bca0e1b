"""Styles that many pictures share, captured once for each size."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TypeAlias

from nst._engine.configuration import Configuration, RunOptions
from nst._engine.inputs import plan_run, resized_paintings
from nst._engine.reading import identify_pictures, read_style
from nst._engine.run import describe_styles
from nst._engine.style_capture import can_capture, capture_painting
from nst._utils.device import plain_arithmetic
from nst._utils.text import logger
from nst.images import ImageLike
from nst.images.load import picture_shape
from nst.result import StyleTransferResult
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Painting, Style

Sizes: TypeAlias = tuple[int, ...] | None
"""Sizes for which styles are captured, ascending; None if the paintings are used."""


class SharedStyles:
    """The styles of many pictures: read once, and captured once for each size if possible."""

    @plain_arithmetic()  # a run cannot use statistics from the caller's inference mode
    def __init__(
        self, configuration: Configuration, styles: Sequence[Style], options: RunOptions
    ) -> None:
        self._configuration, self._styles, like = configuration, list(styles), configuration.like
        self._sources = [read_style(each, like, f"style[{i}]") for i, each in enumerate(styles)]
        starts_from_style = isinstance(options.init, str) and options.init == "style"
        needs_paintings = options.recolors("before") or starts_from_style
        self._captures = can_capture(configuration) and not needs_paintings
        self._identities, self._settings = identify_pictures(None, styles), describe_styles(styles)
        # Statistics of a size take a few megabytes; most pictures of a folder share theirs.
        self._captured = lru_cache(16)(self._capture)
        self._resized = lru_cache(4)(partial(resized_paintings, self._styles, self._sources))

    @plain_arithmetic()
    def for_picture(self, content: ImageLike) -> tuple[list[Style], Sizes]:
        """Return the styles for a picture, and the sizes for which they are captured."""
        if not self._captures:
            return self._styles, None
        try:
            configuration = self._configuration
            shape = configuration.enlarged(picture_shape(content))
            size = configuration.size_of(shape)
            scales = plan_run(configuration, shape, self._styles, self._sources, size)
            # A painting may be too small for a scale, which its statistics would not show.
            if scales == plan_run(configuration, shape, [], [], size):
                sizes = tuple(scale.size for scale in scales)
                return [self._at(i, sizes) for i in range(len(self._styles))], sizes
        except Exception as error:  # the run of the picture will raise it
            logger.debug("styles are not captured: %s", error)
        return self._styles, None

    def _at(self, index: int, sizes: tuple[int, ...]) -> Style:
        style = self._styles[index]
        if isinstance(style.image, StyleStatistics):
            return style
        captured = [self._captured(index, size) for size in sizes]
        statistics = replace(captured[0], entries=[e for each in captured for e in each.entries])
        return Style(statistics, weight=style.weight, region=style.region)

    def _capture(self, index: int, size: int) -> StyleStatistics:
        painting = self._sources[index]
        assert isinstance(painting, Painting)
        return capture_painting(self._configuration, self._styles[index], painting, [size])

    @plain_arithmetic()
    def restore(self, result: StyleTransferResult, sizes: Sizes) -> StyleTransferResult:
        """Return the result of a run with captured styles as if it had used the paintings."""
        if sizes is None:
            return result
        inputs = {**result.settings["inputs"], **self._identities}
        pairs = zip(result.settings["styles"], self._settings, strict=True)
        styles = [
            {**{name: each for name, each in found.items() if name != "captured"}, **mine}
            for found, mine in pairs  # only a run knows which regions are the same
        ]
        settings = {**result.settings, "inputs": inputs, "styles": styles}
        paintings = self._resized(max(result.image.shape[-2:]))
        return replace(result, settings=settings, styles=[each.clone() for each in paintings])
