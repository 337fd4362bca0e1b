"""Losses by name: those of the library, and those of a user's module."""

import importlib
import re
import sys
from argparse import ArgumentTypeError, Namespace, _ActionsContainer
from collections.abc import Collection
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from nst.losses import LOSSES
from nst.losses.base import Loss
from nst.losses.content import TotalVariationLoss
from nst.losses.statistics import STYLE_LAYERS
from nst.presets import PRESETS

LOSSES_BY_REFERENCE: dict[str, dict[str, type[Loss]]] = {"style": {}, "content": {}}
"""Short name to loss, for `"style"` and for `"content"`: `gram` is `GramStyleLoss`."""
for _name, _loss in LOSSES.items():
    if _loss.reference in LOSSES_BY_REFERENCE:
        _words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", re.sub("(Style)?Loss$", "", _name))
        LOSSES_BY_REFERENCE[_loss.reference][_words.lower()] = _loss


def add_losses(parser: _ActionsContainer, references: list[str], without: Collection[str]) -> None:
    """Add the options that choose and change the losses of these references."""
    add, presets = parser.add_argument, list(PRESETS)
    add("--preset", choices=presets, default="default", help="named recipe (default: default)")
    if "style" in references:
        about = "weight of the painting's motifs, 0 to 1 (default: the preset's)"
        add("--motifs", type=float, metavar="X", help=about)
    for each in references:
        names, default = ", ".join(LOSSES_BY_REFERENCE[each]), "(default: the preset's)"
        about = f"{names}, or MODULE:CLASS for your own {default}"
        add(f"--{each}-loss", type=partial(_loss_class, each), metavar="NAME", help=about)
        about = f"layers of the {each} loss, A,B or A:0.2,B:0.8 {default}"
        add(f"--{each}-layers", metavar="A,B", help=about)
    if "tv" not in without:
        add(
            "--tv",
            type=float,
            metavar="X",
            help="weight of an added total variation loss, at least 0",
        )


def change_losses(losses: dict[str, Loss], options: Namespace) -> dict[str, Loss]:
    """Return a preset's losses with the kinds and layers of the options."""
    changed = dict(losses)
    for name in LOSSES_BY_REFERENCE:
        if not hasattr(options, f"{name}_loss"):  # of a command without a photograph
            del changed[name]
            continue
        parts = [getattr(options, f"{name}_{part}", None) for part in ("loss", "layers")]
        changed[name] = _change(losses[name], *parts)
    if getattr(options, "tv", None) is not None:
        changed["tv"] = TotalVariationLoss(weight=options.tv)
    return changed


def _change(loss: Loss, kind: type[Loss] | None, layers: str | None) -> Loss:
    kind = kind or type(loss)
    settings: dict[str, Any] = loss.settings() if kind is type(loss) else {"weight": loss.weight}
    parameters = signature(kind).parameters
    if layers is not None:
        settings["layers"] = _parse_layers(layers)
    elif "layers" in parameters and parameters["layers"].default in (Parameter.empty, STYLE_LAYERS):
        settings["layers"] = loss.settings()["layers"]
    if "layers" in settings and "layers" not in parameters:
        raise ValueError(
            f"`layers` cannot be chosen for {kind.__name__}, which compares pixels. Leave them out."
        )
    return kind(**settings)


def _parse_layers(text: str) -> list[str] | dict[str, float]:
    """Return the layers of `A,B`, or with their weights those of `A:0.2,B:0.8`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if ":" not in text:
        return names
    pairs = [name.rpartition(":") for name in names]
    try:
        return {name.strip(): float(weight) for name, _, weight in pairs}
    except ValueError:
        raise ValueError(
            f"`layers` is {text!r}; give every layer a weight, as in relu1_1:0.2,relu2_1:0.8, or "
            "none of them."
        ) from None


def _loss_class(reference: str, text: str) -> type[Loss]:
    """Find a loss by its short name, or by `MODULE:CLASS`; the module may be in this folder.

    The folder then stays at the end of `sys.path`, which worker processes inherit.
    """
    known = LOSSES_BY_REFERENCE[reference]
    if text in known:
        return known[text]
    module, separator, name = text.partition(":")
    if not separator:
        raise ArgumentTypeError(f"{text!r} is not a loss; use {', '.join(known)}, or MODULE:CLASS")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # the user's code may raise anything
        raise ArgumentTypeError(
            f"the module {module!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(here)
    file = getattr(sys.modules[module], "__file__", None)
    if here not in sys.path and file is not None and Path(here) in Path(file).parents:
        sys.path.append(here)
    if not (isinstance(found, type) and issubclass(found, Loss)):
        raise ArgumentTypeError(f"{text!r}: {module!r} has no nst.Loss {name!r}")
    if found.reference != reference:
        raise ArgumentTypeError(
            f"{text!r} compares with {found.reference!r}; set `reference = {reference!r}`"
        )
    return found
