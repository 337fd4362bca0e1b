"""Captured statistics of a style, in memory and in a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst._utils.checks import file_path
from nst._utils.files import check_place
from nst._utils.plain import hash_file
from nst._utils.schema import check, whole
from nst._utils.tensors import FileFormat
from nst.losses import type_name
from nst.losses.base import Loss, Statistic, parts_of
from nst.losses.storable import StatisticLoss

# Statistics are used for pictures that are larger or smaller by at most this factor.
_REACH = math.sqrt(2) * 1.001


class Entry(NamedTuple):
    """The statistics of one loss at one size."""

    loss: Mapping[str, Any]
    """Identity of the loss; see `loss_identity`."""
    size: int
    """Longer side of the result, in pixels."""
    statistics: Mapping[str, Statistic]
    """Layer to its statistic, `(1, ...)`, or its parts."""


@dataclass(frozen=True, eq=False)
class StyleStatistics:
    """The statistics of a style that its losses compare with."""

    network: str
    """Fingerprint of the extractor."""
    entries: Sequence[Entry]
    """One for each loss and size."""
    color_mean: Tensor
    """Mean color of the picture, `(3,)`."""
    color_covariance: Tensor
    """Covariance of its colors, `(3, 3)`."""
    file_name: str | None = None
    """Name of the style file, without folder."""
    file_hash: str | None = None
    """SHA-256 of the style file."""

    @property
    def sizes(self) -> list[int]:
        """The captured sizes, in ascending order."""
        return sorted({entry.size for entry in self.entries})

    def to(self, device: torch.device, dtype: torch.dtype) -> StyleStatistics:
        """Return a copy on another device, in another dtype."""
        entries = [_converted(entry, lambda part: part.to(device, dtype)) for entry in self.entries]
        return replace(self, entries=entries)

    def find(self, loss: Loss, size: int) -> Mapping[str, Statistic]:
        """Return the statistics for a loss at the nearest captured size, or raise."""
        identity, remedy = loss_identity(loss), "Capture the painting again, for this transfer."
        found: dict[int, dict[str, Statistic]] = {}
        for entry in self.entries:
            if entry.loss == identity:  # several losses of one type may have different layers
                found.setdefault(entry.size, {}).update(entry.statistics)
        if not found:
            known = ", ".join(sorted({entry.loss["type"] for entry in self.entries}))
            raise ValueError(
                f"`style` holds statistics for {known}, but not for {identity}. {remedy}"
            )
        nearest = min(found, key=lambda own: abs(math.log(own / size)))
        if not 1 / _REACH <= nearest / size <= _REACH:
            raise ValueError(
                f"`style` was captured for pictures of {', '.join(map(str, self.sizes))} pixels, "
                f"but {size} are needed. Capture it with sizes=[{size}] as well."
            )
        statistics = found[nearest]
        for layer in loss.layers if isinstance(loss, StatisticLoss) else ():
            if layer not in statistics:
                known = ", ".join(statistics)
                raise ValueError(f"`style` holds {known}, but not {layer!r}. {remedy}")
        return statistics

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a style file; see `Style.save`."""
        path = check_place(path, name="path", example="style.nst")
        entries = [_converted(entry, _half)._asdict() for entry in self.entries]
        colors = {"color_mean": self.color_mean, "color_covariance": self.color_covariance}
        STYLE_FILE.write(path, {"network": self.network, "entries": entries, **colors})
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StyleStatistics:
        """Read a style file; see `Style.load`."""
        path, value = file_path("path", path), STYLE_FILE.read(path)
        try:
            value["entries"] = [_converted(Entry(**each), _whole) for each in value["entries"]]
            return cls(**value, file_name=path.name, file_hash=hash_file(path))
        except (IndexError, RuntimeError, TypeError) as error:  # a forged triangle or name
            raise STYLE_FILE.refusal(path, error) from error


def loss_identity(loss: Loss) -> dict[str, Any]:
    """Return the type of a loss, and the settings that affect its statistics."""
    settings = dict(loss.settings())
    for name in ("layers", "units", "weight"):
        settings.pop(name, None)
    if not isinstance(loss, StatisticLoss):  # the statistic of a layer may depend on the others
        settings["layers"] = list(loss.layers)
    return {"type": type_name(loss), **json.loads(json.dumps(settings, default=repr))}


def contradict(one: Entry, other: Entry) -> bool:
    """Return whether two entries of the same identity have different statistics of a layer."""
    pairs = (
        (parts_of(one.statistics[layer]), parts_of(other.statistics[layer]))
        for layer in one.statistics.keys() & other.statistics.keys()
    )
    return one[:2] == other[:2] and not all(
        len(some) == len(others) and all(map(torch.equal, some, others)) for some, others in pairs
    )


def _converted(entry: Entry, convert: Callable[[Any], Any]) -> Entry:
    """Return an entry with each part of each statistic converted."""
    converted = {
        layer: tuple(map(convert, parts)) if isinstance(parts, tuple) else convert(parts)
        for layer, parts in entry.statistics.items()
    }
    return entry._replace(statistics=converted)


def _half(part: Tensor) -> Tensor | list[Tensor]:
    """Return the upper triangle of a symmetric matrix in a list; other tensors unchanged."""
    if part.ndim == 3 and part.shape[1] == part.shape[2] and torch.equal(part, part.mT):
        rows, columns = torch.triu_indices(*part.shape[1:], device=part.device)
        return [part[:, rows, columns]]
    return part


def _whole(part: Tensor | list[Tensor]) -> Tensor:
    """Return the tensor that `_half` was called with."""
    if isinstance(part, Tensor):
        return part
    (triangle,) = part
    side = math.isqrt(2 * triangle.shape[1])
    rows, columns = torch.triu_indices(side, side, device=triangle.device)
    whole = triangle.new_empty(1, side, side)
    whole[:, rows, columns] = whole[:, columns, rows] = triangle
    return whole


def _numbers(name: str, value: Any) -> None:
    check(value, Tensor, name)
    if not value.is_floating_point() or value.ndim < 1 or not bool(value.isfinite().all()):
        raise ValueError(f"`{name}` must be made of finite numbers.")


def _colors(shape: tuple[int, ...], name: str, value: Any) -> None:
    _numbers(name, value)
    if value.shape != shape or bool((value.abs() > 2).any()):  # 2 is out of reach in [0, 1]
        raise ValueError(f"`{name}` must be the colors of a picture.")


def _statistic(name: str, value: Any) -> None:
    parts = value if isinstance(value, tuple) else (value,)
    for part in parts or (None,):
        numbers = part[0] if isinstance(part, list) and len(part) == 1 else part
        _numbers(name, numbers)
        if len(numbers) != 1:
            raise ValueError(f"`{name}` is of {len(numbers)} pictures; it must be of one.")


def _entries(name: str, value: Any) -> None:
    entry = {"loss": {"type": str}, "size": whole, "statistics": {str: _statistic}}
    check(value, [entry], name)
    json.dumps([each["loss"] for each in value])  # raises for tensors, which == does not compare
    if not value:
        raise ValueError(f"`{name}` is empty; it must not be.")


_COLORS = {"color_mean": partial(_colors, (3,)), "color_covariance": partial(_colors, (3, 3))}
_SCHEMA = {"network": str, "entries": _entries, **_COLORS}
STYLE_FILE = FileFormat("style file", 1, _SCHEMA, "Make it again with Style.save.")
