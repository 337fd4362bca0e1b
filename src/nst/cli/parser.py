"""The parser of the command line, which groups the options in the help."""

import importlib
from argparse import Action, ArgumentParser, HelpFormatter, _ArgumentGroup, _SubParsersAction
from textwrap import wrap
from typing import Any, NoReturn

from nst._utils.text import one_line

try:  # the extra `completion`
    shtab: Any = importlib.import_module("shtab")
except ImportError:
    shtab = None

BAD_INPUT = 2
"""Exit status for a request that cannot be fulfilled."""

# The options by group, in the order of every command's help.
_GROUPS = {
    "inputs": "style content config inputs vary max-pixels",
    "video": "start end every rate flow temporal-weight frame-steps",
    "picture size": "size upscale height width sizes",
    "style and content": "preset motifs strength content-weight style-weight content-loss "
    "style-loss content-layers style-layers tv preserve-color color-when where",
    "steps and speed": "steps scales optimizer learning-rate average normalize-gradients init seed "
    "tile device workers dask devices estimate",
    "network": "network weights pooling padding dtype no-winograd",
    "output": "output format overwrite quality bit-depth metadata no-record codec crf",
    "progress": "save-every checkpoint checkpoint-every page quiet",
    "other": "help version print-completion",
}
_PATHS = ("CONTENT", "STYLE", "VIDEO", "FOLDER", "PICTURE", "FILE", "MASK", "IMAGE", "PATH", "OUT")


class _Formatter(HelpFormatter):
    """Wraps paragraphs but not indented examples, and lists commands without a heading."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        lines = text.split("\n")
        return "\n".join(t if t.startswith(" ") else fill(t, width, indent) for t in lines)

    def _format_action(self, action: Action) -> str:
        if isinstance(action, _SubParsersAction):
            return "".join(map(self._format_action, action._get_subactions()))
        return super()._format_action(action)


class Parser(ArgumentParser):
    """Groups its options, which cannot be abbreviated; reports an error in one line."""

    def __init__(self, *, add_help: bool = True, **settings: Any) -> None:
        settings = {"formatter_class": _Formatter, **settings}
        super().__init__(allow_abbrev=False, add_help=False, **settings)
        self._positionals.title = "commands"
        self.groups = {title: self.add_argument_group(title) for title in _GROUPS}
        if add_help:
            self.add_argument("-h", "--help", action="help", help="show this help, then exit")

    def add_argument(self, *names: str, **settings: Any) -> Action:
        """Add an option to its group; arguments without a flag are inputs."""
        action = self.group_of(names[-1]).add_argument(*names, **settings)
        if shtab is not None and action.metavar in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        return action

    def group_of(self, flag: str) -> _ArgumentGroup:
        """Return the group of an option."""
        name = flag.removeprefix("--") if flag.startswith("-") else "style"
        return next(self.groups[title] for title in _GROUPS if name in _GROUPS[title].split())

    def format_help(self) -> str:
        """Return the help, with the options of each group in the order of `_GROUPS`."""
        for title, group in self.groups.items():
            order = [f"--{name}" for name in _GROUPS[title].split()]
            group._group_actions.sort(
                key=lambda each: order.index([*order[:1], *each.option_strings][-1])
            )
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Exit with a message."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {one_line(message)}; see {self.prog} --help\n")
