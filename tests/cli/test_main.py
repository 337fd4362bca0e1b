"""The command line: every option arrives, and bad input costs one line."""

import importlib.util
import inspect
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import nst
import nst.cli.main
from nst import (
    Callback,
    Estimate,
    LivePage,
    ProgressBar,
    RunState,
    StyleTransfer,
    StyleTransferResult,
    load_image,
    save_image,
)
from nst.cli import contact_sheet as sheets
from nst.cli.commands.samples import photograph
from nst.cli.losses import LOSSES_BY_REFERENCE
from nst.testing import tiny_extractor

pytestmark = pytest.mark.usefixtures("loaded")
needs_skimage = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="needs the `demo` extra"
)


class Run:
    """One call of `StyleTransfer.run`: what it was asked for, and what came of it."""

    def __init__(self, transfer: StyleTransfer, arguments: dict[str, Any]) -> None:
        self.transfer, self.arguments = transfer, arguments
        self.result: StyleTransferResult

    @property
    def settings(self) -> dict[str, Any]:
        return self.result.settings


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that the command line started, without rehearsals."""
    seen: list[Run] = []
    run = StyleTransfer.run

    def recorded(
        self: StyleTransfer, content: Any, style: Any, **options: Any
    ) -> StyleTransferResult:
        if getattr(self.extractor, "weights", "") == "none":
            return run(self, content, style, **options)
        seen.append(Run(self, {"content": content, "style": style, **options}))
        seen[-1].result = run(self, content, style, **options)
        return seen[-1].result

    monkeypatch.setattr(StyleTransfer, "run", recorded)
    return seen


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Tensor, painting: Tensor
) -> Path:
    """The working folder, with a photograph and a painting."""
    monkeypatch.chdir(tmp_path)
    save_image(photo, "photo.png")
    save_image(painting, "painting.png")
    return tmp_path


def nst_command(line: str) -> int:
    """Run a command line and give its exit status."""
    try:
        return nst.cli.main.main(line.split())
    except SystemExit as exit_:  # argparse's own way out
        assert isinstance(exit_.code, int)
        return exit_.code


def stylize(options: str = "", steps: int = 2) -> int:
    return nst_command(f"stylize photo.png painting.png -o out.png --steps {steps} {options}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The picture


def test_stylize_writes_the_picture_and_says_where(
    folder: Path, runs: list[Run], loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize() == 0
    (run,) = runs
    assert torch.allclose(load_image("out.png"), run.result.image, atol=0.51 / 255)
    assert names(folder) == ["out.png", "painting.png", "photo.png"]
    out, err = capsys.readouterr()
    summary, path = out.splitlines()
    assert summary.startswith("40x32 pixels, 2 steps in ")
    assert summary.endswith(" s (completed), VGG19 weights: tiny, seed 0")
    assert path == str(folder / "out.png")
    assert "2/2" in err.split("\r")[-1]
    assert loaded == ["auto"]


def test_the_command_line_is_the_library(runs: list[Run]) -> None:
    assert stylize() == 0
    transfer = StyleTransfer(tiny_extractor(), num_steps=2)
    result = transfer.run("photo.png", "painting.png")
    assert torch.equal(runs[0].result.image, result.image)
    assert runs[0].settings == result.settings


@pytest.mark.parametrize(
    ("option", "keys", "expected"),
    [
        ("--size 24", ["size"], 24),
        ("", ["size"], 512),
        ("--preset gatys", ["optimizer"], "adam"),
        ("--preset gatys", ["num_scales"], 1),
        ("--preset gatys --optimizer lbfgs", ["optimizer"], "lbfgs"),
        ("--optimizer adam", ["optimizer"], "adam"),
        ("--scales 2", ["num_scales"], 2),
        ("--content-weight 0.5", ["losses", "content", "weight"], 0.5),
        ("--content-weight 0", ["losses", "content", "weight"], 0.0),
        ("--style-weight 1e3", ["losses", "style", "weight"], 1000.0),
        ("--content-layers relu3_1", ["losses", "content", "layers"], {"relu3_1": 1.0}),
        (
            "--style-layers relu1_1,relu2_1",
            ["losses", "style", "layers"],
            {"relu1_1": 0.5, "relu2_1": 0.5},
        ),
        ("--init noise", ["init"], "noise"),
        ("--init painting.png", ["init"], "picture"),
        ("--seed 5", ["seed"], 5),
        ("--tile 16", ["tile"], 16),
        ("--tile none", ["tile"], None),
        ("--device cpu", ["device"], "cpu"),
        ("--strength 0.5", ["strength"], 0.5),
        ("--preserve-color pca", ["preserve_color"], "pca"),
        ("--color-when both", ["color_when"], "both"),
        ("--where alpha", ["where"], True),
        ("--average 0.5", ["average"], 0.5),
        ("--optimizer adam --normalize-gradients", ["normalize_gradients"], True),
        ("--init pink-noise", ["init"], "pink-noise"),
        ("--style photo.png", ["styles"], [{"weight": 1.0}, {"weight": 1.0}]),
        ("--style-loss nearest-neighbor", ["losses", "style", "type"], "NearestNeighborStyleLoss"),
        ("--content-loss laplacian", ["losses", "content", "type"], "LaplacianLoss"),
        ("--tv 0.1", ["losses", "tv", "type"], "TotalVariationLoss"),
    ],
)
def test_an_option_arrives_in_the_run(
    runs: list[Run], option: str, keys: list[str], expected: object
) -> None:
    assert stylize(option, steps=1) == 0
    value: Any = runs[0].settings
    for key in keys:
        value = value[key]
    assert value == expected


def test_the_seed_makes_the_noise(folder: Path) -> None:
    written = []
    for seed in (1, 1, 2):
        assert stylize(f"--init noise --seed {seed}", steps=1) == 0
        written.append((folder / "out.png").read_bytes())
    assert written[0] == written[1] != written[2]


def test_without_options_the_preset_decides(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Callback):
        def on_step(self, state: RunState) -> None:
            state.stop("enough")

    monkeypatch.setattr("nst.cli.build.ProgressBar", Stop)
    for preset in ("default", "gatys"):
        assert nst_command(f"stylize photo.png painting.png -o out.png --preset {preset}") == 0
        expected = StyleTransfer.from_preset(preset, tiny_extractor())
        assert runs[-1].settings["num_steps"] == expected.num_steps
        assert str(runs[-1].transfer) == str(expected)


def test_options_of_the_network_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def load(**given: object) -> nst.FeatureExtractor:
        asked.append(given)
        return tiny_extractor()

    monkeypatch.setattr("nst.cli.build.FeatureExtractor", load)
    assert stylize("--pooling average --padding replicate --no-winograd", steps=1) == 0
    assert asked == [{"pooling": "average", "padding": "replicate", "winograd": False}]


def test_weights_are_asked_for(folder: Path, loaded: list[str]) -> None:
    (folder / "my-vgg19.pth").write_bytes(b"weights")
    assert stylize("--weights my-vgg19.pth", steps=1) == 0
    assert loaded == ["my-vgg19.pth"]


def test_save_every_keeps_pictures_in_a_folder_beside_the_output(folder: Path) -> None:
    assert stylize("--save-every 2", steps=3) == 0
    assert names(folder) == ["out-steps", "out.png", "painting.png", "photo.png"]
    assert names(folder / "out-steps") == ["step-0002.png", "step-0003.png"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The pages of the runs, when these were over: where each was, and what it said."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Seen(LivePage):
        def on_end(self, state: RunState) -> None:
            super().on_end(state)
            with urllib.request.urlopen(f"{self.url}state.json", timeout=5) as answer:
                found.append((self.url, json.load(answer)))

    monkeypatch.setattr("nst.cli.build.LivePage", Seen)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "stylize photo.png --page 0 painting.png -o out.png --steps 2",
        "synthesize painting.png --page 0 -o out.png --steps 2",
        pytest.param("demo --page 0 -o out.png --size 32 --steps 2", marks=needs_skimage),
    ],
)
def test_a_run_is_shown_on_a_page_whose_address_is_told(
    line: str, shown: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert nst_command(line) == 0
    ((url, said),) = shown
    assert (said["step"], said["stop_reason"]) == (2, "completed")
    assert capsys.readouterr().err.startswith(f"nst: the run is shown at {url}\n")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)


def test_a_page_is_shown_in_silence(
    shown: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize("--quiet --page 0") == 0
    assert len(shown) == 1
    assert capsys.readouterr() == ("", "")


def test_a_page_that_cannot_be_shown_is_refused_before_the_network_is_loaded(
    loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with LivePage(port=0) as page:
        port = int(page.url.split(":")[-1].rstrip("/"))
        assert stylize(f"--page {port}") == 2
    assert f"`port` is {port}, which is taken" in refusal(capsys)
    assert loaded == []


def test_estimate_says_what_it_would_take_and_paints_nothing(
    folder: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize("--estimate --save-every 1") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"about \d+ s and \d+ MB\n", out) and err == ""
    assert runs == [] and names(folder) == ["painting.png", "photo.png"]


def test_estimate_heeds_the_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def estimate(self: StyleTransfer, content: Any, style: Any) -> Estimate:
        asked.append((self.num_steps, self.size, content, [each.image for each in style]))
        return Estimate(48, 260_000_000)

    monkeypatch.setattr(StyleTransfer, "estimate", estimate)
    assert stylize("--estimate --size 24", steps=7) == 0
    assert capsys.readouterr() == ("about 48 s and 260 MB\n", "")
    assert asked == [(7, 24, "photo.png", ["painting.png"])]


def test_an_estimate_that_nobody_would_see_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert stylize("--estimate --quiet") == 2
    assert "`--quiet` leaves nothing of `--estimate`; leave it out" in refusal(capsys)


def test_quiet_is_silent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stylize("--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (folder / "out.png").exists()


# Bad input


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Give the one line that says what was wrong."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert err.startswith("nst")
    return err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", ["required: COMMAND", "nst --help"]),
        ("paint", ["'paint'", "stylize"]),
        ("stylize photo.png -o out.png", ["STYLE", "nst stylize --help"]),
        ("stylize photo.png painting.png", ["-o/--output", "nst stylize --help"]),
        ("stylize nowhere.png painting.png -o out.png", ["`content`", "'nowhere.png'", "Check"]),
        ("stylize photo.png nowhere.png -o out.png", ["`style[0]`", "'nowhere.png'", "Check"]),
        ("stylize notes.txt painting.png -o out.png", ["`content`", "'notes.txt'"]),
        ("stylize photo.png painting.png -o out.xyz", ["`--output`", "'.xyz'", "Use .png"]),
        ("stylize photo.png painting.png -o out", ["`--output`", "no suffix", "Use .png"]),
        ("stylize photo.png painting.png -o no/out.png", ["`--output`", "does not exist. Create"]),
        ("stylize photo.png painting.png -o .", ["`--output`", "folder. Add a file name"]),
        ("demo -o no/out.png", ["`--output`", "does not exist. Create"]),
        ("demo --steps many", ["--steps", "'many'"]),
        ("demo --content-weight heavy", ["--content-weight", "'heavy'"]),
        ("demo --preset monet", ["'monet'", "default", "gatys"]),
        ("demo --optimizer sgd", ["'sgd'", "lbfgs", "adam"]),
        ("demo --brushes 3", ["--brushes", "--help"]),
    ],
)
def test_a_bad_command_line_is_refused_in_one_line(
    folder: Path,
    loaded: list[str],
    capsys: pytest.CaptureFixture[str],
    line: str,
    said: list[str],
) -> None:
    (folder / "notes.txt").write_text("no picture")
    before = names(folder)
    assert nst_command(line) == 2
    err = refusal(capsys)
    assert [words for words in said if words not in err] == []
    assert names(folder) == before and loaded == []


def test_a_file_in_the_way_of_the_steps_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out-steps").write_text("mine")
    assert stylize("--quiet --save-every 1") == 2
    assert "'out-steps', which is a file. Name another output" in refusal(capsys)
    assert "out.png" not in names(folder)


def test_a_message_of_several_lines_becomes_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: str) -> None:
        raise OSError("no network\n  so no weights")

    monkeypatch.setattr("nst.cli.build.FeatureExtractor", fail)
    assert stylize() == 2
    assert refusal(capsys) == "nst: error: no network so no weights\n"


# Styles in one word, files of options, sheets, textures, style files


def test_styles_can_be_written_with_weight_and_region(folder: Path, runs: list[Run]) -> None:
    save_image(torch.cat([torch.ones(1, 3, 32, 20), torch.zeros(1, 3, 32, 20)], -1), "left.png")
    line = "stylize photo.png --style painting.png:0.7@left.png --style painting.png,scale=0.9"
    assert nst_command(f"{line} -o out.png --steps 1") == 0
    assert runs[0].settings["styles"] == [
        {"weight": 0.7, "region": 0},
        {"weight": 1.0, "scale": 0.9},
    ]


LOSSES_OF_A_USER = """
import nst

