"""What it takes to go on with a run from a step, as plain values and tensors; and back to the run.

It holds all that the run was given, its pictures included, so that nothing else need be found
again. The losses' targets are not in it: they are captured anew, to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst._engine.canvas import Canvas
from nst._engine.config import Handles, Recipe
from nst._engine.inputs import Job
from nst._engine.processes import Ranks
from nst._engine.reader import Material
from nst._engine.scales import Scale
from nst._engine.tiles import choose_tile
from nst._record.describe import settings_of
from nst._utils.checks import at_least
from nst.callbacks.base import Callback, RunState
from nst.images import Picture, fit
from nst.styles.statistics import Entry, StyleStatistics
from nst.styles.style import Painting, Style

__all__ = ["Resumption", "Snapshots", "generators_set", "restore"]

_DTYPES = {str(t): t for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}


class Snapshots:
    """Tells at any step what it takes to go on from there.

    Args:
        job: The run.
        recipe: What all runs of its transfer have in common.
        callbacks: Those that follow the run.
        start: When it began, by `time.perf_counter`.
        ranks: The processes that do it, which are called to help.
    """

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        callbacks: Sequence[Callback],
        start: float,
        ranks: Ranks,
    ) -> None:
        self._job, self._recipe, self._callbacks, self._start = job, recipe, callbacks, start
        self._ranks = ranks

    def __call__(self) -> dict[str, Any]:
        """Return the snapshot. Its tensors are the run's own, not copies."""
        state = self._job.state
        self._ranks.agree(None)
        return {
            **self._given,
            "record": {**self._record, "tile": self._job.tile, "steps_done": state.step},
            "step": state.step,
            "scale": state.scale,
            "plan": [list(scale) for scale in state.plan],
            "losses": dict(state.losses),
            "canvases": [canvas.state_dict() for canvas in self._job.canvases],
            "callbacks": [[type(each).__name__, each.state_dict()] for each in self._callbacks],
            "generators": _generators(self._recipe.device),
            "seconds": time.perf_counter() - self._start,
        }

    @cached_property
    def _record(self) -> dict[str, Any]:
        return settings_of(self._job, self._recipe)  # has the network's hash, which takes a while

    @cached_property
    def _given(self) -> dict[str, Any]:
        job, handles, regions = self._job, self._job.handles, list(self._job.regions)
        named = handles.pictures["init"] is None
        alpha, materials = job.photo.alpha, job.materials
        return {
            "photo": _compact(job.photo.pixels),
            "alpha": None if alpha is None else _compact(alpha),
            "where": None if job.where is None else _compact(job.where),
            "repaints_all": handles.where is None,
            "init": handles.init if named else None,
            "seed": handles.seed,
            "strength": handles.strength,
            "preserve_color": handles.preserve_color,
            "color_when": handles.color_when,
            "beginnings": [
                None if _alike(canvas.beginning, photo[None]) else _compact(canvas.beginning)
                for canvas, photo in zip(job.canvases, job.photo.pixels, strict=True)
            ],
            "materials": [[_pack_material(each) for each in palette] for palette in materials],
            "styles": [
                {
                    "weight": style.weight,
                    "region": None if style.region is None else regions.index(style.region_key),
                    "masked": style.mask is not None,
                    "scale": style.scale,
                    "rotation": style.rotation,
                }
                for style in job.styles
            ],
            "regions": [
                [key is None, None if mask is None else _compact(mask)]
                for key, mask in job.regions.items()
            ],
            "scales": [list(scale) for scale in job.scales],
        }


class Resumption(NamedTuple):
    """A run that goes on."""

    job: Job
    """As it was."""
    callbacks: list[tuple[str, dict[str, Any]]]
    """The type of each callback that followed it, and what that kept."""
    generators: Mapping[str, Tensor]
    """The states of torch's global generators, by the type of device."""
    seconds: float
    """How long it had taken."""


def restore(snapshot: Mapping[str, Any], recipe: Recipe) -> Resumption:
    """Make a run again as it was at a step.

    Args:
        snapshot: What `Snapshots` told, its tensors on any device; they become the run's own.
        recipe: Of the same transfer, or of one made again from the snapshot's record.

    Raises:
        Exception: It is no snapshot: of nearly any type.
    """
    # Optimizers see for themselves to where their state belongs.
    canvases = [{**each, "work": None} for each in snapshot["canvases"]]
    kept = _moved({**snapshot, "canvases": canvases, "generators": None}, recipe.device)
    photo = Picture(_expanded(kept["photo"]), _maybe_expanded(kept["alpha"]))
    job = _restored_job(kept, photo, recipe)
    works = [each["work"] for each in snapshot["canvases"]]
    job.canvases.extend(_restored_canvases(kept, works, job, recipe.average))
    job.state.image = torch.cat([canvas.pixels.detach() for canvas in job.canvases])
    if not job.state.scale < len(job.scales) == len(job.state.plan):
        raise ValueError("it is at a scale that there is not")
    job.best()  # raises if there is none
    torch.Generator().set_state(snapshot["generators"]["cpu"])  # raises if that is none
    callbacks = [(str(name), dict(own)) for name, own in kept["callbacks"]]
    return Resumption(job, callbacks, snapshot["generators"], float(kept["seconds"]))


