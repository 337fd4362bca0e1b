"""The content of a checkpoint: the inputs and the state of a run, as plain values and tensors.

It holds everything that the run was given, pictures included. The targets of the losses are not in
it; they are captured again, bit-identically.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nst._engine.configuration import Configuration, RunOptions
from nst._engine.inputs import RunInputs
from nst._engine.reading import StyleSource
from nst._engine.run import Run
from nst._engine.scales import as_scales
from nst._record.describe import describe_run
from nst.callbacks.base import Callback
from nst.images import Picture, fit
from nst.styles.statistics import Entry, StyleStatistics
from nst.styles.style import Painting, Style

__all__ = ["generators_set", "restore_run", "take_snapshots"]

_DTYPES = {str(t): t for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}


def take_snapshots() -> Callable[[Run], dict[str, Any]]:
    """Return a function that returns the content of a checkpoint of one run.

    Its tensors are the run's own, not copies. The inputs are packed only once.
    """
    inputs: dict[str, Any] = {}

    def snapshot(run: Run) -> dict[str, Any]:
        if not inputs:
            inputs.update(_pack_inputs(run.inputs))
        return {
            "record": run.settings(),
            "inputs": inputs,
            "run": run.state_dict(),
            "generators": _generators(run.inputs.content.pixels.device),
        }

    return snapshot


def restore_run(
    snapshot: Mapping[str, Any],
    configuration: Configuration,
    callbacks: list[Callback],
    started: float,
) -> Run:
    """Return a run as it was at a checkpoint.

    Args:
        snapshot: The content of the checkpoint, its tensors on any device; they become the run's.
        configuration: Of the run.
        callbacks: Of the user.
        started: When the run was resumed, by `time.perf_counter`.

    Raises:
        Exception: The snapshot is damaged; of nearly any type.
    """
    device = torch.device(configuration.device)
    identities = snapshot["record"]["inputs"]
    inputs = _unpack_inputs(_moved(snapshot["inputs"], device), identities, configuration)
    run = Run(inputs, callbacks, describe_run(inputs), started)
    # An optimizer moves its state itself.
    pictures = [
        {**_moved({**each, "work": None}, device), "work": each["work"]}
        for each in snapshot["run"]["pictures"]
    ]
    others = {name: each for name, each in snapshot["run"].items() if name != "pictures"}
    run.load_state_dict({**_moved(others, device), "pictures": pictures})
    run.image()  # raises if there is none
    torch.Generator().set_state(snapshot["generators"]["cpu"])  # raises if it is not a state
    return run


def _pack_inputs(inputs: RunInputs) -> dict[str, Any]:
    options, content, regions = inputs.options, inputs.content, list(inputs.regions)
    return {
        "content": _compact(content.pixels),
        "alpha": _compact(content.alpha),
        "options": {
            "init": options.init if options.init_picture is None else None,
            "seed": options.seed,
            "strength": options.strength,
            "preserve_color": options.preserve_color,
            "color_when": options.color_when,
            "where": options.where is not None,
        },
        "styles": [
            {
                "weight": style.weight,
                "region": None if style.region is None else regions.index(style.region_key),
                "mask": style.mask is not None,
                "scale": style.scale,
                "rotation": style.rotation,
            }
            for style in inputs.styles
        ],
        "sources": [[_pack_source(each) for each in sources] for sources in inputs.sources],
        "regions": [[key is None, _compact(mask)] for key, mask in inputs.regions.items()],
        "where": _compact(inputs.where),
        "scales": [list(scale) for scale in inputs.scales],
        "start": None if _alike(inputs.start, content.pixels) else _compact(inputs.start),
    }


def _unpack_inputs(
    packed: Mapping[str, Any],
    identities: Mapping[str, Mapping[str, str | None]],
    configuration: Configuration,
) -> RunInputs:
    content = Picture(_needed(packed["content"]), _expanded(packed["alpha"]))
    # A mask has been read already; in options and styles, only its presence matters.
    mask = content.pixels.new_ones(1, 1, 1, 1)
    options = packed["options"]
    init = content.pixels if options["init"] is None else options["init"]
    where = mask if options["where"] else None
    places = [None if everywhere else mask.clone() for everywhere, _ in packed["regions"]]
    keys: list[Hashable] = [None if place is None else id(place) for place in places]
    sources = [[_unpack_source(each) for each in one] for one in packed["sources"]]
    scales = as_scales(packed["scales"])
    shape = fit(content.pixels.shape[-2:], scales[-1].size)
    return RunInputs(
        configuration=configuration,
        options=RunOptions(**{**options, "init": init, "where": where}),
        content=content,
        styles=[
            Style(
                source.pixels if isinstance(source, Painting) else source,
                style["weight"],
                None if style["region"] is None else places[style["region"]],
                mask if style["mask"] else None,
                style["scale"],
                style["rotation"],
            )
            for style, source in zip(packed["styles"], sources[0], strict=True)
        ],
        sources=sources,
        regions={
            key: _expanded(each) for key, (_, each) in zip(keys, packed["regions"], strict=True)
        },
        where=_expanded(packed["where"]),
        shape=shape,
        scales=scales,
        tile=configuration.tile_for(shape, content.pixels),
        start=content.pixels if packed["start"] is None else _needed(packed["start"]),
        identities=dict(identities),
    )


def _pack_source(source: StyleSource) -> dict[str, Any]:
    if isinstance(source, Painting):
        return {"painting": _compact(source.pixels), "mask": _compact(source.mask)}
    return {
        "network": source.network,
        "entries": [
            [dict(entry.loss), entry.size, dict(entry.statistics)] for entry in source.entries
        ],
        "color_mean": source.color_mean,
        "color_covariance": source.color_covariance,
    }


def _unpack_source(packed: Mapping[str, Any]) -> StyleSource:
    if "painting" in packed:
        return Painting(_needed(packed["painting"]), _expanded(packed["mask"]))
    return StyleStatistics(
        packed["network"],
        [Entry(loss, size, statistics) for loss, size, statistics in packed["entries"]],
        packed["color_mean"],
        packed["color_covariance"],
    )


def _compact(picture: Tensor | None) -> dict[str, Tensor | str] | None:
    """Return a picture as 8-bit numbers if they represent it exactly: a quarter of the size."""
    if picture is None:
        return None
    if bool(((picture >= 0) & (picture <= 1)).all()):
        levels = (picture * 255).round().to(torch.uint8)
        if _alike(_from_levels(levels, picture.dtype), picture):
            return {"levels": levels, "dtype": str(picture.dtype)}
    return {"pixels": picture}


def _expanded(compact: Mapping[str, Any] | None) -> Tensor | None:
    return None if compact is None else _needed(compact)


def _needed(compact: Mapping[str, Any]) -> Tensor:
    picture: Tensor = (
        compact["pixels"]
        if "pixels" in compact
        else _from_levels(compact["levels"], _DTYPES[compact["dtype"]])
    )
    if picture.ndim != 4 or not picture.is_floating_point():
        raise ValueError("a picture has another shape than it should")
    return picture


def _from_levels(levels: Tensor, dtype: torch.dtype) -> Tensor:
    return levels.to(dtype) / 255


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same values in the same order in memory."""
    return one.stride() == other.stride() and torch.equal(one, other)


def _moved(value: Any, device: torch.device) -> Any:
    """Return a value with all its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(each, device) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(each, device) for each in value)
    return value


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's global generators, which a custom loss may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@contextmanager
def generators_set(states: Mapping[str, Tensor], device: torch.device) -> Iterator[None]:
    """Set the states of torch's global generators within the block.

    Args:
        states: By the type of device.
        device: Of the run.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.set_rng_state(states["cpu"])
        if devices and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], device)
        yield
