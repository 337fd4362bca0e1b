"""`nst sheet`: compare results in a contact sheet."""

import copy
import itertools
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nst.cli import arguments, build
from nst.cli.check import check_files, check_run
from nst.cli.parser import Parser
from nst.cli.styles import parse_styles
from nst.images import load_image, resize, save_image

HELP = "compare results in a contact sheet, over one or two options"
USAGE = "CONTENT STYLE [STYLE ...] -o OUT --vary NAME=A,B,C"
DESCRIPTION = "Stylize CONTENT once for each value of an option, or of two."
EXAMPLES = """\
nst sheet photo.jpg painting.jpg -o sheet.png --vary preset=default,strokes
nst sheet photo.jpg -o sheet.png --vary strength=0.5,1 --vary style=a.jpg,b.jpg"""


def add_arguments(parser: Parser) -> None:
    arguments.add_pictures(parser)
    arguments.add_output(parser, of_run=False)
    about = (
        "an option and its values, separated by ; if they contain commas; give it once for "
        "columns, or twice for rows and columns"
    )
    parser.add_argument("--vary", metavar="NAME=A,B,C", action="append", required=True, help=about)
    arguments.add_options(parser)


def complete(options: Namespace) -> None:
    varies_style = any(text.lstrip("-").startswith("style=") for text in options.vary)
    arguments.require_pictures(options, needs_style=not varies_style)


def run(options: Namespace) -> None:
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
    finally:  # save the finished cells also after an error, and leave the others white
        if done:
            done += [torch.ones_like(done[0])] * (len(cells) - len(done))
            width = len(column_labels)
            rows = [done[i : i + width] for i in range(0, len(done), width)]
            sheet = contact_sheet(rows, row_labels, column_labels)
            saved = build.save_or_rescue(partial(save_image, sheet), options.output)
            build.report(saved.resolve(), options)


def make_table(options: Namespace) -> tuple[list[Namespace], list[str], list[str]]:
    """Return the options of each cell by rows, the labels of several rows, and of columns."""
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
    """Return NAME=A,B,C, or NAME=A;B for values with commas, as words of a command line."""
    name, _, values = text.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    name = name.lstrip("-")
    if not name or not all(found):
        raise ValueError(f"`--vary` is {text!r}; write it as strength=0.5,1,1.5.")
    return [f"--{name}={value}" for value in found]


def _cell(options: Namespace, words: Sequence[str]) -> Namespace:
    """Return a copy of the options, changed by a few words."""
    parser = Parser(prog="nst sheet", add_help=False)
    arguments.add_options(parser)
    arguments.add_style(parser, dest="styles")
    cell = copy.copy(options)
    if any(word.startswith("--style=") for word in words):
        cell.styles = []  # replaces those given
    return parser.parse_args(words, cell)


def contact_sheet(
    rows: Sequence[Sequence[Tensor]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Tensor:
    """Arrange pictures in a table, with a label to the left of each row and above each column.

    Pictures, `(1, 3, H, W)`, are resized to the size of the first. All rows have the same length.

    Examples:
        >>> pictures = [torch.rand(1, 3, 40, 60) for _ in range(2)]
        >>> sheet = contact_sheet([pictures], column_labels=["strength 0.5", "strength 1"])
        >>> sheet.shape[2] > 40 and sheet.shape[3] > 120
        True
    """
    shape = (rows[0][0].shape[-2], rows[0][0].shape[-1])
    size = max(10, min(shape) // 16)
    gap = max(2, size // 4)
    height, width = shape[0] + 2 * gap, shape[1] + 2 * gap
    of_rows = [_label(text, size) for text in row_labels]
    of_columns = [_label(text, size) for text in column_labels]
    left = max((label.width for label in of_rows), default=0)
    top = max((label.height for label in of_columns), default=0)
    page = Image.new("RGB", (left + len(rows[0]) * width, top + len(rows) * height), "white")
    for i, label in enumerate(of_rows):
        _paste(page, label, (0, top + i * height), (left, height))
    for i, label in enumerate(of_columns):
        _paste(page, label, (left + i * width, 0), (width, top))
    sheet = load_image(page)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            y, x = top + i * height + gap, left + j * width + gap
            sheet[..., y : y + shape[0], x : x + shape[1]] = resize(picture, shape)
    return sheet


def _label(text: str, size: int) -> Image.Image:
    font = ImageFont.load_default(size)
    left, _, right, bottom = font.getbbox(text)
    label = Image.new("RGB", (round(right - left) + size, round(bottom) + size // 2), "white")
    ImageDraw.Draw(label).text((size / 2, size / 4), text, fill="black", font=font)
    return label


def _paste(
    page: Image.Image, label: Image.Image, corner: tuple[int, int], room: tuple[int, int]
) -> None:
    """Paste a label into the middle of its room; cut off what does not fit."""
    label = label.crop((0, 0, min(label.width, room[0]), min(label.height, room[1])))
    x, y = ((r - s) // 2 for r, s in zip(room, label.size, strict=True))
    page.paste(label, (corner[0] + x, corner[1] + y))
