import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nst
from nst import ContentLoss, CrossLayerGramStyleLoss, GramStyleLoss, Loss, TotalVariationLoss
from nst.losses.base import Features
from tests.contracts.test_every_loss import value_and_slope
from tests.helpers import MeanLoss


def features(seed: int, n: int = 1, size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        layer: torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64)
        for layer in ("a", "b")
    }


@pytest.mark.parametrize(
    "kind", [MeanLoss, ContentLoss, nst.HistogramStyleLoss, nst.SelfSimilarityLoss]
)
def test_the_layers_are_weighted_and_summed(kind: Callable[..., Loss]) -> None:
    values = []
    for layers in ({"a": 1.0}, {"b": 1.0}, {"a": 2.0, "b": 0.5}):
        loss = kind(layers)
        loss.capture(features(0))
        values.append(float(loss(features(1))))
    assert values[2] == pytest.approx(2 * values[0] + 0.5 * values[1])


def test_a_statistic_is_compared_by_its_mean_square_error_without_the_losss_weight() -> None:
    loss = MeanLoss("features.3", weight=100.0)  # a layer's name may have dots
    loss.capture({"features.3": features(0)["a"]})
    value, target = (features(seed)["a"].mean((-2, -1)) for seed in (1, 0))
    expected = (value - target).square().mean()
    torch.testing.assert_close(loss({"features.3": features(1)["a"]}), expected)


def test_the_style_layers_weigh_one_in_sum_and_the_deepest_by_its_motifs() -> None:
    for motifs in (0.01, 0.2, 1):
        *others, deepest = nst.style_layers(motifs).values()
        assert len(set(others)) == 1 and math.isclose(deepest / others[0], motifs)
        assert math.isclose(sum(others) + deepest, 1)
    assert nst.style_layers(1) == nst.STYLE_LAYERS
    assert "relu5_1" not in nst.style_layers(0)
    for motifs in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="`motifs` is"):
            nst.style_layers(motifs)


def test_layers_without_weights_share_a_weight_of_one() -> None:
    assert MeanLoss(["a", "b"]).layer_weights == {"a": 0.5, "b": 0.5}
    assert MeanLoss("relu4_2").layer_weights == {"relu4_2": 1.0}


@pytest.mark.parametrize(("units", "factor"), [("relative", None), ("mean", 1.0), ("gatys", 0.25)])
def test_gram_units_are_those_of_the_papers(units: Any, factor: float | None) -> None:
    loss = GramStyleLoss({"a": 1.0}, units=units)
    loss.capture(features(0))
    f, p = features(1)["a"][0].flatten(1), features(0)["a"][0].flatten(1)
    gram, target = f @ f.T / 16, p @ p.T / 16
    squared = (gram - target).square().sum()
    expected = squared / target.square().sum() if factor is None else factor * squared / 9
    torch.testing.assert_close(loss(features(1)), expected)
    if units == "gatys":  # eq. 3 and 4 of the paper: N channels, M positions, G and A are sums
        paper = (f @ f.T - p @ p.T).square().sum() / (4 * 3**2 * 16**2)
        torch.testing.assert_close(loss(features(1)), paper)


@pytest.mark.parametrize("units", ["relative", "mean", "gatys", "cosine"])
def test_content_units_are_those_of_the_papers(units: Any) -> None:
    loss, feature, target = ContentLoss({"a": 1.0}, units=units), features(1)["a"], features(0)["a"]
    loss.capture(features(0))
    squared = (feature - target).square().sum()
    expected = {
        "relative": squared / target.square().sum(),
        "mean": squared / target.numel(),
        "gatys": squared / 2,
        "cosine": (2 - 2 * F.cosine_similarity(feature, target)).mean(),
    }[units]
    torch.testing.assert_close(loss(features(1)), expected)
    if units == "cosine":  # which ignores the strength of features
        torch.testing.assert_close(loss({"a": 3 * feature}), expected)
        assert float(loss({"a": torch.zeros_like(target)})) == pytest.approx(1)
        assert float(loss({"a": -target})) == pytest.approx(4)


def test_a_pointwise_loss_prepares_its_target_once_and_may_reduce_the_channels() -> None:
    class Rounded(nst.PointwiseLoss):
        def prepare(self, target: Tensor) -> Tensor:
            prepared.append(target.shape)
            return target.round()

        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            assert torch.equal(target, target.round())
            return (feature - target).square().mean(1)

    prepared: list[torch.Size] = []
    loss = Rounded(["a"])
    loss.capture(features(0))
    expected = (features(1)["a"] - features(0)["a"].round()).square().mean()
    for _ in range(2):
        torch.testing.assert_close(loss(features(1)), expected)
    assert prepared == [torch.Size([1, 3, 16])]


