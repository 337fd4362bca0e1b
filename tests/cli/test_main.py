"""The command line: every option arrives, and bad input costs one line."""

import json
import logging
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base

import nst
from nst import LivePage, StyleTransfer, StyleTransferResult, load_image, save_image, style_layers
from nst.cli.losses import LOSSES_BY_REFERENCE
from nst.losses import LOSSES
from nst.presets import PRESETS
from nst.testing import tiny_extractor
from tests.cli.running import Run, interrupting, needs_skimage, nst_command, refusal, refused
from tests.helpers import LEFT, Unwritable, hooked, names, raising, spy

pytestmark = pytest.mark.usefixtures("loaded", "folder")


OF_STYLE = ["losses", "style", "layers"]


def stylize(options: str = "", steps: int = 2) -> int:
    return nst_command(f"stylize photo.png painting.png -o out.png --steps {steps} {options}")


def test_stylize_writes_the_picture_and_prints_its_path(
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


def test_the_command_line_is_the_library_and_a_style_file_is_its_painting(runs: list[Run]) -> None:
    assert nst_command("capture painting.png -o style.nst --sizes 40") == 0
    assert nst_command("stylize photo.png style.nst -o out.png --steps 2") == 0
    assert stylize() == 0
    result = StyleTransfer(tiny_extractor(), num_steps=2).run("photo.png", "painting.png")
    assert torch.equal(runs[0].result.image, result.image)
    assert torch.equal(runs[1].result.image, result.image)
    assert runs[1].settings == result.settings


def test_a_texture_needs_no_photograph(folder: Path) -> None:
    line = "synthesize painting.png -o texture.png --steps 2"
    for options, shape in (("--height 24 --width 40", (24, 40)), ("", (36, 28))):
        assert nst_command(f"{line} {options}") == 0
        assert load_image("texture.png").shape == (1, 3, *shape)


@pytest.mark.parametrize(
    ("option", "keys", "expected"),
    [
        ("--size 24", ["size"], 24),
        ("", ["size"], 512),
        ("--preset gatys", ["optimizer"], "adam"),
        ("--preset gatys --optimizer lbfgs", ["optimizer"], "lbfgs"),
        ("--optimizer adam --learning-rate 0.5", ["learning_rate"], 0.5),
        ("--scales 2", ["num_scales"], 2),
        ("--content-weight 0.5", ["losses", "content", "weight"], 0.5),
        ("--style-weight 1e3", ["losses", "style", "weight"], 1000.0),
        ("--content-layers relu3_1", ["losses", "content", "layers"], {"relu3_1": 1.0}),
        ("--style-layers relu1_1,relu2_1", OF_STYLE, {"relu1_1": 0.5, "relu2_1": 0.5}),
        ("--style-layers relu1_1:0.2,relu2_1:0.8", OF_STYLE, {"relu1_1": 0.2, "relu2_1": 0.8}),
        ("--init painting.png", ["init"], "picture"),
        ("--seed 5", ["seed"], 5),
        ("--tile 16", ["tile"], 16),
        ("--tile none", ["tile"], None),
        ("--tile auto", ["tile"], None),
        ("--device cpu", ["device"], "cpu"),
        ("--strength 0.5", ["strength"], 0.5),
        ("--preserve-color pca", ["preserve_color"], "pca"),
        ("--color-when both", ["color_when"], "both"),
        ("--where alpha", ["where"], True),
        ("--average 0.5", ["average"], 0.5),
        ("--optimizer adam --normalize-gradients", ["normalize_gradients"], True),
        ("--init pink-noise", ["init"], "pink-noise"),
        ("--style photo.png", ["styles"], [{"weight": 1.0}, {"weight": 1.0}]),
        ("--motifs 1", ["losses", "style", "layers"], style_layers(1)),
        ("--style-loss wasserstein", ["losses", "style", "layers"], style_layers()),
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


def test_a_preset_decides_by_default(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    stop = hooked(on_step=lambda state: state.stop("enough"))
    monkeypatch.setattr("nst.cli.build.ProgressBar", lambda: stop)
    for preset in PRESETS:
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
    Path("vgg.pth").write_bytes(b"weights")
    line = "--weights vgg.pth --pooling average --padding replicate --no-winograd"
    assert stylize(line, steps=1) == 0
    of_layers = {"pooling": "average", "padding": "replicate", "winograd": False}
    assert asked == [{"weights": "vgg.pth", **of_layers}]


NAMED = "--network squeezenet1_1 --style-layers features.1 --content-layers features.4"


@pytest.mark.usefixtures("squeezenet")
def test_a_network_is_chosen_by_its_name_and_found_again(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize(NAMED) == 0
    assert "squeezenet1_1 weights: torchvision" in capsys.readouterr().out
    assert runs[0].settings["extractor"]["network"] == "squeezenet1_1"
    assert nst_command("rerun out.png -o again.png") == 0
    assert torch.equal(load_image("again.png"), load_image("out.png"))
    texture = "synthesize painting.png -o texture.png --steps 1 --height 32 --width 32"
    assert nst_command(f"{texture} --network squeezenet1_1 --style-layers features.1") == 0
    assert nst_command(f"stylize photo.png painting.png -o o.png {NAMED} --checkpoint a.ckpt") == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--network squeezenet1_1", "'relu4_2', which squeezenet1_1 lacks. Did you mean"),
        ("--network vgg61", "`network` is 'vgg61', which torchvision lacks. Did you mean 'vgg"),
        (f"{NAMED} --pooling average", "`pooling` is only for vgg19, not squeezenet1_1"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_it_is_loaded(
    options: str, said: str, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize(options) == 2
    assert said in refusal(capsys) and loaded == []


def test_save_every_keeps_pictures_in_a_folder_beside_the_output(folder: Path) -> None:
    assert stylize("--save-every 2", steps=3) == 0
    assert names(folder) == ["out-steps", "out.png", "painting.png", "photo.png"]
    assert names(folder / "out-steps") == ["step-0002.png", "step-0003.png"]


def test_the_limit_on_pixels_is_an_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.delenv("NST_MAX_PIXELS", raising=False)
    assert stylize() == 2
    assert "--max-pixels on the command line" in capsys.readouterr().err
    assert stylize("--quiet --max-pixels 100000") == 0
    assert stylize("--max-pixels 0") == 2 and "NST_MAX_PIXELS" not in os.environ


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The pages of the runs, when these were over: where each was, and what it said."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Seen(LivePage):
        def on_end(self, state: nst.RunState) -> None:
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
def test_a_run_is_shown_on_a_page_whose_address_is_printed(
    line: str, shown: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert nst_command(line) == 0
    ((url, said),) = shown
    assert said["title"] == "2/2 · nst" and "completed" in said["html"]
    assert capsys.readouterr().err.startswith(f"nst: the run is shown at {url}\n")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)


def test_quiet_is_silent_also_with_a_page(
    shown: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stylize("--quiet --page 0") == 0
    assert len(shown) == 1
    assert capsys.readouterr() == ("", "") and Path("out.png").exists()


def test_a_page_or_quality_that_cannot_be_is_refused_before_the_network_is_loaded(
    loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with LivePage(port=0) as page:
        port = int(page.url.split(":")[-1].rstrip("/"))
        for options, said in (
            (f"--page {port}", f"`port` is {port}, which is taken"),
            ("--bit-depth 12", "invalid choice: 12 (choose from 8, 16)"),
            ("--quality 5", "`quality` is 5, but PNG has none"),
        ):
            assert stylize(options) == 2
            assert said in refusal(capsys).replace("'", "")
    assert loaded == []


def test_record_metadata_and_quality_are_options(folder: Path) -> None:
    def exif_of(path: str) -> dict[int, Any]:
        with Image.open(path) as image:
            return dict(image.getexif())

    exif = Image.Exif()
    exif[Base.Copyright] = "free"
    save_image(load_image("photo.png"), "photo.png", exif=exif.tobytes())
    assert stylize("--no-record --metadata none") == 0
    assert exif_of("out.png") == {}
    assert stylize("--no-record") == 0
    assert exif_of("out.png") == {Base.Copyright: "free"}
    line = "stylize photo.png painting.png -o out.jpg --steps 1 --no-record --quality"
    sizes = [nst_command(f"{line} {n}") or Path("out.jpg").stat().st_size for n in (1, 100)]
    assert sizes[0] < sizes[1]


def test_estimate_prints_time_and_memory_and_paints_nothing(
    folder: Path,
    runs: list[Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = spy(monkeypatch, StyleTransfer, "estimate")
    assert stylize("--estimate --size 24 --save-every 1", steps=7) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"about \d+ s and \d+ MB\n", out) and err == ""
    ((transfer, content, (style,), _),) = asked
    assert (transfer.num_steps, transfer.size, content) == (7, 24, "photo.png")
    assert style.image == "painting.png"
    monkeypatch.setattr(StyleTransfer, "estimate", lambda *_: nst.Estimate(48, 260_000_000))
    assert stylize("--estimate") == 0
    assert capsys.readouterr() == ("about 48 s and 260 MB\n", "")
    assert runs == [] and names(folder) == ["painting.png", "photo.png"]


def test_a_message_of_several_lines_becomes_one_and_ctrl_c_before_the_run_writes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    fail = raising(OSError("no network\n  so no weights"))
    monkeypatch.setattr("nst.cli.build.FeatureExtractor", fail)
    assert stylize() == 2
    assert refusal(capsys) == "nst: error: no network so no weights\n"
    monkeypatch.setattr("nst.cli.build.FeatureExtractor", raising(KeyboardInterrupt))
    assert stylize() == 130
    assert capsys.readouterr() == ("", "")
    assert "out.png" not in names(folder)


def test_styles_can_be_written_with_weight_and_region(folder: Path, runs: list[Run]) -> None:
    save_image(torch.cat([torch.ones(1, 3, 32, 20), torch.zeros(1, 3, 32, 20)], -1), "left.png")
    line = "stylize photo.png --style painting.png:0.7@left.png --style painting.png,scale=0.9"
    assert nst_command(f"{line} -o out.png --steps 1") == 0
    assert runs[0].settings["styles"] == [
        {"weight": 0.7, "region": 0},
        {"weight": 1.0, "scale": 0.9},
    ]


def test_labels_of_a_picture_are_masks(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    save_image(torch.cat([LEFT, 0 * LEFT, 1 - LEFT], 1), "labels.png")
    styles = "painting.png@labels.png#ff0000 --style painting.png,scale=0.9@labels.png#0000ff"
    line = f"stylize photo.png {styles} --where labels.png#ff0000 --steps 1 -o out.png"
    assert nst_command(line.replace(",scale=0.9@labels.png#0000ff", "")) == 0
    assert torch.equal(runs[0].result.image[..., 20:], load_image("photo.png")[..., 20:])
    assert runs[0].settings["inputs"]["where"]["color"] == "#ff0000"
    again = StyleTransfer.rerun("out.png", extractor=tiny_extractor())
    assert torch.equal(again.image, runs[0].result.image)
    capsys.readouterr()
    line = "stylize photo.png painting.png -o out.png --steps 1 --where labels.png#00ff00"
    assert "frequent colors are #" in refused(line, capsys)
    assert "'nothing.png', which does not" in refused(f"{line} --where nothing.png#00ff00", capsys)


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
        "--style-loss my_losses:MeanLoss --style painting.png@left.png",  # in a region
    ],
)
def test_a_custom_loss_is_named_by_its_module(line: str, runs: list[Run]) -> None:
    path = list(sys.path)
    save_image(LEFT.expand(1, 3, -1, -1), "left.png")
    assert stylize(line, steps=1) == 0
    assert {loss["type"] for loss in runs[0].settings["losses"].values()} & {"MeanLoss", "Far"}
    assert sys.path == path


@pytest.mark.usefixtures("losses_of_a_user")
def test_a_run_with_a_custom_loss_is_resumed_by_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert stylize("--style-loss my_losses:MeanLoss --checkpoint run.ckpt --quiet") == 0
    assert "Enter the command that started the run" in refused("resume run.ckpt -o b.png", capsys)
    assert "with StyleTransfer.rerun(losses=...)" in refused("rerun out.png -o b.png", capsys)


@pytest.mark.cpu  # workers know no pretended device
@pytest.mark.usefixtures("losses_of_a_user", "loaded")
def test_workers_find_a_custom_loss() -> None:
    Path("photos").mkdir()
    Path("photo.png").rename("photos/photo.png")
    line = "batch photos --style painting.png -o out --steps 1 --workers 1 --quiet"
    assert nst_command(f"{line} --style-loss my_losses:MeanLoss") == 0


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
    # `nst video` has an option for losses that compare with the previous frame.
    kinds = {loss for loss in LOSSES.values() if loss.reference not in (None, "previous")}
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
    err = refused("stylize photo.png -o out.png --config recipe.toml --steps 1", capsys)
    assert [words for words in said if words not in err] == []


NAME = "a\x1b[2J\x9b31m\u202e"
"""A part of a file name that would clear a terminal, color it, and reverse its text."""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"stylize {NAME}.png painting.png -o {NAME}out.png --steps 1", 0),
        (f"stylize {NAME} painting.png -o out.png", 2),
        (f"stylize photo.png painting.png -o out.png {NAME}=1", 2),
        (f"stylize photo.png painting.png -o out.png --{NAME}", 2),
        (f"stylize photo.png painting.png -o out.png --preset {NAME}", 2),
        (f"{NAME}", 2),
        (f"batch folder --style painting.png -o out{NAME} --steps 1", 1),
        (f"capture painting.png -o {NAME}.nst --sizes 40", 0),
    ],
)
def test_control_characters_in_names_never_reach_the_terminal(
    line: str, status: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "folder").mkdir()
    save_image(torch.rand(1, 3, 32, 40), folder / f"{NAME}.png")
    save_image(torch.rand(1, 3, 32, 40), folder / "folder" / f"{NAME}.png")
    (folder / "folder" / f"b{NAME}.gif").write_text("no picture")
    (folder / "folder" / f"{NAME}.txt").touch()
    assert nst_command(line) == status
    out, err = capsys.readouterr()
    assert "\\x1b[2J\\x9b31m\\u202e" in out + err
    assert not set("\x1b\x9b\u202e") & set(out + err)


def test_ctrl_c_during_the_run_saves_the_best_so_far(
    runs: list[Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.cli.build.ProgressBar", interrupting(2))
    assert stylize(steps=9) == 0
    result = runs[0].result
    assert (result.num_steps, result.stop_reason) == (2, "interrupted")
    assert torch.allclose(load_image("out.png"), result.image, atol=0.51 / 255)
    assert "2 steps" in (out := capsys.readouterr().out) and "(interrupted)" in out


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("dead", [None, Unwritable()])
def test_a_picture_is_saved_whatever_cannot_be_printed(
    stream: str, dead: Unwritable | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, stream, dead)
    assert stylize() == 0
    assert "out.png" in names(folder)
    assert nst_command("stylize missing.png painting.png -o other.png") == 2
    getattr(sys, stream).close()


def test_python_m_nst_is_the_command() -> None:
    command = [sys.executable, "-W", "error", "-m", "nst", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == (f"nst {nst.__version__}\n", "")


def test_the_librarys_warnings_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(self: StyleTransferResult, path: Any, **options: Any) -> list[Path]:
        logging.getLogger("nst").warning("of %s", path)
        return [Path(path)]

    monkeypatch.setattr(StyleTransferResult, "save", wraps(StyleTransferResult.save)(warned))
    for _ in range(2):  # not once more each time
        assert stylize("--quiet") == 0
        assert capsys.readouterr().err == "nst: warning: of out.png\n"
