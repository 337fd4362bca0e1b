"""Checks before the weights are loaded, which may be a download."""

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nst._engine.configuration import RunOptions
from nst._engine.inputs import RunInputs
from nst._engine.run import describe_run
from nst._record.replay import run_difference
from nst._utils.files import check_place
from nst._utils.plain import hash_file, hash_network
from nst._utils.text import logger
from nst.callbacks.checkpoint import (
    check_replaceable,
    read_checkpoint_record,
    read_unfinished,
)
from nst.cli import build
from nst.cli.arguments import ENCODING, KNOWN_WORDS, NETWORK, VGG19, given
from nst.cli.styles import identity, mask_file, paths_of
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.base import Extractor
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.images import ImageLike, check_input, check_output, read_record
from nst.images.write import check_encoding, check_shape, format_of
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style
from nst.transfer import StyleTransfer


def check_files(options: Namespace) -> None:
    """Refuse inputs that cannot be read, and outputs that cannot be written or are inputs."""
    output, inputs = Path(options.output), check_inputs(options)
    what, remedy = f"`--output` is {str(output)!r}, which", "overwritten. Choose another name."
    if options.command == "capture":
        check_place(output, name="--output", example="style.nst")
    else:
        check_output(output, name="--output")
        check_encoding(format_of(output.suffix[1:]), **given(options, ENCODING))
    for name, path in inputs:
        if output.exists() and identity(output) == identity(path):
            raise ValueError(f"{what} is also `{name}` and would be {remedy}")
    recorded = ""
    for name, read in (("picture", read_record), ("file", read_checkpoint_record)):
        if (made := getattr(options, name, None)) is not None:
            recorded = json.dumps(read(made))  # which has the hashes of the inputs
            if output.is_file() and hash_file(output) in recorded:
                raise ValueError(f"{what} {made!r} was made from and which would be {remedy}")
    if getattr(options, "checkpoint", None) is not None:
        checkpoint = Path(options.checkpoint)
        if checkpoint.resolve() == output.resolve():
            raise ValueError(
                f"`--checkpoint` is {str(checkpoint)!r}, which is also `--output`. Choose another "
                "name."
            )
        check_replaceable(checkpoint, name="--checkpoint")  # which refuses all inputs
    if getattr(options, "save_every", None) is not None:
        _check_steps(build.steps_folder(output), inputs, recorded)


def check_inputs(options: Namespace) -> list[tuple[str, str]]:
    """Refuse inputs that cannot be read; return the names and paths of all."""
    inputs = []
    for name in ("content", "picture", "file", "--config", "--where", "--init", "--weights"):
        key = name.removeprefix("--")
        path, words = getattr(options, key, None), KNOWN_WORDS.get(key, ())
        path = mask_file(path) if key == "where" and path is not None else path
        if path is not None and path not in words:
            try:
                check_input(path, name=name)
            except FileNotFoundError as error:
                if not words:
                    raise
                raise FileNotFoundError(f"{error} Or use {', '.join(words)}.") from error
            inputs.append((name, path))
    for i, spec in enumerate(getattr(options, "styles", [])):
        inputs += paths_of(spec, f"style[{i}]").items()
    return inputs + [("--inputs", path) for path in getattr(options, "inputs", [])]


def _check_steps(folder: Path, inputs: list[tuple[str, str]], recorded: str) -> None:
    what = f"`--save-every` writes into {str(folder)!r}"
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{what}, which is a file. Name another output, or move it away.")
    names = {identity(path): f"`{name}` is" for name, path in inputs}
    for file in folder.glob("step-*.png"):
        name = names.get(identity(file))
        if name is None and recorded and file.is_file() and hash_file(file) in recorded:
            name = "the run has an input"
        if name is not None:
            raise ValueError(
                f"{what}, where {name}, {str(file)!r}, which could be overwritten. Name another "
                "output, or copy it elsewhere."
            )


def check_run(options: Namespace, content: ImageLike, styles: Sequence[Style]) -> dict[str, Any]:
    """Check the whole configuration of a run, without its network, and return its record."""
    with weightless(options, styles) as (transfer, adopted):
        chosen = RunOptions(**build.run_arguments(options))
        inputs = RunInputs.read(transfer, content, adopted, chosen)
        check_shape(options.output, inputs.shape, name="--output")
        return describe_run(inputs)


def resumes_run(options: Namespace, record: Mapping[str, Any]) -> bool:
    """Return whether `--checkpoint` holds this run, unfinished; refuse that of another run."""
    if options.checkpoint is None or read_unfinished(Path(options.checkpoint)) is None:
        return False
    stored = read_checkpoint_record(options.checkpoint)
    if difference := run_difference(stored, record):
        raise ValueError(
            f"`--checkpoint` is {options.checkpoint!r}, which holds another run (its {difference} "
            f"differs), unfinished after {stored.get('steps_done')} of {stored.get('num_steps')} "
            "steps. Complete it with `nst resume`, choose another name, or delete the file."
        )
    return True


def _weightless_network(options: Namespace) -> Extractor:
    settings = given(options, [name for name in NETWORK if name != "weights"])
    if options.network != VGG19:
        for name in settings.keys() - {"dtype"}:
            raise ValueError(f"`{name}` is only for vgg19, not {options.network}. Leave it out.")
        return BackboneExtractor.from_torchvision(options.network, None, **settings)
    kind: Any = {"dtype": torch.float32, "device": "cpu"}
    tensors = {f"{name}.bias": torch.zeros(1, **kind) for name in CONVOLUTIONS}
    for i, name in enumerate(CONVOLUTIONS):
        tensors[f"{name}.weight"] = torch.ones(1, 1 if i else 3, 3, 3, **kind) / 9
    return FeatureExtractor(Weights(tensors, "none"), **settings)


@contextmanager
def weightless(
    options: Namespace, styles: Sequence[Style]
) -> Iterator[tuple[StyleTransfer, list[Style]]]:
    """Yield the transfer with a network without weights, and the styles as if captured with it."""
    network = _weightless_network(options)
    adopted = list(styles)
    for i, style in enumerate(styles):
        if isinstance(style.image, StyleStatistics):
            adopted[i] = replace(style, image=replace(style.image, network=hash_network(network)))
    before, logger.disabled = logger.disabled, True  # the run will log the same warnings
    try:
        yield build.make_transfer(options, network), adopted
    finally:
        logger.disabled = before
