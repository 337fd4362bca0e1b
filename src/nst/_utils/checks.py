"""Checks of arguments."""

import difflib
import importlib
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:", re.IGNORECASE)  # but no drive letter


def at_least(argument: str, value: Any, lowest: int = 1) -> int:
    """Return a whole number; raise for any other type, or a number below the lowest."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{argument}` is {value!r}; a whole number is needed.") from None
    if number < lowest:
        raise ValueError(f"`{argument}` is {number}; it must be at least {lowest}.")
    return number


def check_index(argument: str, value: Any, count: int) -> int:
    """Return the index of one of so many pictures, negative from the end; else raise."""
    index = at_least(argument, value, -sys.maxsize)
    if not -count <= index < count:
        raise IndexError(
            f"`{argument}` is {index}; it must be below {count}, the number of pictures."
        )
    return index


def check_seed(argument: str, value: Any) -> int:
    """Return a seed that every generator takes: a whole number from 0 to 2**64 - 1; else raise."""
    seed = at_least(argument, value, 0)
    if seed >= 2**64:
        raise ValueError(f"`{argument}` is {seed}; it must be below 2**64.")
    return seed


def number(argument: str, value: Any, noun: str = "a number") -> float:
    """Return a number of Python, NumPy or, with no axes, PyTorch; raise for any other type."""
    kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    is_array = hasattr(value, "__float__") and getattr(value, "shape", None) == ()
    if kind == "bool" or not (isinstance(value, Real) or is_array):
        raise TypeError(f"`{argument}` is {value!r}; {noun} is needed.")
    return float(value)


def non_negative(argument: str, value: Any, highest: float = math.inf) -> float:
    """Return a finite number; raise for any other type, or a number not in [0, highest]."""
    result = number(argument, value)
    if not (math.isfinite(result) and result >= 0):
        raise ValueError(f"`{argument}` is {value!r}; it must be finite and not negative.")
    if result > highest:
        raise ValueError(f"`{argument}` is {value!r}; it must be at most {highest!r}.")
    return result


def one_of(argument: str, value: T, choices: Iterable[T]) -> T:
    """Return a value if it is one of the choices; else raise."""
    known = list(choices)
    if value not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"`{argument}` is {value!r}; it must be one of {listed}.")
    return value


class Checked(Generic[T]):
    """An attribute that is checked whenever it is set; without a check, it can be set only once."""

    def __init__(self, check: Callable[[str, Any], T] | None = None) -> None:
        self._check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        if self._name in vars(instance):
            value: T = vars(instance)[self._name]
            return value
        raise AttributeError(f"`{self._name}` of a {type(instance).__name__} must be set first.")

    def __set__(self, instance: object, value: Any) -> None:
        if self._check is not None:
            value = self._check(self._name, value)
        elif self._name in vars(instance):
            what = f"`{self._name}` of a {type(instance).__name__} cannot be changed to {value!r}"
            raise AttributeError(f"{what}. Create another one.")
        vars(instance)[self._name] = value


def names_of(argument: str, value: Any) -> list[str]:
    """Return one name or several as a list; raise for anything else."""
    if not isinstance(value, Iterable):
        raise TypeError(f"`{argument}` is {value!r}; it must be a name or several, such as ['a'].")
    return [value] if isinstance(value, str) else list(value)


def known(what: str, name: str, names: Iterable[str], owner: str) -> None:
    """Raise for a name that its owner lacks, and suggest the most similar one."""
    if name not in names:
        guess = difflib.get_close_matches(str(name), names, n=1, cutoff=0)
        raise ValueError(f"{what} {name!r}, which {owner} lacks. Did you mean {guess[0]!r}?")


def required(module: str, what: str, extra: str, otherwise: str = "") -> Any:
    """Return the module of an extra; raise `ImportError` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{what}, which is not installed. Run `pip install 'nst[{extra}]'`{otherwise}."
        ) from error


