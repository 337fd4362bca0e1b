"""What a worker does: it keeps what it was sent, asks for what it lacks, and never raises."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

from nst import FeatureExtractor, StyleTransfer
from nst._batch.worker import Failed, Lacking, Network, Shelf, Task, packed, work
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> FeatureExtractor:
    """A small network whose weights are known here as the original ones."""

    def load(source: str) -> Weights:
        return Weights(tiny_extractor().state_dict(), "original")

    monkeypatch.setattr("nst.extractors.vgg.load_weights", load)
    return FeatureExtractor("original")


def network(extractor: nn.Module) -> Network:
    return Network.of(extractor, torch.device("cpu"), "token")


def task(**changes: Any) -> Task:
    arguments = {
        "content": torch.rand(1, 3, 16, 16),
        "network": network(tiny_extractor()),
        "parts": ("network", "recipe", "styles"),
        "num_threads": 1,
        "sender": ("elsewhere", 1),
        "sent": {},
        **changes,
    }
    return Task(**arguments)


def test_what_was_put_last_is_kept() -> None:
    shelf = Shelf(room=2)
    shelf.put("a", 1)
    shelf.put("b", 2)
    shelf.put("a", 3)
    shelf.put("c", 4)
    assert (shelf.get("a"), shelf.get("b"), shelf.get("c")) == (3, None, 4)
    shelf.drop("a")
    assert shelf.get("a") is None


def test_a_network_of_a_known_name_is_made_by_the_worker(original: FeatureExtractor) -> None:
    made = network(original).load()
    assert isinstance(made, FeatureExtractor)
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(
        made(images, ["relu2_1"])["relu2_1"], original(images, ["relu2_1"])["relu2_1"]
    )


def test_one_that_is_another_there_is_not(original: FeatureExtractor) -> None:
    with torch.no_grad():
        original.get_parameter("conv1_1.weight").mul_(2)
    assert network(original).load() is None


def test_one_that_is_not_installed_there_is_not(
    original: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(source: str) -> Weights:
        raise ImportError("not installed")

    monkeypatch.setattr("nst.extractors.vgg.load_weights", load)
    assert network(original).load() is None


def test_one_without_a_name_is_not() -> None:
    assert network(tiny_extractor()).load() is None


def test_networks_are_told_apart_by_all_that_changes_a_bit() -> None:
    weights = Weights(tiny_extractor().state_dict(), "original")
    others: list[dict[str, Any]] = [{}, {"winograd": False}, {"pooling": "average"}]
    keys = {network(FeatureExtractor(weights, **other)).key for other in others}
    keys |= {network(tiny_extractor(seed=1)).key, network(nn.Identity()).key}
    assert len(keys) == 5
    assert network(tiny_extractor()).key == network(tiny_extractor()).key


def test_a_worker_says_what_it_lacks() -> None:
    assert pickle.loads(work(packed(task()))) == Lacking(frozenset(["network", "recipe", "styles"]))


def test_what_cannot_be_read_is_an_outcome() -> None:
    outcome = pickle.loads(work(packed(task(sent={"recipe": b"no pickle"}))))
    assert isinstance(outcome, Failed)
    assert "a worker that cannot read a part of the transfer" in str(outcome.error)
    assert isinstance(pickle.loads(work(b"nothing")), Failed)


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    transfer = StyleTransfer(tiny_extractor(), num_steps=1)
    sent = {
        "network": packed(transfer.extractor),
        "recipe": packed((transfer, {})),
        "styles": packed([torch.rand(1, 3, 16, 16)]),
    }
    result = pickle.loads(work(packed(task(sent=sent, num_threads=3))))
    assert result.settings["num_threads"] == 3
    assert torch.get_num_threads() == before
