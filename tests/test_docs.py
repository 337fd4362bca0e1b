"""The documentation builds without a warning and leaves nothing out."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_the_strict_build_renders_every_page(site: Path, page: str) -> None:
    html = html_of(site, page)
    assert "<h1" in html
    assert "<blockquote>" not in html, "an example of a docstring was taken for prose"
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)="https?:""", html)
    assert not re.search(r"""<img(?![^>]*alt="[^"])""", html), "a picture has no description"


@pytest.mark.parametrize(
    "name",
    [
        *nst.__all__,
        *(f"{m}." for m in ("color", "functional", "images", "plotting", "testing", "video")),
    ],
)
def test_the_api_reference_documents_every_public_name_and_module(site: Path, name: str) -> None:
    api = "".join(html_of(site, page) for page in PAGES if page.startswith("api/"))
    assert f'id="nst.{name}' + '"' * (not name.endswith(".")) in api


def test_the_site_needs_only_common_extensions() -> None:
    """Zensical reads the same file; its own plugins and Python-Markdown's extensions are few."""
    yaml = pytest.importorskip("yaml")
    configuration = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))
    plugins, extensions = (
        {next(iter(each)) if isinstance(each, dict) else each for each in configuration[key]}
        for key in ("plugins", "markdown_extensions")
    )
    assert plugins == {"search", "mkdocstrings"}
    assert {name for name in extensions if not name.startswith("pymdownx.")} <= PLAIN_EXTENSIONS
    assert "hooks" not in configuration and "custom_dir" not in configuration["theme"]


def navigation() -> list[Any]:
    yaml = pytest.importorskip("yaml")
    entries: list[Any] = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))["nav"]
    return entries


def pages_below(entry: Any) -> list[str]:
    """Return the pages of an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    entries = entry.values() if isinstance(entry, dict) else entry
    return [page for below in entries for page in pages_below(below)]


def test_every_page_is_in_the_navigation() -> None:
    assert sorted(pages_below(navigation())) == PAGES


def test_no_list_of_the_navigation_is_long() -> None:
    lists = [navigation()]
    assert len(lists[0]) <= 7
    for entries in lists:
        assert len(entries) <= 9, entries
        lists += [below for entry in entries for below in entry.values() if isinstance(below, list)]


def test_the_pages_show_the_defaults_as_they_are() -> None:
    recipe = preset("default")
    weight = recipe["losses"]["content"].weight
    assert f'ContentLoss(["relu4_2"], weight={weight})' in text_of(DOCS / "index.md")
    assert f"num_steps={nst.StyleTransfer.num_steps}," in text_of(DOCS / "index.md")
    assert f"| {weight} | the default |" in text_of(DOCS / "getting-started" / "first-picture.md")


def test_every_formula_can_be_drawn() -> None:
    script = text_of(DOCS / "javascripts" / "formulas.js")
    for path in [*DOCS.rglob("*.md"), *(ROOT / "src" / "nst").rglob("*.py")]:
        formulas = re.findall(r"\$\$(.+?)\$\$|\\\((.+?)\\\)", text_of(path), flags=re.DOTALL)
        for command in re.findall(r"\\([A-Za-z]+)", " ".join(map(" ".join, formulas))):
            assert re.search(rf"\b{command}\b", script), f"{path.name}: \\{command}"


def test_every_picture_exists_and_is_described() -> None:
    found = [
        (page, *match) for page in PAGES for match in MARKDOWN_PICTURE.findall(text_of(DOCS / page))
    ]
    assert found
    for page, alt, target in found:
        assert len(alt) > 20, f"{page}: {target} needs a description"
        assert ((DOCS / page).parent / target).is_file(), f"{page}: {target} is missing"


def rows_of(path: Path) -> list[list[str]]:
    """Read the cells of every table row of a page."""
    lines = [line for line in text_of(path).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_only_nst_has_what_the_readme_says_that_only_nst_has() -> None:
    compared = {
        (row[0], tool): row[1:]
        for row in rows_of(DOCS / "comparison.md")
        if (tool := len(row)) in (6, 7)
    }
    claimed = [row[0] for row in rows_of(ROOT / "README.md")[2:]]
    assert 3 < len(claimed) <= 8
    for name in claimed:
        nst_has, *others = compared[name, 7]
        assert nst_has == "✓" and not set(others) & {"✓", "~"}, name
        assert (name, 6) not in compared, name  # where rows without a ✓ or ~ are left out


def test_the_readme_is_short() -> None:
    prose = re.sub(r"```.*?```|\]\([^)]*\)", "]", text_of(ROOT / "README.md"), flags=re.DOTALL)
    assert len(re.findall(r"\S*[A-Za-z]\S*", prose)) <= 500


def test_the_badges_of_the_readme_are_true() -> None:
    project = text_of(ROOT / "pyproject.toml")
    badges = {path.stem: text_of(path) for path in (DOCS / "images" / "badges").glob("*.svg")}
    (oldest,) = re.findall(r'requires-python = ">=(\S+)"', project)
    assert f"python: {oldest}+" in badges["python"]
    (license_name,) = re.findall(r'license = "(\w+)"', project)
    assert f"license: {license_name}" in badges["license"]
    assert "Typing :: Typed" in project and (ROOT / "src" / "nst" / "py.typed").is_file()


def test_every_test_named_in_the_comparison_exists() -> None:
    named = re.findall(r"`(test_\w+)`", text_of(DOCS / "comparison.md"))
    assert len(named) > 40
    sources = "".join(text_of(path) for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in sources] == []
