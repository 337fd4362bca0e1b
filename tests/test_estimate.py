"""What a run will take: exact where the clock is not asked, and told without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import nst.estimate
from nst import (
    BackboneExtractor,
    ContentLoss,
    Estimate,
    FeatureExtractor,
    GramStyleLoss,
    Loss,
    NearestNeighborStyleLoss,
    Style,
    StyleTransfer,
)
from nst._utils.allocations import Allocations
from nst.losses.kinds import Features
from nst.testing import tiny_extractor


@pytest.fixture
def transfer(extractor: FeatureExtractor) -> StyleTransfer:
    return StyleTransfer(extractor, num_steps=9, num_scales=2)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes half a second."""
    times: Iterator[float] = iter(0.5 * i for i in range(1000))
    monkeypatch.setattr(nst.estimate, "perf_counter", lambda: next(times))


def large(height: int, width: int) -> Tensor:
    return torch.linspace(0, 1, 3 * height * width).view(1, 3, height, width)


# Time


def test_seconds_are_those_of_all_steps_at_their_pixels(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    # Half a second at 20x16, where it is measured; two at 40x32. 5 steps and 4, and at both
    # scales four for what else there is to do.
    assert transfer.estimate(photo, painting).seconds == 0.5 * (5 + 4) + 2.0 * (4 + 4)


def test_each_picture_of_a_batch_takes_its_time(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    one, three = (transfer.estimate(photo.expand(count, -1, -1, -1), painting) for count in (1, 3))
    assert three.seconds == 3 * one.seconds


class SizesSeen(Loss):
    """Notes which pictures are evaluated; a copied loss notes them in the same place."""

    def __init__(self, seen: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.see = seen.append

    def forward(self, features: Features) -> Tensor:
        self.see(tuple(features["image"].shape[-2:]))
        return features["image"].mean()


def half(shape: tuple[int, int]) -> tuple[int, int]:
    """What is looked at as well, to tell what memory does not go with the size."""
    return (shape[0], shape[1] // 2) if shape[1] >= 256 else shape


@pytest.mark.parametrize(
    ("shape", "measured"),
    [
        ((256, 512), (256, 512)),  # 2**17 pixels
        ((260, 512), (130, 256)),
        ((1200, 1600), (300, 400)),
        ((250, 2048), (250, 2048)),  # half of it would be lower than 128
    ],
)
def test_a_large_picture_is_measured_in_a_smaller_size(
    extractor: FeatureExtractor, shape: tuple[int, int], measured: tuple[int, int]
) -> None:
    seen: list[tuple[int, ...]] = []
    transfer = StyleTransfer(
        extractor, {"sizes": SizesSeen(seen)}, size=None, num_scales=1, num_steps=1
    )
    growth = shape[0] * shape[1] / (measured[0] * measured[1])
    assert transfer.estimate(large(*shape)).seconds == 0.5 * growth * 5
    assert set(seen) == {measured, half(measured)}


def test_a_small_painting_is_no_reason_to_measure_a_large_picture(
    extractor: FeatureExtractor,
) -> None:
    seen: list[tuple[int, ...]] = []
    losses = {"sizes": SizesSeen(seen), "style": GramStyleLoss(["relu1_1"])}
    transfer = StyleTransfer(extractor, losses, size=None, num_scales=1)
    transfer.estimate(large(400, 400), large(40, 40))
    assert set(seen) == {(200, 200)}
    transfer.estimate(large(400, 400), large(100, 400))  # which would become 50 pixels high
    assert set(seen) == {(200, 200), (400, 400), half((400, 400))}


# Memory


class Wide(nn.Module):
    """Sixteen times the gray picture."""

    def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        return {"wide": images.mean(1, keepdim=True).expand(-1, 16, -1, -1).clone()}


def test_the_memory_of_any_extractor_counts_features_and_their_gradients() -> None:
    class Plain(Loss):
        layers = ("wide",)

        def forward(self, features: Features) -> Tensor:
            return features["wide"].square().mean()

    transfer = StyleTransfer(Wide(), {"plain": Plain()}, num_steps=1, num_scales=1)
    images = 3 * 200 * 256 * 4
    features = 16 * 200 * 256 * 4
    # The photograph and the style as they came; 12 pictures and two of the optimizer's.
    pictures = (2 + 12 + 2) * images
    memory = transfer.estimate(large(200, 256)).memory
    assert pictures + 2 * features <= memory <= pictures + 6 * features


def test_memory_grows_with_the_pixels_the_batch_and_what_the_optimizer_remembers(
    extractor: FeatureExtractor,
) -> None:
    def memory(content: Tensor, **arguments: Any) -> int:
        transfer = StyleTransfer(
            extractor, **{"num_steps": 9, "num_scales": 1, "size": None, **arguments}
        )
        return transfer.estimate(content, large(32, 32)).memory

    images = 3 * 64 * 64 * 4
    memory(large(256, 256))  # what the network keeps is kept now
    base = memory(large(64, 64))
    assert memory(large(64, 64)) == base
    assert memory(large(64, 64), num_steps=10) == base + 2 * images
    assert memory(large(64, 64), num_steps=40) == base + 2 * (20 - 9) * images
    assert memory(large(64, 64), optimizer="adam") == base - 2 * (9 - 1) * images
    batch = memory(large(64, 64).expand(2, -1, -1, -1))
    # One more original, 9 pictures and 18 of the optimizer's; and the targets.
    assert base + (1 + 9 + 18) * images < batch < 2 * base
    assert 3.5 < memory(large(256, 256)) / memory(large(128, 128)) < 4.5


@pytest.mark.parametrize("tile", [None, 32])
def test_the_memory_of_a_large_picture_is_about_what_a_run_takes(tile: int | None) -> None:
    def fresh() -> StyleTransfer:
        return StyleTransfer(tiny_extractor(), size=None, num_scales=1, num_steps=4, tile=tile)

    pictures = large(768, 1024), large(64, 64)
    with Allocations() as allocations:
        fresh().run(*pictures)
    assert 0.8 < fresh().estimate(*pictures).memory / allocations.peak < 1.5


def test_what_the_network_keeps_counts_until_it_is_kept(photo: Tensor, painting: Tensor) -> None:
    transfer = StyleTransfer(tiny_extractor(), num_steps=2)
    first, second, third = (transfer.estimate(photo, painting).memory for _ in range(3))
    assert first > second == third


# Whatever a run can be given


def test_without_a_style_the_photograph_stands_in(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    batch = torch.cat([photo, photo.flip(-1)])
    transfer.estimate(photo)
    assert transfer.estimate(batch) == transfer.estimate(batch, photo)


def test_it_works_for_whatever_a_run_does(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    left = torch.zeros(32, 40)
    left[:, :20] = 1
    captured = transfer.capture(painting, sizes=[20, 40])
    regions = [Style(painting, region=left), Style(painting, region=1 - left)]
    styles: list[Any] = [captured, regions, [painting, captured], Style(painting, rotation=30)]
    for style in styles:
        estimate = transfer.estimate(photo, style)
        assert estimate.seconds == 20.5 and estimate.memory > 0


def test_a_style_captured_for_a_large_picture_is_measured_with_a_smaller_one(
    extractor: FeatureExtractor,
) -> None:
    transfer = StyleTransfer(extractor, size=1024, num_scales=1, num_steps=1)
    captured = transfer.capture(large(64, 64))
    assert transfer.estimate(large(1024, 1024), captured).seconds == 0.5 * 16 * 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "adam", "normalize_gradients": True},
        {"optimizer": lambda params: torch.optim.LBFGS(params, history_size=7)},
        {"losses": {"near": NearestNeighborStyleLoss(), "content": ContentLoss()}},
    ],
)
def test_it_works_for_any_recipe(
    extractor: FeatureExtractor, photo: Tensor, painting: Tensor, arguments: dict[str, Any]
) -> None:
    transfer = StyleTransfer(extractor, num_scales=1, num_steps=1, **arguments)
    assert transfer.estimate(photo, painting).seconds == 2.5


def test_it_works_for_another_network(photo: Tensor, painting: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    losses = {"style": GramStyleLoss(["1"])}
    transfer = StyleTransfer(BackboneExtractor(network), losses, num_scales=1, num_steps=1)
    assert transfer.estimate(photo, painting).seconds == 2.5


def test_pictures_are_refused_as_by_a_run(transfer: StyleTransfer, photo: Tensor) -> None:
    with pytest.raises(FileNotFoundError, match=r"`content` is 'nowhere\.png'"):
        transfer.estimate("nowhere.png")
    with pytest.raises(ValueError, match=r"`style\[0\]` is 4x4 pixels"):
        transfer.estimate(photo, torch.rand(1, 3, 4, 4))


# Without a trace


def test_nothing_is_changed(transfer: StyleTransfer, photo: Tensor, painting: Tensor) -> None:
    alone = transfer.run(photo, painting)
    before = photo.clone(), painting.clone(), torch.get_rng_state(), torch.is_grad_enabled()
    with torch.inference_mode():
        transfer.estimate(photo, painting)
    for was, now in zip(before[:3], (photo, painting, torch.get_rng_state()), strict=True):
        assert torch.equal(was, now)
    assert torch.is_grad_enabled() == before[3]
    assert all(not list(loss.buffers()) for loss in transfer.losses.values())
    assert all(parameter.grad is None for parameter in transfer.extractor.parameters())
    assert torch.equal(transfer.run(photo, painting).image, alone.image)


def test_ctrl_c_passes_through(extractor: FeatureExtractor, photo: Tensor) -> None:
    class Interrupting(Loss):
        def forward(self, features: Features) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StyleTransfer(extractor, {"mine": Interrupting()}).estimate(photo)
    assert torch.zeros(2).sum() == 0  # nobody counts any more


# In words


@pytest.mark.parametrize(
    ("seconds", "memory", "said"),
    [
        (48.2, 258_300_000, "about 48 s and 260 MB"),
        (0.01, 4_600_000, "about 1 s and 5 MB"),
        (89.4, 99_400_000, "about 89 s and 99 MB"),
        (200, 994_000_000, "about 3 min and 990 MB"),
        (9000, 3_260_000_000, "about 2.5 h and 3.3 GB"),
    ],
)
def test_an_estimate_can_be_read(seconds: float, memory: int, said: str) -> None:
    assert str(Estimate(seconds, memory)) == said


def test_an_estimate_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Estimate(1.0, 1).seconds = 2.0  # type: ignore[misc]


# What it counts with


def test_allocations_are_of_what_is_made_within_and_still_there() -> None:
    before = torch.zeros(1000)
    with Allocations() as allocations:
        view = before[:10]
        view.add_(1)
        assert (allocations.now, allocations.peak) == (0, 0)
        made = torch.zeros(50)
        part = made[:2]
        del made
        assert (allocations.now, allocations.peak) == (200, 200)
        twice = part * 2
        del part
        assert (allocations.now, allocations.peak) == (8, 208)
    torch.zeros(500)
    assert (allocations.now, allocations.peak) == (8, 208)
    del twice
    assert (allocations.now, allocations.peak) == (0, 208)


def test_allocations_see_the_way_back() -> None:
    x = torch.zeros(100, requires_grad=True)
    with Allocations() as allocations:
        y = x.square().square()  # keeps two
        assert allocations.now == 800
        (gradient,) = torch.autograd.grad(y.sum(), x)
    del y
    assert allocations.now == gradient.nbytes == 400
    assert allocations.peak >= 1200


def test_pictures_may_be_of_any_kind(transfer: StyleTransfer) -> None:
    picture = Image.new("RGB", (40, 32), "navy")
    assert transfer.estimate(picture, picture).seconds == 20.5
