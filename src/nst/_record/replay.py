"""Read the arguments of a run from its record."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import torch
from torch import nn

from nst._engine.configuration import INITS, RunOptions, take_weights
from nst._engine.run import describe_part
from nst._utils.checks import file_path, non_negative
from nst._utils.device import resolve_device
from nst._utils.plain import fingerprint, hash_file, json_ready
from nst._utils.schema import Rule, check, choice, whole
from nst._utils.text import logger
from nst.callbacks.base import Callback, RunState
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.base import Extractor
from nst.extractors.vgg import DtypeName, FeatureExtractor, Padding, Pooling
from nst.extractors.weights import NAMED_WEIGHTS, Channels
from nst.losses import LOSSES
from nst.losses.base import Loss
from nst.optim import optimizer_factory
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style, as_styles

_MOST_PIXELS = 178_956_970  # Pillow refuses to open larger pictures


def _extractor_type(name: str, value: Any) -> None:
    if value != FeatureExtractor.__name__:
        what = f"its network is of type {value!r}, which cannot be found by name"
        raise ValueError(f"{what}. Pass extractor=...")


def _shape(name: str, value: Any) -> None:
    check(value, [whole], name)
    if len(value) != 2 or math.prod(value) > _MOST_PIXELS:
        raise ValueError(f"`{name}` is {value!r}; it must be the height and width of a picture.")


_LOSSES: Rule = {"losses": {str: {"type": str}}}
_ARGUMENTS: Rule = {
    "optimizer": lambda name, value: optimizer_factory(value),
    "learning_rate": (None, float),
    "size": (None, whole),
    "upscale": bool,
    "num_steps": whole,
    "num_scales": ("auto", whole),
    "average": non_negative,
    "normalize_gradients": bool,
    "tile": (None, whole),
    "device": lambda name, value: resolve_device(value),
}
_EXTRACTOR: Rule = {
    "type": _extractor_type,
    "weights": str,
    "pooling": choice(get_args(Pooling)),
    "padding": choice(get_args(Padding)),
    "winograd": bool,
    "dtype?": choice(get_args(DtypeName)),
    "mean?": [float],
    "std?": [float],
    "channels?": choice(get_args(Channels)),
}
_BACKBONE: Rule = {"network": str, "weights": str, "dtype?": _EXTRACTOR["dtype?"]}
_INCIDENTAL = {"nst", "torch", "torchvision", "network", "tile", "device", "num_threads"}
_INCIDENTAL |= {"steps_done", "stop_reason"}
_index = partial(whole, lowest=0)
_STYLE: Rule = {"weight": float, "region?": _index, "mask?": bool}
_END: Rule = {"num_steps": whole, "steps_done": _index, "stop_reason": str}


@contextmanager
def _usable(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a copy of a record in JSON's types; errors in the block name the record."""
    try:
        yield json.loads(json.dumps(dict(record), allow_nan=False), parse_int=_integer)
    except KeyError as error:
        raise ValueError(f"`record` cannot be used: it lacks {error}.") from error
    except (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"`record` cannot be used: {error}") from error


