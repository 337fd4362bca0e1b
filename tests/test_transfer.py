"""`StyleTransfer`: what a run does, what it leaves alone, and what it refuses."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import ContentLoss, Features, GramStyleLoss, Loss, Style, StyleTransfer, TotalVariationLoss
from nst.images import resize
from nst.presets import PRESETS
from nst.testing import tiny_extractor
from tests.helpers import (
    LEFT,
    PAINTING,
    PHOTO,
    BecomesNaN,
    Recorder,
    paint,
    picture,
    small,
    still,
    total,
)


@pytest.mark.parametrize(
    "optimizer",
    ["lbfgs", "adam", lambda p: torch.optim.SGD(p, lr=1e-3), torch.optim.LBFGS],
    ids=["lbfgs", "adam", "sgd", "torch lbfgs"],
)
def test_the_loss_falls_and_the_picture_can_be_saved(optimizer: Any) -> None:
    result = paint(optimizer=optimizer)
    assert result.image.shape == PHOTO.shape
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    assert not torch.equal(result.image, PHOTO)
    assert total(result)[-1] < total(result)[0]
    assert (result.num_steps, result.stop_reason) == (6, "completed")
    assert [len(values) for values in result.history.values()] == [6, 6]
    # A single step already changes the picture.
    assert not torch.equal(paint(optimizer=optimizer, num_steps=1).image, PHOTO)


def test_the_best_picture_is_returned_not_the_last() -> None:
    recorder, fast = Recorder(), partial(torch.optim.Adam, lr=0.5)
    result = paint(num_steps=12, num_scales=1, optimizer=fast, callbacks=recorder)
    # Adam's losses are those of the picture before the step.
    best = min(range(12), key=recorder.losses.__getitem__)
    assert best < 11
    assert torch.equal(result.image, recorder.images[best])


def test_a_run_is_reproducible_bit_for_bit() -> None:
    state = torch.get_rng_state()
    first, again, other = (paint(init="noise", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.image, again.image)
    assert first.history == again.history
    assert not torch.equal(first.image, other.image)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_does_not_change_its_losses_network_and_pictures() -> None:
    losses = {"content": ContentLoss(weight=0.1), "style": GramStyleLoss()}
    content, style, extractor = PHOTO.clone(), PAINTING.clone(), tiny_extractor()
    paint(extractor, losses=losses, content=content, style=style)
    assert all(not list(loss.buffers()) for loss in losses.values())
    assert torch.equal(content, PHOTO) and torch.equal(style, PAINTING)
    assert all(parameter.grad is None for parameter in extractor.parameters())


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_each_picture_of_a_batch_is_stylized_as_if_alone(optimizer: str) -> None:
    batch, recorder = torch.cat([PHOTO, PHOTO.flip(-1) * 0.5]), Recorder()
    together = paint(content=batch, optimizer=optimizer, callbacks=recorder)
    assert {tuple(image.shape) for image in recorder.images} == {tuple(batch.shape)}
    for i in range(2):
        assert torch.equal(together.image[i], paint(content=batch[i], optimizer=optimizer).image[0])


def test_only_the_ratio_of_style_weights_matters() -> None:
    def blend(*weights: float) -> Tensor:
        styles = [Style(*each) for each in zip((PAINTING, PHOTO.flip(-2)), weights, strict=False)]
        return paint(style=styles, num_steps=3).image

    assert torch.equal(blend(3, 1), blend(0.75, 0.25))
    assert torch.equal(blend(1), blend(1, 0))


def test_a_run_goes_through_its_scales() -> None:
    recorder = Recorder()
    result = paint(num_scales=2, losses={"style": GramStyleLoss(["relu1_1"])}, callbacks=recorder)
    steps = [
        (scale, tuple(image.shape[2:]))
        for scale, image in zip(recorder.scales[1:-1], recorder.images[1:-1], strict=True)
    ]
    assert steps == [(0, (16, 20))] * 4 + [(1, (32, 40))] * 2
    assert result.image.shape == PHOTO.shape


def test_scales_too_small_for_the_network_are_left_out() -> None:
    recorder = Recorder()
    paint(content=picture(17, 64), num_scales=3, callbacks=recorder)
    assert {tuple(image.shape[2:]) for image in recorder.images} == {(17, 64)}


def test_a_finer_scale_has_the_detail_that_coarser_ones_were_too_small_for() -> None:
    seen: list[Tensor] = []

    class Shade(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
            (pixels,) = self.param_groups[0]["params"]
            seen.append(pixels.clone().cpu())
            loss = closure()
            pixels.mul_(0.9)
            return loss

    dark = {"tv": TotalVariationLoss()}  # the darker, the better
    photo = 0.45 + 0.1 * PHOTO  # so that nothing is clamped
    paint(content=photo, num_scales=2, losses=dark, optimizer=Shade)
    coarse, fine = seen[0], next(each for each in seen if each.shape == photo.shape)
    darkening = 0.9 ** sum(each.shape == coarse.shape for each in seen)
    change = resize(darkening * coarse, (32, 40)) - resize(coarse, (32, 40))
    torch.testing.assert_close(fine, photo + change)


def test_content_counts_three_times_as_much_at_all_scales_but_the_last() -> None:
    losses = {"content": ContentLoss(["image"], weight=3.0), "style": GramStyleLoss(["relu1_1"])}

    def seen(size: int, num_scales: int) -> dict[int, dict[str, Tensor]]:
        found: dict[int, dict[str, Tensor]] = {}

        def note(state: nst.RunState) -> None:
            found[state.scale] = dict(state.losses)

        still_run: Any = {"optimizer": still, "num_steps": num_scales, "num_scales": num_scales}
        paint(losses=losses, size=size, init=1 - PHOTO, callbacks=note, **still_run)
        return found

    of_three = seen(40, 3)
    for scale, (size, factor) in enumerate([(10, 3), (20, 3), (40, 1)]):
        alone = seen(size, 1)[0]
        torch.testing.assert_close(of_three[scale]["content"], factor * alone["content"])
        torch.testing.assert_close(of_three[scale]["style"], alone["style"])


def first_picture(**arguments: Any) -> Tensor:
    recorder = Recorder()
    paint(num_steps=1, callbacks=recorder, **arguments)
    return recorder.images[0]


@pytest.mark.parametrize("where", [None, LEFT])
def test_a_smaller_photograph_is_enlarged_first(where: Tensor | None) -> None:
    enlarged = resize(PHOTO, (64, 80))
    found = paint(size=80, upscale=True, num_scales=2, where=where)
    assert torch.equal(found.content, enlarged)
    assert torch.equal(found.image, paint(content=enlarged, num_scales=2, where=where).image)
    assert found.settings["upscale"] and found.settings["shape"] == [64, 80]
    assert paint(size=20, upscale=True, num_steps=1).image.shape[-2:] == (16, 20)
    for upscale, shape in ((True, (72, 56)), (False, (36, 28))):  # so is the painting of a texture
        texture = small(size=72, upscale=upscale, num_steps=1).synthesize(PAINTING)
        assert texture.image.shape[-2:] == shape


@pytest.mark.parametrize(("size", "level"), [(1024, "WARNING"), (512, "INFO"), (40, "")])
def test_a_small_result_is_logged(size: int, level: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nst")
    paint(size=size, num_steps=1)
    levels = [each.levelname for each in caplog.records if "has 40x32 pixels" in each.message]
    assert levels == [level] * bool(level)


def test_a_run_can_start_from_the_content_the_style_any_picture_or_noise() -> None:
    assert torch.equal(first_picture(), PHOTO)
    assert torch.equal(first_picture(init="style"), resize(PAINTING, (32, 40)))
    given = first_picture(init=torch.full((3, 10, 10), 0.25))
    torch.testing.assert_close(given, torch.full_like(PHOTO, 0.25))
    for factor in (1, 8):
        content = torch.nn.functional.interpolate(PHOTO, scale_factor=factor)
        noise = first_picture(content=content, size=40, init="noise")
        assert noise.shape == PHOTO.shape
        assert 0.45 < float(noise.mean()) < 0.55 and float(noise.std()) > 0.25


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_loss_that_becomes_nan_ends_the_run_with_the_best_picture(
    optimizer: str, after: int
) -> None:
    losses = {"dark": BecomesNaN(after), "tv": TotalVariationLoss()}
    result = paint(losses=losses, optimizer=optimizer)
    assert result.num_steps < 6
    assert bool(result.image.isfinite().all())
    assert result.stop_reason == "diverged: loss 'dark' became nan"
    if after == 0:
        assert torch.equal(result.image, PHOTO)
    else:
        assert all(math.isfinite(value) for value in result.history["dark"])
        assert float(result.image.mean()) < float(PHOTO.mean())


def test_a_run_whose_last_update_diverges_says_so() -> None:
    losses = {"dark": BecomesNaN(6), "tv": TotalVariationLoss()}  # the seventh is after the end
    result = paint(losses=losses, optimizer="adam")
    assert result.num_steps == 6 and result.stop_reason == "diverged: loss 'dark' became nan"
    assert float(result.image.mean()) < float(PHOTO.mean())


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_gradient_that_is_not_finite_at_the_target_ends_the_run(optimizer: str) -> None:
    class Root(nst.PointwiseLoss):
        """Its gradient is not a number where the picture is the content: at the very start."""

        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).square().sum(1).sqrt()

    losses: dict[str, Loss] = {"style": GramStyleLoss(), "root": Root(["relu2_1"])}
    result = paint(losses=losses, optimizer=optimizer)
    assert result.stop_reason == "diverged: the gradient of loss 'root' is not finite"
    assert torch.equal(result.image, PHOTO)


def test_a_picture_that_diverges_at_a_coarse_scale_does_not_disturb_others(tmp_path: Path) -> None:
    class Fragile(Loss):
        def forward(self, features: Features) -> Tensor:
            mean = features["image"].mean()
            return torch.where(mean > 0.9, torch.nan, mean)

    transfer = small(losses={"a": Fragile()}, optimizer="adam", num_scales=2)
    batch = torch.cat([PHOTO, torch.ones_like(PHOTO)])
    result = transfer.run(batch, PAINTING, callbacks=nst.SaveImages(tmp_path / "steps", every=1))
    assert result.stop_reason == "picture 0: completed; picture 1: diverged: loss 'a' became nan"
    torch.testing.assert_close(result.image[1], batch[1])
    assert torch.equal(result.image[0], transfer.run(PHOTO, PAINTING).image[0])


def test_a_factory_of_something_else_is_named() -> None:
    with pytest.raises(TypeError, match="`optimizer` made 3; it must return"):
        paint(optimizer=lambda _: 3)


def test_an_optimizer_that_cannot_lower_the_loss_ends_the_run() -> None:
    result = paint(style=PHOTO, num_steps=50)
    assert result.stop_reason == "the loss cannot be lowered any further"
    assert result.num_steps == 1 and torch.equal(result.image, PHOTO)


def test_losses_are_weighted_once_by_the_loop() -> None:
    light, heavy = (
        paint(losses={"style": GramStyleLoss(weight=w)}, optimizer="adam", num_steps=1).history
        for w in (1.0, 1000.0)
    )
    assert heavy["style"][0] == pytest.approx(1000 * light["style"][0], rel=1e-5)


@pytest.mark.float64
def test_a_loss_that_is_not_a_scalar_is_named_and_buffers_are_moved_to_the_network() -> None:
    class Unreduced(Loss):
        def forward(self, features: Features) -> Tensor:
            return features["image"].mean((-2, -1))

    with pytest.raises(ValueError, match=r"`losses\['raw'\]` .* returned \(1, 3\); a scalar"):
        paint(losses={"raw": Unreduced()})

    class Projected(nst.StatisticLoss):
        def __init__(self, layers: list[str]) -> None:
            super().__init__(layers)
            self.register_buffer("directions", torch.ones(2, 4))

        def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
            return (self.directions @ feature * weight).sum(-1)  # type: ignore[operator]

    # float64 stands for another device: both are reached by `.to()`.
    result = paint(tiny_extractor().double(), losses={"own": Projected(["relu1_1"])})
    assert result.image.dtype == torch.float64


def test_presets_can_be_changed() -> None:
    extractor = tiny_extractor()
    gatys = StyleTransfer.from_preset("gatys", extractor)
    assert (gatys.optimizer, gatys.num_scales, gatys.num_steps) == ("adam", 1, 500)
    assert gatys.losses["content"].layers == ("relu4_2",)
    assert gatys.losses["style"].layers == tuple(f"relu{i}_1" for i in range(1, 6))
    default = StyleTransfer.from_preset("default", extractor, num_steps=7)
    assert default.num_steps == 7
    assert repr(StyleTransfer(extractor, num_steps=7)) == repr(default)
    for part in ("pooling='max'", "content=ContentLoss(", "units='relative'", "num_steps=7"):
        assert part in repr(default)
    with pytest.raises(ValueError, match="`preset` is 'gaty'; it must be one of 'default'"):
        StyleTransfer.from_preset("gaty", extractor)


def test_the_paper_s_preset_warns_of_other_weights(
    networks: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    for weights in networks:
        StyleTransfer.from_preset("gatys", nst.FeatureExtractor(weights))
    (message,) = caplog.messages
    assert message.endswith("are for the original VGG19, not torchvision")


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "gatys"])
def test_the_motifs_of_a_preset_weigh_its_deepest_style_layer(name: str) -> None:
    for motifs in (0, 0.3, 1):
        preset = StyleTransfer.from_preset(name, tiny_extractor(), motifs=motifs)
        assert preset.losses["style"].settings()["layers"] == nst.style_layers(motifs)
    for wrong, preset_name, message in (
        (2, name, "`motifs` is 2; it must be at most 1"),
        (0.3, "gatys", r"`motifs` is 0\.3, but the preset 'gatys' has the weights"),
    ):
        with pytest.raises(ValueError, match=message):
            StyleTransfer.from_preset(preset_name, tiny_extractor(), motifs=wrong)


def test_a_changed_copy_uses_and_records_the_changed_option() -> None:
    result = replace(small(), optimizer="adam").run(PHOTO, PAINTING)
    assert result.settings["optimizer"] == "adam"
    assert torch.equal(result.image, paint(optimizer="adam").image)


class Numbered(BecomesNaN):
    layers = (1,)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"losses": {"a": Numbered(1)}}, ValueError, r"with layers \(1,\); they must be names"),
        ({"losses": [ContentLoss()]}, TypeError, "`losses` is a list; give each loss a name"),
        ({"losses": {1: ContentLoss()}}, ValueError, "`losses` has the name 1; names must be"),
        ({"losses": {"a": ContentLoss}}, TypeError, r"`losses\['a'\]` is .*must be an nst.Loss"),
        ({"losses": {}}, ValueError, "`losses` has nothing to optimize"),
        ({"losses": {"a": ContentLoss(weight=0)}}, ValueError, "must weigh more than 0"),
        ({"losses": {"a": ContentLoss(["relu4-2"])}}, ValueError, "Did you mean 'relu4_2'"),
        ({"size": 0}, ValueError, "`size` is 0; it must be at least 1"),
        ({"size": None, "upscale": True}, ValueError, "`upscale` is True, but `size` is None"),
        ({"num_steps": 0}, ValueError, "`num_steps` is 0"),
        ({"num_scales": 0}, ValueError, "`num_scales` is 0"),
        ({"num_scales": "all"}, ValueError, "`num_scales` is 'all'; it must be one of 'auto'"),
        ({"device": None}, TypeError, "`device` is None; pass 'auto'"),
        ({"device": "meta"}, ValueError, "`device` is 'meta', which cannot be used here"),
        ({"tile": "some"}, ValueError, "`tile` is 'some'"),
        ({"extractor": 3}, TypeError, "`extractor` is 3; it must be a FeatureExtractor"),
        ({"optimizer": 3}, TypeError, "`optimizer` is a int"),
        ({"optimizer": "adam", "learning_rate": 0}, ValueError, "`learning_rate` is 0; it must"),
        ({"optimizer": "sgd"}, ValueError, "`optimizer` is 'sgd'; it must be 'lbfgs' or 'adam'"),
        ({"average": 1}, ValueError, "`average` is 1; it must be below 1"),
        ({"normalize_gradients": True}, ValueError, "L-BFGS requires .* Use optimizer='adam'"),
        (
            {"normalize_gradients": True, "optimizer": nst.BoundedLBFGS},
            ValueError,
            "L-BFGS requires .* Use optimizer='adam'",
        ),
        ({"content": "missing.jpg"}, FileNotFoundError, "`content` is 'missing.jpg'"),
        ({"content": torch.full((1, 3, 32, 32), torch.nan)}, ValueError, "`content` has NaN"),
        ({"content": torch.zeros(1, 3, 8, 32)}, ValueError, "`content` is 8x32 .* at least 16x16"),
        ({"style": [torch.zeros(3, 32, 9)]}, ValueError, r"`style\[0\]` is 32x9 pixels"),
        ({"style": []}, ValueError, "`style` is empty"),
        ({"style": torch.zeros(2, 3, 32, 32)}, ValueError, r"`style\[0\]` is a batch of 2"),
        ({"style": Style(PAINTING, weight=0)}, ValueError, "only weights of 0 in a region"),
        ({"init": "contnet"}, FileNotFoundError, "`init` is 'contnet'.*'pink-noise' or 'gray'"),
        ({"init": None}, TypeError, "`init` is None; it must be a picture, 'content'.* or 'gray'"),
        ({"seed": -1}, ValueError, "`seed` is -1; it must be at least 0"),
        ({"init": torch.zeros(2, 3, 9, 9)}, ValueError, "`init` has 2 pictures for 1 contents"),
        ({"strength": -1}, ValueError, "`strength` is -1"),
        ({"preserve_color": "lab"}, ValueError, "is 'lab'; it must be one of 'luminance'"),
        ({"color_when": "now"}, ValueError, "`color_when` is 'now'; it must be one of 'before'"),
        ({"where": torch.zeros(32, 40)}, ValueError, "`where` is black everywhere"),
        ({"where": torch.ones(32, 32)}, ValueError, "`where` is 32x32 pixels, .* is 32x40"),
    ],
)
def test_bad_arguments_are_named_before_any_work(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    of_a_run = arguments.keys() <= inspect.signature(StyleTransfer.run).parameters.keys()
    recorder = Recorder()
    with pytest.raises(error, match=message):
        paint(**arguments, callbacks=recorder) if of_a_run else small(**arguments)
    assert recorder.calls == []


@pytest.mark.weights
def test_the_real_network_repaints_a_real_photograph() -> None:
    data = pytest.importorskip("skimage.data")
    transfer = StyleTransfer(size=96, num_steps=8)
    result = transfer.run(data.chelsea(), data.coffee())
    assert result.settings["extractor"]["weights"] == "original"
    assert total(result)[-1] < 0.5 * total(result)[0]
    assert torch.equal(result.image, transfer.run(data.chelsea(), data.coffee()).image)


def test_weights_of_the_default_losses_are_arguments() -> None:
    own = small(content_weight=0.5, style_weight=2)
    assert {name: loss.weight for name, loss in own.losses.items()} == {"content": 0.5, "style": 2}
    losses = {
        "content": ContentLoss(weight=0.5),
        "style": GramStyleLoss(nst.style_layers(), weight=2),
    }
    expected = small(losses=losses).run(PHOTO, PAINTING)
    found = own.replace(size=512).run(PHOTO, PAINTING)
    assert torch.equal(found.image, expected.image) and found.settings == expected.settings
    light = small()
    for other in (
        light.replace(content_weight=0.5, style_weight=2),
        StyleTransfer.from_record(found.settings, tiny_extractor(), content_weight=0.5),
    ):
        assert torch.equal(other.run(PHOTO, PAINTING).image, expected.image)
    assert light.losses["content"].weight == 0.01
    with pytest.raises(ValueError, match="`style_weight` is 3, but only for the default losses"):
        small(losses={"mine": GramStyleLoss()}).replace(style_weight=3)
    preset = StyleTransfer.from_preset("strokes", tiny_extractor(), content_weight=0.5)
    assert preset.losses["content"].weight == 0.5
    assert isinstance(preset.losses["style"], nst.WassersteinStyleLoss)
    assert small().losses["content"].weight == 0.01
    for make in (StyleTransfer, partial(StyleTransfer.from_preset, "default")):
        with pytest.raises(ValueError, match=r"`content_weight` is 0.1, but only .* Set the w"):
            make(extractor=tiny_extractor(), losses=losses, content_weight=0.1)
        with pytest.raises(ValueError, match="`style_weight` is -1; it must be finite"):
            make(extractor=tiny_extractor(), style_weight=-1)