class MeanLoss(nst.StatisticLoss):
    def statistic(self, feature, weight):
        return (feature * weight).sum(-1)

class Far(nst.PointwiseLoss):
    def error(self, feature, target):
        return (feature - target) ** 4
"""


@pytest.fixture
def losses_of_a_user(folder: Path) -> Iterator[None]:
    (folder / "my_losses.py").write_text(LOSSES_OF_A_USER)
    (folder / "broken.py").write_text("1 / 0")
    yield
    sys.modules.pop("my_losses", None)


@pytest.mark.usefixtures("losses_of_a_user")
@pytest.mark.parametrize(
    "line",
    [
        "--style-loss my_losses:MeanLoss --style-layers relu1_1",
        "--style-loss my_losses:MeanLoss",  # with the preset's layers
        "--content-loss my_losses:Far",
        "--style-loss my_losses:MeanLoss --style painting.png@photo.png",  # in a region
    ],
)
def test_a_loss_of_the_users_is_called_by_its_module(line: str, runs: list[Run]) -> None:
    path = list(sys.path)
    assert stylize(line, steps=1) == 0
    kinds = {loss["type"] for loss in runs[0].settings["losses"].values()}
    assert kinds & {"MeanLoss", "Far"}
    assert sys.path == path


@pytest.mark.usefixtures("losses_of_a_user")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grum", "'grum' is not a loss; use cross-layer-gram, gram, "),
        ("nothing_there:MeanLoss", "cannot be imported: ModuleNotFoundError"),
        ("broken:MeanLoss", "cannot be imported: ZeroDivisionError"),
        ("my_losses:nst", "'my_losses' has no nst.Loss 'nst'"),
        ("my_losses:Far", "compares with 'content'; set `reference = 'style'`"),
    ],
)
def test_what_is_no_loss_is_refused(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize(f"--style-loss {text}") == 2
    assert message in capsys.readouterr().err


def test_every_loss_of_the_library_can_be_chosen() -> None:
    kinds = {
        loss
        for name in nst.__all__
        if inspect.isclass(loss := getattr(nst, name))
        and issubclass(loss, nst.Loss)
        and not inspect.isabstract(loss)
        and loss.reference is not None
    }
    assert kinds == {loss for named in LOSSES_BY_REFERENCE.values() for loss in named.values()}


CONFIG = """
content = "photo.png"
output = "out.png"
steps = 1
preserve-color = "pca"
strength = 0.5
normalize_gradients = false