def _integer(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**64:
        raise ValueError("it has a whole number of more than 64 bits.")
    return number


def recorded_arguments(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `StyleTransfer` without the extractor, some of them changed."""
    with _usable(record) as plain:
        arguments = dict(changes)
        if "losses" not in changes:
            check(plain, _LOSSES)
            losses = plain["losses"].items()
            arguments["losses"] = {name: _loss(name, **each) for name, each in losses}
            take_weights(arguments["losses"], arguments)
        rules = {name: rule for name, rule in _ARGUMENTS.items() if name not in changes}
        check(plain, rules)
        return {**arguments, **{name: plain[name] for name in rules}}


def _loss(name: str, /, type: str, **settings: Any) -> Loss:
    if type not in LOSSES:
        raise ValueError(
            f"it has the loss {name!r} of type {type!r}, which is not nst's own. Pass "
            "losses={...} with all the losses of the run."
        )
    return LOSSES[type](**settings)


def recorded_extractor(
    record: Mapping[str, Any], weights: str | os.PathLike[str] | None = None
) -> Extractor:
    """Return the network of a run; raise if its weights differ, unless others are passed."""
    with _usable(record) as plain:
        check(plain, {"extractor": {}, "network": (None, str)})
        if plain["network"] is None:
            raise ValueError(
                "its network had hooks, or a state that cannot be hashed. Pass the same as "
                "extractor=..."
            )
        make: Any = FeatureExtractor
        rule, named = _EXTRACTOR, [*NAMED_WEIGHTS]
        found = plain["extractor"]
        is_named = {"network", "weights"} <= found.keys()
        if found.get("type") == BackboneExtractor.__name__ and is_named:
            make, rule, named = BackboneExtractor.from_torchvision, _BACKBONE, ["torchvision"]
        check(plain, {"extractor": rule})
        names = {name.removesuffix("?") for name in rule} - {"type"}
        settings = {name: each for name, each in plain["extractor"].items() if name in names}
        if weights is not None:
            settings["weights"] = weights
        elif settings["weights"] not in named:
            raise ValueError(
                f"its network has the weights {settings['weights']!r}, which cannot be found by "
                "name. Pass extractor=..., or --weights on the command line."
            )
    network: Extractor = make(**settings)
    if weights is None and (difference := network_difference(record, network)):
        raise ValueError(
            f"`record` cannot be used: {difference} The weights {settings['weights']!r} are others "
            "here. Pass extractor=..., or --weights on the command line, to use other weights."
        )
    return network


def network_difference(record: Mapping[str, Any], network: nn.Module) -> str | None:
    """Return a sentence if a network is not the run's; None if it is, or if that is unknown."""
    found = fingerprint(network)
    recorded = record.get("network", found)
    if recorded == found:
        return None
    unknown = "unknown, as with hooks"
    recorded, found = (str(each)[:12] if each else unknown for each in (recorded, found))
    return f"The picture was made with the network {recorded}, but this one is {found}."


def run_difference(record: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the name of a setting that makes another picture; None if the runs are the same.

    Weights are ignored, as are settings that affect only speed, rounding or the end of a run.
    """
    for name in {**record, **other}:
        one, two = record.get(name), other.get(name)
        if name == "extractor":
            one, two = ({**dict(each or {}), "weights": None} for each in (one, two))
        if name not in _INCIDENTAL and one != two:
            return name
    return None


def check_same(record: Mapping[str, Any], network: nn.Module, losses: Mapping[str, Loss]) -> None:
    """Raise if a run cannot resume with these parts; log differences that may change bits."""
    message = "the run had %s %s before and has %s now, so the result may not be bit-identical"
    for name, now in (("torch", torch.__version__), ("num_threads", torch.get_num_threads())):
        if record.get(name) != now:
            logger.warning(message, name, record.get(name), now)
    if difference := network_difference(record, network):
        raise ValueError(f"`extractor` is not the run's; it must be the same. {difference}")
    with _usable(record) as plain:
        check(plain, _LOSSES)
    found = {name: json_ready(describe_part(loss, loss)) for name, loss in losses.items()}
    if found != (before := plain["losses"]):
        raise ValueError(f"`losses` is {found}, but the run's were {before}. Pass the same.")


def recorded_run(
    record: Mapping[str, Any], places: Iterable[str | os.PathLike[str]]
) -> dict[str, Any]:
    """Return the arguments of `run` or `synthesize`; `places` are files and folders to search."""
    with _usable(record) as plain:
        check(plain, {"inputs": {str: {"name": (None, str), "sha256": str, "color?": str}}})
        if plain.get("task") == "frame":
            raise ValueError(
                "`task` is 'frame': a frame of a video depends on the previous one. Use "
                "StyleTransfer.frames on the video."
            )
    paths = [file_path("inputs", place) for place in places]
    files: dict[str, Any] = {}
    for argument, source in plain["inputs"].items():
        path = _find(argument, source["name"], source["sha256"], paths)
        files[argument] = (path, source["color"]) if "color" in source else path
    with _usable(plain):
        check(plain, {"task": choice(["run", "synthesize"]), "where": bool, "styles": [_STYLE]})
        texture = plain["task"] == "synthesize"
        inits = [name for name in INITS if name != "content" or not texture]
        check(plain, {"init": choice(["picture", *inits])})
        options = {field.name: plain[field.name] for field in fields(RunOptions)}
        options["init"] = files["init"] if plain["init"] == "picture" else plain["init"]
        options["where"] = files.get("where", "alpha") if plain["where"] else None
        RunOptions(**options)  # raises for what a run refuses
        style = _styles(plain["styles"], files)
        if texture:
            check(plain, {"shape": _shape})
            options = {name: options[name] for name in ("init", "seed")}
            return {"style": style, "shape": plain["shape"], **options}
        return {"content": files["content"], "style": style, **options}


def _find(argument: str, name: str | None, sha256: str, places: Sequence[Path]) -> Path:
    """Return the path of a file with the recorded name and SHA-256."""
    if name is None:
        raise ValueError(
            f"`{argument}` of this run was in memory, not a file, so it cannot be found. Use "
            "StyleTransfer.from_record, and pass it to run."
        )
    names = dict.fromkeys([Path(name).name, PurePosixPath(name.replace("\\", "/")).name])
    *_, name = names  # on Linux, the first may have a backslash
    candidates = [place / each if place.is_dir() else place for each in names for place in places]
    # `Path.is_file` raises for a name that is too long.
    candidates = [p for p in candidates if p.name in names and os.path.isfile(p)]  # noqa: PTH113
    for path in candidates:
        if hash_file(path) == sha256:
            return path
    if candidates:
        raise ValueError(
            f"`{argument}` was {name!r}, but {str(candidates[0])!r} has another content (its "
            f"SHA-256 should be {sha256}). Put the original there."
        )
    raise FileNotFoundError(
        f"`{argument}` was {name!r}, which is not in {', '.join(repr(str(p)) for p in places)}. "
        "Pass its folder in `inputs`."
    )


def _styles(described: Iterable[Mapping[str, Any]], files: Mapping[str, Any]) -> list[Style]:
    styles, regions = list[Style](), dict[int, Any]()
    for i, each in enumerate(described):
        settings = {name: each[name] for name in ("weight", "scale", "rotation") if name in each}
        if "region" in each:
            region = files.get(f"style[{i}].region", "alpha")
            settings["region"] = regions.setdefault(each["region"], region)
        if each.get("mask"):
            settings["mask"] = files.get(f"style[{i}].mask", "alpha")
        path = files[f"style[{i}]"]
        image = StyleStatistics.load(path) if "captured" in each else path
        styles.append(Style(image, **settings))
    return as_styles(styles)


def recorded_end(record: Mapping[str, Any]) -> list[Callback]:
    """Return a callback that stops a run at the recorded step, if the run was stopped."""
    with _usable(record) as plain:
        check(plain, _END)
        planned, done, reason = (plain[name] for name in _END)
        if done > planned:
            raise ValueError(f"`steps_done` is {done}, but `num_steps` only {planned}.")
    if done == planned:
        return []
    if reason == "interrupted" or reason.startswith("failed: "):  # its last step was not scored
        message = "the run was interrupted or failed after step %d of %d, so the result may differ"
        logger.warning(message, done, planned)
    # Control characters could act on a terminal.
    return [StopAfter(done, "".join(c if c.isprintable() else " " for c in reason))]


class StopAfter(Callback):
    """Stops a run after a number of steps."""

    def __init__(self, num_steps: int, reason: str) -> None:
        self.num_steps, self.reason = num_steps, reason

    def on_step(self, state: RunState) -> None:
        if state.step >= self.num_steps:
            state.stop_reason = state.stop_reason or self.reason

    on_start = on_step  # a run may have been stopped before its first step
