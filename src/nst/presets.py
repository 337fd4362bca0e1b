"""Named presets: arguments of `StyleTransfer` that belong together."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nst._utils.checks import one_of
from nst.losses.base import Loss
from nst.losses.content import CONTENT_LAYERS, ContentLoss
from nst.losses.statistics import GramStyleLoss, WassersteinStyleLoss, style_layers


def _recipe(style: Loss, content: float = 0.01, **others: Any) -> dict[str, Any]:
    return {"losses": {"content": ContentLoss(weight=content), "style": style}, **others}


def _gatys() -> dict[str, Any]:
    """Return the recipe of Gatys et al. (2016), with the weights of the authors' own code.

    The weights are for the original network, whose features have the scale of pixels in 0-255. The
    paper used L-BFGS, mostly from noise, and average pooling; later code, Adam from the content.
    """
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
    layers = {name: 1e3 / count**2 for name, count in channels.items()}
    return {
        "losses": {
            "content": ContentLoss(CONTENT_LAYERS, units="mean"),
            "style": GramStyleLoss(layers, units="mean"),
        },
        "optimizer": "adam",
        "num_steps": 500,
        "num_scales": 1,
    }


PRESETS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "default": lambda motifs=0.01: _recipe(GramStyleLoss(style_layers(motifs))),
    "strokes": lambda motifs=0.0: _recipe(WassersteinStyleLoss(style_layers(motifs))),
    "motifs": lambda motifs=1.0: _recipe(GramStyleLoss(style_layers(motifs)), num_steps=80),
    "faithful": lambda motifs=0.0: _recipe(GramStyleLoss(style_layers(motifs)), content=0.1),
    "gatys": _gatys,
}
"""Functions that return the arguments, with new losses at each call."""


def preset(name: str, motifs: float | None = None) -> dict[str, Any]:
    """Return the arguments of a preset; `motifs` as in `StyleTransfer.from_preset`."""
    make = PRESETS[one_of("preset", name, PRESETS)]
    if motifs is None:
        return make()
    if not inspect.signature(make).parameters:
        raise ValueError(
            f"`motifs` is {motifs!r}, but the preset {name!r} has the weights of its paper. Leave "
            "it out, or use another preset."
        )
    return make(motifs)
