"""The options of the command line, and what they make of a preset."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from nst._engine.configuration import INITS
from nst.color import COLOR_METHODS
from nst.extractors.weights import NAMED_WEIGHTS
from nst.losses import LOSSES, Loss, TotalVariationLoss
from nst.presets import PRESETS, preset

__all__ = [
    "DEVICES",
    "KNOWN_WORDS",
    "add_init",
    "add_options",
    "loss_class",
    "recipe",
    "run_arguments",
    "tile_rows",
]

DEVICES = "auto, cpu, cuda, mps"
"""What can be said of a device, in a help text."""

_SIZE = 512  # as in StyleTransfer
_PRESETS = "(default: the preset's)"

KNOWN_WORDS: Mapping[str, Collection[str]] = {
    "init": INITS,
    "weights": ("auto", *NAMED_WEIGHTS),
    "where": ("alpha",),
}
"""What some options take in place of a path."""


def _losses(reference: str) -> dict[str, type[Loss]]:
    """Find the library's losses of a kind, by a short name: `GramStyleLoss` is `gram`."""
    found = {}
    for name, loss in LOSSES.items():
        if loss.reference == reference:
            words = re.sub("(Style)?Loss$", "", name)
            found[re.sub(r"(?<=[a-z])(?=[A-Z])", "-", words).lower()] = loss
    return found


STYLE_LOSSES, CONTENT_LOSSES = _losses("style"), _losses("content")
_KINDS = {"style": STYLE_LOSSES, "content": CONTENT_LOSSES}


def loss_class(reference: str, text: str) -> type[Loss]:
    """Find a loss by the library's short name, or by `MODULE:CLASS` of whoever wrote it.

    The module is looked for in the current folder, too.

    Args:
        reference: What the loss must compare with, `"style"` or `"content"`.
        text: As on the command line.

    Raises:
        argparse.ArgumentTypeError: There is none, or it is no such loss.
    """
    if text in _KINDS[reference]:
        return _KINDS[reference][text]
    module, separator, name = text.partition(":")
    if not separator:
        known = ", ".join(_KINDS[reference])
        raise argparse.ArgumentTypeError(f"{text!r} is no loss; use {known}, or MODULE:CLASS")
    found = getattr(_module_of_user(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Loss)):
        raise argparse.ArgumentTypeError(f"{text!r}: {module!r} has no nst.Loss {name!r}")
    if found.reference != reference:
        raise argparse.ArgumentTypeError(
            f"{text!r} compares with {found.reference!r}; set `reference = {reference!r}`"
        )
    return found


