"""What can be known before is refused before the network is loaded, and no input is overwritten."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nst import Checkpoint, StyleTransfer
from nst.cli.losses import LOSSES_BY_REFERENCE
from nst.losses.storable import StorableLoss
from nst.testing import tiny_extractor
from tests.cli.running import nst_command, refused
from tests.helpers import raising


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures and masks; whatever loads the network fails."""
    style = StyleTransfer(tiny_extractor()).capture(torch.rand(1, 3, 32, 32), sizes=[32])
    monkeypatch.chdir(tmp_path)
    sizes = {"photo": (40, 32), "white": (40, 32), "black": (40, 32), "small": (4, 4)}
    sizes |= {"wide": (16800, 32)}
    sizes |= {"a": (28, 36), "gray": (28, 36), "tall": (8, 80)}
    colors = {"photo": "navy", "a": "teal", "small": "teal", "tall": "white", "wide": "white"}
    for name, size in sizes.items():
        Image.new("RGB", size, colors.get(name, name)).save(f"{name}.png")
    Path("text.png").write_text("no picture")
    Path("vgg.png").write_bytes(b"weights")
    Path("recipe.png").write_text('content = "photo.png"\nstyle = "a.png"\n')
    Path("taken-steps").touch()
    left = Image.new("L", (40, 32))
    left.paste(255, (0, 0, 20, 32))
    left.save("left.png")
    left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("right.png")
    style.save("style.nst")

    loaded = raising(AssertionError("the network is loaded"))
    monkeypatch.setattr("nst.extractors.vgg.load_weights", loaded)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() if p.is_file() else b"" for p in folder.iterdir()}


