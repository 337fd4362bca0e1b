"""What any record may hold: plain values within bounds, whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["flag", "mapping", "sequence", "text", "usable"]

_DEEPEST = 24


@contextmanager
def usable(record: Mapping[str, Any]) -> Iterator[None]:
    """Check a record as a whole, and say of whatever goes wrong with a part that the record does.

    Args:
        record: What `read_record` returned.

    Raises:
        ValueError: In place of any error that a value of another kind than expected may cause.
    """
    try:
        _check_values(record)
        yield
    except KeyError as error:
        raise ValueError(f"`record` cannot be used: it lacks {error}.") from error
    except (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"`record` cannot be used: {error}") from error


def _check_values(value: Any, depth: int = 0) -> None:
    """Raise for what no run has written, so that no rule needs to think of NaN or endless depth."""
    if depth > _DEEPEST:
        raise ValueError(f"it has parts within parts, more than {_DEEPEST} deep.")
    if isinstance(value, Mapping):
        for key, each in value.items():
            _check_values(text("a name", key), depth + 1)
            _check_values(each, depth + 1)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _check_values(each, depth + 1)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError("it has a whole number of more than 64 bits.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"it has the number {value}, which JSON cannot hold.")
    elif value is not None and not isinstance(value, str):
        raise TypeError(f"it has a {type(value).__name__}, which is nothing of JSON's.")


def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Return what has names and values; raise `TypeError` for anything else."""
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` is {value!r}; names with values are needed.")
    return value


def sequence(name: str, value: Any) -> list[Any]:
    """Return a list; raise `TypeError` for anything else."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"`{name}` is {value!r}; a list is needed.")
    return list(value)


def flag(name: str, value: Any) -> bool:
    """Return True or False; raise `TypeError` for anything else."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` is {value!r}; True or False is needed.")
    return value


def text(name: str, value: Any) -> str:
    """Return a text; raise `TypeError` for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"`{name}` is {value!r}; a text is needed.")
    return value