def normalized_blend(blend: Sequence[float] | None, count: int) -> list[float]:
    """Return `count` weights with a sum of 1; None means equal ones."""
    if count == 0:
        raise ValueError("`references` is empty; at least one picture is needed.")
    weights = [1.0] * count if blend is None else [non_negative("blend", b) for b in blend]
    given = len(weights)
    if given != count:
        raise ValueError(f"`blend` has {given} weights for {count} references. Give one for each.")
    if not any(weights):
        raise ValueError("`blend` is all zero; at least one weight must be positive.")
    if math.isinf(sum(weights)):  # though each weight is finite
        weights = [weight / max(weights) for weight in weights]
    total = sum(weights)
    return [weight / total for weight in weights]


def file_path(argument: str, value: str | os.PathLike[str]) -> Path:
    """Return a path; raise if no file can have this name, or for a URL or an unexpanded `~`."""
    try:
        given = os.fsdecode(value)
    except TypeError:
        shown = repr(value) if len(repr(value)) <= 200 else f"of type {type(value).__name__}"
        raise TypeError(f"`{argument}` is {shown}; a path (str or PathLike) is needed.") from None
    path = Path(given)
    what = f"`{argument}` is {_shortened(given)!r}, which"
    if len(path.parts) > 1 and not os.path.lexists(path.parts[0]):
        if _URL.match(given):
            remedy = "Use a file of this machine; download an input first, e.g. with curl."
            raise FileNotFoundError(f"{what} is a URL. {remedy}")
        if path.parts[0].startswith("~"):
            remedy = "Write the whole path, or in Python Path(...).expanduser()."
            raise FileNotFoundError(
                f"{what} is a path with '~', which only the shell expands. {remedy}"
            )
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # checked by the caller
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{what} no file can be called ({reason}). Use another name.") from error
    return path


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:90]}...{text[-90:]}"


def floating_image(argument: str, image: Tensor, channels: int | None = None) -> None:
    """Raise unless an image is floating and (N, C, H, W) with no axis of 0; None allows any C."""
    floating(argument, image)
    shape, wanted = tuple(image.shape), channels or "C"
    if len(shape) != 4 or 0 in shape or channels not in (None, shape[1]):
        raise ValueError(
            f"`{argument}` has shape {shape}, but must be (N, {wanted}, H, W), none of them 0. "
            f"Add the batch axis with {argument}[None], or permute channels that come last."
        )


def floating(argument: str, values: Tensor) -> None:
    """Raise unless a value is a floating tensor."""
    if not isinstance(values, Tensor):
        raise TypeError(
            f"`{argument}` is of type {type(values).__name__}, but must be a tensor. Read pictures "
            "with nst.load_image."
        )
    if not values.is_floating_point():
        raise TypeError(
            f"`{argument}` has dtype {values.dtype}, but must be floating in [0, 1]. Divide by 255?"
        )


def value_range(what: str, values: Tensor, remedy: str) -> tuple[float, float]:
    """Return the lowest and the highest value; raise if any is NaN or infinite."""
    low, high = (float(bound) for bound in values.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        found = "NaN" if math.isnan(low) else "infinite values"  # `aminmax` returns NaN if any is
        raise ValueError(f"{what} has {found}. {remedy}")
    return low, high


def within_0_and_1(what: str, values: Tensor, source: torch.dtype | None = None) -> Tensor:
    """Return values in [0, 1]; clamp values that left it by rounding; raise for others.

    Rounding is half a step of 16 bits, or a step of the dtype `source` at 1.
    """
    low, high = value_range(what, values, "Replace them, e.g. with torch.nan_to_num.")
    if low >= 0 and high <= 1:
        return values
    excess, rounding = max(-low, high - 1), torch.finfo(source or values.dtype).eps
    if excess <= max(0.5 / 65535, rounding):
        return values.clamp(0, 1)
    remedy = "Call clamp(0, 1) if they only overshoot."
    if low < 0:
        remedy = "Undo a normalization if there was one. " + remedy
    elif high > 1.5:
        remedy = f"Divide by {255 if high <= 255 else 65535}?"
    raise ValueError(
        f"{what} has values from {low:g} to {high:g}, but floats must lie in [0, 1]. {remedy}"
    )
