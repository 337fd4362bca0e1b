"""The files that a command line names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

import nst.cli.main
from nst import StyleTransfer
from nst.testing import tiny_extractor

NAMES = ["photo.png", "a.png", "mask.png", "start.png"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures; whatever loads the network fails."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Image.new("RGB", (32, 32), "white").save(name)
    (tmp_path / "vgg.png").write_bytes(b"weights")

    def load(*_: object, **__: object) -> None:
        raise AssertionError("the network is loaded")

    monkeypatch.setattr("nst.cli.build.FeatureExtractor", load)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


INPUTS = [
    ("stylize photo.png a.png", "photo.png", "content"),
    ("stylize photo.png a.png", "a.png", "style[0]"),
    ("stylize photo.png photo.png --style a.png:0.5,scale=0.5", "a.png", "style[1]"),
    ("stylize photo.png a.png@mask.png", "mask.png", "style[0], region"),
    ("stylize photo.png a.png,mask=mask.png", "mask.png", "style[0], mask"),
    ("stylize photo.png a.png --where mask.png", "mask.png", "--where"),
    ("stylize photo.png a.png --init start.png", "start.png", "--init"),
    ("stylize photo.png a.png --weights vgg.png", "vgg.png", "--weights"),
    ("sheet photo.png a.png --vary seed=1,2", "photo.png", "content"),
    ("sheet photo.png a.png --vary seed=1,2", "a.png", "style[0]"),
    ("sheet photo.png a.png --vary style=a.png,mask.png", "mask.png", "style[0]"),
    ("sheet photo.png a.png --vary where=alpha,mask.png", "mask.png", "--where"),
    ("synthesize a.png", "a.png", "style[0]"),
    ("synthesize a.png --init start.png", "start.png", "--init"),
    ("capture a.png", "a.png", "style[0]"),
    ("capture a.png,mask=mask.png", "mask.png", "style[0], mask"),
    ("demo --where mask.png", "mask.png", "--where"),
]


@pytest.mark.parametrize("place", ["photo.png", "a.png", "out.png", "./out.png", ".", "no/run"])
@pytest.mark.parametrize("command", ["stylize photo.png a.png", "synthesize a.png"])
def test_a_checkpoint_harms_no_file(
    command: str, place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    assert nst.cli.main.main(f"{command} -o out.png --checkpoint {place}".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nst: error: `--checkpoint` is {str(Path(place))!r}, ")
    assert content(folder) == before


@pytest.mark.parametrize(("line", "output", "name"), INPUTS)
@pytest.mark.parametrize("spelling", ["as it is", "another", "absolute", "symlink", "hard link"])
def test_no_command_writes_over_what_it_reads(
    line: str,
    output: str,
    name: str,
    spelling: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if spelling == "another":
        output = f"../{folder.name}/{output}"
    elif spelling == "absolute":
        output = str(folder / output)
    elif spelling == "symlink":
        (folder / "link.png").symlink_to(output)
        output = "link.png"
    elif spelling == "hard link":
        os.link(output, "link.png")
        output = "link.png"
    before = content(folder)
    assert nst.cli.main.main([*line.split(), "-o", output]) == 2
    err = capsys.readouterr().err
    assert f"`--output` is {output!r}, which is also `{name}`" in err
    assert err.endswith("Choose another name.\n")
    assert content(folder) == before


def test_a_file_of_options_is_an_input_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipe.png").write_text('content = "photo.png"\nstyle = "a.png"\n')
    line = "stylize --config recipe.png -o recipe.png"
    assert nst.cli.main.main(line.split()) == 2
    assert "which is also `--config`" in capsys.readouterr().err


@pytest.fixture
def made(folder: Path) -> Path:
    """A picture that tells how it was made, of which the photograph is a link."""
    Image.new("RGB", (32, 32), "navy").save("blue.png")
    (folder / "sea.png").symlink_to("blue.png")
    transfer = StyleTransfer(tiny_extractor(), num_steps=1)
    (path,) = transfer.run("sea.png", "a.png").save(folder / "made.png")
    return path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rerun made.png -o made.png", "which is also `picture`"),
        ("rerun made.png -o a.png", "which 'made.png' was made from"),
        ("rerun made.png -o sea.png", "which 'made.png' was made from"),
        ("rerun made.png -o blue.png", "which 'made.png' was made from"),
        ("rerun made.png -o start.png --inputs start.png", "which is also `--inputs`"),
    ],
)
def test_a_rerun_does_not_write_over_what_the_picture_was_made_from(
    line: str, said: str, made: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    assert nst.cli.main.main(line.split()) == 2
    assert said in capsys.readouterr().err
    assert content(folder) == before


@pytest.mark.parametrize("command", ["stylize photo.png", "synthesize"])
def test_saved_steps_do_not_go_over_a_step_that_is_read(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out-steps").mkdir()
    Image.new("RGB", (32, 32), "white").save("out-steps/step-0002.png")
    (folder / "last.png").symlink_to("out-steps/step-0002.png")
    for start in ("out-steps/step-0002.png", "last.png"):
        line = f"{command} a.png -o out.png --save-every 1 --init {start}"
        assert nst.cli.main.main(line.split()) == 2
        err = capsys.readouterr().err
        assert "`--save-every` writes into 'out-steps', where `--init` is" in err


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (".", "which is a folder. Add a file name"),
        ("no/style.nst", "whose folder does not exist. Create"),
        ("a.png/style.nst", "is not a folder. Choose another"),
    ],
)
def test_where_a_style_file_cannot_go_is_said_before_any_work(
    output: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    assert nst.cli.main.main(["capture", "a.png", "-o", output]) == 2
    err = capsys.readouterr().err
    assert f"`--output` is {output!r}" in err and said in err
    assert content(folder) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--where nowhere.png", "`--where` is 'nowhere.png', which does not exist"),
        ("--weights nowhere.pth", "`--weights` is 'nowhere.pth', which does not exist"),
        ("--weights nowhere.pth", "Or use auto, original, torchvision."),
        ("--init nowhere.png", "`--init` is 'nowhere.png', which does not exist"),
        ("--init nowhere.png", "Or use content, style, noise, pink-noise, gray."),
        ("--where .", "`--where` is '.', which is a folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_found_before_any_work(
    options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nst.cli.main.main(f"stylize photo.png a.png -o out.png {options}".split()) == 2
    assert said in capsys.readouterr().err


def test_another_file_may_be_replaced(folder: Path) -> None:
    Image.new("RGB", (32, 32), "white").save("out.png")
    with pytest.raises(AssertionError, match="the network is loaded"):
        nst.cli.main.main(["stylize", "photo.png", "a.png", "-o", "out.png", "--init", "gray"])
