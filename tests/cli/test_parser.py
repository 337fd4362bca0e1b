"""The words of the command line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nst.cli.main import parse


def test_options_may_stand_anywhere_among_the_pictures() -> None:
    words = ["photo.png", "a.png", "b.png", "-o out.png", "--size 64", "--normalize-gradients"]
    readings = {
        str(sorted(vars(parse(["stylize", *" ".join(order).split()])).items()))
        for order in itertools.permutations(words)
        if [word for word in order if word in words[:3]] == words[:3]
    }
    assert len(readings) == 1
    options = parse(["stylize", "photo.png", "-o", "out.png", "a.png", "--size", "64", "b.png"])
    assert (options.content, options.styles) == ("photo.png", ["a.png", "b.png"])


@pytest.mark.parametrize(
    ("line", "name", "expected"),
    [
        ("stylize --size 9 p.png -o o.png a.png", "styles", ["a.png"]),
        ("stylize p.png --style b.png -o o.png a.png", "styles", ["a.png", "b.png"]),
        (
            "sheet p.png -o o.png --vary seed=1,2 a.png --vary size=8 b.png",
            "styles",
            ["a.png", "b.png"],
        ),
        ("synthesize a.png -o o.png b.png --seed 1 c.png", "styles", ["a.png", "b.png", "c.png"]),
        ("capture -o o.nst a.png --quiet", "styles", ["a.png"]),
        ("rerun -o o.png --inputs there a.png --inputs here", "inputs", ["there", "here"]),
        ("rerun -o o.png --inputs there a.png", "picture", "a.png"),
        ("demo --quiet -o o.png", "output", "o.png"),
    ],
)
def test_every_command_takes_options_in_any_place(line: str, name: str, expected: object) -> None:
    assert getattr(parse(line.split()), name) == expected


def test_after_two_dashes_nothing_is_an_option() -> None:
    options = parse(["stylize", "-o", "out.png", "--", "-photo.png", "a.png", "--style"])
    assert (options.content, options.styles) == ("./-photo.png", ["a.png", "./--style"])


def test_a_sheet_of_styles_needs_no_other_style() -> None:
    options = parse(
        ["sheet", "photo.png", "-o", "out.png", "--vary", "seed=1,2", "--vary", "style=a.png,b.png"]
    )
    assert options.styles == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stylize photo.png -o out.png", "required: STYLE; see nst stylize --help"),
        ("stylize -o out.png", "required: CONTENT, STYLE; see"),
        ("stylize photo.png a.png", "required: -o/--output; see"),
        ("stylize photo.png -o out.png a.png --brushes=3", "unrecognized arguments: --brushes=3"),
        ("stylize photo.png a.png -o out.png --strengt=3", "unrecognized arguments: --strengt=3"),
        ("sheet -o out.png photo.png --vary seed=1,2", "required: STYLE; see nst sheet --help"),
        ("capture -o out.nst a.png b.png", "unrecognized arguments: b.png"),
        ("capture -o out.nst", "required: STYLE"),
        ("synthesize -o out.png", "required: STYLE"),
        ("rerun -o out.png", "required: PICTURE"),
        ("demo photo.png", "unrecognized arguments: photo.png"),
        ("--quiet stylize", "unrecognized arguments: --quiet"),
    ],
)
def test_a_mistake_is_said_in_one_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(line.split())
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text('content = "p.png"\noutput = "o.png"\nstyle = ["a.png", "b.png"]\nsize = 64\n')
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", None),
        ("other.png c.png", ["c.png"]),
        ("other.png c.png d.png", ["c.png", "d.png"]),
        ("--style c.png", ["c.png"]),
        ("other.png c.png --style d.png", ["c.png", "d.png"]),
    ],
)
def test_styles_on_the_command_line_replace_those_of_the_file_however_they_are_given(
    words: str, expected: list[str] | None, recipe: Path
) -> None:
    options = parse(["stylize", *words.split(), "--config", str(recipe)])
    of_the_file = [str(recipe.parent / name) for name in ("a.png", "b.png")]
    assert options.styles == (of_the_file if expected is None else expected)
    assert options.content == ("other.png" if "other" in words else str(recipe.parent / "p.png"))
    assert options.size == 64


def test_the_photograph_alone_can_be_another_than_the_files(recipe: Path) -> None:
    options = parse(["stylize", "other.png", "--config", str(recipe)])
    assert options.content == "other.png"
    assert len(options.styles) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("synthesize a.png -o o.png --size 64 --height 32 --width 32", "`--size`"),
        ("synthesize a.png -o o.png --height 32", "`--width`"),
        ("synthesize a.png -o o.png --width 32", "`--height`"),
        ("capture a.png -o o.nst --sizes 64,128 --size 64", "`--size`"),
        ("capture a.png -o o.nst --sizes 64,128 --scales 2", "`--scales`"),
        ("capture a.png -o o.nst --sizes many", "'many'"),
        ("capture a.png -o o.nst --sizes 64,", "'64,'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(line.split())
    assert said in capsys.readouterr().err
