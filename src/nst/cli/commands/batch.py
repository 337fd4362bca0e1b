"""`nst batch`: stylize all pictures of a folder."""

import itertools
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import BrokenExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from nst._batch.map import MapResult
from nst._utils.text import duration, one_line, say
from nst.cli import arguments, build
from nst.cli.arguments import given
from nst.cli.check import check_inputs, check_run
from nst.cli.parser import Parser
from nst.cli.styles import explain, identity, in_folder, parse_styles
from nst.cli.workers import complete_devices, workers
from nst.images import check_output, read_picture
from nst.images.write import check_encoding, format_of
from nst.styles.style import Style
from nst.transfer import StyleTransfer
from nst.video.pictures import pictures_in

HELP = "stylize all photographs of a folder"
USAGE = "FOLDER --style STYLE -o OUT"
DESCRIPTION = (
    "Repaint every picture of FOLDER in the style of STYLE; several styles are blended. Pictures "
    "whose output exists are skipped, so the same command resumes after an interruption. If "
    "STYLE is a folder, every picture is repainted in the style of each painting in it."
)
EXAMPLES = """\
nst batch photos --style painting.jpg -o stylized
nst batch photos --style paintings -o stylized --format jpg
nst batch photos --style painting.jpg -o stylized --workers 2"""
_NUM_CHECKED = 16  # pictures to check the options with, which may be wrong for one only


def add_arguments(parser: Parser) -> None:
    parser.epilog = explain()
    parser.add_argument("folder", metavar="FOLDER", help="photographs; subfolders are ignored")
    arguments.add_style(parser, dest="styles", required=True)
    arguments.add_output(parser, help="output folder")
    about, suffixes = "of the output files (default: png)", ["png", "jpg", "webp", "tiff"]
    parser.add_argument("--format", choices=suffixes, default="png", help=about)
    parser.add_argument("--overwrite", action="store_true", help="do not skip existing outputs")
    arguments.add_workers(parser)
    arguments.add_options(parser)


def complete(options: Namespace) -> None:
    complete_devices(options)


def run(options: Namespace) -> int:
    check_encoding(format_of(options.format), **given(options, arguments.ENCODING))
    jobs: list[tuple[list[Style], dict[Path, Path]]] = []
    num_skipped = 0
    by_ending = _styles_by_ending(options)
    options.styles = [spec for _, specs in by_ending for spec in specs]
    inputs = check_inputs(options)
    for ending, specs in by_ending:
        options.styles, styles = specs, parse_styles(specs)
        outputs, skipped = find_pictures(options, ending, [path for _, path in inputs])
        num_skipped += skipped
        if outputs:
            _check_options(outputs, styles, options)
            jobs.append((styles, outputs))
    targets = [output for _, outputs in jobs for output in outputs.values()]
    if twice := {str(each) for each, count in Counter(targets).items() if count > 1}:
        raise ValueError(f"`--output`: two pictures would both be {min(twice)!r}. Rename one.")
    if not jobs:
        return save_all([], 0, num_skipped, options)
    with workers(options) as (executor, settings):
        transfer = build.load_transfer(options)
        settings = {"executor": executor, **settings, **build.run_arguments(options)}
        with closing(_results(transfer, jobs, settings)) as results:
            return save_all(results, len(targets), num_skipped, options)


def _styles_by_ending(options: Namespace) -> list[tuple[str, list[str]]]:
    """Return the end of the outputs' names with the styles, for each painting of a folder."""
    specs: list[str] = options.styles
    folder = next((found for spec in specs if (found := in_folder(spec))), None)
    if folder is None:
        return [("", specs)]
    if len(specs) > 1:
        raise ValueError(f"`--style` is the folder {str(folder[0])!r} and others. Pass one folder.")
    if identity(options.output) == identity(folder[0]):
        what = f"`--output` is {options.output!r}, the folder of the paintings"
        raise ValueError(f"{what}. Choose another.")
    return [(f"-{path.stem}", [f"{path}{folder[1]}"]) for path in pictures_in(folder[0], "--style")]


