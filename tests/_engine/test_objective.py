import gc
import weakref
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import nst
from nst import ContentLoss, FeatureExtractor, GramStyleLoss, Loss, MeanStdStyleLoss, StatisticLoss
from nst._engine.objective import Objective, Region
from nst.extractors.base import as_extractor
from nst.functional import gram_matrix
from nst.styles.style import Painting
from tests.helpers import tiny, uniform

LAYERS = FeatureExtractor.layer_names[:-1]  # all that pictures of 16 pixels have


def noise(n: int, height: int, width: int, seed: int, channels: int = 3) -> Tensor:
    return uniform(n, channels, height, width, seed=seed)


class AtOnce(torch.nn.Module):
    """The same network, as one that knows nothing of rows: what is compared with."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor, layers: Any) -> Any:
        return self.extractor(images, layers)


class OwnMean(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return (feature * weight).sum(-1), (feature.sin() * weight).sum(-1)


class OwnPointwise(nst.PointwiseLoss):
    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square().sum(1).add(1e-3).sqrt()


def losses(layers: list[str]) -> dict[str, Loss]:
    return {
        "content": ContentLoss(layers[:2]),
        "cosine": ContentLoss(layers[-1:], units="cosine"),
        "own content": OwnPointwise([*layers[:1], "image"]),
        "gram": GramStyleLoss(layers),
        "centered": GramStyleLoss(layers[:1], centered=True),
        "moments": nst.MomentStyleLoss(layers[-2:]),
        "deviation": MeanStdStyleLoss(layers[-1:]),
        "transport": nst.WassersteinStyleLoss(layers[:1]),
        "own style": OwnMean(layers),
        "smooth": nst.TotalVariationLoss(),
    }


def prepared(
    extractor: Any, chosen: Mapping[str, Loss], picture: Tensor, masked: bool, **how: Any
) -> Objective:
    objective = Objective(as_extractor(extractor), chosen, picture, **how)
    height, width = picture.shape[-2:]
    objective.capture(noise(1, height, width, 1).to(picture))
    sizes = ((24, 19), (33, 47))
    styles = [Painting(noise(1, *size, 2 + i).to(picture), None) for i, size in enumerate(sizes)]
    regions = [Region(None, styles, [1.0, 2.0])]
    if masked:
        mask = (noise(1, height, width, 4, channels=1) + 0.1).to(picture)
        regions = [Region(mask, styles[:1], [1.0]), Region(1.1 - mask, styles[1:], [1.0])]
    objective.capture_styles(regions)
    return objective


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(st.sampled_from(LAYERS), min_size=1, max_size=4, unique=True),
    shape=st.tuples(st.integers(1, 2), st.integers(16, 300), st.integers(16, 60)),
    tile=st.one_of(st.none(), st.integers(1, 310)),
    pooling=st.sampled_from(["max", "average"]),
    padding=st.sampled_from(["zeros", "replicate"]),
    masked=st.booleans(),
    name=st.sampled_from(sorted(losses(["relu1_1"]))),
    seed=st.integers(0, 2**32 - 1),
)
def test_some_rows_at_a_time_give_the_losses_and_the_gradient_of_all_at_once(
    layers: list[str], shape: Any, tile: int, masked: bool, name: str, seed: int, **options: Any
) -> None:
    extractor, picture = tiny(**options), uniform(shape[0], 3, *shape[1:], seed=seed)
    chosen = {"gram": GramStyleLoss(layers), name: losses(layers)[name]}
    expected = prepared(AtOnce(extractor), chosen, picture, masked).evaluate(picture)
    found = prepared(extractor, chosen, picture, masked, tile=tile).evaluate(picture)
    for each in expected[0]:
        torch.testing.assert_close(found[0][each], expected[0][each], rtol=1e-12, atol=1e-13)
    assert float((found[1] - expected[1]).norm()) <= 1e-12 * float(expected[1].norm())


@pytest.mark.parametrize("tile", [4, 20, 64, 300])
@pytest.mark.parametrize(("height", "width"), [(300, 131), (97, 300), (16, 16)])
def test_in_float32_tiles_differ_by_rounding(height: int, width: int, tile: int) -> None:
    extractor, picture = tiny(torch.float32), noise(1, height, width, 0).float()
    chosen: dict[str, Loss] = {"content": ContentLoss(), "style": GramStyleLoss()}
    _, whole = prepared(extractor, chosen, picture, False).evaluate(picture)
    _, tiled = prepared(extractor, chosen, picture, False, tile=tile).evaluate(picture)
    assert float((tiled - whole).norm() / whole.norm()) < 1e-5


@pytest.mark.parametrize("how", [{}, {"tile": 16}, {"normalize_gradients": True, "tile": 16}])
@pytest.mark.parametrize("masked", [False, True])
def test_an_evaluation_leaves_nothing_in_memory(how: dict[str, Any], masked: bool) -> None:
    made = list[weakref.ref[Tensor]]()

    class Watched(GramStyleLoss):
        def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
            statistic = gram_matrix(feature, weight)
            made.append(weakref.ref(statistic))
            return statistic

    picture = noise(1, 64, 48, 0)
    objective = prepared(tiny(), {"style": Watched()}, picture, masked, **how)
    made.clear()
    objective.evaluate(picture)
    gc.collect()
    assert made and not any(tensor() is not None for tensor in made)


def test_the_way_back_may_be_gone_again() -> None:
    image = noise(1, 20, 24, 0).requires_grad_()
    features = tiny()(image, ["relu1_2", "relu3_1"])
    total = features["relu1_2"].sum() + features["relu3_1"].square().sum()
    first = torch.autograd.grad(total, image, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(total, image)[0])


class Deviation(StatisticLoss):
    """Breaks the law: what it calls a statistic is not linear in its weights."""

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        mean = (feature * weight).sum(-1, keepdim=True)
        return ((feature - mean).square() * weight).sum(-1)


class OwnForward(GramStyleLoss):
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return 2 * super().forward(features)


class OwnCapture(GramStyleLoss):
    """Stores something besides the target when it is captured."""

    def capture(self, references: Any, blend: Any = None) -> None:
        super().capture(references, blend)
        self.factor = torch.tensor(2.0)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.factor * super().forward(features)


class NeedsTarget(nst.PointwiseLoss):
    """Its error has a part for each position of the whole picture."""

    def scale(self, target: Tensor) -> Tensor:
        self.size = target.abs().mean(1, keepdim=True)
        return super().scale(target)

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square() / self.size


@pytest.mark.parametrize(
    "loss", [kind(["relu2_1"]) for kind in (Deviation, OwnForward, OwnCapture, NeedsTarget)]
)
def test_a_loss_that_is_no_sum_is_shown_everything_at_once(loss: Loss) -> None:
    extractor, picture = tiny(), noise(1, 40, 24, 0)
    expected = prepared(AtOnce(extractor), {"own": loss}, picture, False).evaluate(picture)
    found = prepared(extractor, {"own": loss}, picture, False).evaluate(picture)
    assert float(found[0]["own"]) == pytest.approx(float(expected[0]["own"]), rel=1e-12)
    with pytest.raises(ValueError, match="`tile` is 16, but the loss 'own'"):
        prepared(extractor, {"own": loss}, picture, False, tile=16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weight", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("how", [{}, {"tile": 16}, {"normalize_gradients": True}])
def test_in_half_precision_losses_and_gradient_are_nearly_those_of_float32(
    dtype: torch.dtype, weight: float, how: dict[str, Any]
) -> None:
    found = {}  # Gram matrices are beyond the range of float16
    for kind in (dtype, torch.float32):
        extractor, picture = tiny(torch.float32), noise(1, 48, 40, 0).float()
        extractor.get_parameter("conv1_1.weight").mul_(1000)  # beyond float16: Gram
        names = [name for name in losses(["relu1_1"]) if name != "own content"]
        chosen = {name: losses(["relu1_1", "relu2_1"])[name] for name in names}
        for loss in chosen.values():
            loss.weight = weight
        found[kind] = prepared(extractor.to(kind), chosen, picture, True, **how).evaluate(picture)
    (values, gradient), (expected, slope) = found.values()
    for name, value in values.items():
        assert float(value) == pytest.approx(float(expected[name]), rel=0.1), name
    assert gradient.dtype == torch.float32
    assert float((gradient - slope).norm() / slope.norm()) < 0.15


class InPlace(Loss):
    """Changes what it is given in one of its methods."""

    reference, layers = "content", ("relu1_1", "image")

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def _change(self, method: str, features: Any) -> None:
        if method == self.method:
            for each in features if isinstance(features, list) else [features]:
                for layer in self.layers:
                    each[layer].mul_(0.5)

    def capture(self, references: Any, blend: Any = None) -> None:
        self._change("capture", references)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        value = features["relu1_1"].mean()
        self._change("forward", {name: each.detach() for name, each in features.items()})
        return value


class InPlaceStatistic(StatisticLoss):
    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature.mul_(2) * weight).sum(-1)


@pytest.mark.parametrize("first", [True, False])
def test_a_loss_that_changes_its_references_changes_nobody_elses(first: bool) -> None:
    picture, layers = noise(1, 24, 24, 0), ["relu1_1", "image"]
    losses = {"content": ContentLoss(layers), "style": nst.NearestNeighborStyleLoss(layers)}
    expected, _ = prepared(tiny(), losses, picture, False).evaluate(1 - picture)
    for name in losses:
        other = InPlace("capture")
        other.reference = name  # type: ignore[misc, assignment]
        both = {"own": other, **losses} if first else {**losses, "own": other}
        found, _ = prepared(tiny(), both, picture, False).evaluate(1 - picture)
        assert {**found, **expected} == found


@pytest.mark.parametrize("loss", [InPlace("forward"), InPlaceStatistic(["relu2_1"])])
def test_a_loss_that_changes_features_while_others_read_them_is_named(loss: Loss) -> None:
    picture = noise(1, 24, 24, 0)
    losses = {"own": loss, "content": ContentLoss(["relu2_1"])}
    with pytest.raises(ValueError, match=r"`losses\['own'\]` \(InPlace.* changes the features"):
        prepared(tiny(), losses, picture, False).evaluate(1 - picture)


class Detached(GramStyleLoss):
    def distance(self, statistic: Any, target: Any) -> Tensor:
        return super().distance(statistic, target).detach()


@pytest.mark.parametrize("normalize", [False, True])
def test_losses_without_a_gradient_are_named_unless_another_has_one(normalize: bool) -> None:
    picture, how = noise(1, 24, 24, 0), {"normalize_gradients": normalize}
    with pytest.raises(RuntimeError, match=r"has none that depends on .*, of 'own'"):
        prepared(tiny(), {"own": Detached()}, picture, False, **how).evaluate(1 - picture)
    alone, both = (
        prepared(tiny(), {"style": GramStyleLoss(), **others}, picture, False, **how)
        for others in ({}, {"own": Detached()})
    )
    assert torch.equal(alone.evaluate(1 - picture)[1], both.evaluate(1 - picture)[1])
