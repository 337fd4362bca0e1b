"""Whether a picture is computed in tiles: what was asked for, and what the free memory asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import clear_frames
from typing import Literal, TypeAlias

import torch
from torch import nn

from nst._engine.terms import is_divisible
from nst._utils.checks import at_least, one_of
from nst._utils.memory import free_memory, is_exhausted
from nst._utils.text import byte_count
from nst.extractors.base import as_extractor
from nst.losses import Loss

__all__ = ["ROWS", "Tile", "check_tile", "choose_tile", "explaining_memory"]

logger = logging.getLogger("nst")

Tile: TypeAlias = int | Literal["auto"] | None
"""How many rows of every block are computed at a time; None for all."""

ROWS = 64
"""How many rows of every block are computed at a time, where nobody says how many."""
# Bytes for each pixel, in float32, of a step with VGG19, whole and in tiles, and of the pictures
# that an optimizer with its history works with.
_WHOLE, _IN_TILES, _OPTIMIZER = 700, 250, 700
# The share of the free memory that a run may take before it is computed in tiles.
_SHARE = 0.8


def check_tile(tile: Tile) -> Tile:
    """Return the argument if it can be one.

    Raises:
        ValueError: It is too low, or an unknown word.
        TypeError: It is neither a whole number nor a word nor None.
    """
    if tile is None:
        return None
    if isinstance(tile, str):
        one_of("tile", tile, ["auto"])
        return "auto"
    return at_least("tile", tile, 1)


def choose_tile(
    tile: Tile,
    extractor: nn.Module,
    losses: Mapping[str, Loss],
    shape: tuple[int, int],
    like: torch.Tensor,
) -> int | None:
    """Decide for a run, by the memory that is free now.

    Args:
        tile: What was asked for.
        extractor: The network.
        losses: By name.
        shape: Height and width of the result, in pixels.
        like: The pictures, or one of their number, device and type.
    """
    if not isinstance(tile, str):
        return tile
    sees_rows = as_extractor(extractor).computes_in_tiles and all(
        is_divisible(loss) for loss in losses.values() if loss.weight > 0
    )
    free = free_memory(like.device)
    needed = _bytes_needed(shape, None, like)
    if not sees_rows or free is None or needed <= _SHARE * free:
        return None
    logger.info(
        "%dx%d pixels would take about %s, and %s are free: in tiles of %d rows",
        shape[1],
        shape[0],
        byte_count(needed),
        byte_count(free),
        ROWS,
    )
    return ROWS


@contextmanager
def explaining_memory(
    shape: tuple[int, int], tile: int | None, like: torch.Tensor
) -> Iterator[None]:
    """Tell how much memory a run takes when that was more than there is.

    Args:
        shape: Height and width of the result, in pixels.
        tile: Number of rows that are computed at a time; None for all.
        like: The pictures, or one of their number and type.

    Raises:
        MemoryError: In place of PyTorch's errors.
    """
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        height, width = shape
        needed = byte_count(_bytes_needed(shape, tile, like))
        clear_frames(error.__traceback__)  # what they hold is needed to save what was painted
        raise MemoryError(
            f"`size` is {max(shape)}: {width}x{height} pixels take about {needed}, which is "
            f"more memory than there is. Use tile={ROWS}, a smaller size, or optimizer='adam'."
        ) from error


def _bytes_needed(shape: tuple[int, int], tile: int | None, like: torch.Tensor) -> int:
    """Return about how much memory a run with VGG19 takes."""
    # Each picture of a batch has an optimizer, but they are evaluated one after the other.
    each = _OPTIMIZER * max(len(like), 1) + (_WHOLE if tile is None else _IN_TILES)
    return shape[0] * shape[1] * each * like.element_size() // 4
