"""What can be said about a single run: how strongly, in whose colors, where, from what."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import (
    ContentLoss,
    FeatureExtractor,
    GramStyleLoss,
    NearestNeighborStyleLoss,
    RunState,
    Style,
    StyleTransfer,
    TotalVariationLoss,
)
from nst._engine.configuration import RunOptions
from nst._engine.inputs import RunInputs
from nst.color import COLOR_METHODS, luminance, preserve_color
from nst.styles.style import Painting
from nst.testing import tiny_extractor

WHEN = ["before", "after", "both"]


def small(extractor: FeatureExtractor, **arguments: Any) -> StyleTransfer:
    losses = {
        "content": ContentLoss(["relu2_1"], weight=0.1),
        "style": GramStyleLoss(["relu1_1", "relu2_1"]),
    }
    settings = {"losses": losses, "num_steps": 6, "num_scales": 2, **arguments}
    return StyleTransfer(extractor, **settings)


@pytest.fixture
def half() -> Tensor:
    mask = torch.zeros(1, 1, 32, 40)
    mask[..., :20] = 1
    return mask


@pytest.fixture
def mild(photo: Tensor) -> Tensor:
    """A photograph whose colors need no clamping, whatever is done to them."""
    return 0.4 + 0.2 * photo


# Strength


@pytest.mark.parametrize("num_scales", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_strength_0_is_the_photograph(
    num_scales: int, optimizer: Any, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor, num_scales=num_scales, optimizer=optimizer)
    assert torch.equal(transfer.run(photo, painting, strength=0).image, photo)


def test_strength_1_is_what_the_weights_say(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    plain = small(extractor).run(photo, painting)
    assert torch.equal(small(extractor).run(photo, painting, strength=1).image, plain.image)


def test_the_picture_leaves_the_photograph_as_strength_grows(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor, num_steps=30)
    apart = []
    for strength in (0, 0.25, 0.5, 1, 2):
        image = transfer.run(photo, painting, strength=strength).image
        features = [extractor(x, ["relu2_1"])["relu2_1"] for x in (image, photo)]
        apart.append(float((features[0] - features[1]).square().mean()))
    assert apart == sorted(apart)
    assert len(set(apart)) == 5


def test_strength_weighs_every_loss_that_does_not_refer_to_the_content(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    losses = {
        "content": ContentLoss(["relu1_1"]),
        "style": GramStyleLoss(["relu1_1"]),
        "smooth": TotalVariationLoss(),
    }

    def still(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)

    transfer = small(extractor, losses=losses, num_scales=1, optimizer=still)
    plain, strong = (
        transfer.run(photo, painting, strength=strength, init=painting).history
        for strength in (1, 2)
    )
    factors = {name: strong[name][0] / plain[name][0] for name in losses}
    assert factors["content"] == pytest.approx(1)
    assert factors["style"] == pytest.approx(factors["smooth"])
    assert factors["style"] > 2


# Color


@pytest.mark.parametrize("method", COLOR_METHODS)
def test_colors_kept_before_are_those_of_a_style_recolored_by_hand(
    method: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    recolored = preserve_color(painting, photo, method, when="before")
    expected = small(extractor).run(photo, recolored).image
    found = small(extractor).run(photo, painting, preserve_color=method, color_when="before").image
    assert torch.equal(found, expected)


@pytest.mark.parametrize("style", [{"rotation": 45}, {"mask": torch.eye(36, 28)}])
@pytest.mark.parametrize("method", ["symmetric", "histogram"])
def test_what_a_mask_leaves_out_has_no_say_in_the_colors(
    method: str, style: dict[str, Any], mild: Tensor, painting: Tensor
) -> None:
    options = RunOptions(preserve_color=method, color_when="before")
    transfer = small(tiny_extractor())
    ((material,),) = RunInputs.read(transfer, mild, Style(painting, **style), options).sources
    assert isinstance(material, Painting) and material.mask is not None
    seen = material.pixels[..., material.mask[0, 0] > 0]
    torch.testing.assert_close(seen.mean(-1), mild.mean((2, 3)), rtol=0, atol=0.01)


def test_each_picture_of_a_batch_may_start_as_another(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    photos, init = torch.cat([photo, photo.flip(1)]), torch.rand(2, 3, 32, 40)
    how: Any = {"preserve_color": "pca", "color_when": "before"}
    together = small(extractor).run(photos, painting, init=init, **how).image
    alone = small(extractor).run(photos[1:], painting, init=init[1:], **how).image
    assert torch.equal(together[1:], alone)


@pytest.mark.parametrize("method", COLOR_METHODS)
def test_colors_kept_after_are_those_of_a_result_recolored_by_hand(
    method: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    plain = small(extractor).run(photo, painting).image
    expected = preserve_color(plain, photo, method, when="after")
    found = small(extractor).run(photo, painting, preserve_color=method).image
    assert torch.equal(found, expected)


@pytest.mark.parametrize("method", sorted(set(COLOR_METHODS) - {"luminance", "histogram"}))
def test_a_result_recolored_has_the_mean_and_covariance_of_the_photograph(
    method: str, extractor: FeatureExtractor, mild: Tensor, painting: Tensor
) -> None:
    image = small(extractor).run(mild, painting, preserve_color=method, color_when="both").image
    for a, b in zip(moments(image), moments(mild), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def moments(image: Tensor) -> tuple[Tensor, Tensor]:
    pixels = image[0].flatten(1)
    return pixels.mean(1), torch.cov(pixels)


def test_luminance_after_keeps_differences_of_channels(
    extractor: FeatureExtractor, mild: Tensor, painting: Tensor
) -> None:
    image = small(extractor).run(mild, painting, preserve_color="luminance").image
    inside = ((image > 0) & (image < 1)).all(1, keepdim=True)
    chrominance = [(x - luminance(x)) * inside for x in (image, mild)]
    torch.testing.assert_close(*chrominance, atol=1e-5, rtol=0)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("method", COLOR_METHODS)
def test_each_picture_of_a_batch_keeps_its_own_colors(
    method: str, when: Any, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    photos, transfer = torch.cat([photo, photo.flip(1)]), small(extractor)
    together = transfer.run(photos, painting, preserve_color=method, color_when=when).image
    for i in range(2):
        alone = transfer.run(photos[i : i + 1], painting, preserve_color=method, color_when=when)
        assert torch.equal(together[i : i + 1], alone.image)


# Where


@pytest.mark.parametrize("init", ["content", "noise", "style"])
def test_the_black_part_is_left_exactly_as_it_is(
    init: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor, half: Tensor
) -> None:
    image = small(extractor).run(photo, painting, where=half, init=init).image
    assert torch.equal(image[..., 20:], photo[..., 20:])
    assert not torch.equal(image[..., :20], photo[..., :20])


def test_a_transparent_part_can_be_left_alone(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, half: Tensor
) -> None:
    content = nst.images.to_pil(photo, half)
    result = small(extractor).run(content, painting, where="alpha")
    assert torch.equal(result.image[..., 20:], result.content[..., 20:])
    assert not torch.equal(result.image[..., :20], result.content[..., :20])


def test_gray_parts_are_repainted_in_part(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    whole = small(extractor).run(photo, painting).image
    part = small(extractor).run(photo, painting, where=torch.full((32, 40), 0.25)).image
    torch.testing.assert_close(part, photo + 0.25 * (whole - photo))


def test_a_region_counts_only_where_the_photograph_may_change(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, half: Tensor
) -> None:
    both = small(extractor).run(photo, Style(painting, region=half), where=half)
    alone = small(extractor).run(photo, painting, where=half)
    assert torch.equal(both.image, alone.image)
    with pytest.raises(ValueError, match="`where` and a style's region have no part in common"):
        small(extractor).run(photo, Style(painting, region=1 - half), where=half)


# From what


@pytest.mark.parametrize("init", ["noise", "pink-noise", "gray", "style"])
def test_every_start_is_repainted_and_the_same_for_each_picture_of_a_batch(
    init: str, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    first: list[Tensor] = []

    class Watch(nst.Callback):
        def on_start(self, state: RunState) -> None:
            first.append(state.image.clone())

    photos = torch.cat([photo, photo.flip(1)])
    small(extractor).run(photos, painting, init=init, callbacks=Watch())
    assert torch.equal(first[0][0], first[0][1])
    assert not torch.equal(first[0], photos)


def test_gray_is_gray(extractor: FeatureExtractor, photo: Tensor, painting: Tensor) -> None:
    seen: list[Tensor] = []

    class Watch(nst.Callback):
        def on_start(self, state: RunState) -> None:
            seen.append(state.image.clone())

    small(extractor).run(photo, painting, init="gray", callbacks=Watch())
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], 0.5))


# Averaging and normalizing


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_is_that_of_the_steps_of_the_last_scale(
    decay: float, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    steps: list[Tensor] = []

    def watch(state: RunState) -> None:
        if state.scale == state.num_scales - 1:
            steps.append(state.image.clone())

    result = small(extractor, average=decay, optimizer="adam").run(photo, painting, callbacks=watch)
    weights = torch.tensor([decay**i for i in reversed(range(len(steps)))], dtype=torch.float64)
    expected = sum(
        w * step.double() for w, step in zip(weights / weights.sum(), steps, strict=True)
    )
    assert len(steps) > 1
    torch.testing.assert_close(result.image.double(), expected, atol=1e-6, rtol=0)


def test_an_average_is_not_spoilt_by_what_diverges(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    class Fails(nst.Loss):
        count = 0

        def forward(self, features: nst.Features) -> Tensor:
            self.count += 1
            value = features["image"].mean()
            return value if self.count < 4 else value * torch.nan

    losses = {"fails": Fails()}
    transfer = small(extractor, losses=losses, average=0.9, optimizer="adam", num_scales=1)
    result = transfer.run(photo, painting)
    assert "diverged" in result.stop_reason
    assert bool(result.image.isfinite().all())


def test_each_gradient_gets_the_size_of_its_weight(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    from nst._engine.objective import Objective
    from nst._engine.references import Reference, Region

    def gradient(losses: dict[str, nst.Loss], normalize: bool) -> Tensor:
        objective = Objective(extractor, losses, normalize_gradients=normalize)
        objective.capture_styles([Region(None, [Reference(painting)], [1.0])])
        objective.capture_content(photo)
        return objective.evaluate(photo.flip(-1))[1]

    content: dict[str, nst.Loss] = {"content": ContentLoss(["relu2_1"], weight=0.3)}
    style: dict[str, nst.Loss] = {"style": GramStyleLoss(["relu1_1"], weight=2.0)}
    alone = [gradient(losses, False) for losses in (content, style)]
    expected = sum(w * g / g.abs().mean() for w, g in zip((0.3, 2.0), alone, strict=True))
    torch.testing.assert_close(gradient({**content, **style}, True), expected)


def test_a_loss_at_its_target_has_no_gradient_to_normalize(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor, optimizer="adam", normalize_gradients=True)
    result = transfer.run(photo, painting)  # the content loss begins at its target
    assert result.stop_reason == "completed"
    assert bool(result.image.isfinite().all())


# Textures


def test_a_texture_comes_near_the_style(extractor: FeatureExtractor, painting: Tensor) -> None:
    result = small(extractor, num_steps=30).synthesize(painting, (24, 56))
    assert result.image.shape == (1, 3, 24, 56)
    assert list(result.history) == ["style"]
    assert result.history["style"][-1] < 0.2 * result.history["style"][0]


def test_a_texture_has_the_proportions_of_its_style_by_default(
    extractor: FeatureExtractor, painting: Tensor
) -> None:
    assert small(extractor, size=18).synthesize(painting).image.shape == (1, 3, 18, 14)
    assert small(extractor, size=None).synthesize(painting).image.shape == (1, 3, 36, 28)


def test_the_seed_makes_the_texture(extractor: FeatureExtractor, painting: Tensor) -> None:
    images = [small(extractor).synthesize(painting, seed=seed).image for seed in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_a_texture_can_come_from_a_captured_style(
    extractor: FeatureExtractor, painting: Tensor
) -> None:
    transfer = small(extractor)
    captured = transfer.capture(painting, sizes=[16, 32])
    with pytest.raises(ValueError, match="`shape` is needed"):
        transfer.synthesize(captured)
    expected = transfer.synthesize(painting, (32, 20)).image
    assert torch.equal(transfer.synthesize(captured, (32, 20)).image, expected)


# What is refused, and what is recorded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -1}, "`strength` is -1"),
        ({"strength": float("nan")}, "`strength` is nan"),
        ({"preserve_color": "lab"}, "`preserve_color` is 'lab'; it must be one of 'luminance'"),
        ({"color_when": "now"}, "`color_when` is 'now'; it must be one of 'before'"),
        ({"where": torch.zeros(32, 40)}, "`where` is black everywhere"),
        ({"where": torch.ones(32, 32)}, "`where` is 32x32 pixels, but its picture is 32x40"),
    ],
)
def test_bad_handles_are_named_before_any_step(
    arguments: dict[str, Any], message: str, extractor: FeatureExtractor, photo: Tensor
) -> None:
    steps: list[RunState] = []
    with pytest.raises(ValueError, match=message):
        small(extractor).run(photo, photo, callbacks=steps.append, **arguments)
    assert not steps


def test_strength_must_be_a_number(extractor: FeatureExtractor, photo: Tensor) -> None:
    with pytest.raises(TypeError, match="`strength` is 'much'; a number is needed"):
        small(extractor).run(photo, photo, strength="much")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"average": 1}, "`average` is 1; it must be below 1"),
        ({"average": -0.1}, "`average` is -0.1"),
        (
            {"normalize_gradients": True},
            "the gradient of a function. Use optimizer='adam'",
        ),
    ],
)
def test_bad_recipes_are_named(
    arguments: dict[str, Any], message: str, extractor: FeatureExtractor
) -> None:
    with pytest.raises(ValueError, match=message):
        small(extractor, **arguments)


def test_what_fits_ill_together_is_refused(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, half: Tensor
) -> None:
    style_only = small(extractor, losses={"style": GramStyleLoss(["relu1_1"])})
    with pytest.raises(ValueError, match="`strength` is 0, which leaves only losses that refer"):
        style_only.run(photo, painting, strength=0)
    captured = small(extractor).capture(painting, sizes=[20, 40])
    with pytest.raises(ValueError, match="no picture left to recolor"):
        small(extractor).run(photo, captured, preserve_color="pca", color_when="before")
    match = small(extractor, losses={"match": NearestNeighborStyleLoss(["relu1_1"])})
    with pytest.raises(ValueError, match=r"`where` is given, but the loss 'match'"):
        match.run(photo, painting, where=half)
    with pytest.raises(ValueError, match="`style` has a region, but a texture has none"):
        small(extractor).synthesize(Style(painting, region=half))
    with pytest.raises(ValueError, match="`init` is 'content', but a texture has none"):
        small(extractor).synthesize(painting, init="content")
    with pytest.raises(ValueError, match="`shape` is 0"):
        small(extractor).synthesize(painting, (0, 5))
    content_only = small(extractor, losses={"content": ContentLoss(["relu1_1"])})
    with pytest.raises(ValueError, match="no style loss of positive weight"):
        content_only.synthesize(painting)


def test_the_settings_tell_every_handle(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, half: Tensor
) -> None:
    result = small(extractor, average=0.5).run(
        photo, painting, strength=0.5, preserve_color="pca", color_when="both", where=half
    )
    expected = {
        "strength": 0.5,
        "preserve_color": "pca",
        "color_when": "both",
        "average": 0.5,
        "normalize_gradients": False,
    }
    settings = json.loads(json.dumps(result.settings))
    assert {name: settings[name] for name in expected} == expected


def test_losses_that_weigh_nothing_refuse_nothing(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, half: Tensor
) -> None:
    losses = {
        "style": GramStyleLoss(["relu1_1"]),
        "others": NearestNeighborStyleLoss(["relu5_1"], weight=0),
    }
    transfer = small(extractor, losses=losses, num_steps=2)
    assert transfer.run(photo[..., :8, :8], painting).num_steps == 2  # too small for relu5_1
    assert transfer.run(photo, painting, where=half).num_steps == 2
