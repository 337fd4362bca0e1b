"""What the arguments of a single run do: strength, colors, where, the start, averages, textures."""

from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import ContentLoss, GramStyleLoss, Loss, MomentStyleLoss, NearestNeighborStyleLoss, Style
from nst.color import COLOR_METHODS, preserve_color
from nst.testing import tiny_extractor
from tests import helpers
from tests.helpers import LEFT, PAINTING, PHOTO, BecomesNaN, Recorder, still

LAYERS = ["relu1_1", "relu2_1"]
LOSSES = {"content": ContentLoss(["relu2_1"], weight=0.1), "style": GramStyleLoss(LAYERS)}
# A photograph whose colors need no clamping, whichever method changes them.
MILD = 0.4 + 0.2 * PHOTO


def small(**arguments: Any) -> nst.StyleTransfer:
    return helpers.small(**{"losses": LOSSES, "num_scales": 2, **arguments})


def paint(**arguments: Any) -> nst.StyleTransferResult:
    return helpers.paint(**{"losses": LOSSES, "num_scales": 2, **arguments})


@pytest.mark.parametrize("num_scales", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_strength_0_is_the_photograph(num_scales: int, optimizer: str) -> None:
    assert torch.equal(paint(strength=0, num_scales=num_scales, optimizer=optimizer).image, PHOTO)


def test_the_picture_leaves_the_photograph_as_strength_grows() -> None:
    extractor, apart = tiny_extractor(), []
    for strength in (0, 0.25, 0.5, 1, 2):
        image = paint(strength=strength, num_steps=30).image
        features = [extractor(x, ["relu2_1"])["relu2_1"] for x in (image, PHOTO)]
        apart.append(float((features[0] - features[1]).square().mean()))
    assert apart == sorted(apart)
    assert len(set(apart)) == 5


def test_strength_weighs_every_loss_that_does_not_refer_to_the_content() -> None:
    losses = {**LOSSES, "smooth": nst.TotalVariationLoss()}
    histories = [
        paint(losses=losses, num_scales=1, optimizer=still, init=PAINTING, **strength).history
        for strength in ({}, {"strength": 1}, {"strength": 2})
    ]
    plain, one, two = ({name: h[name][0] for name in losses} for h in histories)
    assert plain == one
    factors = {name: two[name] / one[name] for name in losses}
    assert factors["content"] == pytest.approx(1)
    assert factors["style"] == pytest.approx(factors["smooth"])
    assert factors["style"] > 2


@pytest.mark.parametrize("when", ["before", "after", "both"])
@pytest.mark.parametrize("method", COLOR_METHODS)
def test_colors_are_preserved_as_by_hand(method: str, when: str) -> None:
    style, options = PAINTING, {} if when == "after" else {"color_when": when}
    if when != "after":
        style = preserve_color(style, PHOTO, method, when="before")
    expected = paint(style=style).image
    if when != "before":
        expected = preserve_color(expected, PHOTO, method, when="after")
    assert torch.equal(paint(preserve_color=method, **options).image, expected)


@pytest.mark.parametrize("style", [{"rotation": 45}, {"mask": torch.eye(36, 28)}])
@pytest.mark.parametrize("method", ["symmetric", "histogram"])
def test_masked_parts_of_a_style_do_not_change_colors(method: str, style: dict[str, Any]) -> None:
    seen = style.get("mask", torch.ones(36, 28)) > 0
    painting = Style(torch.where(seen, 0.3 * PAINTING, 1.0), **style)
    colors = {"colors": MomentStyleLoss(["image"], units="mean")}

    def difference(**arguments: Any) -> float:
        options: Any = {"optimizer": still, "num_scales": 1, "num_steps": 1, **arguments}
        return paint(content=MILD, style=painting, losses=colors, **options).history["colors"][0]

    assert difference(preserve_color=method, color_when="before") < 0.001 * difference()


@pytest.mark.parametrize("when", ["before", "after", "both"])
@pytest.mark.parametrize("method", COLOR_METHODS)
def test_each_picture_of_a_batch_keeps_its_own_colors(method: str, when: str) -> None:
    photos = torch.cat([PHOTO, PHOTO.flip(1)])
    together, *alone = (
        paint(content=content, preserve_color=method, color_when=when).image
        for content in (photos, photos[:1], photos[1:])
    )
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("init", ["content", "noise", "style"])
def test_the_black_part_is_left_exactly_as_it_is(init: str) -> None:
    image = paint(where=LEFT, init=init).image
    assert torch.equal(image[..., 20:], PHOTO[..., 20:])
    assert not torch.equal(image[..., :20], PHOTO[..., :20])


def test_a_transparent_part_can_be_left_alone() -> None:
    result = paint(content=nst.images.to_pil(PHOTO, LEFT), where="alpha")
    assert torch.equal(result.image[..., 20:], result.content[..., 20:])
    assert not torch.equal(result.image[..., :20], result.content[..., :20])
    part = paint(where=torch.full((32, 40), 0.25)).image  # gray: repainted in part
    torch.testing.assert_close(part, PHOTO + 0.25 * (paint().image - PHOTO))


def test_a_region_counts_only_where_the_photograph_may_change() -> None:
    both = paint(style=Style(PAINTING, region=LEFT), where=LEFT)
    assert torch.equal(both.image, paint(where=LEFT).image)
    with pytest.raises(ValueError, match="`where` and a style's region have no part in common"):
        paint(style=Style(PAINTING, region=1 - LEFT), where=LEFT)


@pytest.mark.parametrize("init", ["noise", "pink-noise", "gray", "style"])
def test_every_start_is_repainted_and_the_same_for_each_picture_of_a_batch(init: str) -> None:
    recorder, photos = Recorder(), torch.cat([PHOTO, PHOTO.flip(1)])
    result = paint(content=photos, init=init, callbacks=recorder)
    start = recorder.images[0]
    assert torch.equal(start[0], start[1])
    assert not torch.equal(start, photos) and not torch.equal(result.image[0], start[0])
    if init == "gray":
        torch.testing.assert_close(start, torch.full_like(start, 0.5))


def test_each_picture_of_a_batch_may_have_its_own_start() -> None:
    photos, init = torch.cat([PHOTO, PHOTO.flip(1)]), torch.rand(2, 3, 32, 40)
    how: Any = {"preserve_color": "pca", "color_when": "before"}
    together = paint(content=photos, init=init, **how).image
    assert torch.equal(together[1:], paint(content=photos[1:], init=init[1:], **how).image)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_is_that_of_the_steps_of_the_last_scale(decay: float) -> None:
    steps: list[Tensor] = []

    def watch(state: nst.RunState) -> None:
        if state.scale == state.num_scales - 1:
            steps.append(state.image.clone().cpu())

    image = paint(average=decay, optimizer="adam", callbacks=watch).image
    weights = torch.tensor([decay**i for i in reversed(range(len(steps)))], dtype=torch.float64)
    weights /= weights.sum()
    expected = sum(w * step.double() for w, step in zip(weights, steps, strict=True))
    assert len(steps) > 1
    torch.testing.assert_close(image.double(), expected, atol=1e-6, rtol=0)


def test_each_gradient_gets_the_size_of_its_weight() -> None:
    def gradient(losses: dict[str, Loss], *, normalize: bool = False) -> Tensor:
        seen: list[Tensor] = []

        class Note(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                loss = closure()
                seen.append(self.param_groups[0]["params"][0].grad.clone())
                return loss

        run = {"losses": losses, "init": PHOTO.flip(-1), "num_steps": 1, "num_scales": 1}
        paint(**run, normalize_gradients=normalize, optimizer=Note)
        return seen[0]

    content: dict[str, Loss] = {"content": ContentLoss(["relu2_1"], weight=0.3)}
    style: dict[str, Loss] = {"style": GramStyleLoss(["relu1_1"], weight=2.0)}
    alone = [gradient(losses) for losses in (content, style)]
    expected = sum(w * g / g.abs().mean() for w, g in zip((0.3, 2.0), alone, strict=True))
    torch.testing.assert_close(gradient({**content, **style}, normalize=True), expected)
    # The content loss starts at its target, where it has no gradient to normalize.
    result = paint(optimizer="adam", normalize_gradients=True)
    assert result.stop_reason == "completed" and bool(result.image.isfinite().all())


def test_an_average_leaves_out_steps_that_diverge() -> None:
    result = paint(losses={"fails": BecomesNaN(3)}, average=0.9, optimizer="adam", num_scales=1)
    assert "diverged" in result.stop_reason
    assert bool(result.image.isfinite().all())


def test_a_texture_comes_near_the_style() -> None:
    result = small(num_steps=30).synthesize(PAINTING, (24, 56))
    assert result.image.shape == (1, 3, 24, 56)
    assert list(result.history) == ["style"]
    assert result.history["style"][-1] < 0.2 * result.history["style"][0]


def test_a_texture_can_come_from_a_captured_style_and_has_its_proportions_and_a_seed() -> None:
    transfer = small()
    captured = transfer.capture(PAINTING, sizes=[16, 32])
    with pytest.raises(ValueError, match="`shape` is needed"):
        transfer.synthesize(captured)
    expected = transfer.synthesize(PAINTING, (32, 20)).image
    assert torch.equal(transfer.synthesize(captured, (32, 20)).image, expected)
    assert small(size=18).synthesize(PAINTING).image.shape == (1, 3, 18, 14)
    images = [small(size=None).synthesize(PAINTING, seed=seed).image for seed in (0, 0, 1)]
    assert images[0].shape == (1, 3, 36, 28)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def texture(
    style: Any = PAINTING, losses: Any = LOSSES, **arguments: Any
) -> nst.StyleTransferResult:
    return small(losses=losses).synthesize(style, **arguments)


GRAM, MATCH = GramStyleLoss(["relu1_1"]), NearestNeighborStyleLoss(["relu1_1"])
BEFORE: Any = {"preserve_color": "pca", "color_when": "before"}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: paint(losses={"a": GRAM}, strength=0), "`strength` is 0, which leaves only loss"),
        (lambda: paint(style=small().capture(PAINTING, [20, 40]), **BEFORE), "no picture left"),
        (lambda: paint(losses={"a": MATCH}, where=LEFT), "`where` is given, but the loss 'a'"),
        (lambda: texture(Style(PAINTING, region=LEFT)), "`style` has a region, but a texture has"),
        (lambda: texture(init="content"), "`init` is 'content', but a texture has none"),
        (lambda: texture(shape=(0, 5)), "`shape` is 0"),
        (lambda: texture(shape=(9,)), r"`shape` is \(9,\); height and width are needed"),
        (lambda: texture(shape=(2**16, 2**16)), "it must have at most 2147483648 pixels"),
        (lambda: paint(size=2**17, upscale=True), "`size` is 131072, to which upscale=True"),
        (
            lambda: paint(style=[Style(PAINTING, weight=0, region=LEFT), PAINTING]),
            "of 0 in a region",
        ),
        (lambda: texture(losses={"a": ContentLoss()}), "no style loss of positive weight"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(run: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run()


def test_losses_of_weight_0_are_left_out_and_refuse_nothing() -> None:
    others = NearestNeighborStyleLoss(["relu5_1"], weight=0)
    losses = {"style": GramStyleLoss(["relu1_1"]), "others": others}
    too_small_for_relu5_1 = PHOTO[..., :8, :8]
    for arguments in ({"content": too_small_for_relu5_1}, {"where": LEFT}):
        assert set(paint(losses=losses, num_steps=2, **arguments).history) == {"style"}
