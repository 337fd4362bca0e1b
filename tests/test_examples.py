"""The examples of the documentation run as they stand, and so does the script of its gallery."""

import importlib
import importlib.util
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nst import Style, StyleTransfer
from nst.images import read_record
from nst.testing import check_loss, tiny_extractor
from tests.cli.running import needs_skimage

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


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("render_gallery")


@needs_skimage
def test_every_picture_of_the_gallery_can_be_rendered(
    gallery: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {name: Image.new("RGB", (48, 32), (i, 99, 40)) for i, name in enumerate(gallery.INPUTS)}
    for name in ("cup", "table"):
        small[name] = Image.new("L", (48, 32), 255)
    monkeypatch.setattr(gallery, "INPUTS", {name: small[name].copy for name in small})
    at = gallery.make_inputs(tmp_path / "inputs")
    for name in gallery.PICTURES:
        result = gallery.render(name, at, tiny_extractor(), size=48, num_steps=2)
        assert result.image.shape[-1] == 48
        assert {given["name"] for given in result.settings["inputs"].values()} <= {
            path.name for path in at.values()
        }


@needs_skimage
def test_the_gallery_shows_what_is_rendered_with_its_record(gallery: Any) -> None:
    names = sorted(gallery.PICTURES)
    shown = re.findall(
        r"\]\(images/gallery/([\w-]+)\.jpg", (ROOT / "docs" / "gallery.md").read_text()
    )
    assert sorted(shown) == names
    assert sorted(path.stem for path in GALLERY.glob("*.jpg")) == names
    for path in GALLERY.glob("*.jpg"):
        assert read_record(path)["num_steps"] > 0


def test_no_picture_of_the_documentation_is_too_large() -> None:
    pictures = [*(ROOT / "docs").rglob("*.jpg"), *(ROOT / "docs").rglob("*.png")]
    assert pictures
    for path in pictures:
        assert path.stat().st_size < LARGEST, path
