"""The rules that arguments have in common, each with its message."""

from __future__ import annotations

import difflib
import math
import operator
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["at_least", "file_path", "known_layers", "non_negative", "normalized_blend", "one_of"]

T = TypeVar("T")


def at_least(argument: str, value: Any, lowest: int) -> int:
    """Return a whole number that is not below the lowest allowed.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is too low.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{argument}` is {value!r}; a whole number is needed.") from None
    if isinstance(value, bool):
        raise TypeError(f"`{argument}` is {value!r}; a whole number is needed.")
    if number < lowest:
        raise ValueError(f"`{argument}` is {number}; it must be at least {lowest}.")
    return number


def file_path(argument: str, value: str | os.PathLike[str]) -> Path:
    """Return a path that a file could have, whether there is one or not.

    Raises:
        TypeError: It is no path.
        ValueError: No file can be called that: it is too long, has a zero character, or is a link
            that leads back to itself.
    """
    try:
        path = Path(os.fsdecode(value))
    except TypeError:
        raise TypeError(f"`{argument}` is {value!r}; a path (str or PathLike) is needed.") from None
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # what that means, the caller knows
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"`{argument}` is {_shortened(str(path))}, which no file can be called ({reason}). "
            "Use another name."
        ) from error
    return path


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:90]}...{text[-90:]}")


def known_layers(layers: Iterable[str], known: Sequence[str], network: str) -> None:
    """Raise for a layer that a network does not have, with the nearest name.

    Args:
        layers: Names of layers; `"image"` is always known.
        known: The network's.
        network: What it is called in the message.

    Raises:
        ValueError: There is no such layer.
    """
    for layer in layers:
        if layer not in known and layer != "image":
            guess = difflib.get_close_matches(str(layer), known, n=1, cutoff=0)
            raise ValueError(
                f"`layers` has {layer!r}, which {network} lacks. Did you mean {guess[0]!r}?"
            )


def non_negative(argument: str, value: Any, highest: float = math.inf) -> float:
    """Return a finite number that is not negative, nor above the highest allowed.

    Raises:
        TypeError: It is not a number.
        ValueError: It is negative, infinite or NaN, or too high.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{argument}` is {value!r}; a number is needed.")
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"`{argument}` is {value!r}; it must be finite and not negative.")
    if number > highest:
        raise ValueError(f"`{argument}` is {value!r}; it must be at most {highest!r}.")
    return number


def normalized_blend(blend: Sequence[float] | None, count: int) -> list[float]:
    """Return one weight for each reference, summing to one.

    Args:
        blend: Weights of any sum, or None for equal ones.
        count: How many references there are.

    Raises:
        ValueError: No references, a different number of weights, a negative or non-finite weight,
            or nothing but zeros.

    Examples:
        >>> normalized_blend([3, 1], 2)
        [0.75, 0.25]
    """
    if count == 0:
        raise ValueError("`references` is empty; at least one picture is needed.")
    weights = [1.0] * count if blend is None else [non_negative("blend", b) for b in blend]
    if len(weights) != count:
        raise ValueError(
            f"`blend` has {len(weights)} weights for {count} references. Give one for each."
        )
    total = sum(weights)
    if total <= 0:
        raise ValueError("`blend` is all zero; at least one weight must be positive.")
    if math.isinf(total):  # though no weight is
        weights = [weight / max(weights) for weight in weights]
        total = sum(weights)
    return [weight / total for weight in weights]


def one_of(argument: str, value: T, choices: Iterable[T]) -> T:
    """Return a value that is among the choices.

    Raises:
        ValueError: It is not.
    """
    known = list(choices)
    if value not in known:
        raise ValueError(
            f"`{argument}` is {value!r}; it must be one of {', '.join(map(repr, known))}."
        )
    return value
