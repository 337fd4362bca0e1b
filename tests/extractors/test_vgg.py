from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from nst import FeatureExtractor
from nst._network.stage import Stage
from nst.extractors.weights import CONVOLUTIONS, Weights
from nst.testing import tiny_extractor

PlainVGG: TypeAlias = Callable[[FeatureExtractor, Tensor], dict[str, Tensor]]


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_every_layer_is_what_its_name_says(
    pooling: str, photo: Tensor, plain_vgg: PlainVGG
) -> None:
    extractor = tiny_extractor()
    extractor.pooling = pooling  # type: ignore[assignment]
    expected = plain_vgg(extractor, photo)
    assert tuple(expected) == extractor.layer_names
    found = extractor(photo, extractor.layer_names)
    for layer, feature in expected.items():
        torch.testing.assert_close(found[layer], feature, msg=layer)
    assert found["image"] is photo


@pytest.mark.parametrize("layer", FeatureExtractor.layer_names)
def test_a_layer_is_the_same_alone_and_among_others(layer: str, photo: Tensor) -> None:
    # In-place ReLUs must not reach what was asked for.
    extractor = tiny_extractor()
    together = extractor(photo, extractor.layer_names)[layer]
    assert torch.equal(extractor(photo, [layer])[layer], together)


def test_the_network_runs_no_further_than_the_deepest_layer(
    photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, ran = tiny_extractor(), []
    names = {extractor.get_submodule(name): name for name in CONVOLUTIONS}
    compute = Stage.compute

    def noted(self: Stage, *args: Any, **options: Any) -> Tensor:
        ran.append(names[self])
        return compute(self, *args, **options)

    monkeypatch.setattr(Stage, "compute", noted)
    assert set(extractor(photo, ["relu2_1", "relu1_1"])) == {"image", "relu1_1", "relu2_1"}
    assert ran == ["conv1_1", "conv1_2", "conv2_1"]
    ran.clear()
    assert set(extractor(photo, [])) == {"image"}
    assert ran == []


def test_it_is_frozen_and_stays_in_evaluation_mode(photo: Tensor) -> None:
    extractor = tiny_extractor().train()
    assert not extractor.training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    image = photo.clone().requires_grad_()
    extractor(image, ["relu3_1"])["relu3_1"].sum().backward()
    assert image.grad is not None and bool(image.grad.any())


def test_replicate_padding_sees_a_constant_picture_as_constant(
    extractor: FeatureExtractor,
) -> None:
    tensors = {
        f"{name}.{kind}": getattr(extractor.get_submodule(name), kind).data
        for name in CONVOLUTIONS
        for kind in ("weight", "bias")
    }
    constant = torch.full((1, 3, 32, 32), 0.7)
    replicate = FeatureExtractor(Weights(tensors, "tiny"), padding="replicate")
    feature = replicate(constant, ["relu4_1"])["relu4_1"]
    torch.testing.assert_close(feature, feature[..., :1, :1].expand_as(feature))
    zeros = FeatureExtractor(Weights(tensors, "tiny"))(constant, ["relu4_1"])["relu4_1"]
    assert not torch.allclose(zeros, zeros[..., :1, :1].expand_as(zeros))


def test_a_nearly_right_layer_name_is_corrected(photo: Tensor) -> None:
    with pytest.raises(ValueError, match=r"`layers` has 'relu4-2', .* Did you mean 'relu4_2'\?"):
        tiny_extractor()(photo, ["relu4-2"])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 32, 32), r"`images` has shape \(3, 32, 32\), but must be \(N, 3, H, W\)"),
        ((1, 1, 32, 32), r"`images` has shape \(1, 1, 32, 32\)"),
        ((1, 3, 15, 40), "15x40 pixels, but the layer 'relu5_1' needs at least 16x16"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_extractor()(torch.zeros(shape), ["relu5_1"])


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`images` has dtype torch\.uint8, but must be floating"):
        tiny_extractor()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["relu1_1"])


def test_the_smallest_picture_that_fits_is_taken() -> None:
    feature = tiny_extractor()(torch.zeros(1, 3, 16, 16), ["relu5_1"])["relu5_1"]
    assert feature.shape[2:] == (1, 1)


@pytest.mark.parametrize("argument", ["pooling", "padding"])
def test_an_unknown_choice_is_named(argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` is 'mirror'; it must be"):
        FeatureExtractor(**{argument: "mirror"})  # type: ignore[arg-type]


def test_a_saved_extractor_keeps_its_normalization(tmp_path: Path, photo: Tensor) -> None:
    extractor = tiny_extractor()
    extractor.std.fill_(0.004)
    state = extractor.state_dict()
    assert {"mean", "std"} <= set(state)
    other = tiny_extractor(seed=1)
    other.load_state_dict(state)
    assert torch.equal(
        other(photo, ["relu2_1"])["relu2_1"], extractor(photo, ["relu2_1"])["relu2_1"]
    )


def test_the_tiny_network_depends_on_its_seed_alone(photo: Tensor) -> None:
    state = torch.get_rng_state()
    first, again, other = (tiny_extractor(seed)(photo, ["relu2_1"]) for seed in (0, 0, 1))
    assert torch.equal(first["relu2_1"], again["relu2_1"])
    assert not torch.equal(first["relu2_1"], other["relu2_1"])
    assert torch.equal(torch.get_rng_state(), state)
