"""`nst batch`: stylize all pictures of a folder."""

from __future__ import annotations

import argparse
import importlib
import itertools
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from nst._batch.map import MapResult
from nst._utils.checks import at_least
from nst._utils.text import duration, one_line, say
from nst.cli import arguments, build
from nst.cli.check import check_inputs, check_run
from nst.cli.styles import FORM, parse_styles
from nst.images import check_output, read_picture
from nst.styles.style import Style

HELP = "stylize all photographs of a folder"
DESCRIPTION = (
    "Repaint every picture of FOLDER in the style of STYLE; several styles are blended. Pictures "
    "whose output exists are skipped, so that the same command continues after an interruption."
)
logger = logging.getLogger("nst")

# Number of pictures with which the options are checked, as some may be wrong for one picture only.
_NUM_CHECKED = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = f"STYLE is {FORM}."
    parser.add_argument("folder", metavar="FOLDER", help="photographs; subfolders are ignored")
    arguments.add_style(parser, dest="styles", default=None, required=True)
    arguments.add_output(parser, help="output folder")
    about = "of the output files (default: png)"
    suffixes = ["png", "jpg", "webp", "tiff"]
    parser.add_argument("--format", choices=suffixes, default="png", help=about)
    parser.add_argument("--overwrite", action="store_true", help="do not skip existing outputs")
    group = parser.add_mutually_exclusive_group()
    about = "stylize N pictures at a time, in worker processes"
    group.add_argument("--workers", type=int, metavar="N", help=about)
    about = "use the Dask cluster of this scheduler"
    group.add_argument("--dask", metavar="ADDRESS", help=about)
    arguments.add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Stylize the pictures, and return the exit status: 1 if one failed."""
    styles = parse_styles(options.styles)
    outputs, num_skipped = find_pictures(options)
    if not outputs:
        return save_all([], outputs, num_skipped, options)
    _check_options(outputs, styles, options)
    with workers(options) as (executor, settings):
        transfer = build.make_transfer(options, build.load_network(options))
        settings = {**settings, **build.run_arguments(options)}
        with closing(transfer.map(outputs, styles, executor=executor, **settings)) as results:
            return save_all(results, outputs, num_skipped, options)


def _check_options(
    pictures: Iterable[Path], styles: list[Style], options: argparse.Namespace
) -> None:
    """Refuse what is wrong for all pictures. What is wrong for one is reported by its own run."""
    refusal = None
    for path in itertools.islice(pictures, _NUM_CHECKED):
        try:
            pixels = read_picture(path).pixels
        except (OSError, ValueError, MemoryError):
            continue
        try:
            return check_run(options, pixels, styles)
        except ValueError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    check_run(options, torch.full((1, 3, 512, 512), 0.5), styles)  # none of them can be read


@contextmanager
def workers(options: argparse.Namespace) -> Iterator[tuple[Executor | None, dict[str, Any]]]:
    """Yield the executor that the options ask for, and further arguments of `StyleTransfer.map`."""
    if options.dask is not None:
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise ImportError(
                "`--dask` needs Dask, which is not installed. Run `pip install 'nst[dask]'`."
            ) from error
        with distributed.Client(options.dask, set_as_default=False, timeout=10) as client:
            count = sum(client.nthreads().values())
            if count == 0:
                raise ValueError(
                    f"`--dask` is {options.dask!r}, which has no workers; one is needed. "
                    "Run `dask worker` with the same address."
                )
            yield client.get_executor(), {"max_in_flight": 2 * count}
    elif options.workers is not None:
        count = at_least("--workers", options.workers, 1)
        threads = max(1, (os.cpu_count() or 1) // count)
        others = set(multiprocessing.active_children())
        # Not forked: that can hang where PyTorch has started threads.
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            try:
                yield pool, {"max_in_flight": 2 * count, "num_threads": threads}
            except BaseException:  # such as Ctrl-C: a pool would finish all submitted work
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise
    else:
        yield None, {"callbacks": build.make_callbacks(options)}


def save_all(
    results: Iterable[MapResult],
    outputs: Mapping[Path, Path],
    num_skipped: int,
    options: argparse.Namespace,
) -> int:
    """Save pictures as they are finished, report those that failed, and print a summary.

    Returns the exit status.
    """
    start, targets = time.perf_counter(), list(outputs.values())
    done = failed = 0
    try:
        for each in results:
            if each.result is None:
                failed += 1
                sys.stderr.write(f"nst: error: {each.name}: {one_line(each.error)}\n")
                continue
            if each.result.stop_reason == "interrupted":
                raise KeyboardInterrupt
            each.result.save(targets[each.index])
            done += 1
            if not options.quiet:
                say(f"[{done + failed}/{len(targets)}] {targets[each.index].resolve()}")
    except BrokenExecutor as error:
        sys.stderr.write(f"nst: error: {one_line(error)}\n")
    finally:
        if not options.quiet:
            taken = duration(time.perf_counter() - start)
            parts = [f"{done} of {len(targets)} pictures in {taken}"]
            parts += [f"{failed} failed"] if failed else []
            parts += [f"{num_skipped} skipped because their output exists"] if num_skipped else []
            say(", ".join(parts))
    return 1 if failed else 0


def find_pictures(options: argparse.Namespace) -> tuple[dict[Path, Path], int]:
    """Return the pictures to stylize, each with its output file, and the number of skipped ones.

    The output folder is created.
    """
    folder, target = Path(options.folder), Path(options.output)
    inputs = check_inputs(options)
    _check_folders(folder, target)
    sources: dict[Path, Path] = {}
    for picture in _pictures(folder):
        output = target / f"{picture.stem}.{options.format}"
        if output in sources:
            raise ValueError(
                f"`FOLDER` has {sources[output].name!r} and {picture.name!r}, which would both be "
                f"written to {str(output)!r}. Give one of them another name."
            )
        sources[output] = picture
    target.mkdir(exist_ok=True)
    read = {_identity(Path(path)): name for name, path in inputs}
    read.update({_identity(picture): picture.name for picture in sources.values()})
    outputs = {p: o for o, p in sources.items() if options.overwrite or not o.exists()}
    for output in outputs.values():
        check_output(output, name="--output")
        if output.exists() and _identity(output) in read:
            raise ValueError(
                f"`--output`: {str(output)!r} is also `{read[_identity(output)]}` and would be "
                "overwritten. Choose another folder."
            )
    return outputs, len(sources) - len(outputs)


def _check_folders(folder: Path, target: Path) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(f"`FOLDER` is {str(folder)!r}; it must be a folder that exists.")
    if not target.is_dir() and (target.exists() or not target.absolute().parent.is_dir()):
        raise NotADirectoryError(
            f"`--output` is {str(target)!r}; it must be a folder, or a new one in a folder that "
            "exists."
        )
    if target.exists() and target.samefile(folder):
        raise ValueError(
            f"`--output` is {str(target)!r}, the folder of the pictures themselves. Choose another."
        )


def _pictures(folder: Path) -> list[Path]:
    """Return the files with the suffix of a picture, sorted; warn about others."""
    formats = Image.registered_extensions()  # also loads Pillow's plug-ins, which fill Image.OPEN
    suffixes = {suffix for suffix, name in formats.items() if name in Image.OPEN}
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in suffixes]
    others = [path.name for path in files if path not in pictures]
    if not pictures:
        raise ValueError(
            f"`FOLDER` is {str(folder)!r}, which contains no pictures. Check the path."
        )
    if others:
        logger.warning("skipped files without the suffix of a picture: %s", ", ".join(others))
    return pictures


def _identity(path: Path) -> tuple[int, int]:
    """Return what all links to a file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino
