"""Runs the examples of README.md and docs/ unchanged.

It executes the blocks of Python, and the `nst` lines in blocks of shell. Each page has a folder of
its own with a few small pictures; a network of a few channels replaces VGG19, and runs have few
steps, so that a page needs no weights and takes moments.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.region import Lexeme

from nst._engine.configuration import NumScales, Scale, plan_scales
from nst.cli import main as cli
from nst.extractors.weights import Weights
from nst.images import load_image
from nst.testing import tiny_extractor
from nst.video import write_video

# The files that pages include are run as scripts, by tests/test_examples.py.
collect_ignore_glob = ["docs/examples/*.py"]

_DOCS = Path(__file__).parent / "docs"
_EXAMPLES = _DOCS / "examples"
_IMAGES = _DOCS / "images"
_OF_THE_GALLERY = [
    path.relative_to(_IMAGES)
    for folder in ("photographs", "paintings")
    for path in sorted((_IMAGES / folder).iterdir())
]
_SNIPPET = re.compile(r"^--8<--\n(?P<file>[\w-]+\.py)(:(?P<part>[\w-]+))?\n--8<--$", re.MULTILINE)
_MOST_STEPS = 6
_HEIGHT, _WIDTH = 36, 48
_cleanup = ExitStack()


@pytest.fixture(autouse=True)
def _examples_of_docstrings_write_elsewhere(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    doctest_namespace: dict[str, Any],
) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
        doctest_namespace.update(torch=torch, nn=torch.nn)


@pytest.fixture
def small_world() -> Iterator[Path]:
    """The folder in which an example of the documentation runs in a moment."""
    _prepare({})
    yield Path.cwd()
    _undo({})


def _prepare(namespace: dict[str, Any]) -> None:
    """Prepare a folder and replacements for the examples of a page."""
    folder = Path(_cleanup.enter_context(tempfile.TemporaryDirectory()))
    names = "photo.jpg", "painting.jpg", "other.jpg", "mask.png", "around.png"
    for seed, name in enumerate((*names, "photos/a.jpg", "photos/b.jpg", *_OF_THE_GALLERY)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        mode = "L" if path.suffix == ".png" else "RGB"  # masks are gray
        _smooth_picture(seed).convert(mode).save(path)
    frames = [load_image(_smooth_picture(0).rotate(angle)) for angle in range(6)]
    write_video(frames, folder / "film.mp4", rate=10)
    shutil.copytree(_IMAGES / "gallery", folder / "gallery")
    _cleanup.callback(os.chdir, Path.cwd())
    os.chdir(folder)
    # So small a network is faster on one thread than on several.
    _cleanup.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(1)
    _cleanup.enter_context(patch.dict(os.environ, {"MPLBACKEND": "agg"}))
    for replacement in replacements():
        _cleanup.enter_context(replacement)


def replacements() -> list[Any]:
    """Return patches that make examples fast: few channels, few steps, small pictures."""
    tiny = Weights(tiny_extractor().state_dict(), "tiny")
    return [
        patch("nst.extractors.vgg.load_weights", lambda source="auto": tiny),
        patch("nst._engine.inputs.plan_scales", _plan_few_steps),
        patch("nst._engine.style_capture.plan_scales", lambda *_: [Scale(_WIDTH, 1)]),
    ]


def _undo(namespace: dict[str, Any]) -> None:
    _cleanup.close()


def _smooth_picture(seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (4, 5, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(blocks.numpy()).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)


def _plan_few_steps(size: int, num_steps: int, num_scales: NumScales = "auto") -> list[Scale]:
    return plan_scales(min(size, 64), min(num_steps, _MOST_STEPS), num_scales)


def _run_python(example: Example) -> None:
    """Run a block, with the files of docs/examples that it includes."""
    block = example.parsed
    example.parsed = Lexeme(
        _SNIPPET.sub(_included, block.rstrip()), block.offset, block.line_offset
    )
    PythonEvaluator()(example)


def _included(snippet: re.Match[str]) -> str:
    text = (_EXAMPLES / snippet["file"]).read_text(encoding="utf-8")
    if snippet["part"] is None:
        return text
    start, end = (f"# --8<-- [{edge}:{snippet['part']}]\n" for edge in ("start", "end"))
    return text.split(start)[1].split(end)[0]


def _run_shell(example: Example) -> None:
    """Run the lines of a shell block that call `nst`."""
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        if program == "nst" and arguments != ["samples"]:  # the pictures are there
            try:
                status: object = cli.main(arguments)
            except SystemExit as end:  # --help, --version, and what argparse refuses
                status = end.code
            assert not status, f"{line!r} ended with status {status}"


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", _run_python),
        CodeBlockParser("bash", _run_shell),
        SkipParser(),
    ],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=_prepare,
    teardown=_undo,
).pytest()
