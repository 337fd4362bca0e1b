"""Named presets: arguments of `StyleTransfer` that belong together."""

from collections.abc import Mapping
from typing import Any

from nst._utils.checks import one_of
from nst.losses.content import CONTENT_LAYERS, ContentLoss
from nst.losses.statistics import GramStyleLoss, WassersteinStyleLoss, style_layers

PRESETS: Mapping[str, Mapping[str, Any] | None] = {
    "default": {},
    "strokes": {"style": WassersteinStyleLoss, "motifs": 0.0},
    "motifs": {"motifs": 1.0, "num_steps": 80},
    "faithful": {"motifs": 0.0, "content": 0.1},
    "gatys": None,  # as published
}
"""Changes to the defaults of `_recipe`, by preset."""


def _recipe(
    motifs: float = 0.01, content: float = 0.01, style: type[Any] = GramStyleLoss, **others: Any
) -> dict[str, Any]:
    content_loss, style_loss = ContentLoss(weight=content), style(style_layers(motifs))
    return {"losses": {"content": content_loss, "style": style_loss}, **others}


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


def preset(name: str, motifs: float | None = None) -> dict[str, Any]:
    """Return the arguments of a preset; `motifs` as in `StyleTransfer.from_preset`."""
    recipe = PRESETS[one_of("preset", name, PRESETS)]
    if recipe is not None:
        return _recipe(**recipe if motifs is None else {**recipe, "motifs": motifs})
    if motifs is not None:
        raise ValueError(
            f"`motifs` is {motifs!r}, but the preset {name!r} has the weights of its paper. Leave "
            "it out, or use another preset."
        )
    return _gatys()
