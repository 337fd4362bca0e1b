"""The cells of a contact sheet: one command line for each value of the options that are varied."""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from nst.cli.commands import Parser
from nst.cli.options import add_options

__all__ = ["Table", "make_table"]


@dataclass(frozen=True)
class Table:
    """What is to be painted where."""

    cells: Sequence[argparse.Namespace]
    """Row by row, each with options of its own."""
    row_labels: Sequence[str]
    """One for each row; none if there is a single one."""
    column_labels: Sequence[str]
    """One for each column."""


def make_table(options: argparse.Namespace) -> Table:
    """Read what `--vary` says.

    Args:
        options: Of `nst sheet`; each cell has the same, but for what is varied.

    Raises:
        ValueError: It is written in another way, or given too often.
        SystemExit: An option that cannot be varied, or not to this value; the message has been
            written.
    """
    varied = [_variation(text) for text in options.vary]
    names = [words[0].partition("=")[0] for words in varied]
    if len(varied) > 2:
        raise ValueError(f"`--vary` is given {len(varied)} times; give it once or twice.")
    if len(set(names)) < len(names) and names[0] != "--style":  # two paintings are blended
        raise ValueError(f"`--vary` names {names[0][2:]!r} twice; give two different options.")
    columns, rows = varied[-1], varied[0] if len(varied) == 2 else []
    changes = list(itertools.product(rows, columns) if rows else zip(columns, strict=True))
    labels = [[word[2:].replace("=", " ", 1) for word in words] for words in (rows, columns)]
    return Table([_cell(options, words) for words in changes], *labels)


def _variation(text: str) -> list[str]:
    """Read NAME=A,B,C, or NAME=A;B where values hold commas, as words of a command line."""
    name, _, values = text.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    name = name.lstrip("-")
    if not name or not all(found):
        raise ValueError(f"`--vary` is {text!r}; write it as strength=0.5,1,1.5.")
    return [f"--{name}={value}" for value in found]


def _cell(options: argparse.Namespace, words: Sequence[str]) -> argparse.Namespace:
    """Return a copy of the options, changed by a few words."""
    parser = Parser(prog="nst sheet", add_help=False, allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--style", dest="styles", action="append")
    cell = copy.copy(options)
    if any(word.startswith("--style=") for word in words):
        cell.styles = []  # in place of those given
    return parser.parse_args(words, cell)
