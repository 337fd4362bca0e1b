"""From the record of a run back to what it was given, so that the same picture can be made."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from nst._engine.configuration import INITS, RunOptions
from nst._record.files import described_files, find_files
from nst._record.values import flag, mapping, sequence, text, usable
from nst._utils.checks import at_least, non_negative, one_of
from nst._utils.device import resolve_device
from nst._utils.hashing import fingerprint
from nst.callbacks.base import Callback, RunState
from nst.extractors.vgg import FeatureExtractor, Padding, Pooling
from nst.extractors.weights import NAMED_WEIGHTS
from nst.losses.catalog import LOSSES
from nst.losses.kinds import Loss
from nst.optim.by_name import optimizer_factory
from nst.styles.style import Style, as_styles

__all__ = [
    "check_same",
    "network_difference",
    "recorded_arguments",
    "recorded_end",
    "recorded_extractor",
    "recorded_run",
]

logger = logging.getLogger("nst")

_ARGUMENTS: Mapping[str, Callable[[Any], object]] = {
    "optimizer": lambda value: optimizer_factory(text("optimizer", value)),
    "size": lambda value: value is None or at_least("size", value, 1),
    "num_steps": lambda value: at_least("num_steps", value, 1),
    "num_scales": lambda value: value == "auto" or at_least("num_scales", value, 1),
    "average": lambda value: non_negative("average", value),
    "normalize_gradients": lambda value: flag("normalize_gradients", value),
    "tile": lambda value: value is None or at_least("tile", value, 1),
    "device": lambda value: resolve_device(text("device", value)),
}
"""Arguments of `StyleTransfer` to what raises if it would."""

_MOST_PIXELS = 178_956_970  # more than these Pillow refuses to open


def recorded_arguments(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `StyleTransfer`, but the extractor.

    Args:
        record: What `read_record` returned.
        changes: Arguments in place of the recorded ones.

    Raises:
        ValueError: The record is incomplete, or has a loss of the user's own that is not replaced.
    """
    with usable(record):
        arguments = {} if "losses" in changes else {"losses": _losses(record)}
        for name, check in _ARGUMENTS.items():
            if name not in changes:
                arguments[name] = record[name]
                check(record[name])
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
    with usable(record):
        settings = _extractor_settings(record)
        if weights is None and settings["weights"] not in NAMED_WEIGHTS:
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
    described = mapping("extractor", record["extractor"])
    text("network", record["network"])
    if described["type"] != FeatureExtractor.__name__:
        raise ValueError(
            f"its network is of type {described['type']!r}, which is made by no name. Pass "
            "extractor=..."
        )
    one_of("pooling", described["pooling"], get_args(Pooling))
    one_of("padding", described["padding"], get_args(Padding))
    one_of("winograd", described["winograd"], (False, True))
    return {name: described[name] for name in ("weights", "pooling", "padding", "winograd")}


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


def check_same(record: Mapping[str, Any], network: nn.Module, losses: Mapping[str, Loss]) -> None:
    """Refuse parts with which a run cannot go on; what may change a bit is logged.

    Args:
        record: Of the run so far.
        network: What it shall go on with.
        losses: What it shall go on with.

    Raises:
        ValueError: The network is another, or a loss is of another name or type.
    """
    here = {"torch": torch.__version__, "num_threads": torch.get_num_threads()}
    for name, value in here.items():
        if record.get(name) != value:
            logger.warning(
                "the run had %s %s before and has %s now, so the result may not be the same to "
                "the bit",
                name,
                record.get(name),
                value,
            )
    difference = network_difference(record, network)
    if difference is not None:
        raise ValueError(
            f"`extractor` is another than the run's; it must be the same. {difference}"
        )
    with usable(record):
        kinds = {name: each["type"] for name, each in mapping("losses", record["losses"]).items()}
    found = {name: type(loss).__name__ for name, loss in losses.items()}
    if found != kinds:
        raise ValueError(f"`losses` is {found}, but the run's were {kinds}. Pass the same.")


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
    with usable(record):
        described = described_files(record["inputs"])
    files = find_files(described, places)
    with usable(record):
        texture = one_of("task", record["task"], ("run", "synthesize")) == "synthesize"
        inits = [name for name in INITS if name != "content" or not texture]
        init = one_of("init", record["init"], ["picture", *inits])  # a path is none of these
        init = files["init"] if init == "picture" else init
        arguments = {"style": _styles(record, files), "init": init, "seed": record["seed"]}
        if texture:
            RunOptions(init, record["seed"])  # raises for what a run would
            return {**arguments, "shape": _shape(record["shape"])}
        handles = {name: record[name] for name in ("strength", "preserve_color", "color_when")}
        RunOptions(init, record["seed"], **handles)
        where = files.get("where", "alpha") if flag("where", record["where"]) else None
        return {"content": files["content"], "where": where, **arguments, **handles}


def _shape(described: Any) -> list[int]:
    sides = [at_least("shape", side, 1) for side in sequence("shape", described)]
    if len(sides) != 2 or math.prod(sides) > _MOST_PIXELS:
        raise ValueError(f"`shape` is {sides}; the height and width of a picture are needed.")
    return sides


def recorded_end(record: Mapping[str, Any]) -> list[Callback]:
    """Return what ends a run where the recorded one ended; nothing if that was not stopped.

    Args:
        record: What `read_record` returned.

    Raises:
        ValueError: The record is incomplete, or tells of more steps than were planned.
    """
    with usable(record):
        planned = at_least("num_steps", record["num_steps"], 1)
        done = at_least("steps_done", record["steps_done"], 0)
        reason = text("stop_reason", record["stop_reason"])
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
    for name, described in mapping("losses", record["losses"]).items():
        settings = dict(mapping(f"losses[{name!r}]", described))
        kind = settings.pop("type")
        if not isinstance(kind, str) or kind not in LOSSES:
            raise ValueError(
                f"it has the loss {name!r} of type {kind!r}, which is not nst's own. Pass "
                "losses={...} with all the losses of the run."
            )
        losses[name] = LOSSES[kind](**settings)
    if not any(loss.weight for loss in losses.values()):
        raise ValueError("`losses` has none that weighs more than 0; one must.")
    return losses


def _styles(record: Mapping[str, Any], files: Mapping[str, Path]) -> list[Style]:
    """Make the styles of a run again.

    Args:
        record: What `read_record` returned.
        files: What `find_files` returned.
    """
    styles: list[Style] = []
    regions: dict[int, Any] = {}
    for i, described in enumerate(sequence("styles", record["styles"])):
        name = f"style[{i}]"
        mapping(name, described)
        region = None
        if "region" in described:
            number = at_least(f"{name}.region", described["region"], 0)
            region = regions.setdefault(number, files.get(f"{name}.region", "alpha"))
        weight = described["weight"]
        if "captured" in described:
            styles.append(Style.load(files[name], weight=weight, region=region))
            continue
        masked = flag(f"{name}.mask", described.get("mask", False))
        mask = files.get(f"{name}.mask", "alpha") if masked else None
        scale, rotation = described.get("scale", 1.0), described.get("rotation", 0.0)
        styles.append(Style(files[name], weight, region, mask, scale, rotation))
    return as_styles(styles)
