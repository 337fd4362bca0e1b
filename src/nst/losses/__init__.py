"""Losses: functions of a picture's features that the loop minimizes."""

import inspect
from collections.abc import Mapping

from nst.losses import content, matching, statistics, temporal
from nst.losses.base import Loss

_MODULES = (content, matching, statistics, temporal)
_CLASSES = [pair for module in _MODULES for pair in inspect.getmembers(module, inspect.isclass)]
LOSSES: Mapping[str, type[Loss]] = {
    name: kind
    for name, kind in sorted(dict(_CLASSES).items())
    if issubclass(kind, Loss) and not inspect.isabstract(kind)
}
"""Loss classes by name, those that can be instantiated."""


def type_name(loss: Loss) -> str:
    """Return the name of a loss's class, as recorded: "custom ..." for a user's named as nst's."""
    kind = type(loss)
    is_ambiguous = LOSSES.get(kind.__name__, kind) is not kind
    return f"custom {kind.__name__}" if is_ambiguous else kind.__name__


def default_losses(
    style: type[statistics.UnitsLoss] = statistics.GramStyleLoss,
    *,
    content_weight: float = 0.01,
    **motifs: float,
) -> dict[str, Loss]:
    """Return the default losses, with another style loss, content weight or `motifs`."""
    return {
        "content": content.ContentLoss(weight=content_weight),
        "style": style(statistics.style_layers(**motifs)),
    }