def _results(
    transfer: StyleTransfer, jobs: list[tuple[list[Style], dict[Path, Path]]], settings: Any
) -> Generator[tuple[MapResult, Path], None, None]:
    """Yield the result of each picture in each style, and its output."""
    for styles, outputs in jobs:
        targets = list(outputs.values())
        with closing(transfer.map(outputs, styles, **settings)) as results:
            for each in results:
                yield each, targets[each.index]


def _check_options(pictures: Iterable[Path], styles: list[Style], options: Namespace) -> None:
    """Refuse options that are wrong for all pictures; runs report those wrong for one."""
    refusal = None
    for path in itertools.islice(pictures, _NUM_CHECKED):
        try:
            pixels = read_picture(path).pixels
        except (OSError, ValueError, MemoryError):
            continue
        try:
            check_run(options, pixels, styles)
            return
        except ValueError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    picture = torch.full((1, 3, 512, 512), 0.5, dtype=torch.float32, device="cpu")
    check_run(options, picture, styles)  # no picture can be read


def save_all(
    results: Iterable[tuple[MapResult, Path]], total: int, num_skipped: int, options: Namespace
) -> int:
    """Save finished pictures, report failed ones, print a summary, and return the exit status."""
    start, done, failed = time.perf_counter(), 0, 0
    try:
        for each, target in results:
            failure = each.error
            if each.result is not None:
                if each.result.stop_reason == "interrupted":
                    raise KeyboardInterrupt
                try:
                    saving = given(options, arguments.SAVING)
                    build.save_or_rescue(each.result.save, target, **saving)
                except (OSError, ValueError) as error:
                    failure = error
            if failure is not None:
                failed += 1
                say(f"nst: error: {each.name}: {one_line(failure)}", "stderr")
                continue
            done += 1
            build.report(f"[{done + failed}/{total}] {target.resolve()}", options)
    except BrokenExecutor as error:
        say(f"nst: error: {one_line(error)}", "stderr")
    finally:
        summary = f"{done} of {total} pictures in {duration(time.perf_counter() - start)}"
        summary += f", {failed} failed" if failed else ""
        summary += f", {num_skipped} skipped because their output exists" if num_skipped else ""
        build.report(summary, options)
    return 1 if failed else 0


def find_pictures(
    options: Namespace, ending: str, inputs: Iterable[str]
) -> tuple[dict[Path, Path], int]:
    """Return pictures and their output files, whose names have this ending, and create the folder.

    The second value is the number of pictures that are skipped. No output may be one of `inputs`.
    """
    folder, target = Path(options.folder), Path(options.output)
    what = f"`--output` is {str(target)!r}"
    if not folder.is_dir():
        raise NotADirectoryError(f"`FOLDER` is {str(folder)!r}; it must be a folder that exists.")
    if not target.is_dir() and (target.exists() or not target.absolute().parent.is_dir()):
        raise NotADirectoryError(f"{what}; it must be a folder, or new in a folder that exists.")
    if identity(target) == identity(folder):
        raise ValueError(f"{what}, the folder of the pictures themselves. Choose another.")
    sources: dict[Path, Path] = {}
    for picture in pictures_in(folder, "FOLDER"):
        output = target / f"{picture.stem}{ending}.{options.format}"
        if output in sources:
            raise ValueError(
                f"`FOLDER` has {sources[output].name!r} and {picture.name!r}, which would both be "
                f"written to {str(output)!r}. Give one of them another name."
            )
        sources[output] = picture
    target.mkdir(exist_ok=True)
    read = {identity(path): path for path in (*inputs, *map(str, sources.values()))}
    outputs = {p: o for o, p in sources.items() if options.overwrite or not o.exists()}
    for output in outputs.values():
        check_output(output, name="--output")
        if output.exists() and (path := read.get(identity(output))):
            raise ValueError(
                f"`--output`: {str(output)!r} is also the input {path!r} and would be "
                "overwritten. Choose another folder."
            )
    return outputs, len(sources) - len(outputs)