def _restored_job(kept: Mapping[str, Any], photo: Picture, recipe: Recipe) -> Job:
    """Return what the run worked with, but for its canvases."""
    masks = [(everywhere, _maybe_expanded(mask)) for everywhere, mask in kept["regions"]]
    places = [None if everywhere else _placeholder(photo) for everywhere, _ in masks]
    keys: list[Hashable] = [None if place is None else id(place) for place in places]
    materials = [[_material(each) for each in palette] for palette in kept["materials"]]
    scales, plan = ([_scale(raw) for raw in kept[name]] for name in ("scales", "plan"))
    shape = fit(photo.pixels.shape[-2:], scales[-1].size)
    return Job(
        photo=photo,
        handles=_restored_handles(kept, photo),
        losses=recipe.losses,
        styles=[
            _restored_style(style, material, places, photo)
            for style, material in zip(kept["styles"], materials[0], strict=True)
        ],
        materials=materials,
        regions={key: mask for key, (_, mask) in zip(keys, masks, strict=True)},
        where=_maybe_expanded(kept["where"]),
        shape=shape,
        scales=scales,
        canvases=[],
        state=RunState(
            image=photo.pixels,
            num_steps=recipe.num_steps,
            num_scales=len(scales),
            step=at_least("step", kept["step"], 0),
            scale=at_least("scale", kept["scale"], 0),
            losses=kept["losses"],
            plan=tuple(plan),
        ),
        tile=choose_tile(recipe.tile, recipe.extractor, recipe.losses, shape, photo.pixels),
        inputs=dict(kept["record"]["inputs"]),
    )


def _restored_handles(kept: Mapping[str, Any], photo: Picture) -> Handles:
    return Handles(
        photo.pixels if kept["init"] is None else kept["init"],
        kept["seed"],
        kept["strength"],
        kept["preserve_color"],
        kept["color_when"],
        None if kept["repaints_all"] else _placeholder(photo),
    )


def _restored_style(
    style: Mapping[str, Any], material: Material, places: Sequence[Tensor | None], photo: Picture
) -> Style:
    return Style(
        material.pixels if isinstance(material, Painting) else material,
        style["weight"],
        None if style["region"] is None else places[style["region"]],
        _placeholder(photo) if style["masked"] else None,
        style["scale"],
        style["rotation"],
    )


def _restored_canvases(
    kept: Mapping[str, Any], works: Sequence[Any], job: Job, average: float
) -> Iterator[Canvas]:
    for picture, beginning, own, work in zip(
        job.photo.pixels, kept["beginnings"], kept["canvases"], works, strict=True
    ):
        start = picture[None].clone() if beginning is None else _expanded(beginning)
        canvas = Canvas(picture[None], start, where=job.where, average=average)
        canvas.load_state_dict({**own, "work": work})
        yield canvas


def _scale(raw: Sequence[Any]) -> Scale:
    size, num_steps = raw
    return Scale(at_least("size", size, 1), at_least("num_steps", num_steps, 0))


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's global generators, which a loss of the user's may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@contextmanager
def generators_set(states: Mapping[str, Tensor], device: torch.device) -> Iterator[None]:
    """Let torch's global generators go on from a state; afterwards they are as they were before.

    Args:
        states: By the type of device.
        device: What the run is on.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.set_rng_state(states["cpu"])
        if devices and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], device)
        yield


def _compact(picture: Tensor) -> dict[str, Tensor | str]:
    """Return a picture as 8-bit numbers, if that is what it came from: a quarter of the size."""
    if bool(((picture >= 0) & (picture <= 1)).all()):
        levels = (picture * 255).round().to(torch.uint8)
        if _alike(_from_levels(levels, picture.dtype), picture):
            return {"levels": levels, "dtype": str(picture.dtype)}
    return {"pixels": picture}


def _expanded(compact: Mapping[str, Any]) -> Tensor:
    picture: Tensor = (
        compact["pixels"]
        if "pixels" in compact
        else _from_levels(compact["levels"], _DTYPES[compact["dtype"]])
    )
    if picture.ndim != 4 or not picture.is_floating_point():
        raise ValueError("a picture has another shape than it should")
    return picture


def _maybe_expanded(compact: Mapping[str, Any] | None) -> Tensor | None:
    return None if compact is None else _expanded(compact)


def _from_levels(levels: Tensor, dtype: torch.dtype) -> Tensor:
    return levels.to(dtype) / 255


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values in the same order in memory."""
    return one.stride() == other.stride() and torch.equal(one, other)


def _placeholder(photo: Picture) -> Tensor:
    """Stand in for a mask that has been read already: that there was one is part of the record."""
    return photo.pixels.new_ones(1, 1, 1, 1)


def _pack_material(material: Material) -> dict[str, Any]:
    if isinstance(material, Painting):
        mask = None if material.mask is None else _compact(material.mask)
        return {"painting": _compact(material.pixels), "mask": mask}
    return {
        "network": material.network,
        "entries": [
            [dict(entry.loss), entry.size, dict(entry.statistics)] for entry in material.entries
        ],
        "color_mean": material.color_mean,
        "color_covariance": material.color_covariance,
    }


def _material(kept: Mapping[str, Any]) -> Material:
    if "painting" in kept:
        return Painting(_expanded(kept["painting"]), _maybe_expanded(kept["mask"]))
    return StyleStatistics(
        kept["network"],
        [Entry(loss, size, statistics) for loss, size, statistics in kept["entries"]],
        kept["color_mean"],
        kept["color_covariance"],
    )


def _moved(value: Any, device: torch.device) -> Any:
    """Return a value with all its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(each, device) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(each, device) for each in value)
    return value
