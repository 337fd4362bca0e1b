"""What is kept of a style: its statistics at some sizes, in memory and in a file.

The file is a `.npz` archive, in which nothing is pickled: a JSON text and plain arrays.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nst._utils.archive import check_archive
from nst._utils.checks import at_least, file_path
from nst._utils.files import write_whole
from nst._utils.hashing import hash_file
from nst.losses import Loss, Statistic, StatisticLoss

__all__ = ["Entry", "StyleStatistics", "loss_identity"]

_FORMAT, _VERSION = "nst style", 1
# Strokes of a style captured at one size are used for pictures at most this much larger or
# smaller.
_REACH = math.sqrt(2) * 1.001
_LARGEST = 2**31  # pixels on a side


class Entry(NamedTuple):
    """The statistics of one loss at one size."""

    loss: Mapping[str, Any]
    """What tells losses apart whose statistics differ; see `loss_identity`."""
    size: int
    """The longer side of the pictures that it was made for, in pixels."""
    statistics: Mapping[str, Statistic]
    """Layer to its statistic, `(1, ...)`, or its parts."""


@dataclass(frozen=True, eq=False)
class StyleStatistics:
    """A style without its picture: all that a `StatisticLoss` compares with."""

    network: str
    """Fingerprint of the network that saw the picture."""
    entries: Sequence[Entry]
    """One for each loss and size."""
    color_mean: Tensor
    """The picture's mean color, `(3,)`."""
    color_covariance: Tensor
    """The covariance of its colors, `(3, 3)`."""
    file_name: str | None = None
    """The file that it was read from, without its folder."""
    file_hash: str | None = None
    """The SHA-256 of that file."""

    @property
    def sizes(self) -> list[int]:
        """The sizes of picture that it was made for."""
        return sorted({entry.size for entry in self.entries})

    def to(self, device: torch.device, dtype: torch.dtype) -> StyleStatistics:
        """Return a copy on a device, as a type of number."""
        entries = [
            entry._replace(
                statistics={
                    layer: _each_part(lambda part: part.to(device, dtype), statistic)
                    for layer, statistic in entry.statistics.items()
                }
            )
            for entry in self.entries
        ]
        return replace(self, entries=entries)

    def find(self, loss: Loss, size: int) -> Mapping[str, Statistic]:
        """Return the statistics for a loss, captured for the nearest size.

        Args:
            loss: What wants to compare with them.
            size: The longer side of the picture, in pixels.

        Raises:
            ValueError: There are none for such a loss, for one of its layers, or near that size.
        """
        identity, remedy = loss_identity(loss), "Capture the painting again, for this transfer."
        entries = [entry for entry in self.entries if entry.loss == identity]
        if not entries:
            known = sorted({str(entry.loss["type"]) for entry in self.entries})
            raise ValueError(
                f"`style` holds statistics for {', '.join(known)}, but not for {identity}. {remedy}"
            )
        nearest = min((each.size for each in entries), key=lambda own: abs(math.log(own / size)))
        if not 1 / _REACH <= nearest / size <= _REACH:
            raise ValueError(
                f"`style` was captured for pictures of {', '.join(map(str, self.sizes))} pixels, "
                f"but {size} are needed. Capture it with sizes=[{size}] as well."
            )
        # Several losses of a kind may have captured layers of their own.
        found = {
            layer: statistic
            for entry in entries
            if entry.size == nearest
            for layer, statistic in entry.statistics.items()
        }
        if isinstance(loss, StatisticLoss):
            missing = [layer for layer in loss.layers if layer not in found]
            if missing:
                raise ValueError(
                    f"`style` holds {', '.join(found)}, but not {missing[0]!r}. {remedy}"
                )
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file that appears whole or not at all.

        Args:
            path: Where to; any suffix.

        Raises:
            OSError: The file cannot be written. An existing one is then left as it was.
        """
        arrays: list[Tensor] = []
        about = {
            "format": _FORMAT,
            "version": _VERSION,
            "network": self.network,
            "color": [self.color_mean.tolist(), self.color_covariance.tolist()],
            "entries": [
                {
                    "loss": dict(entry.loss),
                    "size": entry.size,
                    "statistics": {
                        layer: _each_part(lambda part: _pack(part, arrays), statistic)
                        for layer, statistic in entry.statistics.items()
                    },
                }
                for entry in self.entries
            ],
        }
        buffer = io.BytesIO()
        named: dict[str, Any] = {f"array{i}": each.cpu().numpy() for i, each in enumerate(arrays)}
        np.savez(buffer, about=np.array(json.dumps(about)), **named)
        path = file_path("path", path)
        write_whole(path, buffer.getbuffer())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StyleStatistics:
        """Read what `save` wrote.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: There is no file.
            ValueError: It is no style file, of another version, or damaged.
        """
        path = file_path("path", path)
        if not path.is_file():
            raise FileNotFoundError(
                f"`path` is {str(path)!r}, which is not a file. Check the path."
            )
        try:
            # Opened here: numpy leaves a damaged file open.
            with path.open("rb") as stream:
                check_archive(stream)
                with np.load(stream, allow_pickle=False) as file:
                    arrays = dict(file)
            about = json.loads(str(arrays.pop("about")))
            if (about["format"], about["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"version {about['version']} of {about['format']!r}")
            entries = [_entry(raw, arrays) for raw in about["entries"]]
            mean, covariance = (torch.tensor(c, dtype=torch.float64) for c in about["color"])
            if mean.shape != (3,) or covariance.shape != (3, 3) or not entries:
                raise ValueError("a part is missing")
            # No picture in [0, 1] has more; NaN compares false.
            if not bool((mean.abs() <= 2).all() and (covariance.abs() <= 2).all()):
                raise ValueError("its colors are those of no picture")
            network = str(about["network"])
            return cls(network, entries, mean, covariance, path.name, hash_file(path))
        except PermissionError:
            raise
        except Exception as error:  # a damaged archive can raise nearly anything
            raise ValueError(
                f"`path` is {str(path)!r}, which is no style file of version {_VERSION}, or is "
                f"damaged ({error}). Make it again with Style.save."
            ) from error


def loss_identity(loss: Loss) -> dict[str, Any]:
    """Return what tells apart two losses whose statistics of the same features differ.

    Neither weights nor the units of the distance are part of a statistic.
    """
    settings = {
        name: value
        for name, value in loss.settings().items()
        if name not in ("layers", "units", "weight")
    }
    if not isinstance(loss, StatisticLoss):  # what is kept of a layer may depend on the others
        settings["layers"] = list(loss.layers)
    identity: dict[str, Any] = json.loads(json.dumps(settings, default=repr))
    return {"type": type(loss).__name__, **identity}


def _each_part(convert: Callable[[Tensor], Any], statistic: Statistic) -> Any:
    if isinstance(statistic, tuple):
        return tuple(convert(part) for part in statistic)
    return convert(statistic)


def _pack(part: Tensor, arrays: list[Tensor]) -> dict[str, Any]:
    """Add a tensor to the arrays and say where; of a symmetric one, half is enough."""
    symmetric = part.ndim == 3 and part.shape[1] == part.shape[2] and torch.equal(part, part.mT)
    if symmetric:
        rows, columns = torch.triu_indices(*part.shape[1:]).unbind()
        arrays.append(part[:, rows, columns])
    else:
        arrays.append(part)
    return {"array": len(arrays) - 1, "symmetric": symmetric, "side": part.shape[-1]}


def _unpack(raw: Mapping[str, Any], arrays: dict[str, Any]) -> Tensor:
    # Each is used once, lest a small file become large.
    values = torch.from_numpy(arrays.pop(f"array{int(raw['array'])}"))
    if not values.is_floating_point() or not bool(values.isfinite().all()) or len(values) != 1:
        raise ValueError("an array is not made of finite numbers")
    if not raw["symmetric"]:
        return values
    side = int(raw["side"])
    if values.shape[1:] != (side * (side + 1) // 2,):
        raise ValueError("an array has another shape than it should")
    rows, columns = torch.triu_indices(side, side).unbind()
    whole = values.new_empty(1, side, side)
    whole[:, rows, columns] = values
    whole[:, columns, rows] = values
    return whole


def _entry(raw: Mapping[str, Any], arrays: dict[str, Any]) -> Entry:
    statistics = {
        str(layer): tuple(_unpack(part, arrays) for part in statistic)
        if isinstance(statistic, list)
        else _unpack(statistic, arrays)
        for layer, statistic in raw["statistics"].items()
    }
    size = at_least("size", raw["size"], 1)
    if size > _LARGEST or "type" not in raw["loss"] or () in statistics.values():
        raise ValueError("a part is missing")
    return Entry(dict(raw["loss"]), size, statistics)
