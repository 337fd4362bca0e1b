"""A captured style takes the painting's place, from memory or from a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nst
from nst import ContentLoss, CrossLayerGramStyleLoss, GramStyleLoss, Loss, MomentStyleLoss, Style
from nst.styles.statistics import StyleStatistics
from nst.testing import tiny_extractor
from tests.helpers import LEFT, PAINTING, PHOTO, halve, small

LAYERS = ["relu1_1", "relu2_1"]
SIZES = [20, 40]


class MeanLoss(nst.StatisticLoss):
    def __init__(self, layers: Any = LAYERS, *, weight: float = 1.0, power: int = 1) -> None:
        super().__init__(layers, weight=weight)
        self.power = power

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature**self.power * weight).sum(-1)


def transfer(
    loss: Loss | None = None, extractor: nn.Module | None = None, **arguments: Any
) -> nst.StyleTransfer:
    style = GramStyleLoss(LAYERS) if loss is None else loss
    losses = {"content": ContentLoss(["relu2_1"], weight=0.1), "style": style}
    return small(extractor, losses=losses, **{"num_steps": 4, "num_scales": 2, **arguments})


def captured_with(loss: Loss | None = None, sizes: Any = SIZES, **arguments: Any) -> Style:
    return transfer(loss, **arguments).capture(PAINTING, sizes=sizes)


def same(own: nst.StyleTransfer, style: Any, other: Any, **arguments: Any) -> bool:
    return torch.equal(*[own.run(PHOTO, each, **arguments).image for each in (style, other)])


@pytest.mark.float64
@pytest.mark.parametrize(
    "loss",
    [
        GramStyleLoss(LAYERS),
        GramStyleLoss(LAYERS, centered=True),
        MomentStyleLoss(LAYERS),
        nst.WassersteinStyleLoss(LAYERS),
        CrossLayerGramStyleLoss(LAYERS),
        MeanLoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("double", [False, True])
def test_a_style_from_a_file_gives_the_same_bits_as_from_its_picture(
    loss: Loss, double: bool, tmp_path: Path
) -> None:
    own = transfer(loss, tiny_extractor().double() if double else None)
    captured = own.capture(PAINTING, sizes=SIZES)
    assert same(own, captured, PAINTING)
    assert same(own, Style.load(captured.save(tmp_path / "style.nst")), PAINTING)


def test_mask_scale_and_rotation_are_part_of_what_is_captured(tmp_path: Path) -> None:
    mask = torch.zeros(1, 1, 36, 28)
    mask[..., :14] = 1
    own, style = transfer(), Style(PAINTING, 2.0, LEFT, mask, scale=0.8, rotation=30)
    captured = own.capture(style, sizes=SIZES)
    assert same(own, captured, style)
    loaded = Style.load(captured.save(tmp_path / "style.nst"), weight=2.0, region=LEFT)
    assert same(own, loaded, style)


def test_other_contents_use_the_nearest_size_within_reach() -> None:
    own = transfer(num_scales=1)
    captured = own.capture(PAINTING, sizes=[32])
    for side in (23, 32, 45):
        assert own.run(torch.rand(1, 3, side, 20), captured).num_steps == 4
    for side in (22, 46):
        with pytest.raises(ValueError, match=f"for pictures of 32 .* {side} are needed.*sizes="):
            own.run(torch.rand(1, 3, side, 20), captured)


def test_capturing_changes_no_loss_or_style_and_defaults_to_the_scales_of_full_size() -> None:
    own, style = transfer(), Style(PAINTING, weight=3.0)
    assert own.capture(style, sizes=[32]).weight == 3.0
    assert style.image is PAINTING
    assert not list(own.losses["style"].buffers())
    captured = captured_with(sizes=None, size=64).image
    assert isinstance(captured, StyleStatistics)
    assert captured.sizes == [32, 64]


CROSS = CrossLayerGramStyleLoss(["conv1_1", "relu2_1"])


def average_pooling() -> nn.Module:
    extractor = tiny_extractor()
    extractor.pooling = "average"
    return extractor


def hooked() -> nn.Module:
    extractor = tiny_extractor()
    extractor.get_submodule("conv1_1").register_forward_hook(halve)
    return extractor


@pytest.mark.parametrize(
    ("captured", "other", "message"),
    [
        ({}, {"extractor": tiny_extractor(seed=1)}, "captured with another network"),
        ({}, {"extractor": average_pooling()}, "captured with another network"),
        ({}, {"extractor": hooked()}, "captured with another network"),
        ({}, {"loss": MomentStyleLoss(LAYERS)}, "GramStyleLoss, but not for"),
        ({}, {"loss": GramStyleLoss(["relu3_1"])}, "but not 'relu3_1'"),
        ({}, {"loss": GramStyleLoss(LAYERS, centered=True)}, "but not for"),
        ({}, {"loss": nst.NearestNeighborStyleLoss(LAYERS)}, "'style' .Near.* with the paint"),
        ({"loss": MeanLoss(power=2)}, {"loss": MeanLoss()}, r"but not for .*'power': 1"),
        ({"loss": CROSS}, {"loss": CrossLayerGramStyleLoss(LAYERS)}, "Cross.*StyleLoss, but not"),
    ],
)
def test_a_style_of_another_kind_is_refused_before_any_step(
    captured: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    started: list[object] = []
    with pytest.raises(ValueError, match=message):
        transfer(**other).run(PHOTO, captured_with(**captured), callbacks=[started.append])
    assert not started


@pytest.mark.parametrize(
    ("name", "value"),
    [("mask", LEFT), ("mask", np.ones((4, 4))), ("scale", 0.5), ("rotation", 9)],
)
def test_parts_of_a_captured_style_cannot_be_changed(name: str, value: Any, tmp_path: Path) -> None:
    captured: Any = captured_with(sizes=[32]).image
    with pytest.raises(ValueError, match=f"`{name}` cannot be changed"):
        Style(captured, **{name: value})
    with pytest.raises(ValueError, match="Capture it first"):
        Style(PAINTING).save(tmp_path / "style.nst")


@pytest.mark.parametrize(
    ("changes", "style", "sizes", "message"),
    [
        ({}, captured_with(sizes=[32]), [32], "captured already"),
        ({"size": None}, PAINTING, None, "`sizes` is required"),
        ({}, PAINTING, [], "`sizes` is empty"),
        ({}, PAINTING, [0], "`sizes` is 0"),
        ({}, PAINTING, [1], "`style` is 1x1 pixels"),
        ({"loss": nst.NearestNeighborStyleLoss(LAYERS)}, PAINTING, [32], "with the painting"),
        ({"loss": ContentLoss(["relu1_1"])}, PAINTING, [32], "no style loss"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    changes: dict[str, Any], style: Any, sizes: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        transfer(**changes).capture(style, sizes)


def test_losses_that_cannot_be_told_apart_are_refused_and_mapped_by_the_painting() -> None:
    both: Any = {"one": MeanLoss(), "three": MeanLoss()}
    for power, loss in zip((1, 3), both.values(), strict=True):
        loss.power = torch.tensor(power)  # no number, so it is not among the settings
    both = small(losses=both, num_steps=2)
    with pytest.raises(ValueError, match=r"`losses\['three'\]` has the type and the settings of"):
        both.capture(PAINTING, sizes=[32])
    (mapped,) = both.map([PHOTO], PAINTING)
    assert mapped.result is not None
    assert torch.equal(mapped.result.image, both.run(PHOTO, PAINTING).image)


@pytest.mark.parametrize("init", ["noise", "pink-noise"])
def test_noise_has_the_colors_of_a_captured_style(init: str) -> None:
    own, captured = transfer(), captured_with()
    assert same(own, captured, PAINTING, init=init)
    with pytest.raises(ValueError, match="`init` is 'style', of which only statistics"):
        own.run(PHOTO, captured, init="style")


def test_captured_styles_blend_with_pictures_for_losses_of_any_weight_and_unit() -> None:
    own, other = transfer(), Style(PAINTING.flip(1), weight=0.3)
    painting = Style(PAINTING, weight=0.7)
    assert same(own, [own.capture(painting, sizes=SIZES), other], [painting, other])
    losses = {"fine": GramStyleLoss(["relu1_1"]), "coarse": GramStyleLoss(["relu2_1"])}
    own = small(losses=losses, num_steps=3, num_scales=1)
    assert same(own, own.capture(PAINTING, sizes=[40]), PAINTING)
    own = transfer(GramStyleLoss({"relu2_1": 0.3}, weight=9.0, units="gatys"))
    assert same(own, captured_with(), PAINTING)
