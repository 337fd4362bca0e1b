from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from nst import FeatureExtractor
from nst._network.stage import Stage
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.testing import tiny_extractor
from tests.helpers import spy

PlainVGG: TypeAlias = Callable[[FeatureExtractor, Tensor], dict[str, Tensor]]


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_every_layer_is_what_its_name_says(
    pooling: str, photo: Tensor, plain_vgg: PlainVGG
) -> None:
    extractor = tiny_extractor()
    extractor.pooling = pooling
    expected = plain_vgg(extractor, photo)
    assert tuple(expected) == extractor.layer_names
    found = extractor(photo, extractor.layer_names)
    for layer, feature in expected.items():
        torch.testing.assert_close(found[layer], feature, msg=layer)
    assert found["image"] is photo


def test_the_network_runs_no_further_than_the_deepest_layer(
    photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, calls = tiny_extractor(), spy(monkeypatch, Stage, "compute")
    names = {extractor.get_submodule(name): name for name in CONVOLUTIONS}
    assert set(extractor(photo, ["relu2_1", "relu1_1"])) == {"image", "relu1_1", "relu2_1"}
    assert [names[stage] for stage, *_ in calls] == ["conv1_1", "conv1_2", "conv2_1"]
    calls.clear()
    assert set(extractor(photo, [])) == {"image"} and calls == []


def test_replicate_padding_sees_a_constant_picture_as_constant() -> None:
    weights = Weights(tiny_extractor().state_dict(), "tiny")
    constant = torch.full((1, 3, 32, 32), 0.7)
    feature = FeatureExtractor(weights, padding="replicate")(constant, ["relu4_1"])["relu4_1"]
    torch.testing.assert_close(feature, feature[..., :1, :1].expand_as(feature))
    zeros = FeatureExtractor(weights)(constant, ["relu4_1"])["relu4_1"]
    assert not torch.allclose(zeros, zeros[..., :1, :1].expand_as(zeros))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(3, 32, 32), ValueError, r"has shape \(3, 32, 32\), but"),
        (torch.zeros(1, 1, 32, 32), ValueError, r"has shape \(1, 1, 32, 32\)"),
        (torch.zeros(1, 3, 15, 40), ValueError, "15x40 pixels, .* 'relu5_1' needs at least 16x16"),
        (torch.zeros(1, 3, 32, 32).byte(), TypeError, r"has dtype torch\.uint8, but"),
    ],
)
def test_images_of_other_forms_fail(images: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"`images` .*{message}"):
        tiny_extractor()(images, ["relu5_1"])


@pytest.mark.parametrize("argument", ["pooling", "padding"])
def test_an_unknown_choice_is_named(argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` is 'mirror'; it must be"):
        FeatureExtractor(**{argument: "mirror"})  # type: ignore[arg-type]


def test_a_saved_extractor_keeps_its_normalization(photo: Tensor) -> None:
    extractor, other = tiny_extractor(), tiny_extractor(seed=1)
    extractor.std.fill_(0.004)
    assert {"mean", "std"} <= set(extractor.state_dict())
    other.load_state_dict(extractor.state_dict())
    found, expected = (each(photo, ["relu2_1"])["relu2_1"] for each in (other, extractor))
    assert torch.equal(found, expected)


def test_the_tiny_network_depends_on_its_seed_alone(photo: Tensor) -> None:
    state = torch.get_rng_state()
    first, again, other = (tiny_extractor(seed)(photo, ["relu2_1"]) for seed in (0, 0, 1))
    assert torch.equal(first["relu2_1"], again["relu2_1"])
    assert not torch.equal(first["relu2_1"], other["relu2_1"])
    assert torch.equal(torch.get_rng_state(), state)
