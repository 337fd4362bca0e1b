"""The command line, thin over the library."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nst._batch.map import MapResult
from nst._record.replay import recorded_extractor
from nst._utils.group import ProcessLost, launched, process_group
from nst._utils.memory import is_exhausted
from nst._utils.text import one_line, say
from nst.callbacks.base import Callback
from nst.callbacks.checkpoint import read_checkpoint_record
from nst.cli.batch import save_all, workers
from nst.cli.cells import Table, make_table
from nst.cli.check import rehearse
from nst.cli.commands import BAD_INPUT
from nst.cli.demo import Preview, foretell
from nst.cli.files import check_files
from nst.cli.folder import find_pictures, stand_ins
from nst.cli.options import recipe, run_arguments
from nst.cli.output import deliver, keep, tell
from nst.cli.painting import paint
from nst.cli.parser import parse
from nst.cli.parts import load_network, load_networks, make_callbacks, make_styles, shown_page
from nst.cli.samples import demo_photograph, write_samples
from nst.cli.sheet import contact_sheet
from nst.images import ImageLike, read_record, save_image
from nst.result import StyleTransferResult
from nst.styles.style import Style
from nst.transfer import StyleTransfer

__all__ = ["main"]

_LOST, _INTERRUPTED = 1, 130
# What makes a single picture. Under torchrun, its processes make it together.
_PAINTS_ONE = ("stylize", "synthesize", "rerun", "resume", "demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 if pictures of a batch failed, 2 for bad input (one line on standard
        error says what), 130 when interrupted before there was a picture to save; 1 as well if
        another process of `torchrun` has ended.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        if options.command != "batch":  # whose files are found in a folder first
            check_files(options)
        with _rescuing(options):
            if launched():
                return _on_several(options)
            with _warnings_shown():
                return _COMMANDS[options.command](options) or 0
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        sys.stderr.write(f"nst: error: {one_line(error)}\n")
        return BAD_INPUT
    except RuntimeError as error:
        if not isinstance(error, ProcessLost) and not is_exhausted(error):
            raise
        sys.stderr.write(f"nst: error: {one_line(error)}\n")
        return _LOST if isinstance(error, ProcessLost) else BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED


def _on_several(options: argparse.Namespace) -> int:
    """Do a command together with the other processes; the first speaks and writes for all."""
    if options.command not in _PAINTS_ONE:
        raise ValueError(
            f"`nst {options.command}` is no work for several processes of torchrun; those that are "
            f"are {', '.join(_PAINTS_ONE)}. Start it without, or use `nst batch --workers`."
        )
    if getattr(options, "estimate", False):
        raise ValueError(
            "`--estimate` is no work for several processes, which would disturb each other. Leave "
            "out torchrun."
        )
    with process_group() as group:
        if group.rank > 0:
            vars(options).update(quiet=True, page=None)
        with _warnings_shown() if group.rank == 0 else nullcontext():
            return _COMMANDS[options.command](options) or 0


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Write the library's warnings to standard error, a line each."""
    logger, handler = logging.getLogger("nst"), logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("nst: warning: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _rescuing(options: argparse.Namespace) -> Iterator[None]:
    """Save what was painted before an error."""
    try:
        yield
    except Exception as error:
        result = getattr(error, "result", None)
        if isinstance(result, StyleTransferResult) and options.command in _PAINTS_ONE:
            deliver(result, options)
        raise


def _stylize(options: argparse.Namespace) -> None:
    styles = make_styles(options)
    if not options.estimate:
        _repaint(options.content, styles, options)
        return
    rehearse(partial(_run, options, options.content), styles, options)
    transfer = StyleTransfer(load_network(options), **recipe(options))
    say(str(transfer.estimate(options.content, styles)))


def _demo(options: argparse.Namespace) -> None:
    _repaint(demo_photograph(), [Style(paint())], options, is_demo=True)


def _repaint(
    content: ImageLike,
    styles: list[Style],
    options: argparse.Namespace,
    *,
    is_demo: bool = False,
) -> None:
    run, callbacks = partial(_run, options, content), make_callbacks(options)
    rehearse(run, styles, options)
    with shown_page(options) as page:
        network = load_network(options)
        if is_demo:
            callbacks = [Preview(options.output, options.quiet), *callbacks]
            foretell(network, content, styles, options)
        deliver(run(network, styles, [*page, *callbacks]), options)


def _run(
    options: argparse.Namespace,
    content: ImageLike,
    network: nn.Module,
    styles: list[Style],
    callbacks: list[Callback],
) -> StyleTransferResult:
    transfer = StyleTransfer(network, **recipe(options))
    return transfer.run(content, styles, callbacks=callbacks, **run_arguments(options))


def _synthesize(options: argparse.Namespace) -> None:
    shape = None if options.height is None else (options.height, options.width)

    def make(
        network: nn.Module, styles: list[Style], callbacks: list[Callback]
    ) -> StyleTransferResult:
        transfer = StyleTransfer(network, **recipe(options))
        return transfer.synthesize(
            styles, shape, init=options.init, seed=options.seed, callbacks=callbacks
        )

    styles, callbacks = make_styles(options), make_callbacks(options)
    rehearse(make, styles, options)
    with shown_page(options) as page:
        deliver(make(load_network(options), styles, [*page, *callbacks]), options)


def _capture(options: argparse.Namespace) -> None:
    def capture(network: nn.Module, styles: list[Style], _: list[Callback]) -> Style:
        return StyleTransfer(network, **recipe(options)).capture(styles[0], options.sizes)

    (style,) = make_styles(options)
    if style.weight != 1 or style.region is not None:
        raise ValueError(
            f"`style[0]` is {options.styles[0]!r}, with a weight or a region, which a style file "
            "does not keep. Say it where the file is used."
        )
    rehearse(capture, [style], options)
    path = capture(load_network(options), [style], []).save(options.output)
    tell(options, path)


def _rerun(options: argparse.Namespace) -> None:
    extractor = None
    if options.weights is not None:
        extractor = recorded_extractor(read_record(options.picture), options.weights)
    result = StyleTransfer.rerun(
        options.picture,
        options.inputs,
        callbacks=make_callbacks(options),
        extractor=extractor,
        **_replaced(options),
    )
    deliver(result, options)


def _resume(options: argparse.Namespace) -> None:
    extractor = None
    if options.weights is not None:
        extractor = recorded_extractor(read_checkpoint_record(options.file), options.weights)
    with shown_page(options) as page:
        callbacks = [*page, *make_callbacks(options)]
        result = StyleTransfer.resume(
            options.file, callbacks=callbacks, extractor=extractor, **_replaced(options)
        )
        deliver(result, options)


def _replaced(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments in place of recorded ones."""
    return {name: getattr(options, name) for name in ("device", "tile") if name in options}


def _batch(options: argparse.Namespace) -> int:
    styles, batch = make_styles(options), find_pictures(options)
    pictures = list(batch.outputs)
    if not pictures:
        return save_all([], batch, options)
    _rehearse_batch(pictures, styles, options)
    with closing(_map(pictures, styles, options)) as outcomes:
        return save_all(outcomes, batch, options)


def _rehearse_batch(
    pictures: Sequence[Path], styles: list[Style], options: argparse.Namespace
) -> None:
    """Refuse what is wrong for all pictures; what is for one, its own run will tell."""
    refusal: ValueError | None = None
    for picture in stand_ins(pictures):
        try:
            rehearse(partial(_run, options, picture), styles, options)
        except ValueError as error:
            refusal = refusal or error
        else:
            return
    assert refusal is not None
    raise refusal


def _map(
    pictures: Sequence[Path], styles: list[Style], options: argparse.Namespace
) -> Generator[MapResult, None, None]:
    with workers(options) as (executor, arguments):
        transfer = StyleTransfer(load_network(options), **recipe(options))
        callbacks = make_callbacks(options) if executor is None else []
        yield from transfer.map(
            pictures,
            styles,
            executor=executor,
            callbacks=callbacks,
            **arguments,
            **run_arguments(options),
        )


def _sheet(options: argparse.Namespace) -> None:
    """Paint a cell for every combination of the varied options; all are checked before."""
    table = make_table(options)
    runs = [partial(_run, cell, cell.content) for cell in table.cells]
    for cell, run in zip(table.cells, runs, strict=True):
        check_files(cell)
        rehearse(run, make_styles(cell), cell)
    networks = load_networks(table.cells)
    done: list[Tensor] = []
    try:
        for cell, run, network in zip(table.cells, runs, networks, strict=True):
            result = run(network, make_styles(cell), make_callbacks(cell))
            done.append(result.image)
            if result.stop_reason == "interrupted":
                break
    except KeyboardInterrupt:
        if not done:
            raise
    finally:  # also after an error: what is done took its time
        if done:
            _save_sheet(done, table, options)


def _save_sheet(done: Sequence[Tensor], table: Table, options: argparse.Namespace) -> None:
    """Save the cells that are done; the others are left white."""
    missing = len(table.cells) - len(done)
    cells = [*done, *[torch.ones_like(done[0])] * missing]
    width = len(table.column_labels)
    rows = [cells[i : i + width] for i in range(0, len(cells), width)]
    sheet = contact_sheet(rows, table.row_labels, table.column_labels)
    tell(options, keep(partial(save_image, sheet), options.output))


def _samples(options: argparse.Namespace) -> None:
    for path in write_samples(options.folder):
        tell(options, path)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "stylize": _stylize,
    "batch": _batch,
    "sheet": _sheet,
    "synthesize": _synthesize,
    "capture": _capture,
    "rerun": _rerun,
    "resume": _resume,
    "samples": _samples,
    "demo": _demo,
}
