"""What every feature extractor promises: the library's own and a plain module of a user's."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nst import BackboneExtractor, ContentLoss, FeatureExtractor, GramStyleLoss, StyleTransfer
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, paint, total


class Blur(nn.Module):
    """An extractor of a user's own, which knows nothing of nst."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        features = {"image": images, "blur": self.scale * nn.functional.avg_pool2d(images, 4)}
        return {name: features[name] for name in ("image", *layers)}


def backbone() -> BackboneExtractor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, stride=2)
    relus = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
    return BackboneExtractor(nn.Sequential(convolutions[0], relus[0], convolutions[1], relus[1]))


def backbone_of_vgg() -> BackboneExtractor:
    holder = nn.Module()
    holder.features = nn.Sequential(*backbone().network.children(), nn.MaxPool2d(2))
    return BackboneExtractor.from_vgg(holder)


# Each with a fine layer, then a coarse one.
EXTRACTORS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "VGG19": (tiny_extractor, ["relu1_1", "relu2_1"]),
    "backbone": (backbone, ["1", "2"]),
    "backbone of a VGG": (backbone_of_vgg, ["relu1_1", "pool1"]),
    "the user's": (Blur, ["image", "blur"]),
}
every_extractor = pytest.mark.parametrize("name", EXTRACTORS)
every_own = pytest.mark.parametrize("name", list(EXTRACTORS)[:3])


@every_extractor
def test_every_extractor_returns_the_image_and_the_layers_by_name(name: str) -> None:
    make, layers = EXTRACTORS[name]
    extractor, batch = make(), torch.cat([PHOTO, PHOTO.flip(-1)])
    found = extractor(batch, layers)
    assert set(found) == {"image", *layers}
    assert found["image"] is batch
    for layer in layers:
        assert found[layer].shape[0] == 2 and found[layer].ndim == 4
        torch.testing.assert_close(extractor(PHOTO, [layer])[layer], found[layer][:1])
    assert list(extractor(PHOTO, [])) == ["image"]


@every_extractor
def test_gradients_flow_through_every_extractor(name: str) -> None:
    make, layers = EXTRACTORS[name]
    image = PHOTO.clone().requires_grad_()
    sum(f.square().sum() for f in make()(image, layers).values()).backward()
    assert image.grad is not None and bool(image.grad.isfinite().all() and image.grad.any())


@every_extractor
def test_every_extractor_works_in_a_run(name: str) -> None:
    make, layers = EXTRACTORS[name]
    losses = {"content": ContentLoss(layers[1:], weight=0.1), "style": GramStyleLoss(layers)}
    extractor = make()
    for optimizer in ("lbfgs", "adam"):
        result = paint(extractor, losses=losses, optimizer=optimizer)
        assert min(total(result)) < total(result)[0]
    assert all(parameter.grad is None for parameter in extractor.parameters())
    assert result.settings["extractor"]


@every_extractor
def test_a_style_captured_with_an_extractor_gives_the_same_picture(name: str) -> None:
    make, layers = EXTRACTORS[name]
    transfer = StyleTransfer(make(), {"style": GramStyleLoss(layers)}, num_steps=3, num_scales=1)
    captured = transfer.capture(PAINTING, sizes=[40])
    expected = transfer.run(PHOTO, PAINTING).image
    assert torch.equal(transfer.run(PHOTO, captured).image, expected)


@every_own
def test_every_extractor_is_frozen_and_in_evaluation_mode(name: str) -> None:
    extractor = EXTRACTORS[name][0]().train()
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


@every_own
def test_every_layer_that_an_extractor_names_can_be_asked_for(name: str) -> None:
    extractor: Any = EXTRACTORS[name][0]()
    assert len(set(extractor.layer_names)) == len(extractor.layer_names) > 3
    assert set(extractor(PHOTO, extractor.layer_names)) == {"image", *extractor.layer_names}


@every_own
def test_a_layer_that_an_extractor_lacks_is_named_with_a_guess(name: str) -> None:
    make, layers = EXTRACTORS[name]
    wrong = layers[1] + "0"
    for use in (
        lambda: make()(PHOTO, [wrong]),
        lambda: StyleTransfer(make(), {"style": GramStyleLoss([wrong])}),
    ):
        with pytest.raises(ValueError, match=f"`layers` has '{wrong}', which .* Did you mean"):
            use()


def test_an_extractor_that_leaves_out_a_layer_is_named() -> None:
    class Nothing(nn.Module):
        def forward(self, images: Tensor, layers: Any) -> dict[str, Tensor]:
            return {"image": images}

    with pytest.raises(ValueError, match="`extractor` returned no 'relu1_1'"):
        paint(Nothing(), losses={"style": GramStyleLoss(["relu1_1"])})


def test_every_public_extractor_is_examined_here() -> None:
    kinds = {type(make()) for make, _ in EXTRACTORS.values()}
    assert kinds == {FeatureExtractor, BackboneExtractor, Blur}
