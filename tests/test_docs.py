"""The documentation builds without a warning and leaves nothing out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nst
from nst._presets import preset

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
MARKDOWN_PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # The theme otherwise prints a banner about a future version of mkdocs.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    build = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


def html_of(site: Path, page: str) -> str:
    path = site / page
    folder = path.parent if path.stem == "index" else path.with_suffix("")
    return (folder / "index.html").read_text(encoding="utf-8")


class Pictures(HTMLParser):
    """Collects the attributes of every <img>."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


def pictures() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for match in MARKDOWN_PICTURE.finditer((DOCS / page).read_text(encoding="utf-8")):
            yield page, match["alt"], match["target"]


@pytest.mark.parametrize("page", PAGES)
def test_the_strict_build_renders_every_page(site: Path, page: str) -> None:
    assert "<h1" in html_of(site, page)


@pytest.mark.parametrize("name", nst.__all__)
def test_the_api_reference_documents_every_public_name(site: Path, name: str) -> None:
    api = "".join(html_of(site, page) for page in PAGES if page.startswith("api/"))
    assert f'id="nst.{name}"' in api


@pytest.mark.parametrize("module", ["color", "functional", "images", "plotting", "testing"])
def test_the_api_reference_documents_every_public_module(site: Path, module: str) -> None:
    api = "".join(html_of(site, page) for page in PAGES if page.startswith("api/"))
    assert f'id="nst.{module}.' in api


def test_no_docstring_example_is_taken_for_prose(site: Path) -> None:
    for page in PAGES:
        assert "<blockquote>" not in html_of(site, page), page


def test_every_page_is_in_the_navigation() -> None:
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .+: (\S+\.md)$", configuration, flags=re.MULTILINE)
    assert sorted(listed) == PAGES


def test_the_pages_tell_the_defaults_as_they_are() -> None:
    recipe = preset("default")
    weight, num_steps = recipe["losses"]["content"].weight, recipe["num_steps"]
    home = (DOCS / "index.md").read_text(encoding="utf-8")
    assert f'ContentLoss(["relu4_2"], weight={weight})' in home
    assert f"num_steps={num_steps}," in home
    quickstart = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    assert f"| {weight} | the default |" in quickstart


def test_every_picture_exists_and_is_described() -> None:
    found = list(pictures())
    assert found
    for page, alt, target in found:
        assert len(alt) > 20, f"{page}: {target} needs a description"
        assert ((DOCS / page).parent / target).is_file(), f"{page}: {target} is missing"


def test_every_picture_on_the_site_has_a_description(site: Path) -> None:
    for page in PAGES:
        parser = Pictures()
        parser.feed(html_of(site, page))
        assert all(picture.get("alt") for picture in parser.found), page


def test_every_test_that_the_comparison_names_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (DOCS / "comparison.md").read_text())
    assert len(named) > 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"
