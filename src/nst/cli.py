"""The command line, thin over the library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst._callbacks import Callback, ProgressBar, SaveImages
from nst._cells import make_table
from nst._commands import BAD_INPUT
from nst._features import FeatureExtractor
from nst._files import check_files, steps_folder
from nst._options import recipe, run_arguments
from nst._painting import paint
from nst._parser import parse
from nst._result import StyleTransferResult
from nst._sheet import contact_sheet
from nst._style import Style, StyleLike
from nst._style_spec import parse_style
from nst._transfer import StyleTransfer
from nst.images import ImageLike, check_input, check_output, read_record, save_image

__all__ = ["main"]

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
        options = parse(sys.argv[1:] if argv is None else argv)
        check_files(options)
        _COMMANDS[options.command](options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"nst: error: {message}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _stylize(options: argparse.Namespace) -> None:
    _repaint(options.content, _styles(options), options)


def _repaint(content: ImageLike, style: StyleLike, options: argparse.Namespace) -> None:
    transfer = StyleTransfer(_extractor(options), **recipe(options))
    callbacks = _callbacks(options)
    _finish(transfer.run(content, style, callbacks=callbacks, **run_arguments(options)), options)


def _rerun(options: argparse.Namespace) -> None:
    check_input(options.picture, name="picture")
    check_output(options.output, name="--output")
    callbacks = [] if options.quiet else [ProgressBar()]
    record = read_record(options.picture)
    weights = options.weights or record.get("extractor", {}).get("weights", "auto")
    settings = record.get("extractor", {})
    extractor = FeatureExtractor(
        weights,
        pooling=settings.get("pooling", "max"),
        padding=settings.get("padding", "zeros"),
    )
    result = StyleTransfer.rerun(
        options.picture, options.inputs, callbacks=callbacks, extractor=extractor
    )
    _finish(result, options)


def _demo(options: argparse.Namespace) -> None:
    _repaint(_demo_photograph(), paint(), options)


def _synthesize(options: argparse.Namespace) -> None:
    styles = _styles(options)
    shape = None if options.height is None else (options.height, options.width)
    transfer = StyleTransfer(_extractor(options), **recipe(options))
    callbacks = _callbacks(options)
    result = transfer.synthesize(
        styles, shape, init=options.init, seed=options.seed, callbacks=callbacks
    )
    _finish(result, options)


def _capture(options: argparse.Namespace) -> None:
    (style,) = _styles(options)
    transfer = StyleTransfer(_extractor(options), **recipe(options))
    path = transfer.capture(style, options.sizes).save(options.output)
    if not options.quiet:
        sys.stdout.write(f"{path.resolve()}\n")


def _sheet(options: argparse.Namespace) -> None:
    """Paint a cell for every combination of the varied options; all are checked before."""
    table = make_table(options)
    for cell in table.cells:
        check_files(cell)
    styles = [_styles(cell) for cell in table.cells]
    extractors: dict[tuple[str, ...], FeatureExtractor] = {}
    transfers = [_transfer(cell, extractors) for cell in table.cells]
    done: list[Tensor] = []
    for cell, transfer, style in zip(table.cells, transfers, styles, strict=True):
        arguments = run_arguments(cell)
        result = transfer.run(cell.content, style, callbacks=_callbacks(cell), **arguments)
        done.append(result.image)
        if result.stop_reason == "interrupted":
            break
    done += [torch.ones_like(done[0])] * (len(table.cells) - len(done))  # left white after Ctrl-C
    width = len(table.column_labels)
    pictures = [done[i : i + width] for i in range(0, len(done), width)]
    save_image(contact_sheet(pictures, table.row_labels, table.column_labels), options.output)
    if not options.quiet:
        sys.stdout.write(f"{Path(options.output).resolve()}\n")


def _transfer(
    options: argparse.Namespace, extractors: dict[tuple[str, ...], FeatureExtractor]
) -> StyleTransfer:
    key = (options.weights, options.pooling, options.padding)
    if key not in extractors:
        extractors[key] = _extractor(options)
    return StyleTransfer(extractors[key], **recipe(options))


def _extractor(options: argparse.Namespace) -> FeatureExtractor:
    return FeatureExtractor(options.weights, pooling=options.pooling, padding=options.padding)


def _styles(options: argparse.Namespace) -> list[Style]:
    return [parse_style(spec, f"style[{i}]") for i, spec in enumerate(options.styles)]


def _callbacks(options: argparse.Namespace) -> list[Callback]:
    callbacks: list[Callback] = []
    if getattr(options, "save_every", None) is not None:
        callbacks.append(SaveImages(steps_folder(Path(options.output)), options.save_every))
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


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "stylize": _stylize,
    "sheet": _sheet,
    "synthesize": _synthesize,
    "capture": _capture,
    "rerun": _rerun,
    "demo": _demo,
}
