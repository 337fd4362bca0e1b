"""The commands of the command line, each with the options that it heeds and no others."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from nst._engine.configuration import INITS
from nst._utils.version import __version__
from nst.cli.options import DEVICES, add_init, add_options, tile_rows
from nst.cli.style_spec import FORM

__all__ = ["BAD_INPUT", "CHECKPOINT_EVERY", "PORT", "Parser", "make_parsers"]

BAD_INPUT = 2
"""The exit status when what was asked for cannot be done."""
PORT = 8765
"""Of the page that shows a run, as in `LivePage`."""
CHECKPOINT_EVERY = 10
"""After how many steps a run is kept, as in `Checkpoint`."""

_OF_PHOTOGRAPHS = {
    "strength",
    "preserve-color",
    "color-when",
    "where",
    "content-loss",
    "content-weight",
    "content-layers",
}
"""Options that say nothing where there is no photograph."""
_OF_RUNS = {
    "init",
    "seed",
    "style-weight",
    "tv",
    "steps",
    "optimizer",
    "average",
    "normalize-gradients",
}
"""Options that say nothing where nothing is painted."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse prints the usage as well."""

    def error(self, message: str) -> NoReturn:
        """Leave with a message.

        Args:
            message: What is wrong.
        """
        line = " ".join(message.split())
        self.exit(BAD_INPUT, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def make_parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and those of the commands by name."""
    parser = Parser(prog="nst", description="Repaint a photograph in the manner of a painting.")
    parser.add_argument("--version", action="version", version=f"nst {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_command in (
        _add_stylize,
        _add_batch,
        _add_sheet,
        _add_synthesize,
        _add_capture,
        _add_rerun,
        _add_resume,
        _add_samples,
        _add_demo,
    ):
        add_command(commands)
    for name, command in commands.choices.items():
        command.set_defaults(command=name)
    return parser, dict(commands.choices)


def _add_stylize(commands: Any) -> None:
    command = commands.add_parser(
        "stylize",
        allow_abbrev=False,
        help="repaint a photograph of yours",
        description="Repaint CONTENT in the manner of STYLE; several styles are blended.",
        epilog=f"STYLE is {FORM}.",
    )
    add = command.add_argument
    _add_pictures(add)
    add("--content", dest="photograph", help=argparse.SUPPRESS)  # for --config
    _add_output(add, required=False)  # as --config may have it
    add("--config", metavar="FILE", help="a TOML file with options; those given here win")
    add("--estimate", action="store_true", help="say what it would take, and paint nothing")
    _add_checkpoint(add)
    _add_save_every(add)
    _add_page(add)
    _add_common(command)


def _add_batch(commands: Any) -> None:
    command = commands.add_parser(
        "batch",
        allow_abbrev=False,
        help="repaint all photographs of a folder",
        description="Repaint every picture of FOLDER in the manner of STYLE; several styles are "
        "blended. What is there already is left out, so that the same command goes on after an "
        "interruption.",
        epilog=f"STYLE is {FORM}.",
    )
    add = command.add_argument
    add("folder", metavar="FOLDER", help="where the photographs are; not those in its folders")
    _add_style(add)
    add("-o", "--output", metavar="OUT", required=True, help="the folder to write to")
    suffixes = ["png", "jpg", "webp", "tiff"]
    add("--format", choices=suffixes, default="png", help="of the files (default: png)")
    add("--overwrite", action="store_true", help="also repaint what is there already")
    crew = command.add_mutually_exclusive_group()
    crew.add_argument(
        "--workers", type=int, metavar="N", help="repaint N pictures at a time, in processes"
    )
    crew.add_argument("--dask", metavar="ADDRESS", help="use the Dask cluster of this scheduler")
    _add_common(command)


def _add_sheet(commands: Any) -> None:
    command = commands.add_parser(
        "sheet",
        allow_abbrev=False,
        help="compare results in a contact sheet, over one or two options",
        description="Repaint CONTENT once for each value of an option, or of two.",
        epilog=f"STYLE is {FORM}.",
    )
    command.set_defaults(photograph=None)
    add = command.add_argument
    _add_pictures(add)
    _add_output(add)
    add(
        "--vary",
        metavar="NAME=A,B,C",
        action="append",
        required=True,
        help="an option and its values (with ; between, if they hold commas); once for columns, "
        "or twice for rows and columns",
    )
    _add_common(command)


def _add_synthesize(commands: Any) -> None:
    command = commands.add_parser(
        "synthesize",
        allow_abbrev=False,
        help="make a texture: a style with no photograph",
        description="Make a texture in the manner of STYLE; several styles are blended.",
        epilog=f"STYLE is {FORM.replace('[@REGION]', '')}.",
    )
    add = command.add_argument
    add("styles", metavar="STYLE", nargs="+", help="the painting, or several")
    _add_output(add)
    add("--height", type=int, metavar="N", help="in pixels (default: the style's proportions)")
    add("--width", type=int, metavar="N", help="in pixels (default: the style's proportions)")
    _add_checkpoint(add)
    _add_save_every(add)
    _add_page(add)
    _add_common(command, without=_OF_PHOTOGRAPHS | {"init"})
    add_init(add, [name for name in INITS if name != "content"], default="pink-noise")


def _add_capture(commands: Any) -> None:
    command = commands.add_parser(
        "capture",
        allow_abbrev=False,
        help="keep a style in a file, without the painting",
        description="Keep the statistics of STYLE, for the losses and the network chosen here.",
        epilog=f"STYLE is {FORM.replace('[:WEIGHT][@REGION]', '')}.",
    )
    add = command.add_argument
    add("styles", metavar="STYLE", nargs=1, help="the painting")
    _add_output(add)
    add(
        "--sizes",
        type=_whole_numbers,
        metavar="N,N",
        help="for pictures of which longer sides (default: the scales of --size)",
    )
    _add_common(command, without=_OF_PHOTOGRAPHS | _OF_RUNS)


def _add_rerun(commands: Any) -> None:
    command = commands.add_parser(
        "rerun",
        allow_abbrev=False,
        help="make a picture again from the record in it",
        description="Make PICTURE again, from the record in it and the files it was made from.",
    )
    add = command.add_argument
    add("picture", metavar="PICTURE", help="as nst saved it")
    _add_output(add)
    add(
        "--inputs",
        metavar="PATH",
        action="append",
        default=[],
        help="a folder to look into, or a file; may be given several times",
    )
    _add_replacements(add)
    _add_quiet(add)


def _add_resume(commands: Any) -> None:
    command = commands.add_parser(
        "resume",
        allow_abbrev=False,
        help="go on with a run that was killed, from its checkpoint",
        description="Go on with the run that FILE keeps, as if it had never stopped; FILE is kept "
        "up to date.",
    )
    add = command.add_argument
    add("file", metavar="FILE", help="what --checkpoint wrote")
    _add_output(add)
    _add_replacements(add)
    _add_save_every(add)
    _add_page(add)
    _add_quiet(add)


def _add_samples(commands: Any) -> None:
    command = commands.add_parser(
        "samples",
        allow_abbrev=False,
        help="write pictures to begin with, if you have none at hand",
        description="Write photo.jpg, painting.jpg, other.jpg and mask.png into FOLDER: a "
        "photograph of scikit-image, two pictures that nst paints itself, and a mask.",
    )
    add = command.add_argument
    add("folder", metavar="FOLDER", nargs="?", default=".", help="where to (default: here)")
    _add_quiet(add)


def _add_demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="repaint a photograph that comes along, with no files of yours",
        description="Repaint a photograph of scikit-image in the manner of a picture that nst "
        "paints itself; in two scales and with a content weight of 0.05, if you do not say "
        "otherwise.",
    )
    add = command.add_argument
    add(
        "-o",
        "--output",
        metavar="OUT",
        default="nst-demo.png",
        help="the file to write (default: nst-demo.png)",
    )
    _add_save_every(add)
    _add_page(add)
    _add_common(command)
    # A small picture of a face: begun coarse for the strokes, with more weight on the content.
    command.set_defaults(scales=2, content_weight=0.05)


def _add_pictures(add: Callable[..., Any]) -> None:
    add("content", metavar="CONTENT", nargs="?", help="the photograph")
    add("style", metavar="STYLE", nargs="*", help="the painting, or several")
    _add_style(add)


def _add_style(add: Callable[..., Any]) -> None:
    add(
        "--style",
        dest="more_styles",
        metavar="STYLE",
        action="append",
        default=[],
        help="a painting, or a style file of `nst capture`; may be given several times",
    )


def _add_output(add: Callable[..., Any], *, required: bool = True) -> None:
    add("-o", "--output", metavar="OUT", required=required, help="the file to write")


def _add_checkpoint(add: Callable[..., Any]) -> None:
    add("--checkpoint", metavar="FILE", help="keep the run in FILE, for `nst resume`")
    about = f"keep it after every N steps (default: {CHECKPOINT_EVERY})"
    add("--checkpoint-every", type=int, metavar="N", help=about)


def _add_save_every(add: Callable[..., Any]) -> None:
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")


def _add_page(add: Callable[..., Any]) -> None:
    about = f"show the run in the browser, on this machine only (default: port {PORT})"
    add("--page", type=int, nargs="?", const=PORT, metavar="PORT", help=about)


def _add_replacements(add: Callable[..., Any]) -> None:
    """Add what a recorded run may be made with on another machine."""
    add("--weights", metavar="FILE", help="in place of those recorded")
    about = f"{DEVICES}, in place of the recorded one"
    add("--device", default=argparse.SUPPRESS, metavar="NAME", help=about)
    about = "so many rows at a time, auto or none, in place of what is recorded"
    add("--tile", type=tile_rows, default=argparse.SUPPRESS, metavar="N", help=about)


def _add_quiet(add: Callable[..., Any]) -> None:
    add("--quiet", action="store_true", help="print nothing but errors")


def _add_common(command: Parser, *, without: Collection[str] = ()) -> None:
    """Add what can be said about a transfer and a run, but for some of it."""
    _add_quiet(command.add_argument)
    add_options(command, without=without)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not made of whole numbers, such as 256,512"
        ) from None