def test_moments_are_compared_by_mean_and_second_moment() -> None:
    loss = nst.MomentStyleLoss({"a": 1.0})
    loss.capture(features(0))
    terms = []
    for power in (1, 2):
        value, target = (features(seed)["a"].pow(power).mean((-2, -1)) for seed in (1, 0))
        terms.append((value - target).square().sum() / target.square().sum())
    torch.testing.assert_close(loss(features(1)), (terms[0] + terms[1]) / 2)


def test_styles_are_blended_as_raw_statistics() -> None:
    def gram(seed: int, size: int = 4) -> Tensor:
        return nst.functional.gram_matrix(features(seed, size=size)["a"].flatten(2))

    loss = GramStyleLoss(["a"], units="mean")
    loss.capture([features(0), features(1, size=6)], [3, 1])
    blended = 0.75 * gram(0) + 0.25 * gram(1, 6)
    torch.testing.assert_close(loss(features(2)), (gram(2) - blended).square().mean())


@pytest.mark.parametrize("kind", [MeanLoss, ContentLoss])
def test_a_loss_without_a_target_names_the_method_to_call(kind: Any) -> None:
    loss, name = kind(["a"]), kind.__name__
    with pytest.raises(RuntimeError, match=f"{name} has no target for 'a': call {name}.capture"):
        loss(features(0))
    with pytest.raises(RuntimeError, match=f"{name} has no target for 'a'"):
        loss.compare({"a": torch.zeros(1, 3)}) if kind is MeanLoss else loss.share(
            "a", features(0)["a"], 0, 4
        )


def test_features_and_statistics_that_do_not_fit_the_target_are_refused() -> None:
    content, style = ContentLoss(["a"]), GramStyleLoss(["a"])
    for loss in (content, style):
        loss.capture(features(0, n=2))
    with pytest.raises(ValueError, match=r"ContentLoss captured \(2, 3, 4, 4\) at 'a'"):
        content(features(0, n=3))
    with pytest.raises(ValueError, match=r"is given \(2, 3, 5, 5\)"):
        content(features(0, n=2, size=5))
    with pytest.raises(ValueError, match=r"GramStyleLoss captured \(2, 3, 3\) at 'a'"):
        style(features(0, n=3))
    loss, single = GramStyleLoss(["a"], centered=True), {"a": torch.eye(3).double()[None]}
    loss.capture(features(0))
    with pytest.raises(ValueError, match=r"captured \(1, 3, 3\), \(1, 3\) at 'a' and is"):
        loss.compare(single)
    with pytest.raises(ValueError, match="WassersteinStyleLoss cannot use the statistics captured"):
        nst.WassersteinStyleLoss(["a"]).capture_summaries([single])


@pytest.mark.parametrize(
    ("loss", "count", "blend", "message"),
    [
        (MeanLoss, 0, None, "`references` is empty"),
        (MeanLoss, 2, [1.0], "`blend` has 1 weights for 2 references"),
        (MeanLoss, 2, [1.0, -0.5], "`blend` is -0.5; it must be finite and not negative"),
        (MeanLoss, 2, [0.0, 0.0], "`blend` is all zero"),
        (MeanLoss, 2, [1.0, float("nan")], "`blend` is nan"),
        (ContentLoss, 2, None, "`references` has 2 pictures, but ContentLoss compares"),
    ],
)
def test_references_that_cannot_be_blended_are_refused(
    loss: Callable[..., Loss], count: int, blend: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loss(["a"]).capture([features(i) for i in range(count)], blend)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ContentLoss, {"layers": {}}, "`layers` is empty"),
        (ContentLoss, {"layers": 0.05}, "`layers` is 0.05; it must be a name or several"),
        (ContentLoss, {"layers": {"a": -1.0}}, r"`layers\['a'\]` is -1.0; it must be finite"),
        (ContentLoss, {"layers": {"a": 0.0}}, "at least one weight must be positive"),
        (GramStyleLoss, {"layers": ["a", "a"]}, "names in an order, each of them once"),
        (CrossLayerGramStyleLoss, {"layers": ["a", "b", "a"]}, "names in an order, each of them"),
        (CrossLayerGramStyleLoss, {"layers": {"a", "b"}}, "names in an order, each of them once"),
        (ContentLoss, {"weight": "3"}, "`weight` is '3'; a number is needed"),
        (TotalVariationLoss, {"weight": -1}, "`weight` is -1"),
        (GramStyleLoss, {"units": "percent"}, "`units` is 'percent'; it must be one of 'relative'"),
        (TotalVariationLoss, {"power": 3}, "`power` is 3"),
        (nst.LaplacianLoss, {"pool": 0}, "`pool` is 0"),
        (nst.SelfSimilarityLoss, {"max_positions": 1}, "`max_positions` is 1"),
        (CrossLayerGramStyleLoss, {"layers": {"a": 1.0, "b": 0.0}}, "the first has none before"),
        (CrossLayerGramStyleLoss, {"layers": ["a"]}, "at least two are needed"),
        (CrossLayerGramStyleLoss, {"layers": {"a": 1.0}}, "at least two are needed"),
        (nst.SlicedWassersteinStyleLoss, {"units": "gatys"}, "must be one of 'relative', 'mean'"),
        (nst.SlicedWassersteinStyleLoss, {"num_directions": 0}, "`num_directions` is 0"),
        (nst.SlicedWassersteinStyleLoss, {"seed": -1}, "`seed` is -1"),
        (nst.NearestNeighborStyleLoss, {"seed": 2**64}, r"must be below 2\*\*64"),
    ],
)
def test_bad_arguments_are_refused(
    kind: Callable[..., Loss], arguments: dict[str, Any], message: str
) -> None:
    is_type = arguments in ({"weight": "3"}, {"layers": 0.05})
    with pytest.raises(TypeError if is_type else ValueError, match=message):
        kind(**arguments)


