"""`nst sheet`: compare results in a contact sheet."""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nst.cli import arguments, build
from nst.cli.check import check_files, check_run
from nst.cli.contact_sheet import contact_sheet
from nst.cli.styles import parse_styles
from nst.images import save_image

HELP = "compare results in a contact sheet, over one or two options"
DESCRIPTION = "Stylize CONTENT once for each value of an option, or of two."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    arguments.add_pictures(parser)
    arguments.add_output(parser)
    parser.add_argument(
        "--vary",
        metavar="NAME=A,B,C",
        action="append",
        required=True,
        help="an option and its values, separated by ; if they contain commas; give it once for "
        "columns, or twice for rows and columns",
    )
    arguments.add_options(parser)


def complete(options: argparse.Namespace) -> None:
    """Collect the pictures and refuse a contradictory command line."""
    varies_style = any(text.lstrip("-").startswith("style=") for text in options.vary)
    arguments.require_pictures(options, needs_style=not varies_style)


def run(options: argparse.Namespace) -> None:
    """Stylize the photograph for each cell, after all cells are checked."""
    check_files(options)
    cells, row_labels, column_labels = make_table(options)
    for cell in cells:
        check_files(cell)
        check_run(cell, cell.content, parse_styles(cell.styles))
    networks = build.load_networks(cells)
    done: list[Tensor] = []
    try:
        for cell, network in zip(cells, networks, strict=True):
            transfer, callbacks = build.make_transfer(cell, network), build.make_callbacks(cell)
            styles, others = parse_styles(cell.styles), build.run_arguments(cell)
            result = transfer.run(cell.content, styles, callbacks=callbacks, **others)
            done.append(result.image)
            if result.stop_reason == "interrupted":
                break
    except KeyboardInterrupt:
        if not done:
            raise
    finally:  # also after an error: the finished cells took their time
        if done:  # the others are left white
            done += [torch.ones_like(done[0])] * (len(cells) - len(done))
            width = len(column_labels)
            rows = [done[i : i + width] for i in range(0, len(done), width)]
            sheet = contact_sheet(rows, row_labels, column_labels)
            saved = build.save_or_rescue(partial(save_image, sheet), options.output)
            build.report_path(saved, options)


def make_table(
    options: argparse.Namespace,
) -> tuple[list[argparse.Namespace], list[str], list[str]]:
    """Return the options of each cell, row by row, and the labels of rows and columns.

    A single row has no label.
    """
    varied = [_variation(text) for text in options.vary]
    names = [words[0].partition("=")[0] for words in varied]
    if len(varied) > 2:
        raise ValueError(f"`--vary` is given {len(varied)} times; give it once or twice.")
    if len(set(names)) < len(names) and names[0] != "--style":  # two paintings are blended
        raise ValueError(f"`--vary` names {names[0][2:]!r} twice; give two different options.")
    cells = [_cell(options, words) for words in itertools.product(*varied)]
    labels = [[word[2:].replace("=", " ", 1) for word in words] for words in varied]
    return cells, labels[0] if len(labels) == 2 else [], labels[-1]


def _variation(text: str) -> list[str]:
    """Return NAME=A,B,C, or NAME=A;B where values contain commas, as words of a command line."""
    name, _, values = text.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    name = name.lstrip("-")
    if not name or not all(found):
        raise ValueError(f"`--vary` is {text!r}; write it as strength=0.5,1,1.5.")
    return [f"--{name}={value}" for value in found]


def _cell(options: argparse.Namespace, words: Sequence[str]) -> argparse.Namespace:
    """Return a copy of the options, changed by a few words."""
    parser = arguments.Parser(prog="nst sheet", add_help=False)
    arguments.add_options(parser)
    arguments.add_style(parser, dest="styles")
    cell = copy.copy(options)
    if any(word.startswith("--style=") for word in words):
        cell.styles = []  # replaces those given
    return parser.parse_args(words, cell)
