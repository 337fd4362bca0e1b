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
