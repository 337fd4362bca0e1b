"""What every feature extractor promises: the library's own and a plain module of a user's."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nst import BackboneExtractor, ContentLoss, FeatureExtractor, GramStyleLoss, StyleTransfer
from nst.extractors.base import as_extractor, evaluation_mode
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, in_turn, paint, spy, total


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
    image = PHOTO.clone().requires_grad_()
    sum(f.square().sum() for f in make()(image, layers).values()).backward()
    assert image.grad is not None and bool(image.grad.isfinite().all() and image.grad.any())


@every_extractor
def test_every_extractor_works_in_a_run_and_with_a_captured_style(name: str) -> None:
    make, layers = EXTRACTORS[name]
    losses = {"content": ContentLoss(layers[1:], weight=0.1), "style": GramStyleLoss(layers)}
    extractor = make()
    for optimizer in ("lbfgs", "adam"):
        result = paint(extractor, losses=losses, optimizer=optimizer)
        assert min(total(result)) < total(result)[0]
    assert all(parameter.grad is None for parameter in extractor.parameters())
    assert result.settings["extractor"]
    make, layers = EXTRACTORS[name]
    transfer = StyleTransfer(make(), {"style": GramStyleLoss(layers)}, num_steps=3, num_scales=1)
    captured = transfer.capture(PAINTING, sizes=[40])
    assert torch.equal(transfer.run(PHOTO, captured).image, transfer.run(PHOTO, PAINTING).image)


@every_extractor
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_extractor_works_in_half_precision(name: str, dtype: torch.dtype) -> None:
    make, layers = EXTRACTORS[name]
    losses = {"content": ContentLoss(layers[1:], weight=0.1), "style": GramStyleLoss(layers)}
    images = [paint(make().to(kind), losses=losses).image for kind in (dtype, torch.float32)]
    assert images[0].dtype == torch.float32
    apart, change = ((images[1] - other).abs().mean() for other in (images[0], PHOTO))
    assert apart < change / 3


@every_own
@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_every_extractor_computes_features_in_another_type(name: str, dtype: Any) -> None:
    make, layers = EXTRACTORS[name]
    extractor, expected = make(), make()(PHOTO, layers)
    before = as_extractor(extractor).fingerprint()
    extractor.dtype = dtype
    kind, image = as_extractor(extractor).feature_dtype, PHOTO.clone().requires_grad_()
    found = extractor(image, layers)
    for layer in layers:
        assert found[layer].dtype == kind != torch.float32
        torch.testing.assert_close(found[layer].float(), expected[layer], rtol=0.03, atol=0.03)
    sum(feature.float().square().sum() for feature in found.values()).backward()
    assert image.grad is not None and image.grad.dtype == torch.float32 and image.grad.any()
    assert as_extractor(extractor).fingerprint() != before
    assert as_extractor(extractor).settings()["dtype"] == str(kind).removeprefix("torch.")
    full = as_extractor(extractor).in_full_precision()
    assert all(torch.equal(full(PHOTO, layers)[layer], expected[layer]) for layer in layers)


@every_own
def test_the_type_of_the_weights_may_be_named(name: str) -> None:
    make, layers = EXTRACTORS[name]
    extractor: Any = make()
    before = extractor.fingerprint(), extractor(PHOTO, layers)
    extractor.dtype = torch.float32
    assert extractor.fingerprint() == before[0] and "dtype" not in extractor.settings()
    found = extractor(PHOTO, layers)
    assert all(torch.equal(found[layer], before[1][layer]) for layer in layers)
    for wrong in (torch.float64, "half", None):
        with pytest.raises(ValueError, match=r"`dtype` is '.*'; it must be one of 'auto', 'float3"):
            extractor.dtype = wrong


@every_own
def test_every_extractor_is_frozen_and_has_every_layer_that_it_names(name: str) -> None:
    extractor: Any = EXTRACTORS[name][0]().train()
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert len(set(extractor.layer_names)) == len(extractor.layer_names) > 3
    assert set(extractor(PHOTO, extractor.layer_names)) == {"image", *extractor.layer_names}
    make, layers = EXTRACTORS[name]
    message = f"`layers` has '{layers[1]}0', which .* Did you mean"
    with pytest.raises(ValueError, match=message):
        make()(PHOTO, [layers[1] + "0"])
    with pytest.raises(ValueError, match=message):
        StyleTransfer(make(), {"style": GramStyleLoss([layers[1] + "0"])})


@pytest.mark.cpu  # a tensor of the pretended device has another type
def test_a_network_without_layers_names_what_makes_an_extractor_of_it() -> None:
    class Single(nn.Module):
        def forward(self, images: Tensor, layers: Any) -> Tensor:
            return images

    losses = {"style": GramStyleLoss(["y"])}
    with pytest.raises(TypeError, match=r"`extractor` is a Sequential, .* Use BackboneExtractor"):
        StyleTransfer(nn.Sequential(nn.Conv2d(3, 4, 3)), losses)
    with pytest.raises(TypeError, match="returned a Tensor; its forward must return a mapping"):
        paint(Single(), losses=losses)
    with pytest.raises(ValueError, match="`extractor` returned no 'y'"):
        paint(Returning(lambda x: x), losses=losses)


def test_every_public_extractor_is_examined_here() -> None:
    kinds = {type(make()) for make, _ in EXTRACTORS.values()}
    assert kinds == {FeatureExtractor, BackboneExtractor, Blur}


class Returning(nn.Module):
    """An extractor of a user's own, with a form of its features that is to be tried."""

    def __init__(self, form: Callable[[Tensor], Any], **others: Any) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.form, self.others, self.modes = form, others, list[bool]()

    def forward(self, images: Tensor, layers: Iterable[str]) -> Any:
        self.modes.append(self.training)
        return {"x": self.form(self.network(images)), **self.others}


