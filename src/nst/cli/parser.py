"""Reads a command line: its words, those of a file of options, and what contradicts itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nst.cli.commands import PORT, Parser, make_parsers
from nst.cli.config import read_config

__all__ = ["parse"]


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
    parser, commands = make_parsers()
    name, *words = arguments or [""]
    if name not in commands:
        return parser.parse_args(arguments)  # does not return: it is --help or a mistake
    command, words = commands[name], _with_port(_without_dashes(words))
    # argparse can read options among the pictures, but not through the parser above a command.
    options = command.parse_intermixed_args(words)
    if getattr(options, "config", None) is not None:
        of_the_file = read_config(options.config, _options_of(command))
        if options.style or options.more_styles:
            of_the_file = [word for word in of_the_file if not word.startswith("--style=")]
        options = command.parse_intermixed_args([*of_the_file, *words])
    _complete(command, options)
    return options


def _without_dashes(words: list[str]) -> list[str]:
    """Write files after `--` so that none is taken for an option; argparse would, among options."""
    if "--" not in words:
        return words
    end = words.index("--")
    return [*words[:end], *(f"./{w}" if w.startswith("-") else w for w in words[end + 1 :])]


def _with_port(words: list[str]) -> list[str]:
    """Write the usual port after a `--page` without one; argparse would try the next picture."""
    following = [*words[1:], ""]
    return [
        f"{word}={PORT}" if word == "--page" and not following[i].isdecimal() else word
        for i, word in enumerate(words)
    ]


def _options_of(command: Parser) -> dict[str, bool]:
    """Return the options that a file may have, and whether each takes a value."""
    return {
        name[2:]: action.nargs != 0
        for action in command._actions
        for name in action.option_strings
        if name.startswith("--") and name not in ("--config", "--help")
    }


def _complete(command: Parser, options: argparse.Namespace) -> None:
    """Bring to one form what can be said in two ways, and refuse a line that makes no sense."""
    if options.command in ("stylize", "sheet"):
        options.content = options.content or options.photograph
        options.styles = [*options.style, *options.more_styles]
        needed = {
            "CONTENT": options.content,
            "STYLE": options.styles or _varies_style(options),
            "-o/--output": options.output,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            command.error(f"the following arguments are required: {', '.join(missing)}")
    if options.command == "batch":
        options.styles = options.more_styles
        if not options.styles:
            command.error("the following arguments are required: --style")
    if options.command == "stylize" and options.estimate and options.quiet:
        command.error("`--quiet` leaves nothing of `--estimate`; leave it out")
    if getattr(options, "checkpoint_every", None) is not None and options.checkpoint is None:
        command.error("`--checkpoint-every` says nothing without `--checkpoint`; name a file")
    if options.command == "synthesize":
        if (options.height is None) != (options.width is None):
            command.error("`--height` and `--width` are needed both, or neither")
        if options.height is not None and options.size is not None:
            command.error("`--size` says nothing beside `--height` and `--width`; leave it out")
    if options.command == "capture" and options.sizes is not None:
        for name in ("size", "scales"):
            if getattr(options, name) is not None:
                command.error(f"`--{name}` says nothing beside `--sizes`; leave it out")


def _varies_style(options: argparse.Namespace) -> bool:
    return any(text.lstrip("-").startswith("style=") for text in getattr(options, "vary", []))
