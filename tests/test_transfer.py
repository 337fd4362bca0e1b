from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, NoReturn

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import nst
from nst import (
    ContentLoss,
    FeatureExtractor,
    GramStyleLoss,
    Loss,
    RunState,
    Style,
    StyleTransfer,
    StyleTransferResult,
    TotalVariationLoss,
)
from nst.images import resize
from nst.losses.kinds import Features
from nst.testing import tiny_extractor


def small(extractor: nn.Module, **arguments: Any) -> StyleTransfer:
    return StyleTransfer(extractor, **{"num_steps": 6, **arguments})


def total(result: StyleTransferResult) -> list[float]:
    return [sum(values) for values in zip(*result.history.values(), strict=True)]


@pytest.mark.parametrize(
    "optimizer",
    ["lbfgs", "adam", lambda p: torch.optim.SGD(p, lr=1e-3), lambda p: torch.optim.LBFGS(p)],
    ids=["lbfgs", "adam", "sgd", "torch lbfgs"],
)
def test_the_loss_falls_and_the_picture_can_be_saved(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, optimizer: Any
) -> None:
    result = small(extractor, optimizer=optimizer).run(photo, painting)
    assert result.image.shape == photo.shape
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    assert not torch.equal(result.image, photo)
    assert total(result)[-1] < total(result)[0]
    assert (result.num_steps, result.stop_reason) == (6, "completed")
    assert [len(values) for values in result.history.values()] == [6, 6]


