"""Named presets: arguments of `StyleTransfer` that belong together."""

from collections.abc import Mapping
from typing import Any

from nst._utils.checks import one_of
from nst.losses import default_losses
from nst.losses.content import ContentLoss
from nst.losses.statistics import GramStyleLoss, WassersteinStyleLoss

PRESETS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]] | None] = {
    "default": ({}, {}),
    "strokes": ({"style": WassersteinStyleLoss, "motifs": 0.0}, {}),
    "motifs": ({"motifs": 1.0}, {"num_steps": 80}),
    "faithful": ({"motifs": 0.0, "content_weight": 0.1}, {}),
    "gatys": None,  # as published
}
"""Arguments of `default_losses` and of `StyleTransfer`, by preset."""


def _gatys() -> dict[str, Any]:
    """Return the recipe of Gatys et al. (2016), with the weights of the authors' own code.

    The weights are for the original network, whose features have the scale of pixels in 0-255. The
    paper used L-BFGS, mostly from noise, and average pooling; later code, Adam from the content.
    """
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
    layers = {name: 1e3 / count**2 for name, count in channels.items()}
    return {
        "losses": {
            "content": ContentLoss(units="mean"),
            "style": GramStyleLoss(layers, units="mean"),
        },
        "optimizer": "adam",
        "num_steps": 500,
        "num_scales": 1,
    }


def preset(name: str, motifs: float | None = None) -> dict[str, Any]:
    """Return the arguments of a preset; `motifs` as in `StyleTransfer.from_preset`."""
    recipe = PRESETS[one_of("preset", name, PRESETS)]
    if recipe is not None:
        changes, others = recipe
        motif = {} if motifs is None else {"motifs": motifs}
        return {"losses": default_losses(**{**changes, **motif}), **others}
    if motifs is not None:
        raise ValueError(
            f"`motifs` is {motifs!r}, but the preset {name!r} has the weights of its paper. Leave "
            "it out, or use another preset."
        )
    return _gatys()
