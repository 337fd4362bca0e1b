"""The library's own losses by the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping

from nst.losses import content, gram, matching
from nst.losses.kinds import Loss

__all__ = ["LOSSES"]

LOSSES: Mapping[str, type[Loss]] = {
    name: getattr(module, name)
    for module in (content, gram, matching)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}
"""Every loss that can be made by its name alone."""