def refused_in(folder: Path, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that refuses a command line, which changes nothing in the folder."""
    before, message = content(folder), refused(line, capsys)
    assert content(folder) == before
    return message


RUN = [
    ("--size 0", "`size` is 0"),
    ("--size 8", "Use a larger picture or size, or a shallower layer"),
    ("--steps 0", "`num_steps` is 0"),
    ("--scales 0", "`num_scales` is 0"),
    ("--average 1", "`average` is 1.0"),
    ("--normalize-gradients", "Use optimizer='adam'"),
    ("--seed -1", "`seed` is -1"),
    ("--style-weight -1", "`style_weight` is -1.0"),
    ("--tv inf", "`weight` is inf"),
    ("--style-layers relu9_1", "Did you mean 'relu"),
    ("--style-layers relu1_1:0.2,relu2_1", "give every layer a weight"),
    ("--style-layers relu1_1:much", "give every layer a weight"),
    ("--style-loss cross-layer-gram --style-layers relu1_1", "`layers` is"),
    ("--device quantum", "`device` is 'quantum'"),
    ("--save-every 0", "`every` is 0"),
    ("--init text.png", "`init` is 'text.png', which is not a picture"),
]
OF_A_PHOTOGRAPH = [
    *RUN,
    ("--strength -1", "`strength` is -1.0"),
    ("--strength 0 --content-weight 0", "`strength` is 0"),
    ("--content-weight -1", "`content_weight` is -1.0"),
    ("--content-weight 0 --style-weight 0", "at least one loss"),
    ("--content-layers conv4_9", "Did you mean 'conv4_"),
    ("--content-loss laplacian --content-layers relu1_1", "`layers` cannot be chosen"),
    ("--where text.png", "`where` is 'text.png', which is not a picture"),
    ("--where black.png", "`where` is black everywhere"),
    ("--where tall.png", "Give it the same proportions"),
    ("--where left.png --style-loss nearest-neighbor", "Use a StatisticLoss"),
    ("--where nowhere.png", "`--where` is 'nowhere.png', which does not exist"),
    ("--weights nowhere.pth", "`--weights` is 'nowhere.pth', which does not exist"),
    ("--weights nowhere.pth", "Or use auto, original, torchvision."),
    ("--init nowhere.png", "`--init` is 'nowhere.png', which does not exist"),
    ("--init nowhere.png", "Or use content, style, noise, pink-noise, gray."),
]
PHOTO = "stylize photo.png a.png -o out.png --quiet"
LINES = [
    *[(f"{PHOTO} {options}", said) for options, said in OF_A_PHOTOGRAPH],
    *[(f"synthesize a.png -o out.png --quiet {options}", said) for options, said in RUN],
    ("stylize nowhere.png a.png -o out.png", "`content` is 'nowhere.png', which does not exist"),
    ("stylize photo.png nowhere.png -o out.png", "`style[0]` is 'nowhere.png'"),
    ("stylize text.png a.png -o out.png", "`content` is 'text.png', which is not a picture"),
    ("stylize photo.png small.png -o out.png", "`style[0]` is 4x4 pixels"),
    ("stylize photo.png a.png:0 -o out.png", "only weights of 0"),
    ("stylize photo.png a.png@black.png -o out.png", "`style[0].region` is black everywhere"),
    ("stylize photo.png a.png@left.png -o out.png --where right.png", "no part in common"),
    ("stylize photo.png style.nst -o out.png --style-loss wasserstein", "but not for"),
    ("stylize photo.png style.nst -o out.png --init style", "only statistics were kept"),
    ("stylize photo.png style.nst -o out.png --size 22", "Capture it with sizes=[22]"),
    ("stylize photo.png a.png -o out.xyz", "'out.xyz', whose suffix '.xyz' names no known picture"),
    ("stylize photo.png a.png -o out", "`--output` is 'out', whose name has no suffix. Use .png"),
    ("stylize photo.png a.png -o .", "`--output` is '.', which is a folder. Add a file name"),
    ("stylize photo.png a.png -o taken.png --save-every 1", "'taken-steps', which is a file. Name"),
    ("demo -o no/out.png", "`--output` is 'no/out.png', whose folder does not exist. Create"),
    ("synthesize a.png@left.png -o out.png", "`style` has a region"),
    ("synthesize a.png -o out.png --init content", "Use 'pink-noise'"),
    ("synthesize a.png -o out.png --height 0 --width 9", "`shape` is 0"),
    ("synthesize style.nst -o out.png", "pass shape="),
    ("synthesize a.png -o out.webp --height 64 --width 17000", "at most 16383 pixels a side"),
    (
        "stylize wide.png a.png -o out.webp --size none --scales 1",
        "the picture has 16800 x 32. Choose",
    ),
    ("capture style.nst -o out.nst", "captured already"),
    ("capture text.png -o out.nst", "which is not a picture"),
    ("capture a.png -o out.nst --sizes 0", "`sizes` is 0"),
    ("capture a.png -o out.nst --sizes 32,8", "Use a larger picture or size"),
    ("capture a.png -o out.nst --style-loss nearest-neighbor", "Use a StatisticLoss"),
    ("capture a.png:2 -o out.nst", "weight or a region, which a style file does not store"),
    ("capture a.png -o no/style.nst", "'no/style.nst', whose folder does not exist. Create"),
    ("capture a.png -o a.png/style.nst", "is not a folder. Choose another"),
    ("sheet photo.png a.png -o out.png --vary style=a.png,small.png", "`style[0]` is 4x4"),
    ("sheet photo.png a.png -o out.png --vary where=left.png,black.png", "black everywhere"),
]


@pytest.mark.parametrize(("line", "said"), LINES)
def test_what_can_be_known_before_is_refused_before_the_network_is_loaded(
    line: str, said: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert said in refused_in(folder, line, capsys)


@pytest.mark.parametrize(
    "line",
    [
        PHOTO,
        f"{PHOTO} --strength 0.5 --preserve-color pca --color-when both --where left.png",
        f"{PHOTO} --style a.png@left.png --init white.png --save-every 2",
        "stylize photo.png style.nst -o out.png --size 32",
        "stylize photo.png a.png -o white.png --init gray",  # over another file
        "sheet photo.png a.png -o out.png --vary seed=1,2",
        "synthesize a.png -o out.png",
        "synthesize style.nst -o out.png --height 32 --width 32",
        *[
            f"capture a.png,mask=gray.png,rotation=90 -o out.nst --style-loss {name}"
            for name, loss in LOSSES_BY_REFERENCE["style"].items()
            if issubclass(loss, StorableLoss)
        ],
    ],
)
def test_what_is_well_asked_for_passes_the_rehearsal_and_leaves_no_trace(
    line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    with pytest.raises(AssertionError, match="the network is loaded"):
        nst_command(line)
    assert capsys.readouterr() == ("", "")
    assert content(folder) == before


INPUTS = [
    ("stylize photo.png a.png", "photo.png", "content"),
    ("stylize photo.png a.png", "a.png", "style[0]"),
    ("stylize photo.png photo.png --style a.png:0.5,scale=0.5", "a.png", "style[1]"),
    ("stylize photo.png a.png@left.png", "left.png", "style[0], region"),
    ("stylize photo.png a.png,mask=left.png", "left.png", "style[0], mask"),
    ("stylize photo.png a.png --where left.png", "left.png", "--where"),
    ("stylize photo.png a.png --init white.png", "white.png", "--init"),
    ("stylize photo.png a.png --weights vgg.png", "vgg.png", "--weights"),
    ("stylize --config recipe.png", "recipe.png", "--config"),
    ("sheet photo.png a.png --vary seed=1,2", "photo.png", "content"),
    ("sheet photo.png a.png --vary style=a.png,white.png", "white.png", "style[0]"),
    ("sheet photo.png a.png --vary where=white.png,left.png", "left.png", "--where"),
    ("synthesize a.png", "a.png", "style[0]"),
    ("capture a.png", "a.png", "style[0]"),
    ("demo --where left.png", "left.png", "--where"),
]


@pytest.mark.parametrize(("line", "output", "name"), INPUTS)
@pytest.mark.parametrize("spelling", ["as it is", "another", "absolute", "symlink", "link"])
def test_no_command_writes_over_what_it_reads(
    line: str, output: str, name: str, spelling: str, folder: Path, capsys: Any
) -> None:
    if spelling == "another":
        output = f"../{folder.name}/{output}"
    elif spelling == "absolute":
        output = str(folder / output)
    elif spelling != "as it is":
        getattr(os, spelling)(output, "link.png")
        output = "link.png"
    err = refused_in(folder, f"{line} -o {output}", capsys)
    assert f"`--output` is {output!r}, which is also `{name}`" in err
    assert err.endswith("Choose another name.\n")


@pytest.mark.parametrize("place", ["photo.png", "a.png", "out.png", "./out.png", ".", "no/run"])
@pytest.mark.parametrize("command", ["stylize photo.png a.png", "synthesize a.png"])
def test_a_checkpoint_harms_no_file(
    command: str, place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused_in(folder, f"{command} -o out.png --checkpoint {place}", capsys)
    assert error.startswith(f"nst: error: `--checkpoint` is {str(Path(place))!r}, ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rerun made.png -o made.png", "which is also `picture`"),
        ("rerun made.png -o a.png", "which 'made.png' was made from"),
        ("rerun made.png -o sea.png", "which 'made.png' was made from"),
        ("rerun made.png -o blue.png", "which 'made.png' was made from"),
        ("rerun made.png -o white.png --inputs white.png", "which is also `--inputs`"),
    ],
)
def test_a_rerun_does_not_write_over_what_the_picture_was_made_from(
    line: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), "navy").save("blue.png")
    Path("sea.png").symlink_to("blue.png")
    StyleTransfer(tiny_extractor(), num_steps=1).run("sea.png", "a.png").save("made.png")
    assert said in refused_in(folder, line, capsys)


@pytest.mark.parametrize("command", ["stylize photo.png", "synthesize"])
@pytest.mark.parametrize("start", ["out-steps/step-0002.png", "last.png"])
def test_saved_steps_do_not_go_over_a_step_that_is_read(
    command: str, start: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out-steps").mkdir()
    Image.new("RGB", (32, 32), "white").save("out-steps/step-0002.png")
    Path("last.png").symlink_to("out-steps/step-0002.png")
    err = refused_in(folder, f"{command} a.png -o out.png --save-every 1 --init {start}", capsys)
    assert "`--save-every` writes into 'out-steps', where `--init` is" in err


def test_saved_steps_of_a_resumed_run_do_not_go_over_what_it_was_made_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out-steps").mkdir()
    Image.new("RGB", (32, 32), "white").save("out-steps/step-0002.png")
    run = StyleTransfer(tiny_extractor(), num_steps=1).run
    run("out-steps/step-0002.png", "a.png", callbacks=Checkpoint("run.ckpt"))
    err = refused_in(folder, "resume run.ckpt -o out.png --save-every 1", capsys)
    assert "where the run has an input, 'out-steps/step-0002.png', which could be overw" in err
