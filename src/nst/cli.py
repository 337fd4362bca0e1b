"""The command line, thin over the library."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from nst._callbacks import Callback, ProgressBar, SaveImages
from nst._config import read_config
from nst._features import FeatureExtractor
from nst._options import KNOWN_WORDS, add_options, recipe, run_arguments
from nst._painting import paint
from nst._record import recorded_extractor
from nst._result import StyleTransferResult
from nst._sheet import contact_sheet
from nst._style import Style, StyleLike
from nst._style_spec import FORM, parse_style
from nst._transfer import StyleTransfer
from nst.images import ImageLike, check_input, check_output, read_record, save_image

__all__ = ["main"]

_BAD_INPUT = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 2 for bad input (one line on standard error says what), 130 when
        interrupted before there was a picture to save.
    """
    try:
        arguments = sys.argv[1:] if argv is None else list(argv)
        options = _parse(arguments)
        command: Callable[[argparse.Namespace], None] = options.run
        command(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"nst: error: {message}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line, and with `--config` a second time with the file's options before."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.given = arguments[1:]
    if options.config is None:
        return options
    words = read_config(options.config, _option_names(parser, options.command))
    if options.styles:
        words = [word for word in words if not word.startswith("--style=")]
    return parser.parse_args([options.command, *words, *arguments[1:]])


def _option_names(parser: argparse.ArgumentParser, command: str) -> dict[str, Sequence[str]]:
    """Return the options of a command, and what each knows in place of a path."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    names = (n for a in commands.choices[command]._actions for n in a.option_strings)
    known = {name[2:]: () for name in names if name.startswith("--")}
    return {name: tuple(KNOWN_WORDS.get(name, ())) for name in known if name != "config"}


def _stylize(options: argparse.Namespace) -> None:
    content, styles, output = _inputs(options)
    _repaint(content, styles, output, options)


def _repaint(
    content: ImageLike, style: StyleLike, output: Path, options: argparse.Namespace
) -> None:
    transfer = StyleTransfer(_extractor(options), **recipe(options))
    callbacks = _callbacks(output, options)
    _finish(transfer.run(content, style, callbacks=callbacks, **run_arguments(options)), options)


def _rerun(options: argparse.Namespace) -> None:
    check_input(options.picture, name="picture")
    check_output(options.output, name="--output")
    callbacks = [] if options.quiet else [ProgressBar()]
    extractor = None
    if options.weights is not None:
        extractor = recorded_extractor(read_record(options.picture), options.weights)
    result = StyleTransfer.rerun(
        options.picture, options.inputs, callbacks=callbacks, extractor=extractor
    )
    _finish(result, options)


def _demo(options: argparse.Namespace) -> None:
    output = check_output(options.output, name="--output")
    _repaint(_demo_photograph(), paint(), output, options)


def _synthesize(options: argparse.Namespace) -> None:
    output = check_output(options.output, name="--output")
    styles = _styles(options.style)
    if (options.height is None) != (options.width is None):
        raise ValueError("`--height` and `--width` are needed both, or neither.")
    shape = None if options.height is None else (options.height, options.width)
    init = "pink-noise" if options.init == "content" else options.init
    transfer = StyleTransfer(_extractor(options), **recipe(options))
    callbacks = _callbacks(output, options)
    result = transfer.synthesize(styles, shape, init=init, seed=options.seed, callbacks=callbacks)
    _finish(result, options)


def _capture(options: argparse.Namespace) -> None:
    (style,) = _styles([options.style])
    folder = Path(options.output).resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"`--output`: the folder {str(folder)!r} does not exist.")
    sizes = None
    if options.sizes is not None:
        try:
            sizes = [int(size) for size in options.sizes.split(",")]
        except ValueError:
            raise ValueError(
                f"`--sizes` is {options.sizes!r}; whole numbers are needed, such as 256,512."
            ) from None
    transfer = StyleTransfer(_extractor(options), **recipe(options))
    path = transfer.capture(style, sizes).save(options.output)
    if not options.quiet:
        sys.stdout.write(f"{path.resolve()}\n")


def _sheet(options: argparse.Namespace) -> None:
    """Paint a cell for every combination of the varied options; all are checked before."""
    output = check_output(options.output, name="--output")
    varied = [_variation(each) for each in options.vary]
    if not 1 <= len(varied) <= 2:
        raise ValueError(f"`--vary` is given {len(varied)} times; once or twice is possible.")
    columns, rows = varied[-1], varied[0] if len(varied) == 2 else []
    cells = [
        [_cell(options, [*pair, column]) for column in columns]
        for pair in ([[row] for row in rows] or [[]])
    ]
    inputs = [_inputs(cell) for cell in itertools.chain(*cells)]
    extractors: dict[tuple[str, ...], FeatureExtractor] = {}
    transfers = [_transfer(cell, extractors) for cell in itertools.chain(*cells)]
    done: list[Tensor] = []
    for cell, transfer, (content, styles, _) in zip(
        itertools.chain(*cells), transfers, inputs, strict=True
    ):
        arguments = run_arguments(cell)
        result = transfer.run(content, styles, callbacks=_callbacks(output, cell), **arguments)
        done.append(result.image)
        if result.stop_reason == "interrupted":
            break
    missing = len(inputs) - len(done)
    done += [torch.ones_like(done[0])] * missing  # cells left white after Ctrl-C
    table = [done[i : i + len(columns)] for i in range(0, len(done), len(columns))]
    labels = [[" ".join(each).lstrip("-") for each in line] for line in (rows, columns)]
    save_image(contact_sheet(table, *labels), output)
    if not options.quiet:
        sys.stdout.write(f"{output.resolve()}\n")


def _variation(text: str) -> list[tuple[str, str]]:
    """Read NAME=A,B,C, or NAME=A;B where values hold commas."""
    name, _, values = text.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    if not name or not all(found):
        raise ValueError(f"`--vary` is {text!r}; write it as strength=0.5,1,1.5.")
    return [(f"--{name.lstrip('-')}", value) for value in found]


def _cell(options: argparse.Namespace, changes: Sequence[tuple[str, str]]) -> argparse.Namespace:
    """Parse the command line of one cell, as if it were one of `nst stylize`."""
    words = [f"{name}={value}" for name, value in changes]
    cell = _parser().parse_args(["stylize", *_without(options.given, "--vary"), *words])
    if any(name == "--style" for name, _ in changes):  # in place of those given
        cell.styles, cell.style = cell.styles[-1:], []
    return cell


def _without(words: Sequence[str], option: str) -> list[str]:
    """Leave out an option and its value, wherever it was given."""
    kept, skip = [], False
    for word in words:
        if skip or word.startswith(f"{option}="):
            skip = False
        elif word == option:
            skip = True
        else:
            kept.append(word)
    return kept


def _transfer(
    options: argparse.Namespace, extractors: dict[tuple[str, ...], FeatureExtractor]
) -> StyleTransfer:
    key = (options.weights, options.pooling, options.padding)
    if key not in extractors:
        extractors[key] = _extractor(options)
    return StyleTransfer(extractors[key], **recipe(options))


def _extractor(options: argparse.Namespace) -> FeatureExtractor:
    return FeatureExtractor(options.weights, pooling=options.pooling, padding=options.padding)


def _inputs(options: argparse.Namespace) -> tuple[ImageLike, list[Style], Path]:
    """Find the files before the network is loaded, which may mean a download."""
    content = options.content or options.photograph
    if content is None:
        raise ValueError("CONTENT is missing: name the photograph; see nst stylize --help.")
    if options.output is None:
        raise ValueError("-o/--output is missing: name a file; see nst stylize --help.")
    output = check_output(options.output, name="--output")
    check_input(content, name="content")
    if options.where not in (None, "alpha"):
        check_input(options.where, name="--where")
    styles = _styles([*options.style, *options.styles])
    return content, styles, output


def _styles(specs: Sequence[str]) -> list[Style]:
    if not specs:
        raise ValueError(f"STYLE is missing: name it as {FORM}; see nst stylize --help.")
    return [parse_style(spec, f"style[{i}]") for i, spec in enumerate(specs)]


def _callbacks(output: Path, options: argparse.Namespace) -> list[Callback]:
    callbacks: list[Callback] = []
    if options.save_every is not None:
        callbacks.append(SaveImages(output.with_name(f"{output.stem}-steps"), options.save_every))
    if not options.quiet:  # last: what the others refuse should not follow a progress bar
        callbacks.append(ProgressBar())
    return callbacks


def _finish(result: StyleTransferResult, options: argparse.Namespace) -> None:
    result.save(options.output)
    if not options.quiet:
        sys.stdout.write(f"{_summary(result)}\n{Path(options.output).resolve()}\n")


def _summary(result: StyleTransferResult) -> str:
    height, width = result.image.shape[-2:]
    return (
        f"{width}x{height} pixels, {result.num_steps} steps in {result.seconds:.0f} s "
        f"({result.stop_reason}), VGG19 weights: {result.settings['extractor']['weights']}"
    )


def _demo_photograph() -> ImageLike:
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "`nst demo` takes its photograph from scikit-image, which is not installed. "
            "Run `pip install 'nst[demo]'`."
        ) from error
    untyped: Any = data
    photograph: ImageLike = untyped.chelsea()  # CC0, by Stefan van der Walt; part of the wheel
    return photograph


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse prints the usage as well."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(_BAD_INPUT, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    from nst import __version__

    parser = _Parser(prog="nst", description="Repaint a photograph in the manner of a painting.")
    parser.add_argument("--version", action="version", version=f"nst {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_stylize(commands)
    _add_sheet(commands)
    _add_synthesize(commands)
    _add_capture(commands)
    _add_rerun(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[..., None], **texts: str) -> Any:
    """Add a command with the options that all have."""
    command = commands.add_parser(name, **texts)
    command.set_defaults(run=run, config=None, photograph=None, styles=[])
    add_options(command)
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return command


def _add_stylize(commands: Any) -> None:
    add = _command(
        commands,
        "stylize",
        _stylize,
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
        dest="styles",
        metavar="STYLE",
        action="append",
        help=f"another one, as {FORM}; a style file of `nst capture` will do",
    )


def _add_sheet(commands: Any) -> None:
    add = _command(
        commands,
        "sheet",
        _sheet,
        help="compare results in a contact sheet, over one or two options",
        description="Repaint CONTENT once for each value of an option, or of two.",
    ).add_argument
    _add_pictures(add)
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add(
        "--vary",
        metavar="NAME=A,B,C",
        action="append",
        required=True,
        help="an option of stylize and its values (with ; between, if they hold commas); once "
        "for columns, or twice for rows and columns",
    )


def _add_synthesize(commands: Any) -> None:
    add = _command(
        commands,
        "synthesize",
        _synthesize,
        help="make a texture: a style with no photograph",
        description="Make a texture in the manner of STYLE.",
    ).add_argument
    add("style", metavar="STYLE", nargs="+", help="the painting, or several")
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add("--height", type=int, help="in pixels (default: the style's proportions)")
    add("--width", type=int, help="in pixels (default: the style's proportions)")
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")


def _add_capture(commands: Any) -> None:
    add = _command(
        commands,
        "capture",
        _capture,
        help="keep a style in a file, without the painting",
        description="Keep the statistics of STYLE, for the losses and the network chosen here.",
    ).add_argument
    add("style", metavar="STYLE", help=f"the painting, as {FORM}")
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add("--sizes", metavar="N,N", help="for pictures of which longer sides (default: --size's)")


def _add_rerun(commands: Any) -> None:
    parser = commands.add_parser(
        "rerun",
        help="make a picture again from the record in it",
        description="Make PICTURE again, from the record in it and the files it was made from.",
    )
    parser.set_defaults(run=_rerun, config=None)
    add = parser.add_argument
    add("picture", metavar="PICTURE", help="as nst saved it")
    add("-o", "--output", metavar="OUT", required=True, help="the file to write")
    add("--inputs", metavar="PATH", nargs="+", default=[], help="folders or files to look for")
    add("--weights", help="in place of those recorded")
    add("--quiet", action="store_true", help="print nothing but errors")


def _add_demo(commands: Any) -> None:
    demo = _command(
        commands,
        "demo",
        _demo,
        help="repaint a photograph that comes along, with no files of yours",
        description="Repaint a photograph of scikit-image in the manner of a picture that nst "
        "paints itself.",
    )
    add = demo.add_argument
    add("-o", "--output", metavar="OUT", default="nst-demo.png", help="the file to write")
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")
    # A small picture of a face: begun coarse for the strokes, with more weight on the content.
    demo.set_defaults(scales=2, content_weight=0.05)
