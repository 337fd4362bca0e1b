from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision import models

from nst import BackboneExtractor, ContentLoss, FeatureExtractor, GramStyleLoss, StyleTransfer
from nst.testing import tiny_extractor
from tests.helpers import paint, picture, raising


class InPlace(nn.Module):
    """Does in place what can be done in place, and counts how deep it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.unused = nn.Identity()
        self.deep_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        y = self.conv2(x)
        y += x
        torch.relu_(y)
        self.deep_calls += 1
        out: Tensor = self.flat(self.pool(self.last(y)))
        return out


@pytest.fixture
def image() -> Tensor:
    return picture(24, 24)


@pytest.fixture
def network() -> InPlace:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InPlace()


def test_a_modules_own_output_is_what_comes_back(network: InPlace, image: Tensor) -> None:
    extractor = BackboneExtractor(network)
    found = extractor(image, ["conv1", "relu", "conv2", "last"])
    conv1 = network.conv1((image - extractor.mean) / extractor.std)
    relu = conv1.relu()
    conv2 = network.conv2(relu)
    last = network.last((conv2 + relu).relu())
    for name, expected in (("conv1", conv1), ("relu", relu), ("conv2", conv2), ("last", last)):
        torch.testing.assert_close(found[name], expected.detach(), msg=name)


def test_it_runs_no_further_than_asked_for(network: InPlace, image: Tensor) -> None:
    extractor = BackboneExtractor(network, ["conv1", "conv2", "last"])
    assert extractor.layer_names == ("conv1", "conv2", "last")
    inside = extractor.network
    assert isinstance(inside, InPlace)
    extractor(image, ["conv1", "conv2"])
    assert inside.deep_calls == 0
    extractor(image, ["last"])
    assert inside.deep_calls == 1
    assert list(extractor(image, [])) == ["image"]


def test_the_users_network_is_left_as_it_was_and_no_gradients_stay_so(
    network: InPlace, image: Tensor
) -> None:
    network.train()
    extractor = BackboneExtractor(network)
    extractor(image, ["conv1"])
    assert network.training and network.relu.inplace
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not extractor.train().training
    for made in (BackboneExtractor(network), tiny_extractor()):
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = made(image, [made.layer_names[0]])
            assert not any(each.requires_grad or each.is_inference() for each in found.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("named", ["auto", "float32", "float16"])
def test_weights_that_autocast_does_not_convert_compute_in_their_own_type(
    dtype: torch.dtype, named: Any, image: Tensor
) -> None:
    layers = {"x": "0"}
    extractor = BackboneExtractor(nn.Sequential(nn.Conv2d(3, 4, 3)), layers, dtype=named).to(dtype)
    assert extractor.mean.dtype == extractor.std.dtype == dtype == extractor.feature_dtype
    for images in (image, image.double(), image.bfloat16()):
        assert extractor(images, ["x"])["x"].dtype == dtype
    assert extractor.in_full_precision() is extractor
    assert "dtype" not in extractor.settings()


def test_autocast_is_entered_only_for_half_precision(
    network: InPlace, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = BackboneExtractor(network)
    # As of PyTorch 2.4 on MPS, even if disabled.
    monkeypatch.setattr(torch, "autocast", raising(RuntimeError("not on this device")))
    assert extractor(image, ["conv1"])["conv1"].dtype == torch.float32
    extractor.dtype = "bfloat16"
    with pytest.raises(RuntimeError, match="not on this device"):
        extractor(image, ["conv1"])


def test_hooks_are_gone_whatever_happened(network: InPlace, image: Tensor) -> None:
    extractor = BackboneExtractor(network)
    extractor(image, ["conv1"])
    with pytest.raises(ValueError, match=r"'flat', a Flatten that returns \(1, 4\)"):
        extractor(image, ["flat"])
    with pytest.raises(RuntimeError):
        extractor(torch.rand(1, 5, 8, 8), ["conv2"])
    assert not any(module._forward_hooks for module in extractor.modules())


def test_bad_arguments_are_named(network: InPlace, image: Tensor) -> None:
    with pytest.raises(ValueError, match="'unused', a module that InPlace does not call"):
        BackboneExtractor(network)(image, ["unused"])
    with pytest.raises(ValueError, match=r"`layers\['a'\]` is 'conv9', which InPlace lacks"):
        BackboneExtractor(network, {"a": "conv9"})
    with pytest.raises(TypeError, match="`network` is"):
        BackboneExtractor(InPlace)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`network` is a InPlace, which has no `features`"):
        BackboneExtractor.from_vgg(network)
    with pytest.raises(ValueError, match="`layers` has 'image', which"):
        BackboneExtractor(network, {"image": "conv1"})
    with pytest.raises(ValueError, match=r"`mean` is .* three numbers for red, green and blue"):
        BackboneExtractor(network, mean=(123.68, 116.78, 103.94))
    with pytest.raises(TypeError, match=r"`images` has dtype torch\.uint8"):
        BackboneExtractor(network)(image.byte(), ["conv1"])


def test_the_fingerprint_is_the_same_while_a_thread_computes_features(image: Tensor) -> None:
    class Watched(InPlace):
        def forward(self, x: Tensor) -> Tensor:
            found.append(extractor.fingerprint())
            return super().forward(x)

    found, extractor = list[str | None](), BackboneExtractor(Watched())
    extractor(image, ["last"])
    assert found == [extractor.fingerprint()] != [None]


def test_threads_do_not_see_each_others_features(network: InPlace) -> None:
    extractor = BackboneExtractor(network)
    images = [torch.full((1, 3, 8, 8), value / 8) for value in range(8)]
    expected = [extractor(image, ["last"])["last"] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: extractor(image, ["last"])["last"], images * 4))
    assert all(map(torch.equal, found, expected * 4))


def test_vgg19_has_the_layers_and_features_of_the_built_in_one(tmp_path: Path) -> None:
    vgg19 = nn.Module()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vgg19.features = torchvision.models.vgg19(weights=None).features
    torch.save(vgg19.state_dict(), tmp_path / "vgg19.pth")
    built_in = FeatureExtractor(tmp_path / "vgg19.pth")
    extractor = BackboneExtractor.from_vgg(vgg19)
    assert set(built_in.layer_names) == set(extractor.layer_names)
    expected, found = (x(picture(32, 32), built_in.layer_names) for x in (built_in, extractor))
    for name in built_in.layer_names:
        torch.testing.assert_close(found[name], expected[name], msg=name)


def test_a_run_works_with_it_and_tells_it(network: InPlace) -> None:
    losses = {"content": ContentLoss(["conv2"], weight=0.1), "style": GramStyleLoss(["relu"])}
    result = paint(BackboneExtractor(network), losses=losses)
    assert result.history["style"][-1] < result.history["style"][0]
    assert result.settings["extractor"]["network"] == "InPlace"
    with pytest.raises(ValueError, match="'relu1_1', which InPlace lacks"):
        StyleTransfer(BackboneExtractor(network), {"style": GramStyleLoss(["relu1_1"])})


def of_layers(padding_mode: Any = "zeros", pool: Any = nn.MaxPool2d, **others: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=padding_mode)
    network = nn.Sequential(conv, nn.ReLU(), pool(2), nn.LeakyReLU(others.pop("slope", 0.1)))
    network.register_buffer("offset", torch.full((1,), others.pop("offset", 0.0)), persistent=False)
    return BackboneExtractor(network, **{"layers": {"x": "1", "y": "3"}, **others})


@pytest.mark.parametrize(
    "other",
    [
        {"layers": {"x": "0", "y": "3"}},
        {"pool": nn.AvgPool2d},
        {"padding_mode": "reflect"},
        {"slope": 0.2},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
        {"offset": 1.0},
    ],
)
def test_the_fingerprint_covers_what_changes_features(other: dict[str, Any]) -> None:
    extractor, changed = of_layers(), of_layers(**other)
    assert extractor.fingerprint() == of_layers().fingerprint() != changed.fingerprint()
    losses = {"style": GramStyleLoss(["x"])}
    captured = StyleTransfer(extractor, losses).capture(torch.rand(1, 3, 32, 32), sizes=[32])
    with pytest.raises(ValueError, match="`style` was captured with another network"):
        StyleTransfer(changed, losses, size=32).check(torch.rand(1, 3, 32, 32), captured)


def test_a_network_of_torchvision_is_created_by_its_name(squeezenet: Any, image: Tensor) -> None:
    before = torch.get_rng_state()
    extractor = BackboneExtractor.from_torchvision("squeezenet1_1")
    assert torch.equal(torch.get_rng_state(), before)
    normalize = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (normalize.mean, normalize.std))
    expected = squeezenet.features[:4]((image - mean) / std)
    torch.testing.assert_close(extractor(image, ["features.3"])["features.3"], expected)
    settings = {"network": "squeezenet1_1", "weights": "torchvision"}
    assert extractor.settings() == settings
    half = BackboneExtractor.from_torchvision("squeezenet1_1", dtype=torch.bfloat16)
    assert half(image, ["features.3"])["features.3"].dtype == torch.bfloat16
    assert half.settings() == {**settings, "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("name", "layer", "last"),
    [("vgg16", "relu1_1", "conv5_3"), ("vgg11_bn", "norm1_1", "norm5_2")],
)
def test_other_vggs_are_named_likewise(name: str, layer: str, last: str) -> None:
    network = getattr(torchvision.models, name)(weights=None, init_weights=False)
    extractor = BackboneExtractor.from_vgg(network)
    assert {"relu1_1", layer, last} < set(extractor.layer_names)
    assert extractor.layer_names[-1] == "pool5"
    if name == "vgg11_bn":
        named = BackboneExtractor.from_torchvision(name, weights=None)
        assert named.layer_names == extractor.layer_names
        assert not named(torch.rand(1, 3, 32, 32), ["relu4_2"])["relu4_2"].any()


@pytest.mark.parametrize(
    ("name", "weights", "error", "message"),
    [
        ("vgg61", "torchvision", ValueError, "'vgg61', which torchvision lacks. Did you mean"),
        ("vit_b_16", "torchvision", ValueError, "'vit_b_16', which torchvision lacks"),
        ("squeezenet1_0", "mine.pth", ValueError, "'mine.pth', which is no state dict of"),
        ("squeezenet1_0", "{}/text.pth", ValueError, "is no state dict of torchvision's squeeze"),
        ("resnet18", "{}/mine.pth", ValueError, "is no state dict of torchvision's resnet18"),
    ],
)
def test_a_named_network_that_cannot_be_made_is_refused(
    name: str, weights: str, error: type[Exception], message: str, squeezenet: Any, tmp_path: Path
) -> None:
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(error, match=message):
        BackboneExtractor.from_torchvision(name, weights.format(tmp_path))


def test_weights_of_a_named_network_come_from_a_file_too_and_are_named_if_they_cannot_be_downloaded(
    squeezenet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = BackboneExtractor.from_torchvision("squeezenet1_1", tmp_path / "mine.pth")
    named = BackboneExtractor.from_torchvision("squeezenet1_1")
    assert extractor.fingerprint() == named.fingerprint()
    assert extractor.settings()["weights"] == "mine.pth"
    download = "torchvision.models._api.load_state_dict_from_url"
    monkeypatch.setattr(download, raising(OSError("no route to host")))
    with pytest.raises(OSError, match=r"resnet18-.*could not be downloaded \(no route to host\)"):
        BackboneExtractor.from_torchvision("resnet18")
