"""The options of the commands; most are derived from signatures and docstrings."""

import inspect
import re
from argparse import SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from functools import partial
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nst._engine.configuration import INITS
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.live_page import LivePage
from nst.cli.losses import LOSSES_BY_REFERENCE, add_losses
from nst.cli.parser import Parser
from nst.cli.styles import explain
from nst.color import COLOR_METHODS
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import NAMED_WEIGHTS
from nst.optim import OPTIMIZERS
from nst.presets import preset
from nst.result import StyleTransferResult
from nst.transfer import StyleTransfer

VGG19 = "vgg19"
"""Name of the network of `FeatureExtractor`."""
NETWORK = ("weights", "pooling", "padding", "winograd", "dtype")
"""Parameters of `FeatureExtractor` that are options."""
ENCODING = ("quality", "bit_depth")
"""Parameters of `StyleTransferResult.save` that not all formats support."""
SAVING = (*ENCODING, "record", "metadata")
"""Parameters of `StyleTransferResult.save` that are options."""
REPLACEABLE = ("tile", "device")
"""Parameters of `StyleTransfer` that may replace what is recorded, on another machine."""
PORT: int = inspect.signature(LivePage).parameters["port"].default
"""Default port of the page that shows a run."""
KNOWN_WORDS = {"init": INITS, "weights": ("auto", *NAMED_WEIGHTS), "where": ("alpha",)}
"""Words that an option accepts in place of a path."""

_FLAGS = {"num_steps": "--steps", "num_scales": "--scales", "winograd": "--no-winograd"}
_FLAGS["record"] = "--no-record"
_CHOICES = {"preserve_color": list(COLOR_METHODS), "optimizer": [*OPTIMIZERS]}
_METAVARS = {"where": "MASK", "init": "IMAGE", "weights": "FILE", "codec": "NAME"}
_HELP = {  # replaces docstrings that are about Python
    "content_weight": "weight of the content loss",
    "dtype": "type of the features; auto is that of the weights",
    "every": "use only every Nth frame",
    "metadata": "metadata of the photograph to store: default is resolution, artist, copyright "
    "and date; all is all of EXIF, the place included",
    "optimizer": "optimization method",
    "preserve_color": "method to preserve the photograph's colors",
    "record": "do not store the settings of the run in the picture",
    "style_weight": "weight of the style loss",
    "temporal_weight": "weight of the temporal loss",
    "weights": f"{', '.join(KNOWN_WORDS['weights'])}, or the file of a state dict",
    "where": "mask of what to repaint: white is repainted, black is unchanged, gray is blended; "
    "alpha uses the photograph's transparency (default: everything)",
    "winograd": "compute every convolution with PyTorch's own kernels",
}
_RANGES = {  # added to the description; with the default where the signature has None
    **dict.fromkeys(["size", "num_steps", "num_scales", "every"], ", at least 1"),
    **dict.fromkeys(
        ["content_weight", "style_weight", "strength", "seed", "start"], ", at least 0"
    ),
    "end": " (default: the end of the video)",
    "temporal_weight": ", at least 0 (default: 5)",
    "tile": ", at least 1",
    "rate": ", at least 1/600",
    "learning_rate": ", above 0 (default: 0.02)",
    "preserve_color": " (default: the style's colors)",
    "quality": " (default: 95)",
}


def given(options: Namespace, names: Collection[str]) -> dict[str, Any]:
    """Return the given ones of these options; derived options have no default."""
    return {name: getattr(options, name) for name in names if name in options}


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that are options: those that are keyword-only."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "callbacks"]


def add_options(
    parser: Parser,
    method: Callable[..., Any] = StyleTransfer.run,
    *,
    without: Collection[str] = (),
) -> None:
    """Add the options of a transfer and a method, `without` those that have no effect."""
    pictures = inspect.signature(method).parameters
    references = [name for name in LOSSES_BY_REFERENCE if name in pictures]
    others = {f"{name}_weight" for name in LOSSES_BY_REFERENCE if name not in references}
    names = [name for name in parameters_of(StyleTransfer) if name not in {*without, *others}]
    losses = preset("default")["losses"]
    values = {name: getattr(StyleTransfer, name) for name in preset("gatys") if name != "losses"}
    values |= {f"{name}_weight": loss.weight for name, loss in losses.items()}
    defaults = {name: f"{value}, or the preset's" for name, value in values.items()}
    add_losses(parser, references, without)
    add_parameters(parser, StyleTransfer, names, defaults)
    add_parameters(parser, method, parameters_of(method))
    about = "vgg19, or a network of torchvision, such as vgg16 or resnet50 (default: vgg19)"
    parser.add_argument("--network", metavar="NAME", default=VGG19, help=about)
    add_parameters(parser, FeatureExtractor, NETWORK)


def add_pictures(parser: Parser, name: str = "content", about: str = "photograph") -> None:
    """Add the photograph and the paintings; `require_pictures` checks that they are there."""
    parser.epilog = explain()
    parser.add_argument(name, metavar=name.upper(), nargs="?", help=about)
    parser.add_argument("style", metavar="STYLE", nargs="*", help="one painting or more")
    add_style(parser, dest="more_styles")


