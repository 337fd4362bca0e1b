"""Describe a run in JSON-ready values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import nn

from nst._engine.inputs import RunInputs
from nst._utils.plain import json_ready
from nst._utils.version import __version__
from nst.extractors.base import Extractor
from nst.losses.base import Loss
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style

logger = logging.getLogger("nst")


def describe_run(inputs: RunInputs) -> dict[str, Any]:
    """Return the settings of a run, before the first step."""
    configuration, options = inputs.configuration, inputs.options
    optimizer: Any = configuration.optimizer
    name = optimizer if isinstance(optimizer, str) else getattr(optimizer, "__qualname__", "custom")
    settings = {
        "nst": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "task": "run" if "content" in inputs.identities else "synthesize",
        "inputs": inputs.identities,
        "shape": inputs.shape,
        "extractor": _describe(configuration.extractor, configuration.network),
        "network": configuration.network.fingerprint(),
        "losses": {name: _describe(loss, loss) for name, loss in configuration.losses.items()},
        "styles": describe_styles(inputs.styles, [members for _, members in inputs.regions]),
        "optimizer": name,
        "size": configuration.size,
        "upscale": configuration.upscale,
        "num_steps": configuration.num_steps,
        "steps_done": 0,
        "stop_reason": None,
        "num_scales": configuration.num_scales,
        "average": configuration.average,
        "normalize_gradients": configuration.normalize_gradients,
        "tile": inputs.tile,
        "strength": options.strength,
        "preserve_color": options.preserve_color,
        "color_when": options.color_when,
        "where": options.where is not None,
        "init": options.init if options.init_picture is None else "picture",
        "seed": options.seed,
        "device": str(configuration.device),
        "num_threads": torch.get_num_threads(),
    }
    ready: dict[str, Any] = json_ready(settings)
    return ready


def describe_styles(
    styles: Sequence[Style], regions: Sequence[Sequence[int]] = ()
) -> list[dict[str, Any]]:
    """Return the styles' weights, numbers of their regions, and what differs from the defaults.

    `regions` are the indices of the styles of each region.
    """
    masked = [each for each in regions if any(styles[i].region is not None for i in each)]
    numbers = {i: number for number, members in enumerate(masked) for i in members}
    described = []
    for i, style in enumerate(styles):
        settings = {
            "weight": style.weight,
            "region": None if style.region is None else numbers.get(i),
            "captured": style.image.sizes if isinstance(style.image, StyleStatistics) else None,
            "mask": None if style.mask is None else True,
            "scale": None if style.scale == 1 else style.scale,
            "rotation": None if style.rotation == 0 else style.rotation,
        }
        described.append({name: each for name, each in settings.items() if each is not None})
    return described


def _describe(part: nn.Module, described: Loss | Extractor) -> dict[str, Any]:
    """Return a part's type and the arguments that would create it again, if known."""
    try:
        return {**described.settings(), "type": type(part).__name__}
    except Exception:  # a custom part may raise anything, and the picture matters more
        logger.exception("%s.settings failed, so they are not recorded", type(part).__name__)
        return {"type": type(part).__name__}
