from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nst import Style, StyleTransfer
from nst.cli.styles import parse_style
from nst.styles.statistics import StyleStatistics
from nst.testing import tiny_extractor

NAMES = ["a.png", "mask.png", "b:c.png", "d@e.png", "f,scale=2.png", "g:2", "h.png#123456"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Image.new("RGB", (32, 32), "navy").save(name, format="PNG")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a.png", {}),
        ("a.png:0.7", {"weight": 0.7}),
        ("a.png@mask.png", {"region": "mask.png"}),
        ("a.png:0.7@mask.png", {"weight": 0.7, "region": "mask.png"}),
        ("a.png:1e-1@alpha", {"weight": 0.1, "region": "alpha"}),
        ("a.png,mask=mask.png,scale=0.5", {"mask": "mask.png", "scale": 0.5}),
        ("a.png:2@mask.png,rotation=-45", {"weight": 2, "region": "mask.png", "rotation": -45}),
        ("a.png,weight=3,region=alpha", {"weight": 3, "region": "alpha"}),
        ("a.png@mask.png#ff0000", {"region": ("mask.png", "#ff0000")}),
        (
            "a.png:2@alpha,mask=mask.png#00FF00",
            {"weight": 2, "region": "alpha", "mask": ("mask.png", "#00FF00")},
        ),
        ("a.png@h.png#123456", {"region": "h.png#123456"}),
    ],
)
def test_every_part_arrives(spec: str, expected: dict[str, Any]) -> None:
    style = parse_style(spec)
    usual = {"weight": 1.0, "region": None, "mask": None, "scale": 1.0, "rotation": 0.0}
    assert {name: getattr(style, name) for name in usual} == {**usual, **expected}
    assert style.image == "a.png"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_whole_name_is_that_file(name: str) -> None:
    assert parse_style(name).image == name
    assert parse_style(f"{name}:0.5").weight == 0.5


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("a.png@d@e.png", FileNotFoundError, r"'a\.png@d'"),
        ("missing.png:0.5", FileNotFoundError, "`style` is 'missing.png'"),
        ("a.png@missing.png", FileNotFoundError, "`style, region` is 'missing.png'"),
        ("a.png,mask=missing.png", FileNotFoundError, "`style, mask` is 'missing.png'"),
        ("a.png@missing.png#ff0000", FileNotFoundError, "`style, region` is 'missing.png'"),
        ("a.png,scale=big", ValueError, "`style` has scale='big'; a number is needed"),
        ("a.png,scale=0", ValueError, "`scale` is 0"),
        ("a.png:-1", ValueError, "`weight` is -1.0"),
        ("", ValueError, "which names no file. Write it as PATH"),
        ("@mask.png", ValueError, "which names no file"),
        ("a.png,size=3", FileNotFoundError, "'a.png,size=3'"),
    ],
)
def test_anything_else_is_refused(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_style(spec)


def test_a_style_file_is_told_by_its_content() -> None:
    transfer = StyleTransfer(tiny_extractor())
    transfer.capture(Style(torch.rand(1, 3, 32, 32)), sizes=[32]).save("waves.png")
    style = parse_style("waves.png:0.5@alpha")
    assert isinstance(style.image, StyleStatistics)
    assert (style.weight, style.region) == (0.5, "alpha")
