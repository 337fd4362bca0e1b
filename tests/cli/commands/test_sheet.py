from argparse import Namespace
from pathlib import Path

import pytest
import torch

from nst import Callback, RunState, load_image
from nst.cli.commands import sheet as sheets
from nst.cli.commands.sheet import make_table
from nst.cli.main import parse
from tests.cli.running import Run, interrupting, nst_command, refused
from tests.helpers import hooked, names, raising, spy

pytestmark = pytest.mark.usefixtures("loaded", "folder")


def sheet(varied: str, given: str = "") -> Namespace:
    return parse(["sheet", "photo.png", "a.png", "-o", "out.png", *given.split(), *varied.split()])


def test_one_option_makes_a_row_and_two_make_rows_and_columns() -> None:
    cells, rows, columns = make_table(sheet("--vary strength=0.5,1,1.5"))
    assert [cell.strength for cell in cells] == [0.5, 1, 1.5]
    assert (rows, columns) == ([], ["strength 0.5", "strength 1", "strength 1.5"])
    cells, rows, columns = make_table(sheet("--vary size=64,128 --vary seed=1,2,3"))
    pairs = [(cell.size, cell.seed) for cell in cells]
    assert pairs == [(64, 1), (64, 2), (64, 3), (128, 1), (128, 2), (128, 3)]
    assert (rows, columns) == (["size 64", "size 128"], ["seed 1", "seed 2", "seed 3"])


def test_what_is_not_varied_is_as_given_and_styles_are_varied_in_place_of_those_given() -> None:
    options = sheet("--vary seed=1,2", "--strength 0.3 --tv 2 --quiet")
    for cell in make_table(options)[0]:
        assert {**vars(options), "seed": cell.seed} == vars(cell)
    cells, *_ = make_table(sheet("--vary style=b.png;c.png,scale=2", "--style d.png"))
    assert [cell.styles for cell in cells] == [["b.png"], ["c.png,scale=2"]]
    cells, *_ = make_table(sheet("--vary style=a.png,b.png --vary style=c.png,d.png"))
    assert [cell.styles for cell in cells][1] == ["a.png", "d.png"]


@pytest.mark.parametrize("option", ["output", "config", "content", "quiet", "vary", "strengt"])
def test_some_options_cannot_be_varied(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_table(sheet(f"--vary {option}=a,b"))
    assert f"--{option}=a; see nst sheet --help" in capsys.readouterr().err


def test_a_sheet_has_a_picture_for_each_value(
    folder: Path, runs: list[Run], loaded: list[str]
) -> None:
    line = "sheet photo.png painting.png -o sheet.png --steps 1"
    assert nst_command(f"{line} --vary strength=0,1,2 --vary=seed=0,1") == 0
    assert [run.settings["strength"] for run in runs] == [0, 0, 1, 1, 2, 2]
    assert [run.settings["seed"] for run in runs] == [0, 1] * 3
    assert loaded == ["auto"]  # once for all
    height, width = load_image("sheet.png").shape[-2:]
    assert height > 3 * 32 and width > 2 * 40


def test_a_sheet_can_vary_layers_and_styles(folder: Path, runs: list[Run]) -> None:
    line = "sheet photo.png painting.png -o sheet.png --steps 1 --quiet"
    assert nst_command(f"{line} --vary style-layers=relu1_1;relu1_1,relu2_1;relu3_1") == 0
    layers = [list(run.settings["losses"]["style"]["layers"]) for run in runs]
    assert layers == [["relu1_1"], ["relu1_1", "relu2_1"], ["relu3_1"]]
    assert nst_command(f"{line} --vary style=photo.png,painting.png:2") == 0
    assert [run.settings["styles"] for run in runs[3:]] == [[{"weight": 1.0}], [{"weight": 2.0}]]


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("--vary strength", "write it as strength=0.5,1,1.5"),
        ("--vary strength=1,", "write it as strength=0.5,1,1.5"),
        ("--vary strength=1,much", "'much'"),
        ("--vary steps=1,0", "`num_steps` is 0"),
        ("--vary brush=1,2", "--brush"),
        ("--vary seed=0 --vary seed=1 --vary seed=2", "is given 3 times"),
        ("--vary seed=0,1 --vary seed=1,2", "`--vary` names 'seed' twice; give two different"),
    ],
)
def test_every_cell_is_checked_before_the_first_is_painted(
    vary: str, said: str, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(f"sheet photo.png painting.png -o sheet.png --steps 1 {vary}", capsys)
    assert not runs


def test_a_sheet_that_is_interrupted_keeps_what_is_done(
    folder: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.cli.build.ProgressBar", interrupting(1))
    assert nst_command("sheet photo.png painting.png -o sheet.png --steps 2 --vary seed=0,1,2") == 0
    assert len(runs) == 1
    assert load_image("sheet.png").shape[-1] > 3 * 40


@pytest.mark.parametrize(
    ("cell", "error", "status"),
    [(1, OSError("no space"), 2), (1, KeyboardInterrupt(), 130), (2, KeyboardInterrupt(), 0)],
)
def test_a_sheet_that_ends_between_two_cells_keeps_what_is_done(
    cell: int, error: BaseException, status: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter([Callback, raising(error)][2 - cell :])
    monkeypatch.setattr("nst.cli.build.ProgressBar", lambda: next(made)())
    line = "sheet photo.png painting.png -o sheet.png --steps 1 --vary seed=0,1"
    assert nst_command(line) == status
    assert ("sheet.png" in names(folder)) == (cell == 2)


@pytest.mark.parametrize("error", [OSError("no space"), RuntimeError("no memory")])
def test_a_sheet_that_fails_keeps_what_is_done_and_reports_the_error(
    error: Exception,
    folder: Path,
    runs: list[Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(state: RunState) -> None:
        if len(runs) == 1:
            raise error

    tables = spy(monkeypatch, sheets, "contact_sheet")
    monkeypatch.setattr("nst.cli.build.ProgressBar", lambda: hooked(on_start=fail))
    line = "sheet photo.png painting.png -o sheet.png --steps 1 --vary seed=0,1 --vary tv=0,1"
    if isinstance(error, OSError):
        assert nst_command(line) == 2
        out, err = capsys.readouterr()
        assert (out, err) == (f"{folder / 'sheet.png'}\n", "nst: error: no space\n")
    else:  # has a traceback to be reported with
        with pytest.raises(RuntimeError, match="no memory"):
            nst_command(line)
    assert len(runs) == 1
    ((((first, *others), second_row), *_),) = tables
    assert torch.equal(first, runs[0].result.image)
    assert all(bool((cell == 1).all()) for cell in (*others, *second_row))
    assert (len(others), len(second_row)) == (1, 2)
    assert "sheet.png" in names(folder)
