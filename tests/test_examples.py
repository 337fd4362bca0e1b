"""The examples of the documentation run as they stand, and so does the script of its gallery."""

import importlib
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

from nst import Style, StyleTransfer
from nst.images import read_record
from nst.testing import check_loss, tiny_extractor

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
PAGES = sorted((ROOT / "docs").rglob("*.md"))
GALLERY = ROOT / "docs" / "images" / "gallery"
LARGEST = 300_000


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_shown_on_a_page(path: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    parts = re.findall(r"\[start:([\w-]+)\]", path.read_text(encoding="utf-8"))
    for shown in [f"{path.name}:{part}" for part in parts] or [path.name]:
        assert f"--8<--\n{shown}\n--8<--" in text, shown


def test_the_loss_from_a_paper_keeps_its_promises_in_blends_and_regions(small_world: Path) -> None:
    loss = runpy.run_path(str(ROOT / "docs" / "examples" / "symmetric_kl.py"))["SymmetricKLLoss"]
    layers = ["relu1_1", "relu2_1"]
    check_loss(loss(layers))
    transfer = StyleTransfer(tiny_extractor(), {"style": loss(layers)}, num_steps=6)
    both = transfer.run("photo.jpg", ["painting.jpg", "other.jpg"])
    masked = transfer.run("photo.jpg", Style("painting.jpg", region="mask.png"))
    for result in (both, masked):
        assert result.history["style"][-1] < result.history["style"][0]


def test_the_gallery_shows_what_its_commands_make_with_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    commands = importlib.import_module("render_gallery").read_commands()
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(images/gallery/([\w-]+)\.jpg", page)
    files = sorted(GALLERY.iterdir())
    assert sorted(shown) == sorted(commands) == [path.stem for path in files]
    for path in files:
        for given in read_record(path)["inputs"].values():
            assert given["name"] in " ".join(commands[path.stem])


def test_no_picture_of_the_documentation_is_too_large() -> None:
    pictures = [*(ROOT / "docs").rglob("*.jpg"), *(ROOT / "docs").rglob("*.png")]
    assert pictures
    for path in pictures:
        assert path.stat().st_size < LARGEST, path