@pytest.mark.parametrize("channels", [64, 512])
def test_constant_wide_layers_have_no_gradient_at_their_target_in_float32(channels: int) -> None:
    # The covariance is rounding of any sign, which grows with the number of channels.
    generator = torch.Generator().manual_seed(0)
    level = 3 * torch.rand(1, channels, 1, 1, generator=generator)
    flat = level.expand(-1, -1, 24, 24).clone()
    varied = flat + torch.randn(flat.shape, generator=generator)
    loss = nst.WassersteinStyleLoss(["a"])
    loss.capture({"a": flat})
    value, slope = value_and_slope(loss, {"a": flat})
    assert abs(value) < 1e-6
    assert slope < 1e-5 * value_and_slope(loss, {"a": varied})[1]


def test_the_gradient_of_a_flat_picture_is_of_the_usual_size() -> None:
    generator, shape = torch.Generator().manual_seed(0), (1, 256, 24, 24)
    level = 3 * torch.rand(1, 256, 1, 1, generator=generator)
    style, other = ((torch.randn(shape, generator=generator) * level).relu() for _ in range(2))
    loss = nst.WassersteinStyleLoss(["a"])
    loss.capture({"a": style})
    pictures = (level.expand_as(style), 0.5 * other)
    flat, usual = (value_and_slope(loss, {"a": picture})[1] for picture in pictures)
    assert flat < 10 * usual


def test_a_photograph_without_lines_is_not_compared_by_rounding_errors() -> None:
    loss, flat = nst.LaplacianLoss(), torch.full((1, 3, 32, 32), 0.7)
    noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    loss.capture({"image": flat * (1 + 1e-6 * noise)})
    assert float(loss({"image": flat})) < 1e-3
    assert 1 < float(loss({"image": flat * (1 + 0.1 * noise)})) < 1e6


def test_a_loss_that_overrides_its_kind_or_has_hooks_does_not_add_up() -> None:
    class Own(ContentLoss):
        def forward(self, features: Features) -> Tensor:
            return super().forward(features).sqrt()

    hooked = GramStyleLoss(["a"])
    hooked.register_forward_hook(lambda *_: None)
    crossed = CrossLayerGramStyleLoss(["a", "b"])
    assert not any(loss.adds_up for loss in (Own(["a"]), hooked, crossed, TotalVariationLoss()))


def test_results_of_the_wrong_shape_and_missing_layers_are_refused() -> None:
    class Unreduced(MeanLoss):
        def distance(self, statistic: Any, target: Any) -> Tensor:
            return torch.as_tensor(statistic - target)

    class Reduced(nst.PointwiseLoss):
        def error(self, feature: Tensor, target: Tensor) -> Tensor:
            return (feature - target).mean()

    for loss, message in (
        (Unreduced(["a"]), r"`Unreduced.distance` returned shape \(1, 3\); a scalar"),
        (Reduced(["a"]), r"`Reduced.error` returned shape \(\); one value for each position"),
    ):
        loss.capture(features(0))
        with pytest.raises(ValueError, match=message):
            loss(features(1))
        with pytest.raises(ValueError, match=r"`features` has no 'a', which .* reads; it has 'b'"):
            loss({"b": features(0)["b"]})


