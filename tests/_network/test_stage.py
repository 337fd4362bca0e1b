from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nst import ContentLoss, FeatureExtractor, NearestNeighborStyleLoss, StyleTransfer
from nst._network import stage
from nst.extractors.weights import CONVOLUTIONS
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, tiny, uniform

PlainVGG: TypeAlias = Callable[[FeatureExtractor, Tensor], dict[str, Tensor]]
LAYERS = FeatureExtractor.layer_names[:-1]  # all that pictures of 16 pixels have


def gradient(features: Sequence[Tensor], image: Tensor, seed: int) -> Tensor:
    """The gradient of some function of all features that is as good as any."""
    generator = torch.Generator().manual_seed(seed)
    total = image.new_zeros(())
    for feature in features:
        factor = torch.rand(feature.shape, generator=generator, dtype=feature.dtype)
        total = total + (factor * feature.sin()).sum()
    return torch.autograd.grad(total, image)[0]


@pytest.mark.parametrize("winograd", [False, True])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    layers=st.sets(st.sampled_from(LAYERS), min_size=1),
    height=st.integers(16, 45),
    width=st.integers(16, 45),
    batch=st.integers(1, 2),
    pooling=st.sampled_from(["max", "average"]),
    padding=st.sampled_from(["zeros", "replicate"]),
    band=st.sampled_from([1, 2**10, 2**21]),
    seed=st.integers(0, 2**32 - 1),
)
def test_features_and_gradient_are_those_of_plain_autograd(
    plain_vgg: PlainVGG,
    monkeypatch: pytest.MonkeyPatch,
    winograd: bool,
    layers: set[str],
    height: int,
    width: int,
    batch: int,
    pooling: str,
    padding: str,
    band: int,
    seed: int,
) -> None:
    monkeypatch.setattr("nst._network.winograd.is_faster", lambda kernel, height, width: True)
    monkeypatch.setattr(stage, "_BAND", band)
    extractor = tiny(pooling=pooling, padding=padding, winograd=winograd)
    image = uniform(batch, 3, height, width, seed=seed).requires_grad_()
    expected, found = plain_vgg(extractor, image), extractor(image, layers)
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-10, atol=1e-10)
    chosen = sorted(layers)
    torch.testing.assert_close(
        gradient([found[layer] for layer in chosen], image, seed),
        gradient([expected[layer] for layer in chosen], image, seed),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_a_network_with_trainable_weights_computes_the_same(photo: Tensor, padding: str) -> None:
    frozen, trainable = tiny(padding=padding), tiny(padding=padding).requires_grad_()
    found, expected = (each(photo, ["relu3_1"])["relu3_1"] for each in (trainable, frozen))
    assert found.requires_grad and not expected.requires_grad
    torch.testing.assert_close(found, expected)


def test_of_equal_pixels_the_same_one_is_taken_as_by_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-1, 3, (2, 9, 11, 5), generator=generator).double()  # many are equal
    expected, index = F.max_pool2d(rows.permute(0, 3, 1, 2), 2, return_indices=True)
    largest, place = stage._pool(rows)
    assert torch.equal(largest.permute(0, 3, 1, 2), expected)
    assert torch.equal(place.permute(0, 3, 1, 2) - 1, index // 11 % 2 * 11 + index % 11)


def test_unused_features_cost_no_gradient_and_a_second_derivative_is_refused(photo: Tensor) -> None:
    image = photo.requires_grad_()
    (slope,) = torch.autograd.grad(tiny()(image, ["relu1_1", "relu5_1"])["relu1_1"].sum(), image)
    assert bool(slope.any())
    image = photo.requires_grad_()
    value = tiny()(image, ["relu1_1"])["relu1_1"].square().sum()
    (slope,) = torch.autograd.grad(value, image, create_graph=True)
    with pytest.raises(RuntimeError, match="computes no second derivatives"):
        torch.autograd.backward(slope.sum())
    feature = tiny()(image, ["relu1_2"])["relu1_2"]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        feature.sub_(0.5).sum().backward()


def rewrite(extractor: FeatureExtractor, change: Callable[[Tensor], Any]) -> None:
    for name in CONVOLUTIONS:
        change(extractor.get_parameter(f"{name}.weight"))


def shorten(kernel: Tensor) -> None:
    kernel.detach().numpy()[:] *= 0.5


OTHER = tiny_extractor(seed=1).state_dict()
CHANGES: dict[str, Callable[[FeatureExtractor], Any]] = {
    "load_state_dict": lambda e: e.load_state_dict(OTHER),
    "load_state_dict, assigned": lambda e: e.load_state_dict(OTHER, assign=True),
    ".data": lambda e: rewrite(e, lambda kernel: kernel.data.mul_(0.5)),
    "NumPy": lambda e: rewrite(e, shorten),
    "mirrored": lambda e: rewrite(e, lambda kernel: kernel.data.copy_(kernel.data.flip(-1))),
    "channels": lambda e: rewrite(e, lambda kernel: kernel.data.copy_(kernel.data.flip(1))),
    "one number": lambda e: rewrite(e, lambda kernel: kernel.data[0, 0, 0, 0].add_(0.5)),
    "inference mode": lambda e: torch.inference_mode()(e.load_state_dict)(OTHER),
    "there and back": lambda e: rewrite(e.double().float(), lambda kernel: kernel.data.neg_()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("winograd", [False, True])
def test_kernels_are_made_anew_however_the_weights_change(
    plain_vgg: PlainVGG, monkeypatch: pytest.MonkeyPatch, change: str, winograd: bool
) -> None:
    monkeypatch.setattr("nst._network.winograd.is_faster", lambda kernel, height, width: winograd)
    extractor, photo = tiny(), uniform(1, 3, 24, 24).float().requires_grad_()
    gradient([extractor(photo, ["relu3_1"])["relu3_1"]], photo, 0)  # derives kernels both ways
    twin = copy.deepcopy(extractor)
    CHANGES[change](extractor)
    for network in (extractor, twin):
        found = network(photo, ["relu3_1"])["relu3_1"]
        expected = plain_vgg(network, photo)["relu3_1"]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        slopes = (gradient([each], photo, 0) for each in (found, expected))
        torch.testing.assert_close(*slopes, rtol=1e-2, atol=1e-3)


@pytest.mark.cpu  # NumPy cannot write to another device
def test_a_run_sees_weights_that_changed_since_the_last() -> None:
    losses = {"content": ContentLoss(["relu4_2"]), "style": NearestNeighborStyleLoss(["relu3_1"])}
    transfer = StyleTransfer(tiny(), losses, num_steps=2)
    first = transfer.run(PHOTO, PAINTING).image
    rewrite(transfer.extractor, shorten)  # type: ignore[arg-type]
    fresh = replace(transfer, extractor=copy.deepcopy(transfer.extractor))
    assert torch.equal(transfer.run(PHOTO, PAINTING).image, fresh.run(PHOTO, PAINTING).image)
    assert not torch.equal(transfer.run(PHOTO, PAINTING).image, first)


def test_copies_and_threads_do_not_disturb_each_other(photo: Tensor) -> None:
    extractor = tiny()
    twin = copy.deepcopy(extractor)
    pictures = [photo.roll(i, -1) for i in range(8)]
    expected = [twin(picture, ["relu5_1"])["relu5_1"] for picture in pictures]
    with ThreadPoolExecutor(8) as threads:
        jobs = [picture for picture in pictures for _ in range(20)]
        found = list(threads.map(lambda x: extractor(x, ["relu5_1"])["relu5_1"], jobs))
    assert all(torch.equal(each, expected[i // 20]) for i, each in enumerate(found))
