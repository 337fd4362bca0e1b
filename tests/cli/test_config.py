import sys
from pathlib import Path

import pytest

from nst.cli.config import _toml_reader, read_config

OPTIONS = dict.fromkeys(["content", "size", "init", "style"], True)
OPTIONS |= {"normalize-gradients": False, "estimate": False}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def test_what_is_written_becomes_words_of_the_command_line(path: Path) -> None:
    path.write_text(
        'content = "photo.png"\ninit = "gray"\nsize = 64\nnormalize_gradients = true\n'
        "estimate = false\n"
        'style = ["a.png", {image = "b.png", weight = 2, region = "alpha"}]\n'
    )
    assert read_config(str(path), OPTIONS) == [
        f"--content={path.parent / 'photo.png'}",
        "--init=gray",
        "--size=64",
        "--normalize-gradients",
        f"--style={path.parent / 'a.png'}",
        f"--style={path.parent / 'b.png'},weight=2,region=alpha",
    ]


@pytest.mark.parametrize("name", ["tomllib", "tomli", None])
def test_either_reader_of_toml_will_do_and_without_one_the_extra_is_named(
    name: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("size = 64\n")
    reader = _toml_reader()
    for module in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, module, reader if module == name else None)
    if name is not None:
        assert read_config(str(path), OPTIONS) == ["--size=64"]
        return
    with pytest.raises(ImportError, match=r"Python 3\.10. Run `pip install 'nst\[toml\]'`"):
        read_config(str(path), OPTIONS)


def test_the_extra_that_is_named_exists() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extras = _toml_reader().loads(text)["project"]["optional-dependencies"]
    assert extras["toml"] == ["tomli>=2; python_version < '3.11'"]
    assert any("toml" in each for each in extras["dev"] if each.startswith("nst["))
