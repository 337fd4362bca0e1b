"""Options derived from signatures: type, choices, default value, and help from the docstring."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from functools import partial
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nst._engine.configuration import INITS
from nst.color import COLOR_METHODS
from nst.extractors.weights import NAMED_WEIGHTS

KNOWN_WORDS: Mapping[str, Collection[str]] = {
    "init": INITS,
    "weights": ("auto", *NAMED_WEIGHTS),
    "where": ("alpha",),
}
"""Words that an option accepts in place of a path."""

_FLAGS = {"num_steps": "--steps", "num_scales": "--scales", "winograd": "--no-winograd"}
_CHOICES = {"preserve_color": list(COLOR_METHODS), "optimizer": ["lbfgs", "adam"]}
# In place of the docstring, where that is about Python.
_HELP = {
    "optimizer": "optimizer",
    "weights": f"{', '.join(KNOWN_WORDS['weights'])}, or the file of a VGG19 state dict",
    "winograd": "compute every convolution with PyTorch's own kernels",
}


def given(options: argparse.Namespace, names: Collection[str]) -> dict[str, Any]:
    """Return those of the named options that were given; derived options have no default."""
    return {name: getattr(options, name) for name in names if name in options}


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that are options: the keyword-only ones."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "callbacks"]


def add_parameters(
    container: argparse._ActionsContainer,
    function: Callable[..., Any],
    names: Collection[str],
    defaults: Mapping[str, str] | None = None,
) -> None:
    """Add an option for each of these parameters of a function or class.

    `defaults` describes default values that are not those of the signature.
    """
    has_hints = is_dataclass(function) or not isinstance(function, type)
    hints = get_type_hints(function if has_hints else vars(function)["__init__"])
    descriptions = _descriptions(inspect.getdoc(function) or "")
    for name in names:
        default = inspect.signature(function).parameters[name].default
        text = _HELP.get(name) or descriptions.get(name, "")  # empty with `python -OO`
        if name == "init":  # which `synthesize` describes by what `run` says
            words = [word for word in INITS if word != "content" or default == "content"]
            text = f"{', '.join(words)}, or an image to start from"
        shown = (defaults or {}).get(name) or default
        if isinstance(shown, float):
            shown = f"{shown:g}"
        if shown is not None and not isinstance(shown, bool):
            text = f"{text} (default: {shown})"
        container.add_argument(
            _FLAGS.get(name, f"--{name.replace('_', '-')}"),
            dest=name,
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            **({"choices": _CHOICES[name]} if name in _CHOICES else _kind(hints[name], default)),
        )


def _kind(hint: Any, default: Any) -> dict[str, Any]:
    """Return the arguments of `add_argument` for a type."""
    members = [hint] if get_origin(hint) is Literal else list(get_args(hint)) or [hint]
    words = [word for each in members if get_origin(each) is Literal for word in get_args(each)]
    if NoneType in members and default is not None:
        words.append("none")
    if bool in members:
        return {"action": "store_false" if default else "store_true"}
    if float in members:
        return {"type": float, "metavar": "X"}
    if int in members:
        metavar = "|".join(["N", *words])
        return {"type": partial(_whole_number_or, words) if words else int, "metavar": metavar}
    return {"choices": words} if words else {}


def _whole_number_or(words: list[str], text: str) -> int | str | None:
    if text in words:
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is invalid; use a whole number, or {' or '.join(words)}"
        ) from None


def _descriptions(docstring: str) -> dict[str, str]:
    r"""Return the first sentence of each entry in the `Args:` of a docstring, as help text.

    Examples:
        >>> _descriptions("Paint.\n\nArgs:\n    size: Longer side; at least 1. None is any.")
        {'size': 'longer side'}
    """
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", docstring + "\n", re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.M)
    found = {}
    for name, entry in entries:
        sentence = re.split(r"\.(?= [A-Z0-9`]|$)|;", " ".join(entry.split()))[0]
        text = re.sub(r"[`\"]|^Whether to ", "", sentence)
        found[name] = text if text[1].isupper() else text[0].lower() + text[1:]
    return found
