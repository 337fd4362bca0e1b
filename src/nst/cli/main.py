"""The command line: dispatch, errors and exit statuses."""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from textwrap import indent

from nst._utils.checks import at_least
from nst._utils.device import is_exhausted
from nst._utils.group import Group, ProcessLost, launched, process_group
from nst._utils.text import logger, one_line, printable, say, silence_dead_streams
from nst._utils.version import __version__
from nst.cli.arguments import PORT
from nst.cli.build import save_result
from nst.cli.commands import (
    batch,
    capture,
    demo,
    rerun,
    resume,
    samples,
    sheet,
    stylize,
    synthesize,
    video,
)
from nst.cli.config import read_config
from nst.cli.interrupt import signals_interrupt
from nst.cli.parser import BAD_INPUT, Parser, shtab
from nst.images.decode import MAX_PIXELS
from nst.result import StyleTransferResult

_DESCRIPTION = """\
Repaint a photograph in the style of a painting.

first steps:
  nst demo                                            stylize a sample photograph
  nst stylize photo.jpg painting.jpg -o stylized.png  stylize your photograph
  nst batch photos --style painting.jpg -o stylized   stylize a folder

`nst COMMAND --help` describes a command."""
_FAILED, _INTERRUPTED = 1, 130
_COMMANDS = (stylize, batch, video, sheet, synthesize, capture, rerun, resume, samples, demo)
_SINGLE = ("stylize", "synthesize", "rerun", "resume", "demo")  # commands that support torchrun


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the arguments of the process.

    Returns the exit status: 0 for success; 1 if pictures of a batch failed or another process of
    `torchrun` ended; 2 for bad input, with one line on standard error; 130 if Ctrl-C, SIGTERM or
    SIGHUP came before there was a picture to save. A closed stream does not change the status.
    """
    silence_dead_streams()
    before = list(sys.path)  # `MODULE:CLASS` may add a folder
    try:
        return _main(argv)
    finally:
        sys.path[:] = before
        silence_dead_streams()


def _main(argv: Sequence[str] | None) -> int:
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        with signals_interrupt():
            try:
                return _run_in_group(options) if launched() else _run(options)
            except Exception as error:  # save the picture before it
                result = getattr(error, "result", None)
                if isinstance(result, StyleTransferResult) and options.command in _SINGLE:
                    save_result(result, options)
                raise
    except (ValueError, TypeError, OSError, ImportError, MemoryError, RuntimeError) as error:
        is_expected = isinstance(error, ProcessLost) or is_exhausted(error)
        if isinstance(error, RuntimeError) and not is_expected:
            raise
        say(f"nst: error: {one_line(error)}", "stderr")
        return _FAILED if isinstance(error, ProcessLost) else BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run_in_group(options: Namespace) -> int:
    """Run a command in all processes of torchrun; only the first prints and writes."""
    if options.command not in _SINGLE:
        raise ValueError(
            f"`nst {options.command}` does not support torchrun, only {', '.join(_SINGLE)} do. "
            "Run it without torchrun, or use `nst batch --workers`."
        )
    if getattr(options, "estimate", False):
        raise ValueError(
            "`--estimate` does not support torchrun, whose processes would disturb each other. "
            "Run it without torchrun."
        )
    with process_group() as group:
        if group.rank > 0:
            vars(options).update(quiet=True, page=None)
        return _run(options)


class _Formatter(logging.Formatter):
    """Escapes control characters, also in tracebacks."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _run(options: Namespace) -> int:
    """Run a command, and print the library's warnings on standard error."""
    before = os.environ.get(MAX_PIXELS)
    if options.max_pixels is not None:  # for workers, too
        os.environ[MAX_PIXELS] = str(at_least("--max-pixels", options.max_pixels, 1))
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Formatter("nst: warning: %(message)s"))
    if Group.current().rank == 0:
        logger.addHandler(handler)
    try:
        return options.run(options) or 0
    finally:
        logger.removeHandler(handler)
        os.environ.pop(MAX_PIXELS, None)
        if before is not None:
            os.environ[MAX_PIXELS] = before


def parse(arguments: Sequence[str]) -> Namespace:
    """Parse a command line, and the file of `--config`, which its other options override."""
    parser, commands = _make_parsers()
    name, *words = arguments or [""]
    if name not in commands:
        return parser.parse_args(arguments)  # exits: --help, --version or an error
    command, words = commands[name], _protect(words)
    # Only a sub-parser itself can parse options among the pictures.
    options = command.parse_intermixed_args(words)
    if getattr(options, "config", None) is not None:
        flags = command._option_string_actions.items()
        takes_value = {flag[2:]: each.nargs != 0 for flag, each in flags if flag.startswith("--")}
        del takes_value["config"], takes_value["help"]
        configured = read_config(options.config, takes_value)
        ignored = ["--style="] if options.style or options.more_styles else []
        for group in command._mutually_exclusive_groups:
            actions = group._group_actions
            if any(getattr(options, each.dest) != each.default for each in actions):
                ignored += [f"{flag}=" for each in actions for flag in each.option_strings]
        configured = [word for word in configured if not word.startswith(tuple(ignored))]
        options = command.parse_intermixed_args([*configured, *words])
    if options.complete is not None:
        options.complete(options)
    return options


def _make_parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and those of the commands by name."""
    parser = Parser(prog="nst", usage="nst COMMAND ...", description=_DESCRIPTION)
    about = "show the version, then exit"
    parser.add_argument("--version", action="version", version=f"nst {__version__}", help=about)
    if shtab is not None:
        about = "print a script that completes commands and options in this shell"
        shtab.add_argument_to(parser, help=about)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="nst")
    for module in _COMMANDS:
        name = module.__name__.split(".")[-1]
        usage = f"nst {name} {module.USAGE} [options]".replace("  ", " ")
        command = commands.add_parser(
            name, usage=usage, help=module.HELP, description=module.DESCRIPTION
        )
        module.add_arguments(command)
        examples = "examples:\n" + indent(module.EXAMPLES, "  ")
        command.epilog = f"{command.epilog}\n\n{examples}" if command.epilog else examples
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
        about = f"largest picture to read, in pixels (default: ${MAX_PIXELS}, or 89 million)"
        command.add_argument("--max-pixels", type=int, metavar="N", help=about)
        complete = getattr(module, "complete", None)
        command.set_defaults(command=name, parser=command, run=module.run, complete=complete)
    return parser, dict(commands.choices)


def _protect(words: list[str]) -> list[str]:
    """Rewrite words that argparse misreads: files after `--`, and `--page` before a picture."""
    end = words.index("--") if "--" in words else len(words)
    files = [f"./{word}" if word.startswith("-") else word for word in words[end + 1 :]]
    words = words[:end]
    return [
        f"{word}={PORT}" if word == "--page" and not follower.isdecimal() else word
        for word, follower in zip(words, [*words, ""][1:], strict=True)
    ] + files
