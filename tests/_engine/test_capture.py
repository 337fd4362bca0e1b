"""A captured style takes the painting's place, from memory or from a file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nst.styles.statistics
from nst import (
    ContentLoss,
    CrossLayerGramStyleLoss,
    FeatureExtractor,
    GramStyleLoss,
    Loss,
    MomentStyleLoss,
    NearestNeighborStyleLoss,
    StatisticLoss,
    Style,
    StyleTransfer,
    WassersteinStyleLoss,
)
from nst.styles.statistics import StyleStatistics
from nst.testing import tiny_extractor

LAYERS = ["relu1_1", "relu2_1"]


class MeanLoss(StatisticLoss):
    def __init__(self, layers: Any = LAYERS, *, weight: float = 1.0, power: int = 1) -> None:
        super().__init__(layers, weight=weight)
        self.power = power

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature**self.power * weight).sum(-1)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "power": self.power}


def transfer(
    extractor: FeatureExtractor, loss: Loss | None = None, **arguments: Any
) -> StyleTransfer:
    loss = GramStyleLoss(LAYERS) if loss is None else loss
    losses = {"content": ContentLoss(["relu2_1"], weight=0.1), "style": loss}
    return StyleTransfer(extractor, losses, **{"num_steps": 4, "num_scales": 2, **arguments})


def left(height: int, width: int) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


@pytest.mark.parametrize(
    "loss",
    [
        GramStyleLoss(LAYERS),
        GramStyleLoss(LAYERS, centered=True),
        MomentStyleLoss(LAYERS),
        WassersteinStyleLoss(LAYERS),
        CrossLayerGramStyleLoss(LAYERS),
        MeanLoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("double", [False, True])
def test_a_style_from_a_file_gives_the_same_bits_as_from_its_picture(
    loss: Loss, double: bool, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    extractor = tiny_extractor().double() if double else tiny_extractor()
    own = transfer(extractor, loss)
    captured = own.capture(painting, sizes=[20, 40])
    expected = own.run(photo, painting).image
    assert torch.equal(own.run(photo, captured).image, expected)
    loaded = Style.load(captured.save(tmp_path / "style.nst"))
    assert torch.equal(own.run(photo, loaded).image, expected)


def test_mask_scale_and_rotation_are_part_of_what_is_captured(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Path
) -> None:
    own, region = transfer(extractor), left(32, 40)
    style = Style(painting, 2.0, region, left(36, 28), scale=0.8, rotation=30)
    captured = own.capture(style, sizes=[20, 40])
    expected = own.run(photo, style).image
    assert torch.equal(own.run(photo, captured).image, expected)
    loaded = Style.load(captured.save(tmp_path / "style.nst"), weight=2.0, region=region)
    assert torch.equal(own.run(photo, loaded).image, expected)


def test_captured_styles_blend_with_pictures(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    own, other = transfer(extractor), painting.flip(1)
    captured = own.capture(Style(painting, weight=0.7), sizes=[20, 40])
    blended = own.run(photo, [captured, Style(other, weight=0.3)]).image
    assert torch.equal(blended, own.run(photo, [Style(painting, 0.7), Style(other, 0.3)]).image)


def test_the_default_sizes_are_the_scales_of_a_picture_of_full_size(
    extractor: FeatureExtractor, painting: Tensor
) -> None:
    captured = transfer(extractor, size=64).capture(painting).image
    assert isinstance(captured, StyleStatistics)
    assert captured.sizes == [32, 64]


def test_other_contents_use_the_nearest_size_within_reach(
    extractor: FeatureExtractor, painting: Tensor
) -> None:
    own = transfer(extractor, num_scales=1)
    captured = own.capture(painting, sizes=[32])
    for side in (23, 32, 45):
        assert own.run(torch.rand(1, 3, side, 20), captured).num_steps == 4
    for side in (22, 46):
        with pytest.raises(ValueError, match=f"for pictures of 32 .* {side} are needed.*sizes="):
            own.run(torch.rand(1, 3, side, 20), captured)


def test_capturing_changes_neither_losses_nor_style(
    extractor: FeatureExtractor, painting: Tensor
) -> None:
    own, style = transfer(extractor), Style(painting, weight=3.0)
    captured = own.capture(style, sizes=[32])
    assert captured.weight == 3.0
    assert style.image is painting
    assert not list(own.losses["style"].buffers())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: transfer(tiny_extractor(seed=1)), "captured with another network"),
        (lambda: transfer(tiny_extractor(), MomentStyleLoss(LAYERS)), "GramStyleLoss, but not for"),
        (lambda: transfer(tiny_extractor(), GramStyleLoss(["relu3_1"])), "but not 'relu3_1'"),
        (lambda: transfer(tiny_extractor(), GramStyleLoss(LAYERS, centered=True)), "but not for"),
        (
            lambda: transfer(tiny_extractor(), NearestNeighborStyleLoss(LAYERS)),
            "'style' .NearestNeighborStyleLoss. compares with the painting itself",
        ),
    ],
)
def test_a_style_of_another_kind_is_refused_before_any_step(
    other: Any, message: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    captured = transfer(extractor).capture(painting, sizes=[20, 40])
    started: list[object] = []
    with pytest.raises(ValueError, match=message):
        other().run(photo, captured, callbacks=[started.append])
    assert not started


def test_pooling_and_a_users_setting_tell_styles_apart(photo: Tensor, painting: Tensor) -> None:
    average = tiny_extractor()
    average.pooling = "average"
    captured = transfer(tiny_extractor()).capture(painting, sizes=[20, 40])
    with pytest.raises(ValueError, match="another network"):
        transfer(average).run(photo, captured)
    squares = transfer(tiny_extractor(), MeanLoss(power=2)).capture(painting, sizes=[20, 40])
    with pytest.raises(ValueError, match=r"but not for .*'power': 1"):
        transfer(tiny_extractor(), MeanLoss()).run(photo, squares)


def test_weights_and_units_are_no_part_of_a_captured_style(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    captured = transfer(extractor).capture(painting, sizes=[20, 40])
    loss = GramStyleLoss({"relu2_1": 0.3}, weight=9.0, units="gatys")
    own = transfer(extractor, loss)
    assert torch.equal(own.run(photo, captured).image, own.run(photo, painting).image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": left(4, 4)}, "`mask`"),
        ({"mask": np.ones((4, 4))}, "`mask`"),
        ({"scale": 0.5}, "`scale`"),
        ({"rotation": 9}, "`rotation`"),
    ],
)
def test_what_is_part_of_a_captured_style_cannot_be_changed(
    arguments: dict[str, Any], message: str, extractor: FeatureExtractor, painting: Tensor
) -> None:
    captured = transfer(extractor).capture(painting, sizes=[32])
    with pytest.raises(ValueError, match=f"{message} cannot be changed"):
        Style(captured.image, **arguments)


def test_what_cannot_be_captured_is_refused(
    extractor: FeatureExtractor, painting: Tensor, tmp_path: Path
) -> None:
    own = transfer(extractor)
    with pytest.raises(ValueError, match="Capture it first"):
        Style(painting).save(tmp_path / "style.nst")
    with pytest.raises(ValueError, match="captured already"):
        own.capture(own.capture(painting, sizes=[32]))
    with pytest.raises(ValueError, match="`sizes` is required"):
        transfer(extractor, size=None).capture(painting)
    with pytest.raises(ValueError, match="`sizes` is empty"):
        own.capture(painting, sizes=[])
    with pytest.raises(ValueError, match="`sizes` is 0"):
        own.capture(painting, sizes=[0])
    with pytest.raises(ValueError, match="`style` is 1x1 pixels"):
        own.capture(painting, sizes=[1])
    with pytest.raises(ValueError, match="compares with the painting itself"):
        transfer(extractor, NearestNeighborStyleLoss(LAYERS)).capture(painting)
    with pytest.raises(ValueError, match="no style loss"):
        StyleTransfer(extractor, {"content": ContentLoss(["relu1_1"])}).capture(painting)


@pytest.fixture
def file(extractor: FeatureExtractor, painting: Tensor, tmp_path: Path) -> Path:
    return transfer(extractor).capture(painting, sizes=[32]).save(tmp_path / "style.nst")


def test_a_file_cut_short_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for tenth in range(10):
        file.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(ValueError, match=r"style\.nst', which is no style file"):
            Style.load(file)


def test_a_flipped_bit_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for place in range(len(whole) // 8, len(whole) * 3 // 4, len(whole) // 16):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match="no style file"):
            Style.load(file)


def rewritten(file: Path, change: Any) -> None:
    """Write the file again with its description changed."""
    with np.load(file) as archive:
        arrays = dict(archive)
    about = json.loads(str(arrays["about"]))
    change(about, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, "about": np.array(json.dumps(about))})
    file.write_bytes(buffer.getvalue())


def set_nan(about: dict[str, Any], arrays: dict[str, Any]) -> None:
    arrays["array0"][0, 0] = np.nan


@pytest.mark.parametrize(
    "change",
    [
        lambda about, arrays: about.update(version=2),
        lambda about, arrays: about.update(format="other"),
        lambda about, arrays: about.update(entries=[]),
        lambda about, arrays: about.update(entries=7),
        lambda about, arrays: about.pop("network"),
        lambda about, arrays: about.update(color=[[1, 2], [3]]),
        lambda about, arrays: about["entries"][0].update(size=0),
        lambda about, arrays: about["entries"][0]["loss"].pop("type"),
        lambda about, arrays: arrays.update(array0=arrays["array0"][:, :-1]),
        lambda about, arrays: arrays.update(array0=arrays["array0"].astype(int)),
        lambda about, arrays: arrays.pop("array1"),
        set_nan,
    ],
)
def test_a_file_that_says_something_else_is_refused(change: Any, file: Path) -> None:
    rewritten(file, change)
    with pytest.raises(ValueError, match="no style file of version 1"):
        Style.load(file)


def test_nothing_is_unpickled(file: Path) -> None:
    executed = file.with_name("executed")

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (executed,)

    buffer = io.BytesIO()
    np.save(buffer, np.array([Hostile()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, buffer.getvalue() if name == "array0.npy" else content)
    with pytest.raises(ValueError, match="no style file"):
        Style.load(file)
    assert not executed.exists()


def test_a_failed_write_leaves_the_old_file(
    file: Path, extractor: FeatureExtractor, painting: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        transfer(extractor).capture(painting.flip(1), sizes=[32]).save(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["style.nst"]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"'missing\.nst', which is not a file"):
        Style.load("missing.nst")


def test_half_of_a_symmetric_statistic_is_enough(tmp_path: Path) -> None:
    # The layers of VGG19: 64, 128, 256, 512 and 512 channels, 2.4 MB in full.
    entry = nst.styles.statistics.Entry(
        {"type": "GramStyleLoss"},
        512,
        {f"relu{i}_1": symmetric(c) for i, c in enumerate((64, 128, 256, 512, 512), 1)},
    )
    colors = torch.zeros(3).double(), torch.eye(3).double()
    path = StyleStatistics("network", [entry], *colors).save(tmp_path / "style.nst")
    assert path.stat().st_size < 1.3e6
    (loaded,) = StyleStatistics.load(path).entries
    for layer, statistic in entry.statistics.items():
        assert isinstance(statistic, Tensor)
        found = loaded.statistics[layer]
        assert isinstance(found, Tensor)
        assert torch.equal(found, statistic)


def symmetric(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    matrix = torch.rand(1, channels, channels, generator=generator)
    return matrix + matrix.mT


@pytest.mark.parametrize("init", ["noise", "pink-noise"])
def test_noise_has_the_colors_of_a_captured_style(
    init: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    own = transfer(extractor)
    captured = own.capture(painting, sizes=[20, 40])
    expected = own.run(photo, painting, init=init).image
    assert torch.equal(own.run(photo, captured, init=init).image, expected)
    with pytest.raises(ValueError, match="`init` is 'style', of which only statistics"):
        own.run(photo, captured, init="style")


def test_losses_of_a_kind_share_a_captured_style(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    losses = {"fine": GramStyleLoss(["relu1_1"]), "coarse": GramStyleLoss(["relu2_1"])}
    own = StyleTransfer(extractor, losses, num_steps=3, num_scales=1)
    captured = own.capture(painting, sizes=[40])
    assert torch.equal(own.run(photo, captured).image, own.run(photo, painting).image)


def test_what_lies_across_other_layers_is_refused(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    captured = transfer(extractor, CrossLayerGramStyleLoss(["conv1_1", "relu2_1"])).capture(
        painting, sizes=[20, 40]
    )
    with pytest.raises(ValueError, match="holds statistics for CrossLayerGramStyleLoss, but not"):
        transfer(extractor, CrossLayerGramStyleLoss(LAYERS)).run(photo, captured)