def test_a_single_step_already_changes_the_picture(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    for optimizer in ("lbfgs", "adam"):
        result = small(extractor, optimizer=optimizer, num_steps=1).run(photo, painting)
        assert not torch.equal(result.image, photo)


def test_the_best_picture_comes_back_not_the_last(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(
        extractor, num_steps=12, optimizer=lambda p: torch.optim.Adam(p, lr=0.5), num_scales=1
    )
    seen: list[tuple[float, Tensor]] = []
    before = [photo]

    def remember(state: RunState) -> None:
        # Adam's losses are those of the picture before the step.
        seen.append((state.loss, before[-1]))
        before.append(state.image.clone())

    result = transfer.run(photo, painting, callbacks=[remember])
    losses = [loss for loss, _ in seen]
    assert losses[-1] > min(losses)
    assert torch.equal(result.image, min(seen, key=lambda pair: pair[0])[1])


def test_the_same_call_gives_the_same_bits(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor)
    state = torch.get_rng_state()
    first, again = (transfer.run(photo, painting, init="noise", seed=3) for _ in range(2))
    assert torch.equal(first.image, again.image)
    assert first.history == again.history
    other = transfer.run(photo, painting, init="noise", seed=4)
    assert not torch.equal(first.image, other.image)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_leaves_transfer_losses_and_pictures_as_they_were(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    losses = {"content": ContentLoss(weight=0.1), "style": GramStyleLoss()}
    content, style = photo.clone(), painting.clone()
    small(extractor, losses=losses).run(content, style)
    assert all(not list(loss.buffers()) for loss in losses.values())
    assert torch.equal(content, photo) and torch.equal(style, painting)
    assert all(parameter.grad is None for parameter in extractor.parameters())


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_each_picture_of_a_batch_is_stylized_as_if_alone(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, optimizer: str
) -> None:
    transfer = small(extractor, optimizer=optimizer)
    batch = torch.cat([photo, photo.flip(-1) * 0.5])
    shapes = []
    together = transfer.run(
        batch, painting, callbacks=[lambda state: shapes.append(tuple(state.image.shape))]
    )
    assert shapes == [tuple(batch.shape)] * 6
    for i in range(2):
        alone = transfer.run(batch[i], painting)
        assert torch.equal(together.image[i], alone.image[0])


def test_two_equal_styles_are_one(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor.double(), num_steps=3)
    content, style = photo.double(), painting.double()
    one = transfer.run(content, style)
    two = transfer.run(content, [Style(style, weight=2.0), Style(style, weight=0.5)])
    torch.testing.assert_close(one.image, two.image, rtol=0, atol=1e-9)
    assert one.image.dtype == torch.float64


def test_only_the_ratio_of_style_weights_matters(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer, other = small(extractor, num_steps=3), photo.flip(-2)
    first = transfer.run(photo, [Style(painting, weight=3), Style(other, weight=1)])
    second = transfer.run(photo, [Style(painting, weight=0.75), Style(other, weight=0.25)])
    assert torch.equal(first.image, second.image)
    alone = transfer.run(photo, painting)
    with_nothing = transfer.run(photo, [Style(painting), Style(other, weight=0)])
    assert torch.equal(alone.image, with_nothing.image)


def test_a_run_goes_through_its_scales(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []
    transfer = small(extractor, num_scales=2, losses={"style": GramStyleLoss(["relu1_1"])})
    result = transfer.run(
        photo,
        painting,
        callbacks=[lambda state: seen.append((state.scale, tuple(state.image.shape[2:])))],
    )
    assert seen == [(0, (16, 20))] * 4 + [(1, (32, 40))] * 2
    assert result.image.shape == photo.shape


def test_a_finer_scale_has_the_detail_that_coarser_ones_were_too_small_for(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    seen: list[Tensor] = []

    class Shade(torch.optim.Optimizer):
        """Makes everything a little darker."""

        def __init__(self, params: list[Tensor]) -> None:
            super().__init__(params, {})
            self.params = params

        @torch.no_grad()
        def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
            seen.append(self.params[0].clone())
            loss = closure()
            self.params[0].mul_(0.9)
            return loss

    dark = {"tv": TotalVariationLoss()}  # the darker, the better
    photo = 0.45 + 0.1 * photo  # so that nothing is clamped
    small(extractor, num_scales=2, losses=dark, optimizer=Shade).run(photo, painting)
    coarse, fine = seen[0], next(each for each in seen if each.shape == photo.shape)
    darkening = 0.9 ** sum(each.shape == coarse.shape for each in seen)
    change = resize(darkening * coarse, (32, 40)) - resize(coarse, (32, 40))
    torch.testing.assert_close(fine, photo + change)


def test_content_counts_three_times_as_much_at_all_scales_but_the_last(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    losses = {"content": ContentLoss(["image"], weight=3.0), "style": GramStyleLoss(["relu1_1"])}
    seen: dict[int, dict[str, Tensor]] = {}

    def note(state: RunState) -> None:
        seen[state.scale] = dict(state.losses)

    def still(params: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.0)

    def run(size: int, num_scales: int) -> None:
        steps = {"num_steps": num_scales, "num_scales": num_scales}
        transfer = small(extractor, losses=losses, optimizer=still, size=size, **steps)
        transfer.run(photo, painting, init=1 - photo, callbacks=note)

    run(40, 3)
    of_three = dict(seen)
    for scale, (size, counts) in enumerate([(10, 3), (20, 3), (40, 1)]):
        run(size, 1)
        torch.testing.assert_close(of_three[scale]["content"], counts * seen[0]["content"])
        torch.testing.assert_close(of_three[scale]["style"], seen[0]["style"])


@pytest.mark.parametrize(("size", "expected"), [(20, (16, 20)), (512, (32, 40)), (None, (32, 40))])
def test_size_is_the_longest_side_and_never_enlarges(
    extractor: FeatureExtractor,
    photo: Tensor,
    painting: Tensor,
    size: int | None,
    expected: tuple[int, int],
) -> None:
    result = small(extractor, size=size, num_steps=1).run(photo, painting)
    assert result.image.shape[2:] == expected
    assert result.content.shape[2:] == expected


def first_picture(transfer: StyleTransfer, *args: Any, **kwargs: Any) -> Tensor:
    class Start(nst.Callback):
        image: Tensor

        def on_start(self, state: RunState) -> None:
            self.image = state.image.clone()

    start = Start()
    transfer.run(*args, callbacks=[start], **kwargs)
    return start.image


def test_a_picture_can_start_as_content_style_noise_or_any_other(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer, mine = small(extractor, num_steps=1), torch.full((3, 10, 10), 0.25)
    assert torch.equal(first_picture(transfer, photo, painting), photo)
    noise = first_picture(transfer, photo, painting, init="noise")
    assert 0.45 < float(noise.mean()) < 0.55 and float(noise.std()) > 0.2
    style = first_picture(transfer, photo, painting, init="style")
    assert torch.equal(style, nst.images.resize(painting, (32, 40)))
    given = first_picture(transfer, photo, painting, init=mine)
    torch.testing.assert_close(given, torch.full_like(photo, 0.25))


def test_noise_is_the_same_for_every_picture_of_a_batch(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    batch = torch.cat([photo, photo])
    noise = first_picture(small(extractor, num_steps=1), batch, painting, init="noise")
    assert torch.equal(noise[0], noise[1])


def test_pictures_may_be_paths_pil_images_and_arrays(
    extractor: FeatureExtractor, photo: Tensor, tmp_path: Any
) -> None:
    pil = nst.images.to_pil(photo)
    pil.save(tmp_path / "photo.png")
    transfer = small(extractor, num_steps=2)
    results = [
        transfer.run(source, pil).image
        for source in (tmp_path / "photo.png", str(tmp_path / "photo.png"), pil)
    ]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_transparency_of_the_content_is_put_back(extractor: FeatureExtractor) -> None:
    content = Image.new("RGBA", (32, 32), (200, 100, 50, 255))
    content.paste((0, 0, 0, 0), (0, 0, 16, 32))
    result = small(extractor, num_steps=2).run(content, Image.new("RGB", (32, 32), "navy"))
    alpha = result.to_pil().getchannel("A")
    assert (alpha.getpixel((2, 2)), alpha.getpixel((30, 30))) == (0, 255)


class BecomesNaN(Loss):
    """Fine for some evaluations, then NaN."""

    calls = 0

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def forward(self, features: Features) -> Tensor:
        type(self).calls += 1
        value = features["image"].square().mean()
        return value * math.nan if type(self).calls > self.after else value


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_loss_that_becomes_nan_ends_the_run_with_the_best_picture(
    extractor: FeatureExtractor,
    photo: Tensor,
    painting: Tensor,
    optimizer: str,
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BecomesNaN, "calls", 0)
    losses = {"dark": BecomesNaN(after), "tv": TotalVariationLoss()}
    result = small(extractor, losses=losses, optimizer=optimizer).run(photo, painting)
    assert result.num_steps < 6
    assert bool(result.image.isfinite().all())
    assert result.stop_reason == "diverged: loss 'dark' became nan"
    if after == 0:
        assert torch.equal(result.image, photo)
    else:
        assert all(math.isfinite(value) for value in result.history["dark"])
        assert float(result.image.mean()) < float(photo.mean())


def test_a_picture_that_diverges_at_a_coarse_scale_does_not_disturb_the_others(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Any
) -> None:
    class Fragile(Loss):
        def forward(self, features: Features) -> Tensor:
            mean = features["image"].mean()
            return torch.where(mean > 0.9, torch.nan, mean)

    transfer = small(extractor, losses={"a": Fragile()}, optimizer="adam", num_scales=2)
    batch = torch.cat([photo, torch.ones_like(photo)])
    save = nst.SaveImages(tmp_path / "steps", every=1)
    result = transfer.run(batch, painting, callbacks=[save])
    assert result.stop_reason == "picture 0: completed; picture 1: diverged: loss 'a' became nan"
    torch.testing.assert_close(result.image[1], batch[1])
    assert torch.equal(result.image[0], transfer.run(photo, painting).image[0])


def test_after_an_error_callbacks_end_with_the_best_picture_and_the_reason(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    ended: list[tuple[str | None, Tensor]] = []

    class Last(nst.Callback):
        def on_end(self, state: RunState) -> None:
            ended.append((state.stop_reason, state.image))

    def fail(state: RunState) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        small(extractor).run(photo, painting, callbacks=[Last(), fail])
    assert ended[0][0] == "failed: ZeroDivisionError"
    assert ended[0][1].shape == photo.shape


def test_ctrl_c_returns_the_best_so_far(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    def interrupt(state: RunState) -> None:
        if state.step == 3:
            raise KeyboardInterrupt

    result = small(extractor).run(photo, painting, callbacks=[interrupt])
    assert (result.num_steps, result.stop_reason) == (3, "interrupted")
    assert not torch.equal(result.image, photo)


def test_a_run_cut_short_at_a_coarse_scale_has_the_full_size(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor, num_scales=2, losses={"style": GramStyleLoss(["relu1_1"])})
    result = transfer.run(photo, painting, callbacks=[lambda state: state.stop("enough")])
    assert (result.num_steps, result.stop_reason) == (1, "enough")
    assert result.image.shape == photo.shape


def test_an_optimizer_that_has_stalled_ends_the_run(
    extractor: FeatureExtractor, photo: Tensor
) -> None:
    result = small(extractor, num_steps=50).run(photo, photo)
    assert result.stop_reason == "the loss cannot be lowered any further"
    assert result.num_steps == 1
    assert torch.equal(result.image, photo)


def test_losses_are_weighted_once_by_the_loop(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    plain, heavy = (
        small(extractor, losses={"style": GramStyleLoss(weight=w)}, optimizer="adam", num_steps=1)
        for w in (1.0, 1000.0)
    )
    light = plain.run(photo, painting).history["style"][0]
    assert heavy.run(photo, painting).history["style"][0] == pytest.approx(1000 * light, rel=1e-5)


def test_any_module_of_the_same_form_may_extract_features(photo: Tensor, painting: Tensor) -> None:
    class Blur(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
            return {"image": images, "blur.4": self.scale * nn.functional.avg_pool2d(images, 4)}

    blur = Blur()
    losses = {"content": ContentLoss(["blur.4"]), "style": GramStyleLoss(["blur.4", "image"])}
    result = small(blur, losses=losses).run(photo, painting)
    assert total(result)[-1] < total(result)[0]
    assert blur.scale.grad is None


def test_an_extractor_that_leaves_out_a_layer_is_named(photo: Tensor, painting: Tensor) -> None:
    class Nothing(nn.Module):
        def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
            return {"image": images}

    with pytest.raises(ValueError, match="`extractor` returned no 'relu1_1'"):
        small(Nothing(), losses={"style": GramStyleLoss(["relu1_1"])}).run(photo, painting)


def test_a_loss_that_is_not_a_scalar_is_named(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    class Unreduced(Loss):
        def forward(self, features: Features) -> Tensor:
            return features["image"].mean((-2, -1))

    with pytest.raises(
        ValueError, match=r"`losses\['raw'\]` \(Unreduced\) returned \(1, 3\); a scalar"
    ):
        small(extractor, losses={"raw": Unreduced()}).run(photo, painting)


def test_presets_are_recipes_that_can_be_changed(extractor: FeatureExtractor) -> None:
    gatys = StyleTransfer.from_preset("gatys", extractor)
    assert (gatys.optimizer, gatys.num_scales, gatys.num_steps) == ("adam", 1, 500)
    assert gatys.losses["content"].layers == ("relu4_2",)
    assert gatys.losses["style"].layers == tuple(f"relu{i}_1" for i in range(1, 6))
    default = StyleTransfer.from_preset("default", extractor, num_steps=7)
    assert default.num_steps == 7
    assert repr(StyleTransfer(extractor, num_steps=7)) == repr(default)
    with pytest.raises(
        ValueError, match="`preset` is 'gaty'; it must be one of 'default', 'gatys'"
    ):
        StyleTransfer.from_preset("gaty", extractor)


def test_a_transfer_documents_itself(extractor: FeatureExtractor) -> None:
    text = repr(small(extractor))
    for part in ("pooling='max'", "content=ContentLoss(", "units='relative'", "num_steps=6"):
        assert part in text


def test_the_settings_say_everything_but_the_pictures(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    settings = small(extractor).run(photo, [Style(painting, weight=0.5)], seed=7).settings
    assert settings["extractor"]["weights"] == "tiny, seed 0"
    assert settings["losses"]["content"]["layers"] == {"relu4_2": 1.0}
    assert settings["styles"] == [{"weight": 0.5}]
    assert (settings["seed"], settings["init"], settings["optimizer"]) == (7, "content", "lbfgs")
    assert settings["nst"] == nst.__version__


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"losses": [ContentLoss()]}, TypeError, "`losses` is a list; give each loss a name"),
        ({"losses": {"a": ContentLoss}}, TypeError, r"`losses\['a'\]` is .*must be an nst.Loss"),
        ({"losses": {}}, ValueError, "`losses` has nothing to optimize"),
        ({"losses": {"a": ContentLoss(weight=0)}}, ValueError, "must weigh more than 0"),
        (
            {"losses": {"a": ContentLoss(["relu4-2"])}},
            ValueError,
            "`layers` has 'relu4-2', which VGG19 lacks. Did you mean 'relu4_2'",
        ),
        ({"size": 0}, ValueError, "`size` is 0; it must be at least 1"),
        ({"size": 51.5}, TypeError, "`size` is 51.5; a whole number is needed"),
        ({"num_steps": 0}, ValueError, "`num_steps` is 0"),
        ({"num_scales": 0}, ValueError, "`num_scales` is 0"),
        ({"num_scales": "all"}, ValueError, "`num_scales` is 'all'; it must be one of 'auto'"),
        ({"device": None}, TypeError, "`device` is None; pass 'auto'"),
        ({"device": "meta"}, ValueError, "`device` is 'meta', which cannot be used here"),
        ({"optimizer": 3}, TypeError, "`optimizer` is a int"),
        ({"optimizer": "sgd"}, ValueError, "`optimizer` is 'sgd'"),
        ({"device": "gpu"}, ValueError, "`device` is 'gpu', which cannot be used here"),
    ],
)
def test_bad_arguments_are_named_before_any_work(
    extractor: FeatureExtractor, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        StyleTransfer(extractor, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"content": "missing.jpg"}, FileNotFoundError, "`content` is 'missing.jpg'"),
        ({"content": torch.full((1, 3, 32, 32), torch.nan)}, ValueError, "`content` has NaN"),
        ({"content": torch.zeros(1, 3, 8, 32)}, ValueError, "`content` is 8x32 .* at least 16x16"),
        ({"style": [torch.zeros(3, 32, 9)]}, ValueError, r"`style\[0\]` is 32x9 pixels"),
        ({"style": []}, ValueError, "`style` is empty"),
        ({"style": ["missing.jpg"]}, FileNotFoundError, r"`style\[0\]` is 'missing.jpg'"),
        ({"style": torch.zeros(2, 3, 32, 32)}, ValueError, r"`style\[0\]` is a batch of 2"),
        ({"init": "contnet"}, FileNotFoundError, "`init` is 'contnet'.*'pink-noise' or 'gray'"),
        ({"seed": 1.5}, TypeError, "`seed` is 1.5; a whole number is needed"),
        ({"seed": -1}, ValueError, "`seed` is -1; it must be at least 0"),
        ({"init": torch.zeros(2, 3, 9, 9)}, ValueError, "`init` has 2 pictures for 1 contents"),
        ({"callbacks": [nst.ProgressBar]}, TypeError, "`callbacks` has"),
        ({"callbacks": [3]}, TypeError, "`callbacks` has 3"),
    ],
)
def test_bad_input_to_a_run_is_named_before_any_step(
    photo: Tensor,
    painting: Tensor,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    given = {"content": photo, "style": painting, **arguments}
    started: list[RunState] = []

    class Started(nst.Callback):
        def on_start(self, state: RunState) -> None:
            started.append(state)

    given["callbacks"] = [*given.get("callbacks", []), Started()]
    with pytest.raises(error, match=message):
        small(tiny_extractor()).run(**given)
    assert started == []
    if "callbacks" not in arguments:
        with pytest.raises(error, match=message):
            small(tiny_extractor()).check(**{"content": photo, "style": painting, **arguments})


def test_style_weights_are_checked(painting: Tensor) -> None:
    with pytest.raises(ValueError, match="`weight` is -1; it must be finite and not negative"):
        Style(painting, weight=-1)
    with pytest.raises(ValueError, match="`style` has only weights of 0 in a region"):
        small(tiny_extractor()).run(painting, Style(painting, weight=0))


def test_a_square_root_at_its_own_target_is_told_from_a_minimum(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, tmp_path: Any
) -> None:
    class Root(nst.PointwiseLoss):
        """Its gradient is not a number where the picture is the content: at the very start."""

        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).square().sum(1).sqrt()

    for optimizer in ("lbfgs", "adam"):
        losses: dict[str, Loss] = {"style": GramStyleLoss(), "root": Root(["relu2_1"])}
        save = nst.SaveImages(tmp_path / optimizer, every=1)
        transfer = small(extractor, losses=losses, optimizer=optimizer)
        result = transfer.run(photo, painting, callbacks=save)
        assert result.stop_reason == "diverged: the gradient of loss 'root' is not finite"
        assert torch.equal(result.image, photo)


def test_a_losss_own_buffers_go_where_the_network_is(photo: Tensor, painting: Tensor) -> None:
    class Projected(nst.StatisticLoss):
        def __init__(self, layers: list[str]) -> None:
            super().__init__(layers)
            self.register_buffer("directions", torch.ones(2, 4))

        def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
            return (self.directions @ feature * weight).sum(-1)  # type: ignore[operator]

    # float64 stands for another device: both are reached by `.to()`.
    transfer = small(tiny_extractor().double(), losses={"own": Projected(["relu1_1"])})
    assert transfer.run(photo, painting).image.dtype == torch.float64


def test_noise_is_noise_however_large_the_photograph(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    large = torch.nn.functional.interpolate(photo, scale_factor=8)
    noise = first_picture(small(extractor, size=40, num_steps=1), large, painting, init="noise")
    assert noise.shape == photo.shape and float(noise.std()) > 0.25


def test_scales_too_small_for_the_network_are_left_out(
    extractor: FeatureExtractor, painting: Tensor
) -> None:
    seen: list[tuple[int, ...]] = []
    narrow = torch.rand(1, 3, 17, 64)
    small(extractor, num_scales=3).run(
        narrow, painting, callbacks=lambda state: seen.append(tuple(state.image.shape[2:]))
    )
    assert set(seen) == {(17, 64)}


def test_what_callbacks_do_to_the_picture_shown_stays_with_them(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    class Vandal(nst.Callback):
        def on_start(self, state: RunState) -> None:
            state.image.zero_()

        on_step = on_end = on_start

    transfer = small(extractor)
    plain = transfer.run(photo, painting)
    vandalized = transfer.run(photo, painting, callbacks=Vandal())
    assert torch.equal(vandalized.image, plain.image)
    assert torch.equal(vandalized.content, plain.content)


def test_a_check_raises_what_run_would_without_using_the_network(
    photo: Tensor, painting: Tensor
) -> None:
    class NoWeights(FeatureExtractor):
        """The layers of VGG19."""

        stands_in = True

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.weights, self.pooling, self.padding, self.winograd = "none", "max", "zeros", False

        def forward(self, images: Tensor, layers: Iterable[str]) -> NoReturn:
            raise AssertionError("the network is used")

    captured = StyleTransfer(tiny_extractor()).capture(painting, sizes=[40])
    styles: list[Any] = [painting, captured, [painting, Style(captured.image, region=photo)]]
    for style in styles:
        StyleTransfer(NoWeights(), tile=8).check(photo, style, preserve_color="pca", seed=3)
    with pytest.raises(ValueError, match="captured for pictures of 40 pixels, but 20 are needed"):
        StyleTransfer(NoWeights(), size=20).check(photo, captured)
    with pytest.raises(TypeError, match="`check` has no argument 'sede'"):
        StyleTransfer(NoWeights()).check(photo, painting, sede=3)


def test_the_options_are_fields(extractor: FeatureExtractor) -> None:
    names = [field.name for field in fields(StyleTransfer)]
    assert names == list(inspect.signature(StyleTransfer).parameters)
    documented = re.findall(r"^ {8}(\w+): ", str(StyleTransfer.__doc__), re.MULTILINE)
    assert documented[: len(names)] == names


def test_a_changed_copy_uses_and_records_the_changed_option(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    transfer = small(extractor)
    with pytest.raises(FrozenInstanceError):
        transfer.optimizer = "adam"  # type: ignore[misc]
    result = replace(transfer, optimizer="adam").run(photo, painting)
    assert result.settings["optimizer"] == "adam"
    assert torch.equal(result.image, small(extractor, optimizer="adam").run(photo, painting).image)


def test_a_loss_that_weighs_nothing_is_left_out(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    losses = {"content": ContentLoss(weight=0), "style": GramStyleLoss()}
    assert set(small(extractor, losses=losses).run(photo, painting).history) == {"style"}


def test_a_transfer_runs_where_gradients_are_switched_off(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    expected = small(extractor).run(photo, painting).image
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(small(extractor).run(photo, painting).image, expected)


def test_a_failing_end_does_not_lose_the_picture(
    extractor: FeatureExtractor,
    photo: Tensor,
    painting: Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class DiskFull(nst.Callback):
        def on_end(self, state: RunState) -> None:
            raise OSError("no space left on device")

    result = small(extractor).run(photo, painting, callbacks=[DiskFull()])
    assert result.stop_reason == "completed"
    assert "DiskFull failed at the end of the run" in caplog.text


@pytest.mark.weights
def test_the_real_network_repaints_a_real_photograph() -> None:
    data = pytest.importorskip("skimage.data")
    transfer = StyleTransfer(size=96, num_steps=8)
    result = transfer.run(data.chelsea(), data.coffee())
    assert result.settings["extractor"]["weights"] == "original"
    assert total(result)[-1] < 0.5 * total(result)[0]
    again = transfer.run(data.chelsea(), data.coffee())
    assert torch.equal(result.image, again.image)
