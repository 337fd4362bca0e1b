"""The content of a checkpoint: pictures and state of a run, without the targets of the losses."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nst._engine.configuration import Configuration, RunOptions, as_scales
from nst._engine.inputs import RunInputs
from nst._engine.reading import StyleSource
from nst._engine.run import Run
from nst._utils.device import generator_states
from nst.callbacks.base import Callback
from nst.images import Picture, fit
from nst.styles.statistics import Entry, StyleStatistics
from nst.styles.style import Painting, Style


def take_snapshot(run: Run) -> dict[str, Any]:
    """Return the content of a checkpoint, whose tensors are the run's own, not copies."""
    run.packed_inputs = run.packed_inputs or _pack_inputs(run.inputs)
    return {
        "record": run.settings(),
        "inputs": run.packed_inputs,
        "exif": (run.inputs.exif or b"").hex(),
        "run": run.state_dict(),
        "generators": {"scale": run.generators, "step": generator_states(run.device)},
    }


def restore_run(
    snapshot: Mapping[str, Any], transfer: Configuration, callbacks: list[Callback], started: float
) -> Run:
    """Return a run that owns a checkpoint's tensors; damage can raise nearly any error."""
    device, inputs = torch.device(transfer.device), _unpack_inputs(snapshot, transfer)
    run = Run(inputs, callbacks, started)
    pictures = snapshot["run"]["pictures"]
    without_work = [{**each, "work": None} for each in pictures]
    state = _moved({**snapshot["run"], "pictures": without_work}, device)
    for picture, each in zip(state["pictures"], pictures, strict=True):
        picture["work"] = each["work"]  # an optimizer moves its state itself
    run.load_state_dict(state)
    run.image()  # raises if there is none
    run.resumed_generators = dict(snapshot["generators"])
    for moment in ("scale", "step"):  # raises if they are not states
        torch.Generator("cpu").set_state(run.resumed_generators[moment]["cpu"])
    return run


def _pack_inputs(inputs: RunInputs) -> dict[str, Any]:
    options, content = inputs.options, inputs.content
    init = options.init if options.init_picture is None else None
    return {
        "content": _compact(content.pixels),
        "alpha": _compact(content.alpha),
        "options": {**vars(options), "init": init, "where": options.where is not None},
        "styles": [
            {
                **vars(style),
                "image": None,  # it is among the sources
                "region": style.region is not None,
                "mask": style.mask is not None,
            }
            for style in inputs.styles
        ],
        "sources": [[_pack_source(each) for each in sources] for sources in inputs.sources],
        "regions": [[_compact(mask), list(members)] for mask, members in inputs.regions],
        "where": _compact(inputs.where),
        "scales": [list(scale) for scale in inputs.scales],
        "start": None if _alike(inputs.start, content.pixels) else _compact(inputs.start),
    }


def _unpack_inputs(snapshot: Mapping[str, Any], configuration: Configuration) -> RunInputs:
    packed = _moved(snapshot["inputs"], torch.device(configuration.device))
    dtype = configuration.like.dtype
    content = Picture(_picture(packed["content"], dtype), _expanded(packed["alpha"], dtype))
    # In options and styles, only the presence of a mask matters.
    mask, options = content.pixels.new_ones(1, 1, 1, 1), packed["options"]
    init = content.pixels if options["init"] is None else options["init"]
    options = {**options, "init": init, "where": mask if options["where"] else None}
    sources = [[_unpack_source(each, dtype) for each in one] for one in packed["sources"]]
    scales = as_scales(packed["scales"])
    shape = fit(content.pixels.shape[-2:], scales[-1].size)
    styles = []
    for style, source in zip(packed["styles"], sources[0], strict=True):
        settings = dict(style)
        settings["image"] = source.pixels if isinstance(source, Painting) else source
        for name in ("region", "mask"):
            settings[name] = mask if style[name] else None
        styles.append(Style(**settings))
    if sorted(i for _, members in packed["regions"] for i in members) != [*range(len(styles))]:
        raise ValueError("its regions have other styles than its own")
    return RunInputs(
        configuration=configuration,
        options=RunOptions(**options),
        content=content,
        styles=styles,
        sources=sources,
        regions=[(_expanded(each, dtype), members) for each, members in packed["regions"]],
        where=_expanded(packed["where"], dtype),
        shape=shape,
        scales=scales,
        tile=configuration.tile_for(shape, content.pixels),
        start=_expanded(packed["start"], dtype, content.pixels),
        identities=dict(snapshot["record"]["inputs"]),
        exif=bytes.fromhex(snapshot["exif"]) or None,
    )


def _pack_source(source: StyleSource) -> dict[str, Any]:
    if isinstance(source, Painting):
        return {"painting": _compact(source.pixels), "mask": _compact(source.mask)}
    entries = [[dict(entry.loss), entry.size, dict(entry.statistics)] for entry in source.entries]
    return {**vars(source), "entries": entries}


def _unpack_source(packed: Mapping[str, Any], dtype: torch.dtype) -> StyleSource:
    if "painting" in packed:
        return Painting(_picture(packed["painting"], dtype), _expanded(packed["mask"], dtype))
    return StyleStatistics(**{**packed, "entries": [Entry(*each) for each in packed["entries"]]})


def _compact(picture: Tensor | None) -> Tensor | None:
    """Return a picture as 8-bit numbers, a quarter of the size, if they represent it exactly."""
    if picture is None:
        return None
    levels = (picture * 255).round().clamp(0, 255).to(torch.uint8)
    return levels if _alike(levels.to(picture.dtype) / 255, picture) else picture


def _picture(compact: Tensor, dtype: torch.dtype) -> Tensor:
    picture = compact.to(dtype) / 255 if compact.dtype == torch.uint8 else compact
    if picture.ndim != 4 or not picture.is_floating_point():
        raise ValueError("a picture has another shape than it should")
    return picture


def _expanded(compact: Tensor | None, dtype: torch.dtype, default: Any = None) -> Any:
    return default if compact is None else _picture(compact, dtype)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same values in the same order in memory."""
    return one.stride() == other.stride() and torch.equal(one, other)


def _moved(value: Any, device: torch.device) -> Any:
    """Return a value with all its tensors on a device that supports them."""
    if isinstance(value, Tensor):
        return value if (value.dtype, device.type) == (torch.float64, "mps") else value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(each, device) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(each, device) for each in value)
    return value