def require_pictures(
    options: Namespace, name: str = "content", *, needs_style: bool = True
) -> None:
    """Collect the styles from all options, and refuse a command without its pictures."""
    options.styles = [*options.style, *options.more_styles]
    needed = {name.upper(): getattr(options, name), "STYLE": options.styles or not needs_style}
    needed["-o/--output"] = options.output
    missing = [name for name, value in needed.items() if not value]
    if missing:
        options.parser.error(f"the following arguments are required: {', '.join(missing)}")
    if getattr(options, "estimate", False) and options.quiet:
        options.parser.error("`--quiet` would suppress the estimate; leave it out")


def add_config(parser: Parser) -> None:
    """Add a file of options, and the estimate."""
    about = "options in a TOML file; those of the command line take precedence"
    parser.add_argument("--config", metavar="FILE", help=about)
    about = "estimate time and memory, then exit"
    parser.add_argument("--estimate", action="store_true", help=about)


def add_style(parser: Parser, **settings: Any) -> None:
    """Add `--style`."""
    about = "a painting, or a style file; may be repeated"
    settings = {"default": [], "metavar": "STYLE", "help": about, **settings}
    parser.add_argument("--style", action="append", **settings)


def add_output(parser: Parser, *, of_run: bool = True, **settings: Any) -> None:
    """Add `--output`, and for the result of a run the options of the file."""
    settings = {"required": True, "metavar": "OUT", "help": "output file", **settings}
    parser.add_argument("-o", "--output", **settings)
    if of_run:
        add_parameters(parser, StyleTransferResult.save, SAVING)


def add_checkpoint(parser: Parser) -> None:
    """Add the options that make a run resumable."""
    every = inspect.signature(Checkpoint).parameters["every"].default
    parser.add_argument("--checkpoint", metavar="FILE", help="store the run in FILE for nst resume")
    about = f"write the checkpoint every N steps (default: {every})"
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help=about)


def require_checkpoint(options: Namespace) -> None:
    """Refuse `--checkpoint-every` without a checkpoint."""
    if options.checkpoint_every is not None and options.checkpoint is None:
        options.parser.error("`--checkpoint-every` has no effect without `--checkpoint`")


def add_watching(parser: Parser) -> None:
    """Add the options that show a run in progress."""
    about = "also save the picture every N steps, in OUT-steps/"
    parser.add_argument("--save-every", type=int, metavar="N", help=about)
    add_page(parser)


def add_page(parser: Parser) -> None:
    """Add the option that shows a run in the browser."""
    about = f"show the run in a browser on this machine (default: port {PORT})"
    parser.add_argument("--page", type=int, nargs="?", const=PORT, metavar="PORT", help=about)


def add_workers(parser: Parser) -> None:
    """Add the options that distribute pictures."""
    group = parser.group_of("--workers").add_mutually_exclusive_group()
    about = "stylize N pictures at a time, in worker processes"
    group.add_argument("--workers", type=int, metavar="N", help=about)
    group.add_argument("--dask", metavar="ADDRESS", help="use the Dask cluster of this scheduler")
    about = "stylize a picture at a time on each of these devices, such as cuda:0,cuda:1"
    group.add_argument("--devices", metavar="A,B", help=about)


def add_replacements(parser: Parser) -> None:
    """Add the options that replace recorded values."""
    parser.add_argument("--weights", metavar="FILE", help="weights (default: the recorded ones)")
    defaults = dict.fromkeys(REPLACEABLE, "the recorded one")
    add_parameters(parser, StyleTransfer, REPLACEABLE, defaults)


def add_parameters(
    parser: Parser,
    function: Callable[..., Any],
    names: Collection[str],
    defaults: Mapping[str, str] | None = None,
) -> None:
    """Add options for parameters; `defaults` describes those that differ from the signature's."""
    has_hints = is_dataclass(function) or not isinstance(function, type)
    hints = get_type_hints(function if has_hints else vars(function)["__init__"])
    descriptions = _descriptions(inspect.getdoc(function) or "")
    for name in names:
        default = inspect.signature(function).parameters[name].default
        text = _HELP.get(name) or descriptions.get(name, "")  # empty with `python -OO`
        about, colon, more = text.partition(":")
        text = f"{about}{_RANGES.get(name, '')}{colon}{more}"
        if name == "init":  # which `synthesize` describes by what `run` says
            words = [word for word in INITS if word != "content" or default == "content"]
            text = f"{', '.join(words)}, or an image to start from"
        shown = (defaults or {}).get(name) or default
        if isinstance(shown, float):
            shown = f"{shown:g}"
        if shown is not None and not isinstance(shown, bool) and "(default:" not in text:
            text = f"{text} (default: {shown})"
        flag, about = _FLAGS.get(name, f"--{name.replace('_', '-')}"), text.replace("%", "%%")
        chosen: dict[str, Any] = {"choices": _CHOICES[name]} if name in _CHOICES else {}
        kind = chosen or _kind(hints[name], default)
        if not kind.keys() & {"action", "choices", "metavar"}:
            kind["metavar"] = _METAVARS.get(name)
        parser.add_argument(flag, dest=name, default=SUPPRESS, help=about, **kind)


def _kind(hint: Any, default: Any) -> dict[str, Any]:
    """Return the arguments of `add_argument` for a type."""
    members = [hint] if get_origin(hint) is Literal else list(get_args(hint)) or [hint]
    words = [word for each in members if get_origin(each) is Literal for word in get_args(each)]
    if NoneType in members and default is not None:
        words.append("none")
    if bool in members:
        return {"action": "store_false" if default else "store_true"}
    if words and all(isinstance(word, int) for word in words):
        return {"type": int, "choices": words}
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
        raise ArgumentTypeError(
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
