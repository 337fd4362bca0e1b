"""The record of a run: what it was given, so that the same picture can be made again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nst import _content_losses, _matching_losses, _style_losses
from nst._hashes import hash_file, hash_tensor
from nst._losses import Loss
from nst._statistics import StyleStatistics
from nst._style import Style
from nst.images import ImageLike

__all__ = ["describe_inputs", "find_inputs", "losses_of", "styles_of"]


def describe_inputs(
    content: ImageLike | None, styles: Sequence[Style], others: Mapping[str, ImageLike | None]
) -> dict[str, dict[str, str | None]]:
    """Return the name and the SHA-256 of every picture that a run is given, by argument.

    Of a file, the name without its folder and the hash of its bytes; of what is in memory, no name
    and the hash of its values.

    Args:
        content: The photograph.
        styles: Their pictures, regions and masks.
        others: Other pictures; None and words such as `"alpha"` are left out.
    """
    given: dict[str, Any] = {"content": content}
    for i, style in enumerate(styles):
        given[f"style[{i}]"] = style.image
        given[f"style[{i}].region"] = style.region
        given[f"style[{i}].mask"] = style.mask
    given.update(others)
    return {
        name: _describe(source)
        for name, source in given.items()
        if source is not None and not (isinstance(source, str) and source == "alpha")
    }


def _describe(source: Any) -> dict[str, str | None]:
    if isinstance(source, (str, os.PathLike)):
        return {"name": Path(source).name, "sha256": hash_file(source)}
    if isinstance(source, StyleStatistics):
        return {"name": source.file_name, "sha256": source.file_hash}
    values = source if isinstance(source, torch.Tensor) else torch.as_tensor(np.array(source))
    return {"name": None, "sha256": hash_tensor(values)}


def losses_of(record: Mapping[str, Any]) -> dict[str, Loss]:
    """Make the losses of a run again; only this library's own.

    Args:
        record: What `read_record` returned.

    Raises:
        ValueError: One is of another kind, or has other arguments.
    """
    known = {
        name: getattr(module, name)
        for module in (_content_losses, _style_losses, _matching_losses)
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }
    losses: dict[str, Loss] = {}
    for name, described in record["losses"].items():
        settings = dict(described)
        kind = settings.pop("type")
        if kind not in known:
            raise ValueError(
                f"`record` has the loss {name!r} of type {kind!r}, which is not nst's own. Pass "
                "losses={...} with all the losses of the run."
            )
        losses[name] = known[kind](**settings)
    return losses


def styles_of(record: Mapping[str, Any], files: Mapping[str, Path]) -> list[Style]:
    """Make the styles of a run again.

    Args:
        record: What `read_record` returned.
        files: What `find_inputs` returned.
    """
    styles: list[Style] = []
    regions: dict[int, Any] = {}
    for i, described in enumerate(record["styles"]):
        name = f"style[{i}]"
        region = None
        if "region" in described:
            region = regions.setdefault(described["region"], files.get(f"{name}.region", "alpha"))
        weight = described["weight"]
        if "captured" in described:
            styles.append(Style.load(files[name], weight=weight, region=region))
            continue
        mask = files.get(f"{name}.mask", "alpha") if described.get("mask") else None
        scale, rotation = described.get("scale", 1.0), described.get("rotation", 0.0)
        styles.append(Style(files[name], weight, region, mask, scale, rotation))
    return styles


def find_inputs(
    record: Mapping[str, Any], places: Iterable[str | os.PathLike[str]]
) -> dict[str, Path]:
    """Find the files that a run was given, and see that they are the same.

    A record names files without their folders, and no path in it is ever followed.

    Args:
        record: What `read_record` returned.
        places: Folders to look into, and files.

    Raises:
        FileNotFoundError: One is in none of the places.
        ValueError: One was not a file, or all of its name have another content.
    """
    folders = [Path(place) for place in places]
    found: dict[str, Path] = {}
    for argument, source in record["inputs"].items():
        name, expected = source["name"], source["sha256"]
        if name is None:
            raise ValueError(
                f"`{argument}` of this run was in memory, not a file, so it cannot be found. Make "
                "the transfer with StyleTransfer.from_record and call run with it."
            )
        name = Path(str(name).replace("\\", "/")).name
        candidates = [path / name if path.is_dir() else path for path in folders]
        candidates = [path for path in candidates if path.name == name and path.is_file()]
        same = [path for path in candidates if hash_file(path) == expected]
        if same:
            found[argument] = same[0]
        elif candidates:
            raise ValueError(
                f"`{argument}` was {name!r}, but {str(candidates[0])!r} has another content (its "
                f"SHA-256 should be {expected}). Put the original in its place."
            )
        else:
            raise FileNotFoundError(
                f"`{argument}` was {name!r}, which is not in "
                f"{', '.join(repr(str(place)) for place in folders)}. Name its folder in `inputs`."
            )
    return found