@pytest.mark.parametrize(
    "feature", [torch.ones(1, 3, 4, 4).byte(), torch.rand(3, 4, 4), [1.0], None]
)
@pytest.mark.parametrize("kind", [GramStyleLoss, ContentLoss, nst.HistogramStyleLoss])
def test_only_floating_feature_maps_are_features(kind: Any, feature: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`features\['image'\]` is .* floating tensor \(N, C, H, W"
    ):
        kind(["image"]).capture({"image": feature})
    with pytest.raises(ValueError, match=r"`features\['image'\]` is"):
        TotalVariationLoss()({"image": feature})


def test_pixels_in_float64_are_compared_with_features_in_float32() -> None:
    loss = CrossLayerGramStyleLoss(["image", "a"])
    found = {"image": features(0, size=8)["a"], "a": features(1)["a"]}
    for given in (found, {**found, "a": found["a"].float()}):
        loss.capture(given)
        assert float(loss(given)) == 0


@pytest.mark.parametrize("kind", [MeanLoss, ContentLoss])
def test_a_mask_may_be_of_any_type_and_must_be_one_of_the_pixels(kind: Any) -> None:
    found, mask, values = features(0), torch.zeros(1, 1, 8, 8), []
    mask[..., :4] = 1
    for own in (mask, mask.double(), mask.bool(), mask.byte()):
        loss = kind(["a"])
        loss.capture({**found, "mask": own})
        values.append(float(loss(features(1))))
    assert values == [values[0]] * 4
    for wrong in (mask[0], mask.expand(1, 2, 8, 8), mask.expand(3, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"`features\['mask'\]` has shape"):
            kind(["a"]).capture({**found, "mask": wrong})


def test_a_refused_capture_keeps_the_target() -> None:
    other, wide = features(3), {"a": features(4)["a"], "b": torch.rand(1, 5, 4, 4)}
    cases: list[tuple[Loss, Any]] = [(GramStyleLoss(["a", "b"]), [other, wide])]
    for kind in (ContentLoss, nst.HistogramStyleLoss):
        cases.append((kind(["a", "b"]), {"a": other["a"]}))
    for loss, refused in cases:
        loss.capture(features(0))
        before = float(loss(features(1)))
        with pytest.raises(ValueError):
            loss.capture(refused)
        assert float(loss(features(1))) == before


@pytest.mark.parametrize(
    ("loss", "name", "value"),
    [
        (GramStyleLoss(["a"]), "units", "gatys"),
        (ContentLoss(["a"]), "units", "cosine"),
        (nst.SelfSimilarityLoss(["a"]), "max_positions", 8),
        (nst.NearestNeighborStyleLoss(["a"]), "seed", 1),
    ],
)
def test_a_changed_setting_asks_for_a_new_target(loss: Any, name: str, value: Any) -> None:
    loss.capture(features(0))
    before = loss(features(1))
    loss.weight = 3.0
    assert torch.equal(loss(features(1)), before)
    setattr(loss, name, value)
    with pytest.raises(RuntimeError, match="has no target for 'a': call"):
        loss(features(1))


def test_own_arguments_are_settings_if_they_are_numbers_or_text() -> None:
    class Own(MeanLoss):
        def __init__(self, power: Any, *, seen: Any = None, lost: int = 0) -> None:
            super().__init__(["a"])
            self.power, self.seen = power, seen

    for two in (2.0, np.int64(2)):
        settings = json.loads(json.dumps(Own(two, seen=torch.ones(3)).settings()))
        assert settings == {"layers": {"a": 1.0}, "weight": 1.0, "power": 2.0}


@pytest.mark.parametrize("method", ["capture", "forward"])
@pytest.mark.parametrize("given", [torch.rand(1, 3, 8, 8), [torch.rand(3, 8, 8)], None])
@pytest.mark.parametrize("loss", [GramStyleLoss(["image"]), ContentLoss(["image"])])
def test_a_picture_where_features_are_needed_is_refused(loss: Any, given: Any, method: str) -> None:
    loss.capture({"image": torch.rand(1, 3, 8, 8)})
    with pytest.raises(TypeError, match=r"features by layer are needed. Pass extractor\(images"):
        getattr(loss, method)(given)
    with pytest.raises(TypeError, match="features by layer are needed"):
        TotalVariationLoss()(given)


def test_a_name_is_one_layer() -> None:
    class Deep(Loss):
        layers: Any = "relu4_2"

        def forward(self, features: Features) -> Tensor:
            return features["relu4_2"].mean()

    class Later(Deep):
        def __init__(self, layers: Any) -> None:
            super().__init__()
            self.layers = layers

    assert Deep.layers == Deep().layers == Later("relu4_2").layers == ("relu4_2",)
    assert Later(("relu1_1", "relu4_2")).layers == ("relu1_1", "relu4_2")
