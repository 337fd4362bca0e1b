"""Every part on a device: pretended ones, or that of `NST_TEST_DEVICE`, against the processor."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nst
from nst import StyleTransfer, StyleTransferResult, color
from nst.losses import LOSSES
from nst.testing import check_loss, tiny_extractor
from tests.helpers import stop_at
from tests.pretend import PretendedDevice

pytestmark = pytest.mark.cpu  # these runs name their device
NAME = os.environ.get("NST_TEST_DEVICE", "pretended-")
PRETENDS = NAME.startswith("pretended-")
# "mps-old" refuses whatever "mps" does.
KINDS = ["cuda", "mps-old"] if PRETENDS else [NAME]
GENERATOR = torch.Generator().manual_seed(0)
PHOTO, PAINTING = (torch.rand(1, 3, *size, generator=GENERATOR) for size in ((51, 43), (48, 64)))
MASK = (torch.arange(51)[:, None] < 30).float().expand(51, 43).clone()


@pytest.fixture(params=KINDS)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    with PretendedDevice(request.param) if PRETENDS else nullcontext():
        yield request.param.removesuffix("-old")


def run(losses: Any = None, device: str = "cpu", **given: Any) -> StyleTransferResult:
    pictures = given.pop("photo", PHOTO), given.pop("style", PAINTING)
    names = ("init", "where", "preserve_color", "color_when", "strength", "callbacks")
    arguments = {name: given.pop(name) for name in names if name in given}
    settings = {"num_steps": 3, "num_scales": 1, "extractor": tiny_extractor(), **given}
    return StyleTransfer(losses=losses, device=device, **settings).run(*pictures, **arguments)


@pytest.fixture
def same(device: str) -> Callable[..., None]:
    """Runs something on the processor and on the device, and compares the pictures."""

    def compare(run: Callable[..., StyleTransferResult]) -> None:
        there, here = run(device=device).image, run(device="cpu").image
        assert there.device.type == "cpu"
        torch.testing.assert_close(there, here, rtol=0, atol=1e-2)  # a ReLU may be rounded over
        assert float((there - here).abs().mean()) < 1e-4

    return compare


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, same: Callable[..., None]) -> None:
    loss = LOSSES[name]()
    losses = {"it": loss} if loss.reference == "style" else {"it": loss, "s": nst.GramStyleLoss()}
    same(partial(run, losses))


@pytest.mark.parametrize(
    "given",
    [
        {"style": nst.Style(PAINTING, rotation=30)},
        {"style": [nst.Style(PAINTING, region=MASK), nst.Style(PAINTING.mT, region=1 - MASK)]},
        {"style": nst.Style(PHOTO, mask=MASK), "tile": 16},
        {"where": MASK},
        {"init": "pink-noise", "num_scales": 2},
        {"photo": torch.cat([PHOTO, PHOTO.flip(-1)])},
    ],
    ids=["rotation", "regions", "tiles", "where", "noise", "batch"],
)
def test_pictures_with_masks(given: dict[str, Any], same: Callable[..., None]) -> None:
    same(partial(run, **given))


class Projected(nst.StatisticLoss):
    """Has a buffer of its own, which it needs when it captures."""

    def __init__(self) -> None:
        super().__init__(["relu1_1"])
        self.register_buffer("direction", torch.linspace(-1, 1, 4)[:, None])

    def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
        return (feature * weight).sum(-1)

    def prepare(self, statistic: Any) -> Any:
        return statistic @ self.direction

    def distance(self, statistic: Any, target: Any) -> Any:
        return (statistic @ self.direction - target).square().mean()


@pytest.mark.parametrize("captured", [False, True])
def test_buffers_of_a_loss_are_on_the_device_before_it_captures(
    captured: bool, same: Callable[..., None]
) -> None:
    def painted(device: str) -> StyleTransferResult:
        styles = [nst.Style(PAINTING, region=MASK), nst.Style(PAINTING.mT, region=1 - MASK)]
        if captured:
            transfer = StyleTransfer(tiny_extractor(), {"own": Projected()}, device=device)
            styles = [transfer.capture(each, sizes=[51]) for each in styles]
        return run({"own": Projected()}, device, style=styles, size=51)

    same(painted)


@pytest.mark.parametrize(
    "optimizer",
    ["lbfgs", "adam", partial(torch.optim.SGD, lr=0.1), partial(torch.optim.LBFGS, max_iter=2)],
    ids=["lbfgs", "adam", "SGD", "LBFGS"],
)
def test_optimizers(optimizer: Any, same: Callable[..., None]) -> None:
    same(partial(run, optimizer=optimizer))


@pytest.mark.parametrize("method", color.COLOR_METHODS)
def test_color_methods(method: str, same: Callable[..., None]) -> None:
    same(partial(run, preserve_color=method, color_when="both"))


def test_backbones(same: Callable[..., None]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
    extractor = nst.BackboneExtractor(network)
    losses = {"style": nst.GramStyleLoss(["1"]), "content": nst.ContentLoss(["3"])}
    same(partial(run, losses, extractor=extractor))


def test_videos(same: Callable[..., None]) -> None:
    def second(device: str) -> StyleTransferResult:
        transfer = StyleTransfer(tiny_extractor(), device=device, num_scales=1)
        frames, steps = [PHOTO, PHOTO.roll(2, -1)], {"num_steps": 2, "first_steps": 2}
        moved: Any = {"flow": lambda *_: torch.full((51, 43, 2), 2.0), **steps}
        return list(transfer.frames(frames, PAINTING, **moved))[1]

    same(second)


def test_callbacks_and_checkpoints(device: str, tmp_path: Path) -> None:
    path, history = tmp_path / "run.ckpt", nst.LossHistory()
    shown = [nst.SaveImages(tmp_path / "steps", 1), history, nst.EarlyStopping()]
    run(device=device, num_steps=4, callbacks=[nst.Checkpoint(path), *shown, stop_at(2)])
    resumed = StyleTransfer.resume(path, extractor=tiny_extractor())
    assert torch.equal(resumed.image, run(device=device, num_steps=4).image)
    assert len(history.losses["style"]) == 2


def test_a_captured_style_is_resumed(device: str, tmp_path: Path) -> None:
    transfer = StyleTransfer(tiny_extractor(), device=device, num_steps=3, num_scales=1)
    style = transfer.capture(PAINTING, sizes=[51])
    transfer.run(PHOTO, style, callbacks=[nst.Checkpoint(tmp_path / "run.ckpt"), stop_at(1)])
    assert StyleTransfer.resume(tmp_path / "run.ckpt", extractor=tiny_extractor()).num_steps == 3


def test_losses_are_checked_on_every_device(device: str) -> None:
    check_loss(nst.GramStyleLoss(["relu1_1"]))
    if device == "mps":  # which lacks float64
        with pytest.raises(TypeError, match=r"`extractor` is in float64, which MPS .* \.float\(\)"):
            run(device=device, extractor=tiny_extractor().double())


@pytest.mark.skipif(not PRETENDS, reason="only a pretended device counts")
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_step_waits_for_the_device_three_times_and_copies_nothing(name: str) -> None:
    counts = []
    for steps in (10, 30):
        with PretendedDevice(name) as device:
            run(device=name, num_steps=steps, photo=PHOTO[..., :48, :40])
        counts.append([x.total() for x in (device.waits, device.copies, device.operations)])
    (waits, copies, operations), later = counts
    assert later[0] - waits <= 3 * 20
    assert later[1] <= copies  # constants are copied once
    assert later[2] - operations <= 450 * 20


def test_a_pretended_device_refuses_what_a_real_one_would() -> None:
    with PretendedDevice("mps"):
        x = torch.ones(3, 3, device="mps")
        assert x.device.type == "mps"
        with pytest.raises(RuntimeError, match="tensors on mps:0 and cpu"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="float64"):
            x.double()
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, device="mps", generator=torch.Generator())
        with pytest.raises(RuntimeError, match="divisible"):
            nn.functional.adaptive_avg_pool2d(x[None], 2)
        assert isinstance(x.sum().cpu(), Tensor)
