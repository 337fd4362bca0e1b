"""From the record of a run back to what it was given, so that the same picture can be made."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from torch import nn

from nst._callbacks import Callback, RunState
from nst._catalog import LOSSES
from nst._checks import at_least, one_of
from nst._features import FeatureExtractor, Padding, Pooling
from nst._hashes import fingerprint, hash_file
from nst._losses import Loss
from nst._style import Style

__all__ = [
    "network_difference",
    "recorded_arguments",
    "recorded_end",
    "recorded_extractor",
    "recorded_run",
]

logger = logging.getLogger("nst")

_ARGUMENTS = (
    "optimizer",
    "size",
    "num_steps",
    "num_scales",
    "average",
    "normalize_gradients",
    "device",
)


_NAMED_WEIGHTS = ("original", "torchvision")


@contextmanager
def _usable() -> Iterator[None]:
    """Say of whatever a record makes go wrong that the record does."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"`record` cannot be used: it lacks {error}.") from error
    except (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"`record` cannot be used: {error}") from error


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` is {value!r}; names with values are needed.")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"`{name}` is {value!r}; a text is needed.")
    return value


def recorded_arguments(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `StyleTransfer`, but the extractor.

    Args:
        record: What `read_record` returned.
        changes: Arguments in place of the recorded ones.

    Raises:
        ValueError: The record is incomplete, or has a loss of the user's own that is not replaced.
    """
    with _usable():
        arguments = {name: record[name] for name in _ARGUMENTS}
        if "losses" not in changes:
            arguments["losses"] = _losses(record)
    return {**arguments, **changes}


def recorded_extractor(
    record: Mapping[str, Any], weights: str | os.PathLike[str] | None = None
) -> FeatureExtractor:
    """Return the network of a run, if it is called by a name: no path in a record is followed.

    Args:
        record: What `read_record` returned.
        weights: In place of those recorded; the other settings are the record's all the same.

    Raises:
        ValueError: The record cannot be used, its network has no name, or what has that name here
            is another network.
    """
    with _usable():
        settings = _extractor_settings(record)
        if weights is None and settings["weights"] not in _NAMED_WEIGHTS:
            raise ValueError(
                f"its network has the weights {settings['weights']!r}, which are known by no name. "
                "Pass extractor=..., or --weights on the command line."
            )
    if weights is not None:
        return FeatureExtractor(**{**settings, "weights": weights})
    network = FeatureExtractor(**settings)
    difference = network_difference(record, network)
    if difference is not None:
        raise ValueError(
            f"`record` cannot be used: {difference} The weights {settings['weights']!r} are others "
            "here. Pass extractor=..., or --weights on the command line, to use some all the same."
        )
    return network


def _extractor_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    described = _mapping("extractor", record["extractor"])
    _text("network", record["network"])
    if described["type"] != FeatureExtractor.__name__:
        raise ValueError(
            f"its network is of type {described['type']!r}, which is made by no name. Pass "
            "extractor=..."
        )
    one_of("pooling", described["pooling"], get_args(Pooling))
    one_of("padding", described["padding"], get_args(Padding))
    return {name: described[name] for name in ("weights", "pooling", "padding")}


def network_difference(record: Mapping[str, Any], network: nn.Module) -> str | None:
    """Say that a network is not that of the run; None if it is, or if that cannot be known.

    Args:
        record: What `read_record` returned.
        network: Takes the place of the recorded one.
    """
    recorded, found = record.get("network"), fingerprint(network)
    if None in (recorded, found) or recorded == found:
        return None
    return (
        f"The picture was made with the network {str(recorded)[:12]}, but this one is "
        f"{str(found)[:12]}."
    )


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
    with _usable():
        inputs = _inputs(record)
    files = _find_inputs(inputs, places)
    with _usable():
        init = files["init"] if record["init"] == "picture" else record["init"]
        arguments = {"style": _styles(record, files), "init": init, "seed": record["seed"]}
        if record["task"] == "synthesize":
            return {**arguments, "shape": record["shape"]}
        handles = {name: record[name] for name in ("strength", "preserve_color", "color_when")}
        where = files.get("where", "alpha") if record["where"] else None
        return {"content": files["content"], "where": where, **arguments, **handles}


def recorded_end(record: Mapping[str, Any]) -> list[Callback]:
    """Return what ends a run where the recorded one ended; nothing if that was not stopped.

    Args:
        record: What `read_record` returned.

    Raises:
        ValueError: The record is incomplete, or tells of more steps than were planned.
    """
    with _usable():
        planned = at_least("num_steps", record["num_steps"], 1)
        done = at_least("steps_done", record["steps_done"], 0)
        reason = _text("stop_reason", record["stop_reason"])
        if done > planned:
            raise ValueError(f"`steps_done` is {done}, but `num_steps` only {planned}.")
    if done == planned:
        return []
    if reason == "interrupted":
        logger.warning(
            "the run was interrupted within a step, after %d of %d, so the result may not be "
            "quite the same",
            done,
            planned,
        )
    # It may be printed, and what controls a terminal has no place in it.
    return [_StopAfter(done, "".join(c if c.isprintable() else " " for c in reason))]


class _StopAfter(Callback):
    """Stops a run after so many steps, for the reason that another had."""

    def __init__(self, num_steps: int, reason: str) -> None:
        self.num_steps, self.reason = num_steps, reason

    def on_start(self, state: RunState) -> None:
        self.on_step(state)  # there may be no step at all

    def on_step(self, state: RunState) -> None:
        if state.step >= self.num_steps:
            state.stop(self.reason)


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
                f"it has the loss {name!r} of type {kind!r}, which is not nst's own. Pass "
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


def _inputs(record: Mapping[str, Any]) -> dict[str, tuple[str | None, str]]:
    """Return the name and the SHA-256 of every picture of a run, by argument."""
    inputs = _mapping("inputs", record["inputs"])
    return {name: (source["name"], source["sha256"]) for name, source in inputs.items()}


def _find_inputs(
    inputs: Mapping[str, tuple[str | None, str]], places: Iterable[str | os.PathLike[str]]
) -> dict[str, Path]:
    """Find the files that a run was given, and see that they are the same.

    A record names files without their folders, and no path in it is ever followed.

    Args:
        inputs: What `_inputs` returned.
        places: Folders to look into, and files.

    Raises:
        FileNotFoundError: One is in none of the places.
        ValueError: One was not a file, or all of its name have another content.
    """
    folders = [Path(place) for place in places]
    found: dict[str, Path] = {}
    for argument, (name, expected) in inputs.items():
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