[[style]]
image = "painting.png"
weight = 2

[[style]]
image = "painting.png"
scale = 0.9
"""


def test_options_come_from_a_file_whose_paths_start_at_its_folder(
    folder: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "recipe.toml").write_text(CONFIG)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert nst_command("stylize --config ../recipe.toml --strength 0.75") == 0
    settings = runs[0].settings
    assert (settings["strength"], settings["preserve_color"]) == (0.75, "pca")
    assert settings["styles"] == [{"weight": 2.0}, {"weight": 1.0, "scale": 0.9}]
    assert (folder / "out.png").exists()


def test_styles_on_the_command_line_replace_those_of_the_file(
    folder: Path, runs: list[Run]
) -> None:
    (folder / "recipe.toml").write_text(CONFIG)
    assert nst_command("stylize --config recipe.toml --style painting.png:3") == 0
    assert runs[0].settings["styles"] == [{"weight": 3.0}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strenght = 1", ["'strenght'", "Did you mean 'strength'"]),
        ("strength = ", ["'recipe.toml', which is not TOML"]),
        ("strength = [1]", ["'strength' is [1]", "a text or a number is needed"]),
        # Without its value, `--init` would take the next word of the command line for one.
        ("init = true", ["'init' is True", "a text or a number is needed"]),
        ("normalize-gradients = 1", ["'normalize-gradients' is 1", "true or false is needed"]),
        ("strength = 'much'", ["--strength", "'much'"]),
        ("style = [{weight = 1}]", ["a path is needed, or a table with 'image'"]),
        ("style = [{image = 'painting.png', wieght = 1}]", ["'wieght'; use image"]),
        ("style = 'nowhere.png'", ["nowhere.png", "does not exist"]),
        ("config = 'recipe.toml'", ["'config', which is not an option"]),
    ],
)
def test_a_bad_file_of_options_is_refused_in_one_line(
    text: str, said: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipe.toml").write_text(f"{text}\n")
    assert nst_command("stylize photo.png -o out.png --config recipe.toml --steps 1") == 2
    err = refusal(capsys)
    assert [words for words in said if words not in err] == []


def test_a_sheet_has_a_picture_for_each_value(
    folder: Path, runs: list[Run], loaded: list[str]
) -> None:
    line = "sheet photo.png painting.png -o sheet.png --steps 1"
    assert nst_command(f"{line} --vary strength=0,1,2 --vary=seed=0,1") == 0
    strengths = [run.settings["strength"] for run in runs]
    assert strengths == [0, 0, 1, 1, 2, 2]
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
    ],
)
def test_every_cell_is_checked_before_the_first_is_painted(
    vary: str, said: str, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert nst_command(f"sheet photo.png painting.png -o sheet.png --steps 1 {vary}") == 2
    assert said in refusal(capsys)
    assert not runs


def test_a_sheet_that_is_interrupted_keeps_what_is_done(
    folder: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.cli.build.ProgressBar", interrupting(1))
    line = "sheet photo.png painting.png -o sheet.png --steps 2 --vary seed=0,1,2"
    assert nst_command(line) == 0
    assert len(runs) == 1
    assert load_image("sheet.png").shape[-1] > 3 * 40


def failing(run: int, error: BaseException) -> Callable[[], Callback]:
    """Make callbacks of which one, that of the run of this number, fails."""
    count = itertools.count(1)

    class Fail(Callback):
        def on_start(self, state: RunState) -> None:
            if next(count) == run:
                raise error

    return Fail


@pytest.mark.parametrize("error", [OSError("no space"), RuntimeError("no memory")])
def test_a_sheet_that_fails_keeps_what_is_done_and_reports_the_error(
    error: Exception,
    folder: Path,
    runs: list[Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables: list[list[list[Tensor]]] = []

    def contact_sheet(rows: list[list[Tensor]], *labels: list[str]) -> Tensor:
        tables.append(rows)
        return sheets.contact_sheet(rows, *labels)

    monkeypatch.setattr("nst.cli.commands.sheet.contact_sheet", contact_sheet)
    monkeypatch.setattr("nst.cli.build.ProgressBar", failing(2, error))
    line = "sheet photo.png painting.png -o sheet.png --steps 1 --vary seed=0,1 --vary tv=0,1"
    if isinstance(error, OSError):
        assert nst_command(line) == 2
        out, err = capsys.readouterr()
        assert (out, err) == (f"{folder / 'sheet.png'}\n", "nst: error: no space\n")
    else:  # has a traceback to be reported with
        with pytest.raises(RuntimeError, match="no memory"):
            nst_command(line)
    assert len(runs) == 2
    (((first, *others), second_row),) = tables
    assert torch.equal(first, runs[0].result.image)
    assert all(bool((cell == 1).all()) for cell in (*others, *second_row))
    assert (len(others), len(second_row)) == (1, 2)
    assert "sheet.png" in names(folder)


def test_a_sheet_whose_first_cell_fails_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.cli.build.ProgressBar", failing(1, OSError("no space")))
    line = "sheet photo.png painting.png -o sheet.png --steps 1 --vary seed=0,1"
    assert nst_command(line) == 2
    assert "sheet.png" not in names(folder)


def test_a_sheet_interrupted_between_two_cells_keeps_what_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "sheet photo.png painting.png -o sheet.png --steps 1 --vary seed=0,1"
    called = itertools.count(1)

    def callbacks() -> Callback:
        if next(called) == stop:
            raise KeyboardInterrupt
        return Callback()

    monkeypatch.setattr("nst.cli.build.ProgressBar", callbacks)
    stop = 1
    assert nst_command(line) == 130
    assert "sheet.png" not in names(folder)
    called, stop = itertools.count(1), 2
    assert nst_command(line) == 0
    assert "sheet.png" in names(folder)


def test_a_texture_needs_no_photograph(folder: Path) -> None:
    line = "synthesize painting.png -o texture.png --steps 2"
    assert nst_command(f"{line} --height 24 --width 40") == 0
    assert load_image("texture.png").shape == (1, 3, 24, 40)
    assert nst_command(line) == 0
    assert load_image("texture.png").shape == (1, 3, 36, 28)
    assert nst_command(f"{line} --height 24") == 2


def test_a_style_file_takes_the_place_of_a_painting(folder: Path, runs: list[Run]) -> None:
    assert nst_command("capture painting.png -o style.nst --sizes 40") == 0
    assert nst_command("stylize photo.png style.nst -o out.png --steps 2") == 0
    assert stylize() == 0
    assert torch.equal(runs[0].result.image, runs[1].result.image)
    assert nst_command("capture painting.png -o style.nst --sizes many") == 2
    assert nst_command("capture painting.png -o no/style.nst") == 2


# Ctrl-C


def interrupting(step: int) -> Callable[[], Callback]:
    class Interrupt(Callback):
        def on_step(self, state: RunState) -> None:
            if state.step == step:
                raise KeyboardInterrupt

    return Interrupt


def test_ctrl_c_during_the_run_saves_the_best_so_far(
    runs: list[Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.cli.build.ProgressBar", interrupting(2))
    assert stylize(steps=9) == 0
    result = runs[0].result
    assert (result.num_steps, result.stop_reason) == (2, "interrupted")
    assert torch.allclose(load_image("out.png"), result.image, atol=0.51 / 255)
    assert "2 steps" in (out := capsys.readouterr().out) and "(interrupted)" in out


def test_ctrl_c_before_there_is_a_picture_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(**_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nst.cli.build.FeatureExtractor", interrupt)
    assert stylize() == 130
    assert capsys.readouterr() == ("", "")
    assert "out.png" not in names(folder)


# The demo


@needs_skimage
@pytest.mark.parametrize(("option", "name"), [("", "nst-demo.png"), ("-o cat.jpg", "cat.jpg")])
def test_demo_needs_no_files(
    folder: Path,
    runs: list[Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    name: str,
) -> None:
    assert nst_command(f"demo --size 48 --steps 2 {option}") == 0
    with Image.open(folder / name) as image:
        assert max(image.size) == 48
    assert runs[0].result.num_steps == 2
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / name)
    assert names(folder) == sorted([name, "painting.png", "photo.png"])


@needs_skimage
def test_demo_says_at_the_start_what_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nst_command("demo --size 48 --steps 2") == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"this takes about \d+ s and \d+ MB", first)
    assert nst_command("demo --size 48 --steps 2 --quiet") == 0
    assert capsys.readouterr() == ("", "")


@needs_skimage
@pytest.mark.parametrize(
    ("seconds", "option", "steps"),
    [
        (30, "", 120),
        (120, "", 60),
        (120, "--quiet", 60),
        (6000, "", 40),
        (6000, "--steps 3", 3),
        (6000, "--size 48", 120),
        (6000, "--preset gatys", 500),
    ],
)
def test_demo_takes_fewer_steps_of_its_own_accord_where_one_is_slow(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    option: str,
    steps: int,
) -> None:
    monkeypatch.setattr(StyleTransfer, "estimate", lambda *_: Estimate(seconds, 2_000_000))
    painted: list[int] = []

    def run(transfer: StyleTransfer, *_: Any, **__: Any) -> None:
        painted.append(transfer.num_steps)
        raise ValueError("enough")

    monkeypatch.setattr("nst.cli.commands.demo.check_run", lambda *_: None)
    monkeypatch.setattr(StyleTransfer, "run", run)
    assert nst_command(f"demo {option}") == 2
    assert painted == [steps]
    told = capsys.readouterr().err
    assert (f"with {steps} steps, because this machine is slow; `--steps 120` is all" in told) == (
        steps in (40, 60) and not option
    )


@needs_skimage
def test_demo_saves_a_coarse_preview_before_the_last_scale_is_done(
    runs: list[Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, torch.Size | None]] = []

    def look(bar: ProgressBar, state: RunState) -> None:
        there = Path("nst-demo.png").exists()
        seen.append((state.scale, load_image("nst-demo.png").shape[-2:] if there else None))

    monkeypatch.setattr(ProgressBar, "on_step", look)
    assert nst_command("demo --size 96 --steps 6") == 0
    assert {scale for scale, size in seen if size is None} == {0}
    assert {scale for scale, size in seen if size == runs[0].result.image.shape[-2:]} == {1}
    assert "a coarse preview will be in nst-demo.png before" in capsys.readouterr().err


def test_demo_without_skimage_says_what_to_install(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert nst_command("demo") == 2
    assert "Run `pip install 'nst[demo]'`." in refusal(capsys)
    assert "nst-demo.png" not in names(folder)


@needs_skimage
def test_the_demo_photograph_is_a_color_picture() -> None:
    assert photograph("chelsea").mode == "RGB"


@needs_skimage
def test_samples_are_pictures_to_begin_with(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nst_command("samples new") == 0
    made = ["mask.png", "other.jpg", "painting.jpg", "photo.jpg"]
    assert names(folder / "new") == made
    assert sorted(Path(line).name for line in capsys.readouterr().out.splitlines()) == made
    photo, mask = load_image("new/photo.jpg"), load_image("new/mask.png")
    assert mask.shape == photo.shape
    assert 0.3 < float(mask.mean()) < 0.6
    for name in ("painting", "other"):
        path = Path("new", f"{name}.jpg")
        assert load_image(path).shape == (1, 3, 384, 512) and path.stat().st_size < 150_000
    assert nst_command("samples new") == 2
    assert "Name another folder." in refusal(capsys)


# Help and version


@pytest.mark.parametrize("line", ["--help", "stylize --help", "demo --help"])
def test_help_is_no_error(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert nst_command(line) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: nst") and err == ""


def test_python_m_nst_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nst", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert (ran.stdout, ran.stderr) == (f"nst {nst.__version__}\n", "")


def test_the_librarys_warnings_are_shown(
    runs: list[Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(self: StyleTransferResult, path: Any, **options: Any) -> list[Path]:
        logging.getLogger("nst").warning("of %s", path)
        return [Path(path)]

    monkeypatch.setattr(StyleTransferResult, "save", warned)
    for _ in range(2):  # not once more each time
        assert (
            nst.cli.main.main(["stylize", "photo.png", "painting.png", "-o", "out.png", "--quiet"])
            == 0
        )
        assert capsys.readouterr().err == "nst: warning: of out.png\n"
