"""Rehearsals, and that nothing which can be known before is found out with the network loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import nst.cli.main
from nst import StyleTransfer
from nst.cli.losses import LOSSES_BY_REFERENCE
from nst.losses.base import StorableLoss
from nst.testing import tiny_extractor


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures and masks; whatever loads the network fails."""
    style = StyleTransfer(tiny_extractor()).capture(torch.rand(1, 3, 32, 32), sizes=[32])
    monkeypatch.chdir(tmp_path)
    for name, size, color in (
        ("photo.png", (40, 32), "navy"),
        ("a.png", (28, 36), "teal"),
        ("small.png", (4, 4), "teal"),
        ("white.png", (40, 32), "white"),
        ("black.png", (40, 32), "black"),
        ("tall.png", (8, 80), "white"),
    ):
        Image.new("RGB", size, color).save(name)
    (tmp_path / "text.png").write_text("no picture")
    left = Image.new("L", (40, 32))
    left.paste(255, (0, 0, 20, 32))
    left.save("left.png")
    left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("right.png")
    style.save("style.nst")

    def load(*_: object, **__: object) -> None:
        raise AssertionError("the network is loaded")

    monkeypatch.setattr("nst.extractors.vgg.load_weights", load)
    return tmp_path


RUN = [
    ("--size 0", "`size` is 0"),
    ("--size 8", "Use a larger picture or size, or a shallower layer"),
    ("--steps 0", "`num_steps` is 0"),
    ("--scales 0", "`num_scales` is 0"),
    ("--average 1", "`average` is 1.0"),
    ("--average -1", "`average` is -1.0"),
    ("--normalize-gradients", "Use optimizer='adam'"),
    ("--seed -1", "`seed` is -1"),
    ("--style-weight -1", "`weight` is -1.0"),
    ("--style-weight nan", "`weight` is nan"),
    ("--tv inf", "`weight` is inf"),
    ("--style-layers relu9_1", "Did you mean 'relu"),
    ("--style-layers ,", "`layers` is empty"),
    ("--style-loss cross-layer-gram --style-layers relu1_1", "`layers` is"),
    ("--device quantum", "`device` is 'quantum'"),
    ("--save-every 0", "`every` is 0"),
    ("--init text.png", "`init` is 'text.png', which is not a picture"),
]
OF_A_PHOTOGRAPH = [
    *RUN,
    ("--strength -1", "`strength` is -1.0"),
    ("--strength nan", "`strength` is nan"),
    ("--strength 0 --content-weight 0", "`strength` is 0"),
    ("--content-weight -1", "`weight` is -1.0"),
    ("--content-weight 0 --style-weight 0", "at least one loss"),
    ("--content-layers conv4_9", "Did you mean 'conv4_"),
    ("--content-loss laplacian --content-layers relu1_1", "`layers` cannot be chosen"),
    ("--where text.png", "`where` is 'text.png', which is not a picture"),
    ("--where black.png", "`where` is black everywhere"),
    ("--where tall.png", "Give it the same proportions"),
    ("--where left.png --style-loss nearest-neighbor", "Use a StatisticLoss"),
]
PHOTO = "stylize photo.png a.png -o out.png --quiet"
LINES = [
    *[(f"{PHOTO} {options}", said) for options, said in OF_A_PHOTOGRAPH],
    *[(f"synthesize a.png -o out.png --quiet {options}", said) for options, said in RUN],
    ("stylize text.png a.png -o out.png", "`content` is 'text.png', which is not a picture"),
    ("stylize photo.png text.png -o out.png", "`style[0]` is 'text.png', which is not a picture"),
    ("stylize photo.png small.png -o out.png", "`style[0]` is 4x4 pixels"),
    ("stylize photo.png a.png:0 -o out.png", "only weights of 0"),
    ("stylize photo.png a.png@black.png -o out.png", "`style[0].region` is black everywhere"),
    ("stylize photo.png a.png,mask=tall.png -o out.png", "Give it the same proportions"),
    ("stylize photo.png a.png@left.png -o out.png --where right.png", "no part in common"),
    ("stylize photo.png style.nst -o out.png --style-loss wasserstein", "but not for"),
    ("stylize photo.png style.nst -o out.png --init style", "only statistics were kept"),
    ("stylize photo.png style.nst -o out.png --size 22", "Capture it with sizes=[22]"),
    ("synthesize a.png@left.png -o out.png", "`style` has a region"),
    ("synthesize a.png -o out.png --init content", "Use 'pink-noise'"),
    ("synthesize a.png -o out.png --height 0 --width 9", "`shape` is 0"),
    ("synthesize a.png -o out.png --height 8 --width 9", "Use a larger picture or size"),
    ("synthesize style.nst -o out.png", "pass shape="),
    ("capture style.nst -o out.nst", "captured already"),
    ("capture text.png -o out.nst", "which is not a picture"),
    ("capture small.png -o out.nst", "`style` is 4x4 pixels"),
    ("capture a.png -o out.nst --sizes 0", "`sizes` is 0"),
    ("capture a.png -o out.nst --sizes 32,8", "Use a larger picture or size"),
    ("capture a.png -o out.nst --style-loss nearest-neighbor", "Use a StatisticLoss"),
    ("capture a.png -o out.nst --style-layers relu9_1", "Did you mean 'relu"),
    ("capture a.png:2 -o out.nst", "weight or a region, which a style file does not store"),
    ("capture a.png@left.png -o out.nst", "weight or a region, which a style file does not store"),
    ("sheet photo.png a.png -o out.png --vary steps=1,0", "`num_steps` is 0"),
    ("sheet photo.png a.png -o out.png --vary style=a.png,small.png", "`style[0]` is 4x4"),
    ("sheet photo.png a.png -o out.png --vary where=left.png,black.png", "black everywhere"),
]


@pytest.mark.parametrize(("line", "said"), LINES)
def test_what_can_be_known_before_is_refused_before_the_network_is_loaded(
    line: str, said: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    before = sorted(folder.iterdir())
    assert nst.cli.main.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert said in err and out == "" and err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        PHOTO,
        f"{PHOTO} --strength 0.5 --preserve-color pca --color-when both --where left.png",
        f"{PHOTO} --style a.png@left.png --init white.png --save-every 2",
        "stylize photo.png style.nst -o out.png --size 32",
        "sheet photo.png a.png -o out.png --vary seed=1,2",
        "synthesize a.png -o out.png",
        "synthesize style.nst -o out.png --height 32 --width 32",
        *[
            f"capture a.png,mask=a.png,rotation=90 -o out.nst --style-loss {name}"
            for name, loss in LOSSES_BY_REFERENCE["style"].items()
            if issubclass(loss, StorableLoss)
        ],
    ],
)
def test_what_is_well_asked_for_passes_the_rehearsal_and_leaves_no_trace(
    line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(AssertionError, match="the network is loaded"):
        nst.cli.main.main(line.split())
    assert capsys.readouterr() == ("", "")
    assert sorted(folder.iterdir()) == before
