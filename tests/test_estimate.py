"""What a run will take: exact where the clock is not involved, and without side effects."""

import itertools
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.profiler import profile

import nst
import nst.estimate
from nst import BackboneExtractor, ContentLoss, Features, GramStyleLoss, Loss, Style, StyleTransfer
from nst.testing import tiny_extractor
from tests.helpers import LEFT, PAINTING, PHOTO, raising


def transfer(extractor: nn.Module | None = None, **arguments: Any) -> StyleTransfer:
    network = tiny_extractor() if extractor is None else extractor
    return StyleTransfer(network, **{"num_steps": 1, "num_scales": 1, "size": None, **arguments})


def two_scales() -> StyleTransfer:
    """Return a transfer that takes 20.5 seconds, by the clock below."""
    return transfer(num_steps=9, num_scales=2)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes half a second."""
    times: Iterator[float] = iter(0.5 * i for i in range(1000))
    monkeypatch.setattr(nst.estimate, "perf_counter", lambda: next(times))


def large(height: int, width: int) -> Tensor:
    return torch.linspace(0, 1, 3 * height * width).view(1, 3, height, width)


def test_seconds_are_those_of_all_steps_at_their_pixels_and_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Half a second at 20x16, where it is measured; two at 40x32. 5 steps and 4, and at both
    # scales four for what else there is to do.
    one, three = (two_scales().estimate(PHOTO.expand(n, -1, -1, -1), PAINTING) for n in (1, 3))
    assert one.seconds == 0.5 * (5 + 4) + 2.0 * (4 + 4)
    assert three.seconds == 3 * one.seconds
    memory = two_scales().estimate(PHOTO, PAINTING).memory
    times = iter([0.0, 0.25, 1.0, 1.5])  # a quarter of a second, then half
    monkeypatch.setattr(nst.estimate, "perf_counter", lambda: next(times))
    half: Any = two_scales()
    half.extractor.dtype = "bfloat16"
    found = half.estimate(PHOTO, PAINTING)
    # Of the second scale, one step and the targets.
    assert found.seconds == 0.25 * (5 + 4) + 1.0 * 3 + 2.0 * (1 + 4)
    assert found.memory == memory


class SizesSeen(Loss):
    """Notes which pictures are evaluated; a copied loss notes them in the same place."""

    def __init__(self, seen: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.see = seen.append

    def forward(self, features: Features) -> Tensor:
        self.see(tuple(features["image"].shape[-2:]))
        return features["image"].mean()


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
    shape: tuple[int, int], measured: tuple[int, int]
) -> None:
    seen: list[tuple[int, ...]] = []
    growth = shape[0] * shape[1] / (measured[0] * measured[1])
    found = transfer(losses={"sizes": SizesSeen(seen)}).estimate(large(*shape))
    assert found.seconds == 0.5 * growth * 5
    assert set(seen) == {measured}


def test_a_small_painting_or_captured_style_is_no_reason_to_measure_a_large_picture() -> None:
    seen: list[tuple[int, ...]] = []
    own = transfer(losses={"sizes": SizesSeen(seen), "style": GramStyleLoss(["relu1_1"])})
    own.estimate(large(400, 400), large(40, 40))
    assert set(seen) == {(200, 200)}
    own.estimate(large(400, 400), large(100, 400))  # which would become 50 pixels high
    assert set(seen) == {(200, 200), (400, 400)}
    own = transfer(size=1024)
    captured = own.capture(large(64, 64))
    assert own.estimate(large(1024, 1024), captured).seconds == 0.5 * 16 * 5


class Wide(nn.Module):
    def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
        return {"wide": images.mean(1, keepdim=True).expand(-1, 16, -1, -1).clone()}


class Plain(Loss):
    layers = ("wide",)

    def forward(self, features: Features) -> Tensor:
        return features["wide"].square().mean()


def test_the_memory_of_any_extractor_counts_features_and_their_gradients() -> None:
    images, features = 3 * 200 * 256 * 4, 16 * 200 * 256 * 4
    # The photograph and the style as they came; 12 pictures and two of the optimizer's.
    pictures = (2 + 12 + 2) * images
    memory = transfer(Wide(), losses={"plain": Plain()}).estimate(large(200, 256)).memory
    assert pictures + 2 * features <= memory <= pictures + 6 * features


@pytest.mark.cpu  # only there are transformed kernels stored
def test_memory_grows_with_pixels_batch_and_the_optimizers_memory_but_buffers_count_once() -> None:
    extractor, images = tiny_extractor(), 3 * 64 * 64 * 4

    def memory(content: Tensor, **arguments: Any) -> int:
        own = transfer(extractor, **{"num_steps": 9, **arguments})
        return own.estimate(content, large(32, 32)).memory

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
    own = transfer(num_steps=2)
    first, second, third = (own.estimate(PHOTO, PAINTING).memory for _ in range(3))
    assert first > second == third


@pytest.mark.parametrize("tile", [None, 64])
def test_the_memory_of_a_large_picture_is_about_what_a_run_takes(tile: int | None) -> None:
    pictures = large(512, 512), large(64, 64)
    with profile(profile_memory=True) as profiler:
        transfer(num_steps=2, tile=tile).run(*pictures)
    events = profiler.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    estimate = transfer(num_steps=2, tile=tile).estimate(*pictures)
    assert 0.8 < estimate.memory / max(itertools.accumulate(sizes)) < 1.5


def test_an_estimate_takes_every_kind_of_picture_and_style_or_none() -> None:
    batch, own = torch.cat([PHOTO, PHOTO.flip(-1)]), two_scales()
    own.estimate(PHOTO)
    assert own.estimate(batch) == own.estimate(batch, PHOTO)
    with pytest.raises(FileNotFoundError, match=r"`content` is 'nowhere\.png'"):
        own.estimate("nowhere.png")
    with pytest.raises(ValueError, match=r"`style\[0\]` is 4x4 pixels"):
        own.estimate(PHOTO, torch.rand(1, 3, 4, 4))
    own, image = two_scales(), Image.new("RGB", (40, 32), "navy")
    captured = own.capture(PAINTING, sizes=[20, 40])
    regions = [Style(PAINTING, region=LEFT), Style(PAINTING, region=1 - LEFT)]
    styles: list[Any] = [captured, regions, [PAINTING, captured], Style(PAINTING, rotation=30)]
    pairs: list[Any] = [*((PHOTO, style) for style in styles), (image, image)]
    for pair in pairs:
        estimate = own.estimate(*pair)
        assert estimate.seconds == 20.5 and estimate.memory > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "adam", "normalize_gradients": True},
        {"optimizer": lambda params: torch.optim.LBFGS(params, history_size=7)},
        {"losses": {"near": nst.NearestNeighborStyleLoss(), "content": ContentLoss()}},
        {
            "extractor": BackboneExtractor(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
            "losses": {"style": GramStyleLoss(["1"])},
        },
    ],
)
def test_an_estimate_takes_every_kind_of_transfer(arguments: dict[str, Any]) -> None:
    assert transfer(**arguments).estimate(PHOTO, PAINTING).seconds == 2.5


def test_an_estimate_changes_nothing() -> None:
    own = two_scales()
    alone = own.run(PHOTO, PAINTING)
    photo, painting, state = PHOTO.clone(), PAINTING.clone(), torch.get_rng_state()
    with torch.inference_mode():
        own.estimate(photo, painting)
    assert torch.equal(photo, PHOTO) and torch.equal(painting, PAINTING)
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    assert all(not list(loss.buffers()) for loss in own.losses.values())
    assert all(parameter.grad is None for parameter in own.extractor.parameters())
    assert torch.equal(own.run(PHOTO, PAINTING).image, alone.image)


def test_ctrl_c_interrupts_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GramStyleLoss, "statistic", raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        transfer().estimate(PHOTO)


@pytest.mark.parametrize(
    ("seconds", "memory", "text"),
    [
        (48.2, 258_300_000, "about 48 s and 260 MB"),
        (0.01, 4_600_000, "about 1 s and 5 MB"),
        (89.4, 99_400_000, "about 89 s and 99 MB"),
        (200, 994_000_000, "about 3 min and 990 MB"),
        (9000, 3_260_000_000, "about 2.5 h and 3.3 GB"),
    ],
)
def test_an_estimate_is_printed_in_rounded_units(seconds: float, memory: int, text: str) -> None:
    estimate = nst.Estimate(seconds, memory)
    assert str(estimate) == text
    with pytest.raises(FrozenInstanceError):
        estimate.seconds = 2.0  # type: ignore[misc]
