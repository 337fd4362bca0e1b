"""Everything that a run was told, JSON-ready: the settings of its result."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

from nst._engine.config import Recipe
from nst._engine.inputs import Job
from nst._utils.hashing import fingerprint, hash_array, hash_file, hash_tensor
from nst._utils.json import json_ready
from nst._utils.version import __version__
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.vgg import FeatureExtractor
from nst.images import ImageLike
from nst.losses import Loss
from nst.optim.by_name import OptimizerLike
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style

__all__ = ["describe_inputs", "describe_styles", "settings_of"]

logger = logging.getLogger("nst")


def settings_of(job: Job, recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a run.

    Args:
        job: The run, which is over.
        recipe: What all runs of its transfer have in common.
    """
    handles = job.handles
    settings = {
        "nst": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "task": "run" if "content" in job.inputs else "synthesize",
        "inputs": job.inputs,
        "shape": list(job.shape),
        "extractor": _describe(recipe.extractor),
        "network": fingerprint(recipe.extractor),
        "losses": {name: _describe(loss) for name, loss in job.losses.items()},
        "styles": describe_styles(job.styles),
        "optimizer": _optimizer_name(recipe.optimizer),
        "size": recipe.size,
        "num_steps": recipe.num_steps,
        "steps_done": job.state.step,
        "stop_reason": job.state.stop_reason,
        "num_scales": recipe.num_scales,
        "average": recipe.average,
        "normalize_gradients": recipe.normalize_gradients,
        "tile": job.tile,
        "strength": handles.strength,
        "preserve_color": handles.preserve_color,
        "color_when": handles.color_when,
        "where": handles.where is not None,
        "init": "picture" if handles.pictures["init"] is not None else handles.init,
        "seed": handles.seed,
        "device": str(recipe.device),
        "num_threads": torch.get_num_threads(),
    }
    ready: dict[str, Any] = json_ready(settings)
    return ready


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
        name: _describe_input(source)
        for name, source in given.items()
        if source is not None and not (isinstance(source, str) and source == "alpha")
    }


def _describe_input(source: Any) -> dict[str, str | None]:
    if isinstance(source, (str, os.PathLike)):
        return {"name": Path(os.fsdecode(source)).name, "sha256": hash_file(source)}
    if isinstance(source, StyleStatistics):
        return {"name": source.file_name, "sha256": source.file_hash}
    if isinstance(source, torch.Tensor):
        return {"name": None, "sha256": hash_tensor(source)}
    return {"name": None, "sha256": hash_array(np.array(source))}


def describe_styles(styles: Sequence[Style]) -> list[dict[str, Any]]:
    """Return what a record tells of styles beside their pictures.

    Args:
        styles: Of one run.
    """
    return [_describe_style(style, styles) for style in styles]


def _describe_style(style: Style, styles: Sequence[Style]) -> dict[str, Any]:
    """Return what is not as usual about a style, and its weight; regions are numbered."""
    described: dict[str, Any] = {"weight": style.weight}
    if style.region is not None:
        keys = list(dict.fromkeys(each.region_key for each in styles if each.region is not None))
        described["region"] = keys.index(style.region_key)
    if isinstance(style.image, StyleStatistics):
        described["captured"] = style.image.sizes
    if style.mask is not None:
        described["mask"] = True
    if style.scale != 1:
        described["scale"] = style.scale
    if style.rotation != 0:
        described["rotation"] = style.rotation
    return described


def _optimizer_name(optimizer: OptimizerLike) -> str:
    return optimizer if isinstance(optimizer, str) else getattr(optimizer, "__qualname__", "custom")


def _describe(part: nn.Module) -> dict[str, Any]:
    """Return a part's name and the arguments that would make it again, as far as it tells them."""
    try:
        settings = (
            part.settings()
            if isinstance(part, (Loss, BackboneExtractor, FeatureExtractor))
            else {"repr": part.extra_repr()}
        )
        return {**settings, "type": type(part).__name__}
    except Exception:  # a part of the user's may raise anything, and the picture is done
        logger.exception("%s.settings failed, so they are not recorded", type(part).__name__)
        return {"type": type(part).__name__}
