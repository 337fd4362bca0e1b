"""A style has a weight, a region, a mask, a scale and a rotation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import ContentLoss, GramStyleLoss, PointwiseLoss, Style, StyleTransfer, StyleTransferResult
from nst.images import resize, to_pil
from nst.styles.style import Painting, as_styles
from nst.testing import tiny_extractor
from tests.helpers import LEFT, PAINTING, PHOTO, picture, uniform


def run(style: Any, layer: str = "relu2_1") -> StyleTransferResult:
    losses = {"content": ContentLoss(["relu2_1"], weight=0.1), "style": GramStyleLoss([layer])}
    transfer = StyleTransfer(tiny_extractor().double(), losses, num_steps=4, num_scales=1)
    return transfer.run(PHOTO, style)


def run_on_pixels(style: Any, num_steps: int) -> Tensor:
    """Return the result of a loss that sees no further than the pixel itself."""
    losses = {"style": GramStyleLoss(["image"])}
    return StyleTransfer(tiny_extractor(), losses, num_steps=num_steps).run(PHOTO, style).image


def test_weights_under_a_mask_agree_with_naive_averages() -> None:
    mask = uniform(1, 1, 6, 8)
    share = mask.reshape(1, 1, 3, 2, 4, 2).mean((3, 5))
    expected = (share / share.sum()).reshape(1, 1, 12)
    torch.testing.assert_close(nst.functional.mask_weight(mask, (3, 4)), expected)
    for shape in ((32, 40), (7, 5), (1, 1), (31, 13)):
        weight = nst.functional.mask_weight(LEFT.double(), shape)
        assert weight.shape == (1, 1, shape[0] * shape[1])
        assert float(weight.sum()) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_small_region_of_one_color_has_the_statistic_of_a_large_one(share: float) -> None:
    color = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64).view(1, 3, 1, 1)
    image = torch.rand(1, 3, 20, 20, dtype=torch.float64)
    columns = round(20 * share)
    image[..., :columns] = color
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.float64)
    mask[..., :columns] = 1
    loss = GramStyleLoss(["image"])
    loss.capture({"image": color.expand(1, 3, 20, 20)})
    assert float(loss({"image": image, "mask": mask})) == pytest.approx(0, abs=1e-20)


@pytest.mark.float64
def test_a_region_of_the_whole_picture_is_none_and_areas_outside_are_left_to_other_losses() -> None:
    whole = run(Style(PAINTING, region=torch.ones(1, 1, 32, 40), mask=torch.ones(36, 28)))
    assert torch.equal(run(PAINTING).image, whole.image)
    image = run_on_pixels(Style(PAINTING, region=LEFT), 5)
    assert torch.equal(image[..., 20:], PHOTO[..., 20:])
    assert not torch.equal(image[..., :20], PHOTO[..., :20])


def test_each_region_gets_its_own_style() -> None:
    red, blue = (torch.zeros(1, 3, 32, 32) for _ in range(2))
    red[:, 0], blue[:, 2] = 0.9, 0.9
    image = run_on_pixels([Style(red, region=LEFT), Style(blue, region=1 - LEFT)], 40)
    left, right = image[..., :20].mean((0, 2, 3)), image[..., 20:].mean((0, 2, 3))
    assert left[0] > 0.7 > 0.2 > left[2]
    assert right[2] > 0.7 > 0.2 > right[0]


@pytest.mark.float64
def test_a_masked_style_is_learned_from_its_part_alone_and_transparency_can_be_the_mask() -> None:
    style = picture(32, 40, seed=5)
    masked, cropped = run(Style(style, mask=LEFT), "image"), run(style[..., :20], "image")
    torch.testing.assert_close(masked.image, cropped.image, rtol=0, atol=1e-6)
    painting = to_pil(torch.rand(3, 32, 40), alpha=LEFT[0])
    by_alpha, by_mask = run(Style(painting, mask="alpha")), run(Style(painting, mask=LEFT))
    assert torch.equal(by_alpha.image, by_mask.image)


@pytest.mark.float64
def test_a_style_can_be_used_at_another_scale_and_quarter_turns_are_exact() -> None:
    style = picture(40, 40, seed=5)
    scaled, shrunk = run(Style(style, scale=0.5)), run(resize(style.double(), 20))
    assert torch.equal(scaled.image, shrunk.image)
    assert scaled.styles[0].shape == (1, 3, 20, 20)
    pixels, mask = torch.rand(1, 3, 4, 6), torch.rand(1, 1, 4, 6)
    turned = Painting(pixels, mask).rotated(90)
    assert torch.equal(turned.pixels, torch.rot90(pixels, 1, (-2, -1)))
    assert turned.mask is not None and torch.equal(turned.mask, torch.rot90(mask, 1, (-2, -1)))
    assert Painting(pixels, None).rotated(180).mask is None
    assert Painting(pixels, None).rotated(-360).pixels is pixels


@pytest.mark.parametrize("degrees", [30.0, -45.0, 200.0])
def test_the_corners_of_a_rotated_style_are_masked(degrees: float) -> None:
    color = torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1, 1)
    turned = Painting(color.expand(1, 3, 20, 30), None).rotated(degrees)
    assert turned.mask is not None
    counted = turned.pixels[(turned.mask > 0).expand_as(turned.pixels)].view(3, -1)
    assert counted.shape[1] > 400
    torch.testing.assert_close(counted, color.view(3, 1).expand_as(counted), atol=1e-3, rtol=0)
    assert 0.25 < float(turned.mask.mean()) < 0.95
    with pytest.raises(ValueError, match="leaves no whole pixel of the style"):
        Painting(torch.rand(1, 3, 1, 30), None).rotated(degrees)


@pytest.mark.float64
def test_the_record_numbers_the_regions_of_equal_masks_and_has_what_differs(
    tmp_path: Path, monkeypatch: Any
) -> None:
    styles = [Style(PAINTING, region=LEFT), Style(PAINTING, 2, region=1 - LEFT, rotation=90)]
    styles += [Style(PAINTING, region=LEFT, scale=0.9, mask=torch.ones(36, 28) * 0.5)]
    assert run(styles).settings["styles"] == [
        {"weight": 1.0, "region": 0},
        {"weight": 2.0, "region": 1, "rotation": 90},
        {"weight": 1.0, "region": 0, "mask": True, "scale": 0.9},
    ]
    monkeypatch.chdir(tmp_path)
    to_pil(LEFT[0].expand(3, -1, -1)).save("left.png")
    Path("link.png").symlink_to("left.png")
    regions: list[Any] = [LEFT, LEFT.clone(), LEFT[0, 0].bool().numpy()]
    regions += [tmp_path / "left.png", "link.png"]
    shared = run([Style(PAINTING, weight=i, region=each) for i, each in enumerate(regions)])
    assert [each["region"] for each in shared.settings["styles"]] == [0] * 5
    alone = run(Style(PAINTING, region=LEFT))
    torch.testing.assert_close(shared.image, alone.image, rtol=0, atol=1e-5)


def test_styles_may_come_from_a_generator_or_a_mapping_but_not_with_weights_beside_them() -> None:
    pictures = {"a": PAINTING, "b": PHOTO}
    for several in (pictures.values(), iter(pictures.values()), (p for p in pictures.values())):
        assert [style.image for style in as_styles(several)] == [PAINTING, PHOTO]
    wrong: list[Any] = [{"a.jpg": 0.7}, [("a.jpg", 0.7)], [PAINTING, ["b.jpg", 1]]]
    for style in (*wrong, [{"a.jpg": 0.7}]):
        with pytest.raises(TypeError, match=r"`style` has a .* Give weights as in .* weight=0.7"):
            as_styles(style)


class ToTheStyle(PointwiseLoss):
    """Compares position by position with a style of the photograph's size."""

    reference = "style"

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square()


