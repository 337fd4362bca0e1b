import sys
from pathlib import Path

import pytest
from PIL import Image

from nst import Style
from nst.cli.config import _toml_reader, read_config
from nst.cli.main import parse
from nst.cli.styles import parse_style

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


def test_a_text_names_a_style_and_its_mask_in_the_folder_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "recipes, 2024"
    folder.mkdir()
    for name in ("waves.png", "left.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    table = '{image = "waves.png", weight = 0.7, region = "left.png"}'
    (folder / "recipe.toml").write_text(f'style = ["waves.png:0.7@left.png", {table}]\n')
    words = read_config(str(folder / "recipe.toml"), OPTIONS)
    style = Style(f"{folder}/waves.png", weight=0.7, region=f"{folder}/left.png")
    assert [repr(parse_style(word.removeprefix("--style="))) for word in words] == [repr(style)] * 2


def test_an_option_takes_precedence_over_one_in_a_file_that_excludes_it(path: Path) -> None:
    path.write_text("workers = 2\n")
    line = ["video", "photos", "a.png", "-o", "out", "--config", str(path)]
    assert parse(line).workers == 2
    options = parse([*line, "--devices", "cpu"])
    assert (options.workers, options.devices) == (None, ["cpu"])


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
