"""What a worker does: it keeps what it was sent, asks for what it lacks, and never raises."""

import pickle
from typing import Any

import pytest
import torch
from torch import nn

from nst import FeatureExtractor, StyleTransfer
from nst._batch.worker import Failed, Network, PartCache, Task, packed, work
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor
from tests.helpers import halve, raising


@pytest.fixture
def original(networks: dict[str, int]) -> FeatureExtractor:
    """A small network whose weights are known here as the original ones."""
    return FeatureExtractor("original")


def network(extractor: nn.Module) -> Network:
    return Network.of(extractor, torch.device("cpu"), "token")


def task(**changes: Any) -> Task:
    content, parts = torch.rand(1, 3, 16, 16), network(tiny_extractor())
    common = {"job": "job", "num_threads": 1, "sender": ("elsewhere", 1)}
    return Task(**{"content": content, "network": parts, **common, **changes})


def test_what_was_put_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartCache, "capacity", 2)
    cache = PartCache()
    for name, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        cache.store(name, value)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (3, None, 4)
    assert len(cache) == 2


def test_a_network_of_a_known_name_is_made_by_the_worker_unless_it_is_another_there(
    original: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = network(original).create()
    assert isinstance(made, FeatureExtractor)
    features = (each(torch.ones(1, 3, 16, 16), ["relu2_1"])["relu2_1"] for each in (made, original))
    assert torch.equal(*features)
    fail = raising(ImportError("not installed"))
    with monkeypatch.context() as patch:
        patch.setattr("nst.extractors.vgg.load_weights", fail)
        assert network(original).create() is None
    with torch.no_grad():
        original.get_parameter("conv1_1.weight").mul_(2)
    assert network(original).create() is None
    assert network(tiny_extractor()).create() is None
    hooked = FeatureExtractor("original")
    hooked.register_forward_hook(halve)
    assert network(hooked).create() is None


def test_networks_are_told_apart_by_all_that_changes_a_bit() -> None:
    weights = Weights(tiny_extractor().state_dict(), "original")
    others: list[dict[str, Any]] = [{}, {"winograd": False}, {"pooling": "average"}]
    keys = {network(FeatureExtractor(weights, **other)).key for other in others}
    keys |= {network(tiny_extractor(seed=1)).key, network(nn.Identity()).key}
    hooked = tiny_extractor()
    hooked.get_submodule("conv1_1").register_forward_hook(halve)
    keys.add(Network.of(hooked, "cpu", "other").key)
    assert len(keys) == 6
    assert network(tiny_extractor()).key == network(tiny_extractor()).key


def test_what_cannot_be_read_is_an_outcome() -> None:
    outcome = pickle.loads(work(packed(task()), {"job": b"no pickle"}))
    assert isinstance(outcome, Failed)
    assert "a worker that cannot read a part of the transfer" in str(outcome.error)
    assert isinstance(pickle.loads(work(b"nothing", {})), Failed)


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    job: Any = StyleTransfer, {"num_steps": 1}, [torch.rand(1, 3, 16, 16)], {}
    extractor = tiny_extractor()
    sent = {network(extractor).key: packed(extractor), "job": packed(job)}
    assert pickle.loads(work(packed(task(num_threads=3)), sent)).settings["num_threads"] == 3
    assert torch.get_num_threads() == before
