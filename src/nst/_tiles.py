"""Whether a picture is computed in tiles: what was asked for, and what the free memory asks for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import nn

from nst._checks import at_least, one_of
from nst._losses import Loss
from nst._memory import free_memory
from nst._readable import byte_count
from nst._terms import no_sum, whole_only

__all__ = ["ROWS", "Tile", "bytes_needed", "check_tile", "choose_tile", "refuse_tiles"]

logger = logging.getLogger("nst")

Tile: TypeAlias = int | Literal["auto"] | None
"""How many rows of every block are computed at a time; None for all."""

ROWS = 64
"""How many rows of every block are computed at a time, where nobody says how many."""
# Bytes for each pixel, in float32, of a step with VGG19, whole and in tiles, and of the pictures
# that an optimizer with its history works with.
_WHOLE, _IN_TILES, _OPTIMIZER = 700, 250, 700
# The share of the free memory that a run may take before it goes on in tiles.
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


def refuse_tiles(tile: int, extractor: nn.Module, losses: Mapping[str, Loss]) -> None:
    """Refuse tiles if a network or a loss must see everything at once.

    Raises:
        ValueError: It must.
    """
    if not getattr(extractor, "sweeps", False) and not getattr(extractor, "stands_in", False):
        raise ValueError(
            f"`tile` is {tile}, but `extractor` is a {type(extractor).__name__}, which is not "
            "computed in parts. Use FeatureExtractor, or tile=None."
        )
    for name, loss in losses.items():
        if loss.weight > 0 and whole_only(loss):
            raise no_sum(name, loss, f"`tile` is {tile}", "tile=None")


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
        like: Has the device and the type of number.
    """
    if not isinstance(tile, str):
        return tile
    sees_rows = getattr(extractor, "sweeps", False) and not any(
        whole_only(loss) for loss in losses.values() if loss.weight > 0
    )
    free = free_memory(like.device)
    needed = bytes_needed(shape, None, like)
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


def bytes_needed(shape: tuple[int, int], tile: int | None, like: torch.Tensor) -> int:
    """Return about how much memory a run with VGG19 takes.

    Args:
        shape: Height and width of the result, in pixels.
        tile: How many rows are computed at a time; None for all.
        like: Has the type of number.
    """
    each = _OPTIMIZER + (_WHOLE if tile is None else _IN_TILES)
    return shape[0] * shape[1] * each * like.element_size() // 4
