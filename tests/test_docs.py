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
from nst.presets import preset

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
PLAIN_EXTENSIONS = {"admonition", "attr_list", "md_in_html", "tables", "toc"}
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


def test_the_site_asks_for_nothing_that_another_builder_lacks() -> None:
    """Zensical reads the same file; its own plugins and Python-Markdown's extensions are few."""
    yaml = pytest.importorskip("yaml")
    configuration = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    plugins, extensions = (
        {next(iter(each)) if isinstance(each, dict) else each for each in configuration[key]}
        for key in ("plugins", "markdown_extensions")
    )
    assert plugins == {"search", "mkdocstrings"}
    assert {name for name in extensions if not name.startswith("pymdownx.")} <= PLAIN_EXTENSIONS
    assert "hooks" not in configuration and "custom_dir" not in configuration["theme"]


def test_every_page_is_in_the_navigation() -> None:
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .+: (\S+\.md)$", configuration, flags=re.MULTILINE)
    assert sorted(listed) == PAGES


def test_the_pages_tell_the_defaults_as_they_are() -> None:
    recipe = preset("default")
    weight, num_steps = recipe["losses"]["content"].weight, nst.StyleTransfer.num_steps
    home = (DOCS / "index.md").read_text(encoding="utf-8")
    assert f'ContentLoss(["relu4_2"], weight={weight})' in home
    assert f"num_steps={num_steps}," in home
    quickstart = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    assert f"| {weight} | the default |" in quickstart


def test_every_formula_can_be_drawn() -> None:
    script = (DOCS / "javascripts" / "formulas.js").read_text(encoding="utf-8")
    sources = [*DOCS.rglob("*.md"), *(ROOT / "src" / "nst").rglob("*.py")]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for formula in re.findall(r"\$\$(.+?)\$\$|\\\((.+?)\\\)", text, flags=re.DOTALL):
            for command in re.findall(r"\\([A-Za-z]+)", "".join(formula)):
                assert re.search(rf"\b{command}\b", script), f"{path.name}: \\{command}"


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    foreign = re.compile(r"""<(script|link|img)[^>]*(src|href)="https?:""")
    for page in PAGES:
        assert not foreign.search(html_of(site, page)), page


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


def rows_of(path: Path, columns: list[int]) -> dict[str, list[str]]:
    """Read the table of a page: the first cell of each row, and some of the others."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: [row[i] for i in columns] for row in cells if len(row) > max(columns)}


def test_the_readme_compares_as_the_comparison_does() -> None:
    short = rows_of(ROOT / "README.md", [1, 2, 3, 4, 5, 6])
    full = rows_of(DOCS / "comparison.md", [1, 2, 3, 4, 5, 10])
    names = [name for name in short if name.strip("-")]
    assert len(names) > 8
    for name in names:
        assert short[name] == full[name], name


def test_every_test_that_the_comparison_names_is_there() -> None:
    named = re.findall(r"`(test_\w+)`", (DOCS / "comparison.md").read_text())
    assert len(named) > 40
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in sources] == []
