"""Whether a picture is computed in tiles: what was asked for, and what the free memory asks for."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import nn

from nst._checks import at_least, one_of
from nst._losses import Loss
from nst._readable import byte_count
from nst._terms import whole_only

__all__ = ["Tile", "check_tile", "choose_tile", "free_memory", "refuse_tiles"]

logger = logging.getLogger("nst")

Tile: TypeAlias = int | Literal["auto"] | None
"""How many rows of every block are computed at a time; None for all."""

_ROWS = 64
# Bytes for each pixel, in float32, of a step with VGG19 that is not tiled, and of the pictures that
# an optimizer with its history works with.
_STEP, _OPTIMIZER = 700, 700
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
            raise ValueError(
                f"`tile` is {tile}, but the loss {name!r} ({type(loss).__name__}) is no sum over "
                "positions, of which tiles could be parts. Use a StatisticLoss or a "
                "PointwiseLoss, or tile=None."
            )


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
    needed = shape[0] * shape[1] * (_STEP + _OPTIMIZER) * like.element_size() // 4
    if not sees_rows or free is None or needed <= _SHARE * free:
        return None
    logger.info(
        "%dx%d pixels would take about %s, and %s are free: in tiles of %d rows",
        *shape,
        byte_count(needed),
        byte_count(free),
        _ROWS,
    )
    return _ROWS


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes can be taken; None if that cannot be known.

    Args:
        device: A CUDA device; for any other, the machine's own memory counts, and the limit of
            the control group that the process is in.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [each for each in (_available(), _left_in_group()) if each is not None]
    return min(known, default=None)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_group() -> int | None:
    """Return what a control group (version 2) leaves, as containers have it."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None