def test_a_pointwise_loss_may_compare_with_the_style() -> None:
    losses = {"style": ToTheStyle(["relu1_1", "image"])}
    transfer = StyleTransfer(tiny_extractor(), losses, num_steps=20, num_scales=1)
    history = transfer.run(PHOTO, PHOTO.flip(-1)).history["style"]
    assert history[-1] < 0.1 * history[0]


@pytest.mark.float64
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region": torch.ones(32, 32)}, r"`style\[0\].region` is 32x32 .* picture is 32x40"),
        ({"mask": torch.ones(32, 40)}, r"`style\[0\].mask` is 32x40 .* picture is 36x28"),
        ({"region": torch.zeros(32, 40)}, r"`style\[0\].region` is black everywhere"),
        ({"region": torch.ones(2, 1, 32, 40)}, r"`style\[0\].region` is a batch of 2"),
        ({"weight": 0, "region": LEFT}, "`style` has only weights of 0 in a region"),
    ],
)
def test_masks_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    style = Style(PAINTING, **arguments)
    with pytest.raises(ValueError, match=message):
        run(style)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "`scale` is 0; it must be positive"),
        ({"scale": -1}, "`scale` is -1"),
        ({"rotation": float("nan")}, "`rotation` is nan; it must be finite"),
        ({"rotation": "left"}, "`rotation` is 'left'; a number of degrees"),
        ({"weight": float("inf")}, "`weight` is inf"),
    ],
)
def test_a_style_refuses_numbers_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError if "left" in message else ValueError, match=message):
        Style(PAINTING, **arguments)
