"""Build the transfer and callbacks that options describe; run it, and save the result."""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from nst._engine.configuration import take_weights
from nst._engine.run import persistently
from nst._record.replay import recorded_extractor
from nst._utils.group import Group
from nst._utils.text import say
from nst.callbacks.base import Callback
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.live_page import LivePage
from nst.callbacks.progress import ProgressBar
from nst.callbacks.save_images import SaveImages
from nst.cli.arguments import NETWORK, REPLACEABLE, SAVING, VGG19, given, parameters_of
from nst.cli.interrupt import EndAfterStep
from nst.cli.losses import change_losses
from nst.cli.styles import parse_mask
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.base import Extractor
from nst.extractors.vgg import FeatureExtractor
from nst.losses import LOSSES
from nst.presets import preset
from nst.result import StyleTransferResult
from nst.transfer import StyleTransfer

T = TypeVar("T")
_RUN = parameters_of(StyleTransfer.run)


def load_networks(cells: Sequence[Namespace]) -> list[Extractor]:
    """Load the network of each cell of a contact sheet; equal ones are shared."""
    load = cache(_load_network)
    return [load(cell.network, **given(cell, NETWORK)) for cell in cells]


def _load_network(network: str, **settings: Any) -> Extractor:
    if network == VGG19:
        return FeatureExtractor(**settings)
    chosen = {name: each for name, each in settings.items() if each != "auto"}
    return BackboneExtractor.from_torchvision(network, **chosen)


def load_transfer(options: Namespace) -> StyleTransfer:
    """Load the network, which may be a download, and return the transfer."""
    return make_transfer(options, *load_networks([options]))


def make_transfer(options: Namespace, network: nn.Module) -> StyleTransfer:
    """Return the transfer: the preset, changed by the given options."""
    arguments = preset(options.preset, options.motifs)
    arguments |= given(options, parameters_of(StyleTransfer))
    arguments["losses"] = change_losses(arguments["losses"], options)
    take_weights(arguments["losses"], arguments)
    return StyleTransfer(network, **arguments)


def run_arguments(options: Namespace) -> dict[str, Any]:
    """Return the arguments of a run, except the pictures and callbacks."""
    arguments = given(options, _RUN)
    if arguments.get("where") is not None:
        arguments["where"] = parse_mask(arguments["where"])
    return arguments


def replacements(options: Namespace, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that replace those of a recorded run."""
    remedy = "Enter the command that started the run again, which resumes it."
    if options.command == "rerun":
        remedy = "It can be made again only in Python, with StyleTransfer.rerun(losses=...)."
    # A forged record is refused later.
    with suppress(AttributeError, LookupError, TypeError):
        for name, loss in record["losses"].items():
            if loss["type"] not in LOSSES:
                what = f"the loss {name!r} of type {loss['type']!r}, which is not nst's own"
                raise ValueError(f"`nst {options.command}` cannot create {what}. {remedy}")
    replaced = given(options, REPLACEABLE)
    if options.weights is not None:
        replaced["extractor"] = recorded_extractor(record, options.weights)
    return replaced


def make_callbacks(options: Namespace) -> list[Callback]:
    """Return the callbacks that the options request, except the page."""
    callbacks: list[Callback] = []
    if getattr(options, "save_every", None) is not None:
        callbacks.append(SaveImages(steps_folder(Path(options.output)), options.save_every))
    if options.command == "resume" or getattr(options, "checkpoint", None) is not None:
        callbacks.append(EndAfterStep())
    if getattr(options, "checkpoint", None) is not None:
        every = [] if options.checkpoint_every is None else [options.checkpoint_every]
        callbacks.append(Checkpoint(options.checkpoint, *every, **given(options, ["metadata"])))
    if not options.quiet:  # last, so that no error of the others follows a progress bar
        callbacks.append(ProgressBar())
    return callbacks


def steps_folder(output: Path) -> Path:
    """Return the folder that `--save-every` writes to."""
    return output.with_name(f"{output.stem}-steps")


@contextmanager
def live_callbacks(options: Namespace, every: int = 5) -> Iterator[list[Callback]]:
    """Yield the callbacks, and serve the page of the run meanwhile, if requested."""
    callbacks = make_callbacks(options)
    if options.page is None:
        yield callbacks
        return
    with LivePage(options.page, every=every) as page:
        if not options.quiet:
            say(f"nst: the run is shown at {page.url}", "stderr")
        yield [page, *callbacks]


def paint(
    options: Namespace,
    method: Callable[..., StyleTransferResult],
    *pictures: Any,
    resumes: bool = False,
) -> None:
    """Call a method of the transfer, or resume its run from the checkpoint; save the result."""
    with live_callbacks(options) as callbacks:
        transfer = load_transfer(options)
        if resumes:
            if not options.quiet:
                say(f"nst: the run in {options.checkpoint!r} is resumed", "stderr")
            result = StyleTransfer.resume(
                options.checkpoint,
                callbacks=callbacks,
                extractor=transfer.extractor,
                losses=transfer.losses,
                **given(options, REPLACEABLE),
            )
        else:
            result = method(transfer, *pictures, callbacks=callbacks, **run_arguments(options))
        save_result(result, options)


def save_result(result: StyleTransferResult, options: Namespace) -> None:
    """Save a result and report it, in the first process only."""
    if Group.current().rank > 0:
        return
    settings = given(options, SAVING)
    saved = persistently(partial(save_or_rescue, result.save, options.output, **settings))
    height, width = result.image.shape[-2:]
    used = {"network": "VGG19", **result.settings["extractor"]}
    report(
        f"{width}x{height} pixels, {result.num_steps} steps in {result.seconds:.0f} s "
        f"({result.stop_reason}), {used['network']} weights: {used['weights']}",
        options,
    )
    for path in saved:
        report(path.resolve(), options)


def save_or_rescue(save: Callable[..., T], output: str | Path, **settings: Any) -> T:
    """Save to `output`; if that fails, to a temporary folder that the error names."""
    try:
        return save(Path(output), **settings)
    except OSError as error:
        remedy = _rescue(save, Path(output).name, settings)
        raise OSError(f"{error} {remedy}") from error


def _rescue(save: Callable[..., object], name: str, settings: dict[str, Any]) -> str:
    """Save to a temporary folder, and return a sentence that says whether that succeeded."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="nst-"))
    except OSError:
        return "There is no temporary folder to save the picture to."
    try:
        for path in (folder / name, (folder / name).with_suffix(".png")):
            with suppress(OSError):
                save(path, **settings)
                return f"The picture is in {str(path)!r} instead."
            settings = {**settings, "quality": None}  # which PNG does not have
        return f"It could not be saved in {str(folder.parent)!r} either."
    finally:
        with suppress(OSError):  # it holds the picture, or some of a batch
            folder.rmdir()


def report(line: object, options: Namespace) -> None:
    """Print a line on standard output, unless `--quiet` is given."""
    if not options.quiet:
        say(str(line))
