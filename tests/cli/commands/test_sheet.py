"""The cells of a contact sheet."""

from __future__ import annotations

from argparse import Namespace

import pytest

from nst.cli.commands.sheet import make_table
from nst.cli.main import parse


def sheet(varied: str, given: str = "") -> Namespace:
    return parse(["sheet", "photo.png", "a.png", "-o", "out.png", *given.split(), *varied.split()])


def test_one_option_makes_a_row() -> None:
    cells, rows, columns = make_table(sheet("--vary strength=0.5,1,1.5"))
    assert [cell.strength for cell in cells] == [0.5, 1, 1.5]
    assert rows == []
    assert columns == ["strength 0.5", "strength 1", "strength 1.5"]


def test_two_options_make_rows_and_columns() -> None:
    cells, rows, columns = make_table(sheet("--vary size=64,128 --vary seed=1,2,3"))
    pairs = [(cell.size, cell.seed) for cell in cells]
    assert pairs == [(64, 1), (64, 2), (64, 3), (128, 1), (128, 2), (128, 3)]
    assert rows == ["size 64", "size 128"]
    assert columns == ["seed 1", "seed 2", "seed 3"]


def test_what_is_not_varied_is_as_given() -> None:
    options = sheet("--vary seed=1,2", "--strength 0.3 --tv 2 --quiet")
    for cell in make_table(options)[0]:
        assert {**vars(options), "seed": cell.seed} == vars(cell)


def test_styles_are_varied_in_place_of_those_given() -> None:
    cells, *_ = make_table(sheet("--vary style=b.png;c.png,scale=2", "--style d.png"))
    assert [cell.styles for cell in cells] == [["b.png"], ["c.png,scale=2"]]


def test_an_option_is_varied_once() -> None:
    with pytest.raises(ValueError, match="`--vary` names 'strength' twice; give two different"):
        make_table(sheet("--vary strength=0.5,1 --vary strength=1,2"))


def test_two_styles_are_blended_in_a_cell() -> None:
    cells, *_ = make_table(sheet("--vary style=a.png,b.png --vary style=c.png,d.png"))
    assert [cell.styles for cell in cells][1] == ["a.png", "d.png"]


@pytest.mark.parametrize("option", ["output", "config", "content", "quiet", "vary", "strengt"])
def test_what_makes_no_other_picture_cannot_be_varied(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        make_table(sheet(f"--vary {option}=a,b"))
    assert f"--{option}=a; see nst sheet --help" in capsys.readouterr().err
