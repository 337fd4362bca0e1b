"""Checks of losses that users define, and their copies for a run."""

from __future__ import annotations

import copy
from typing import Any

from nst._utils.checks import known, non_negative
from nst._utils.plain import hooks_of
from nst._utils.text import one_line
from nst.losses.base import Loss


def check_definition(name: str, loss: Loss) -> None:
    """Raise for a loss, called `name` in messages, with an incomplete class or wrong attributes."""
    what = f"`{name}` is a {type(loss).__name__}"
    if "_parameters" not in vars(loss):
        raise TypeError(f"{what}, whose __init__ must first call super().__init__().")
    if loss.reference not in (None, "content", "style"):
        raise ValueError(
            f"{what} with reference {loss.reference!r}; it must be 'content', 'style' or None."
        )
    non_negative(f"{name}.weight", loss.weight)
    for layer, weight in getattr(loss, "layer_weights", {}).items():
        known(f"`{name}.layer_weights` has", layer, loss.layers, f"its {type(loss).__name__}")
        non_negative(f"{name}.layer_weights[{layer!r}]", weight)
    if not all(isinstance(layer, str) for layer in loss.layers):
        raise ValueError(
            f"{what} with layers {loss.layers!r}; they must be names, such as ('relu4_2',)."
        )


def copied(name: str, loss: Loss) -> Loss:
    """Return a deep copy of a loss with the same hooks; raise if an attribute cannot be copied."""
    memo: dict[int, Any] = {id(hook): hook for hook in hooks_of(loss)}
    try:
        return copy.deepcopy(loss, memo)
    except Exception as error:  # classes decide how they are copied
        for attribute, value in vars(loss).items():
            try:
                copy.deepcopy(value)
            except Exception:
                raise TypeError(
                    f"`{name}` is a {type(loss).__name__} whose attribute {attribute!r} cannot be "
                    f"copied ({one_line(error)}). Call .detach() if it is a computed tensor, or "
                    "create it in `forward`."
                ) from error
        raise