def _module_of_user(name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # it is the user's code, which may raise anything
        raise argparse.ArgumentTypeError(
            f"the module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(here)


def add_options(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """Add what can be said about a transfer and a run.

    Args:
        parser: Of a command.
        without: What the command would not heed, such as `"strength"`; it is refused on the
            command line, and as usual in what is parsed.
    """
    for title, add_group in (
        ("picture", _add_picture),
        ("losses", _add_losses),
        ("network and optimizer", _add_recipe),
    ):
        group = parser.add_argument_group(title)

        def add(
            option: str, group: argparse._ArgumentGroup = group, **about: Any
        ) -> argparse.Action | None:
            name = option.removeprefix("--")
            if name not in without:
                return group.add_argument(option, **about)
            usual = False if about.get("action") == "store_true" else about.get("default")
            parser.set_defaults(**{name.replace("-", "_"): usual})
            return None

        add_group(add)


def _add_picture(add: Callable[..., Any]) -> None:
    add("--size", type=int, metavar="N", help=f"the longer side, at most (default: {_SIZE})")
    add("--strength", type=float, default=1.0, metavar="X", help="0 is the photograph (default: 1)")
    add("--preserve-color", choices=list(COLOR_METHODS), help="keep the photograph's colors")
    add(
        "--color-when",
        choices=["before", "after", "both"],
        default="after",
        help="recolor the styles before, the result after (default), or both",
    )
    add("--where", metavar="MASK", help="repaint the white part only; a picture, or alpha")
    add_init(add, INITS, default="content")
    add("--seed", type=int, default=0, metavar="N", help="makes the noise (default: 0)")


def add_init(add: Callable[..., Any], names: Iterable[str], default: str) -> None:
    """Add what a picture starts as.

    Args:
        add: Adds an option.
        names: What it may be called.
        default: One of them.
    """
    known = f"{', '.join(names)}, or a picture (default: {default})"
    add("--init", default=default, metavar="START", help=known)


def _add_losses(add: Callable[..., Any]) -> None:
    add("--preset", choices=list(PRESETS), default="default", help="the recipe (default: default)")
    for reference in ("style", "content"):
        add(
            f"--{reference}-loss",
            type=partial(loss_class, reference),
            metavar="NAME",
            help=f"{', '.join(_KINDS[reference])}, or MODULE:CLASS for one of yours {_PRESETS}",
        )
    add("--style-weight", type=float, metavar="X", help=f"what the style counts for {_PRESETS}")
    add("--content-weight", type=float, metavar="X", help=f"how much of it stays {_PRESETS}")
    add("--style-layers", metavar="A,B", help=f"such as relu1_1,relu2_1 {_PRESETS}")
    add("--content-layers", metavar="A,B", help=f"such as relu4_2 {_PRESETS}")
    add("--tv", type=float, metavar="X", help="add total variation of this weight")


def _add_recipe(add: Callable[..., Any]) -> None:
    add(
        "--steps",
        type=int,
        metavar="N",
        help=f"optimizer steps over all scales {_PRESETS}",
    )
    add("--scales", type=int, metavar="N", help=f"how many scales, coarse to fine {_PRESETS}")
    add("--optimizer", choices=["lbfgs", "adam"], help=f"what lowers the losses {_PRESETS}")
    add("--average", type=float, metavar="DECAY", help="average the steps, e.g. 0.99 for adam")
    add("--normalize-gradients", action="store_true", help="weigh gradients, not losses; for adam")
    add(
        "--tile",
        type=tile_rows,
        default="auto",
        metavar="N",
        help="so many rows at a time; none is all, auto by the free memory (default: auto)",
    )
    add(
        "--weights",
        default="auto",
        metavar="FILE",
        help="auto, original, torchvision, or a VGG19 state dict (default: auto)",
    )
    add(
        "--pooling", choices=["max", "average"], default="max", help="of the network (default: max)"
    )
    add(
        "--padding",
        choices=["zeros", "replicate"],
        default="zeros",
        help="at the border (default: zeros)",
    )
    add(
        "--no-winograd",
        dest="winograd",
        action="store_false",
        help="let PyTorch compute every convolution",
    )
    add("--device", default="auto", metavar="NAME", help=f"{DEVICES} (default: auto)")


def tile_rows(text: str) -> int | str | None:
    """Read what `--tile` says.

    Args:
        text: As on the command line.

    Raises:
        argparse.ArgumentTypeError: It is neither a whole number nor a word that is known.
    """
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of rows; use a whole number, auto or none"
        ) from None


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `StyleTransfer` that a command line asks for, but the extractor."""
    made = preset(options.preset)
    asked = {
        "optimizer": options.optimizer,
        "num_steps": options.steps,
        "num_scales": options.scales,
        "average": options.average,
    }
    made.update({name: value for name, value in asked.items() if value is not None})
    made["normalize_gradients"] = options.normalize_gradients
    made["tile"] = options.tile
    losses = made["losses"]
    losses["content"] = _changed(
        losses["content"],
        options.content_loss,
        options.content_layers,
        options.content_weight,
    )
    losses["style"] = _changed(
        losses["style"],
        options.style_loss,
        options.style_layers,
        options.style_weight,
    )
    if options.tv is not None:
        losses["tv"] = TotalVariationLoss(weight=options.tv)
    size = _SIZE if options.size is None else options.size
    return {**made, "size": size, "device": options.device}


def run_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a command line asks of `StyleTransfer.run`, but the pictures."""
    names = ("strength", "preserve_color", "color_when", "where", "init", "seed")
    return {name: getattr(options, name) for name in names}


def _changed(loss: Loss, kind: type[Loss] | None, layers: str | None, weight: float | None) -> Loss:
    """Make a preset's loss again, of another kind, with other layers or another weight."""
    changes: dict[str, Any] = {}
    if layers is not None:
        changes["layers"] = [name.strip() for name in layers.split(",") if name.strip()]
    if weight is not None:
        changes["weight"] = weight
    if kind is None or kind is type(loss):
        return type(loss)(**{**loss.settings(), **changes})
    parameters = inspect.signature(kind).parameters
    if "layers" not in parameters and layers is not None:
        raise ValueError(
            f"`layers` cannot be chosen for {kind.__name__}, which sees the picture. Leave them "
            "out."
        )
    if "layers" in parameters and parameters["layers"].default is inspect.Parameter.empty:
        changes.setdefault("layers", loss.settings()["layers"])
    return kind(**{"weight": loss.weight, **changes})