@pytest.mark.parametrize(
    ("form", "error", "message"),
    [
        (lambda x: x.flatten(2).mT, ValueError, r"\(1, \d+, 4\) for 'x'; .* tokens.mT.unflatten"),
        (lambda x: x[0], ValueError, r"\(4, \d+, \d+\) for 'x'; .* Keep the batch"),
        (lambda x: x.mean((2, 3)), ValueError, r"\(1, 4\) for 'x'; .* Keep the batch"),
        (lambda x: torch.cat([x, x]), ValueError, r"\(2, 4, .* for 'x'; .* with N = 1"),
        (lambda x: x.permute(0, 2, 3, 1), ValueError, r".* 4\) for 'x'; .* permute\(0, 3, 1, 2\)"),
        (lambda x: x[..., :0], ValueError, r".* 0\) for 'x'; .* Use larger pictures"),
        (lambda x: (x, x), TypeError, "a tuple for 'x'; .* Choose one tensor"),
        (lambda x: None, TypeError, "a NoneType for 'x'; "),
        (lambda x: x.long(), TypeError, "torch.int64 for 'x'; .* Convert it"),
        (lambda x: x / 0, ValueError, "NaN or infinity for 'x'; .* Check the weights"),
    ],
)
@pytest.mark.parametrize("loss", [GramStyleLoss(["x"]), ContentLoss(["x"])])
def test_features_of_another_form_are_refused_by_the_layers_name(
    form: Any, error: type[Exception], message: str, loss: Any
) -> None:
    with pytest.raises(error, match=f"^`extractor` returned {message}"):
        paint(Returning(form), losses={"loss": loss})


@pytest.mark.cpu  # the pretended device hides the calls
def test_features_are_searched_for_nan_once_in_each_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy(monkeypatch, Tensor, "isfinite")
    paint(Returning(lambda x: x), losses={"style": GramStyleLoss(["x"])}, num_scales=2, num_steps=9)
    assert sum(feature.shape[1:2] == (4,) for feature, *_ in calls) == 2


@pytest.mark.cpu  # the pretended device is that of one thread
def test_a_network_in_training_mode_is_evaluated_and_left_as_it_was() -> None:
    extractor = Returning(lambda x: x)
    extractor.network[2].eval()
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    transfer = StyleTransfer(extractor, {"style": GramStyleLoss(["x"])}, num_steps=3)
    with ThreadPoolExecutor(2) as threads:
        alone = transfer.map([PHOTO], PAINTING)
        several = transfer.map([PHOTO] * 4, PAINTING, executor=threads)
        images = [each.result.image for each in (*alone, *several) if each.result is not None]
    transfer.estimate(PHOTO, PAINTING)
    assert len(images) == 5 and all(torch.equal(image, images[0]) for image in images)
    assert not any(extractor.modes)
    other = nn.Sequential(extractor.network)  # shares modules
    in_turn(evaluation_mode(extractor), evaluation_mode(other), evaluation_mode(extractor))
    assert [m.training for m in extractor.modules()] == [True, True, True, True, False]
    assert other.training
    assert all(torch.equal(value, before[n]) for n, value in extractor.state_dict().items())
