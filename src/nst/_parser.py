"""The words of the command line: which commands and options there are, and how they are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nst._config import read_config
from nst._options import KNOWN_WORDS, add_options
from nst._style_spec import FORM

__all__ = ["BAD_INPUT", "Parser", "parse"]

BAD_INPUT = 2
"""The exit status when what was asked for cannot be done."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse prints the usage as well."""

    def error(self, message: str) -> NoReturn:
        """Leave with a message.

        Args:
            message: What is wrong.
        """
        line = " ".join(message.split())
        self.exit(BAD_INPUT, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line, with the options of the file that `--config` names before the others.

    Args:
        arguments: The words after the program's name.

    Returns:
        `command`, and what was said to it by the names of its options. Where there is a
        photograph it is `content`; the styles are `styles`, in whatever way they were given.

    Raises:
        SystemExit: After `--help` and `--version`, and after the message about a mistake.
        OSError: The file of options cannot be read.
        ValueError: It has something that is no option.
        ImportError: It cannot be read by this Python.
    """
    parser, commands = _parsers()
    name, *words = arguments or [""]
    if name not in commands:
        return parser.parse_args(arguments)  # does not return: it is --help or a mistake
    command = commands[name]
    # argparse can read options among the pictures, but not through the parser above a command.
    options = command.parse_intermixed_args(words)
    if options.config is not None:
        of_the_file = read_config(options.config, _known(command))
        if options.style or options.more_styles:
            of_the_file = [word for word in of_the_file if not word.startswith("--style=")]
        options = command.parse_intermixed_args([*of_the_file, *words])
    _complete(command, options)
    return options


def _known(command: Parser) -> dict[str, Sequence[str]]:
    """Return the options of a command, and what each knows in place of a path."""
    names = (name for action in command._actions for name in action.option_strings)
    known = {name[2:]: () for name in names if name.startswith("--")}
    return {name: tuple(KNOWN_WORDS.get(name, ())) for name in known if name != "config"}


def _complete(command: Parser, options: argparse.Namespace) -> None:
    """Bring to one form what can be said in two ways, and refuse a line where a part is missing."""
    if options.command not in ("stylize", "sheet"):
        return
    options.content = options.content or options.photograph
    options.styles = [*options.style, *options.more_styles]
    needed = {
        "CONTENT": options.content,
        "STYLE": options.styles,
        "-o/--output": options.output,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        command.error(f"the following arguments are required: {', '.join(missing)}")


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and those of the commands by name."""
    from nst import __version__

    parser = Parser(prog="nst", description="Repaint a photograph in the manner of a painting.")
    parser.add_argument("--version", action="version", version=f"nst {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_command in (
        _add_stylize,
        _add_sheet,
        _add_synthesize,
        _add_capture,
        _add_rerun,
        _add_demo,
    ):
        add_command(commands)
    for name, command in commands.choices.items():
        command.set_defaults(command=name)
    return parser, dict(commands.choices)


def _command(commands: Any, name: str, **texts: str) -> Any:
    """Add a command with the options that all have."""
    command = commands.add_parser(name, allow_abbrev=False, **texts)
    command.set_defaults(config=None, save_every=None)
    add_options(command)
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return command


def _add_stylize(commands: Any) -> None:
    add = _command(
        commands,
        "stylize",
        help="repaint a photograph of yours",
        description="Repaint CONTENT in the manner of STYLE; several styles are blended.",
    ).add_argument
    _add_pictures(add)
    add("--content", dest="photograph", help=argparse.SUPPRESS)  # for --config
    add("-o", "--output", metavar="OUT", help="the file to write")
    add("--config", metavar="FILE", help="a TOML file with options; those given here win")
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")


def _add_pictures(add: Callable[..., Any]) -> None:
    add("content", metavar="CONTENT", nargs="?", help="the photograph")
    add("style", metavar="STYLE", nargs="*", help="the painting, or several")
    add(
        "--style",
        dest="more_styles",
        metavar="STYLE",
        action="append",
        default=[],
        help=f"another one, as {FORM}; a style file of `nst capture` will do",
    )


def _add_sheet(commands: Any) -> None:
    command = _command(
        commands,
        "sheet",
        help="compare results in a contact sheet, over one or two options",
        description="Repaint CONTENT once for each value of an option, or of two.",
    )
    command.set_defaults(photograph=None)
    add = command.add_argument
    _add_pictures(add)
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add(
        "--vary",
        metavar="NAME=A,B,C",
        action="append",
        required=True,
        help="an option and its values (with ; between, if they hold commas); once for columns, "
        "or twice for rows and columns",
    )


def _add_synthesize(commands: Any) -> None:
    add = _command(
        commands,
        "synthesize",
        help="make a texture: a style with no photograph",
        description="Make a texture in the manner of STYLE.",
    ).add_argument
    add("styles", metavar="STYLE", nargs="+", help="the painting, or several")
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add("--height", type=int, help="in pixels (default: the style's proportions)")
    add("--width", type=int, help="in pixels (default: the style's proportions)")
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")


def _add_capture(commands: Any) -> None:
    add = _command(
        commands,
        "capture",
        help="keep a style in a file, without the painting",
        description="Keep the statistics of STYLE, for the losses and the network chosen here.",
    ).add_argument
    add("styles", metavar="STYLE", nargs=1, help=f"the painting, as {FORM}")
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add("--sizes", metavar="N,N", help="for pictures of which longer sides (default: --size's)")


def _add_rerun(commands: Any) -> None:
    parser = commands.add_parser(
        "rerun",
        allow_abbrev=False,
        help="make a picture again from the record in it",
        description="Make PICTURE again, from the record in it and the files it was made from.",
    )
    parser.set_defaults(config=None)
    add = parser.add_argument
    add("picture", metavar="PICTURE", help="as nst saved it")
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add(
        "--inputs",
        metavar="PATH",
        action="append",
        default=[],
        help="a folder to look into, or a file; may be given several times",
    )
    add("--weights", help="in place of those recorded")
    add("--quiet", action="store_true", help="print nothing but errors")


def _add_demo(commands: Any) -> None:
    demo = _command(
        commands,
        "demo",
        help="repaint a photograph that comes along, with no files of yours",
        description="Repaint a photograph of scikit-image in the manner of a picture that nst "
        "paints itself.",
    )
    add = demo.add_argument
    add("-o", "--output", metavar="OUT", default="nst-demo.png", help="the file to write")
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")
    # A small picture of a face: begun coarse for the strokes, with more weight on the content.
    demo.set_defaults(scales=2, content_weight=0.05)
