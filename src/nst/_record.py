"""From the record of a run back to what it was given, so that the same picture can be made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nst._catalog import LOSSES
from nst._features import FeatureExtractor
from nst._hashes import hash_file
from nst._losses import Loss
from nst._style import Style

__all__ = ["recorded_arguments", "recorded_extractor", "recorded_run"]

_ARGUMENTS = (
    "optimizer",
    "size",
    "num_steps",
    "num_scales",
    "average",
    "normalize_gradients",
    "device",
)


@contextmanager
def _complete() -> Iterator[None]:
    """Say of a record of another form that it is one."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`record` is incomplete or damaged: {error!r}.") from error


def recorded_arguments(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `StyleTransfer`, but the extractor.

    Args:
        record: What `read_record` returned.
        changes: Arguments in place of the recorded ones.

    Raises:
        ValueError: The record is incomplete, or has a loss of the user's own that is not replaced.
    """
    with _complete():
        arguments = {name: record[name] for name in _ARGUMENTS}
        if "losses" not in changes:
            arguments["losses"] = _losses(record)
    return {**arguments, **changes}


def recorded_extractor(record: Mapping[str, Any]) -> FeatureExtractor:
    """Return the network.

    Args:
        record: What `read_record` returned.

    Raises:
        ValueError: The record is incomplete, or the network is known by no name.
    """
    with _complete():
        settings = dict(record["extractor"])
        kind = settings.pop("type")
    if kind != "FeatureExtractor" or settings.get("weights") not in ("original", "torchvision"):
        raise ValueError(
            f"`record` has the network {kind} {settings}, which cannot be found by name. Pass "
            "extractor=..."
        )
    with _complete():
        return FeatureExtractor(**settings)


def recorded_run(
    record: Mapping[str, Any], places: Iterable[str | os.PathLike[str]]
) -> dict[str, Any]:
    """Return the arguments of `run`, or, if there is no content among them, of `synthesize`.

    Args:
        record: What `read_record` returned.
        places: Folders to look for the pictures in, and files.

    Raises:
        FileNotFoundError: A file is in none of the places.
        ValueError: A file has changed, a picture was in memory, or the record is incomplete.
    """
    with _complete():
        files = _find_inputs(record, places)
        init = files["init"] if record["init"] == "picture" else record["init"]
        arguments = {"style": _styles(record, files), "init": init, "seed": record["seed"]}
        if record["task"] == "synthesize":
            return {**arguments, "shape": record["shape"]}
        handles = {name: record[name] for name in ("strength", "preserve_color", "color_when")}
        where = files.get("where", "alpha") if record["where"] else None
        return {"content": files["content"], "where": where, **arguments, **handles}


def _losses(record: Mapping[str, Any]) -> dict[str, Loss]:
    """Make the losses of a run again; only this library's own.

    Args:
        record: What `read_record` returned.

    Raises:
        ValueError: One is of another kind, or has other arguments.
    """
    losses: dict[str, Loss] = {}
    for name, described in record["losses"].items():
        settings = dict(described)
        kind = settings.pop("type")
        if kind not in LOSSES:
            raise ValueError(
                f"`record` has the loss {name!r} of type {kind!r}, which is not nst's own. Pass "
                "losses={...} with all the losses of the run."
            )
        losses[name] = LOSSES[kind](**settings)
    return losses


def _styles(record: Mapping[str, Any], files: Mapping[str, Path]) -> list[Style]:
    """Make the styles of a run again.

    Args:
        record: What `read_record` returned.
        files: What `_find_inputs` returned.
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


def _find_inputs(
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
