"""Named presets: arguments of `StyleTransfer` that belong together."""

from collections.abc import Callable, Mapping
from typing import Any

from nst._engine.configuration import default_losses
from nst._utils.checks import one_of
from nst.losses.content import CONTENT_LAYERS, ContentLoss
from nst.losses.statistics import GramStyleLoss


def _gatys() -> dict[str, Any]:
    """Return the recipe of Gatys et al. (2016), with the weights of the authors' own code.

    The weights are for the original network, whose features have the scale of pixels in 0-255. The
    paper used L-BFGS, mostly from noise, and average pooling; later code, Adam from the content.
    """
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
    style_layers = {name: 1e3 / count**2 for name, count in channels.items()}
    return {
        "losses": {
            "content": ContentLoss(CONTENT_LAYERS, units="mean"),
            "style": GramStyleLoss(style_layers, units="mean"),
        },
        "optimizer": "adam",
        "num_steps": 500,
        "num_scales": 1,
    }


PRESETS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "default": lambda: {"losses": default_losses()},
    "gatys": _gatys,
}
"""Functions that return the arguments, with new losses at each call."""


def preset(name: str) -> dict[str, Any]:
    """Return the arguments of a preset; raise `ValueError` for an unknown name."""
    return PRESETS[one_of("preset", name, PRESETS)]()
