"""Hooks on networks and losses are called in a run, or refused; other attributes are copied."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nst import BackboneExtractor, ContentLoss, Features, GramStyleLoss, Loss, StyleTransfer
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO

KINDS = ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def count(self, *_: object) -> None:
        self.calls += 1


def backbone() -> BackboneExtractor:
    def pair(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh())

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(pair(3), pair(4))
    return BackboneExtractor(network, {"relu1_1": "0.1", "relu2_1": "1.0"})


def run(extractor: nn.Module, **options: Any) -> None:
    losses = {"content": ContentLoss(["relu1_1"]), "style": GramStyleLoss(["relu2_1"])}
    losses.update(options.pop("losses", {}))
    StyleTransfer(extractor, losses, num_steps=1, **options).run(PHOTO, PAINTING)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["", "conv1_1", "conv2_1"])
def test_hooks_of_the_network_are_called_or_refused(layer: str, kind: str) -> None:
    extractor, counter = tiny_extractor(), Counter()
    transfer = StyleTransfer(extractor, num_steps=1, tile=16)
    getattr(extractor.get_submodule(layer), f"register_{kind}")(counter.count)
    with pytest.raises(ValueError, match=r"with hooks|backward hook"):  # though registered later
        transfer.check(PHOTO, PAINTING)
    if layer == "" and "backward" in kind:
        with pytest.raises(ValueError, match="`extractor` has a backward hook"):
            run(extractor)
    else:
        run(extractor)
        assert counter.calls > 0
        with pytest.raises(ValueError, match="a FeatureExtractor with hooks, which cannot be"):
            run(extractor, tile=16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["", "0", "0.0", "0.1", "1", "1.0"])
def test_hooks_within_a_backbone_are_called_or_refused(path: str, kind: str) -> None:
    extractor, counter = backbone(), Counter()
    getattr(extractor.network.get_submodule(path), f"register_{kind}")(counter.count)
    if path != "0.0" and "backward" in kind:  # around requested features
        with pytest.raises(ValueError, match=f"`network` has a backward hook on '{path}'"):
            run(extractor)
    else:
        run(extractor)
        assert counter.calls > 0


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_of_a_loss_are_called_and_not_copied(kind: str) -> None:
    loss, counter = GramStyleLoss(["relu2_1"]), Counter()
    getattr(loss, f"register_{kind}")(counter.count)  # a copy would count by itself
    run(tiny_extractor(), losses={"style": loss})
    assert counter.calls > 0


class Holding(Loss):
    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held

    def forward(self, features: Features) -> Tensor:
        return features["image"].mean()


@pytest.mark.parametrize(
    "held",
    [nn.Conv2d(3, 3, 3).weight * 2, threading.Lock(), {"file": (line for line in "ab")}],
    ids=["computed", "lock", "generator"],
)
def test_an_attribute_that_cannot_be_copied_is_named_before_any_work(held: Any) -> None:
    with pytest.raises(TypeError, match=r"`losses\['own'\]` is a Holding whose attribute 'held'"):
        StyleTransfer(tiny_extractor(), {"own": Holding(held)})
