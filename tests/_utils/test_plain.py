"""What JSON can hold of any value."""

import dataclasses
import enum
import fractions
import hashlib
import json
import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nst._utils.plain import hash_file, hash_network, hash_values, json_ready
from nst.extractors.vgg import FeatureExtractor
from nst.extractors.weights import Weights
from nst.testing import tiny_extractor


@dataclasses.dataclass
class Brush:
    file: PurePosixPath
    size: float = 1.5


class Mood(enum.IntEnum):
    CALM = 3


class Stubborn:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.str_("max"), "max"),
        (torch.tensor(2.0), 2.0),
        (torch.tensor([[1, 2]]), [[1, 2]]),
        (np.array([0.5, np.nan]), [0.5, "nan"]),
        (Mood.CALM, 3),
        (fractions.Fraction(1, 4), 0.25),
        (math.inf, "inf"),
        (2**2000, hex(2**2000)),
        ((1, (2,)), [1, [2]]),
        ({3, 1}, [1, 3]),
        ({1: "one", None: "none", (1, 2): "pair"}, {"1": "one", "null": "none", "[1, 2]": "pair"}),
        (Brush(PurePosixPath("/a b/c.png")), "Brush(file=PurePosixPath('c.png'), size=1.5)"),
        (Stubborn(), "<Stubborn>"),
        (torch.zeros(100), "<Tensor of torch.float32, (100,)>"),
        (b"bytes", "b'bytes'"),
    ],
)
def test_a_value_becomes_what_json_can_hold(value: Any, expected: Any) -> None:
    assert json_ready(value) == expected
    assert type(json_ready(value)) is type(expected)


def test_a_repr_holds_no_address_and_what_holds_itself_comes_to_an_end() -> None:
    assert json_ready(object()) == "<object object>"
    assert json_ready(len) == "<built-in function len>"
    assert " at 0x" not in json_ready(lambda: 0)
    endless: list[Any] = []
    endless.append(endless)
    assert len(json.dumps(json_ready(endless))) < 100
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(json.dumps(json_ready(deep))) < 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (Path("/home/me/x.png"), "x.png"),
        (PureWindowsPath("C:/Users/me/x.png"), "x.png"),
        ("/home/My Name/x y.png", "x y.png"),
        (r"C:\Users\My Name\x.png", "x.png"),
        (r"\\server\me\x.png", "x.png"),
        ("file:///home/me/x.png", "x.png"),
        ("brush=/home/me/x.png, size=2", "brush=x.png, size=2"),
        ("brush:'/home/my name/x.png', size=1/2", "brush:'x.png', size=1/2"),
        ({"/home/me/x.png": 1}, {"x.png": 1}),
        ("/", "/"),
        ("a / b", "a / b"),
        ("1/(C P)", "1/(C P)"),
        ("features/conv1", "features/conv1"),
        ("../x.png", "../x.png"),
        ("https://example.org/x.png", "https://example.org/x.png"),
    ],
)
def test_absolute_paths_lose_their_folders(text: Any, expected: Any) -> None:
    assert json_ready(text) == expected


PATHS = st.text(alphabet="/\\:'\"a .\n~-")
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.complex_numbers()
    | PATHS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | inner.map(repr)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(ANYTHING)
def test_the_result_is_json_and_stays_the_same(value: Any) -> None:
    ready = json_ready(value)
    assert json.loads(json.dumps(ready, allow_nan=False)) == ready
    assert json_ready(ready) == ready


def test_a_file_is_hashed_by_its_bytes_and_a_tensor_by_type_shape_and_value_but_not_its_layout(
    tmp_path: Path,
) -> None:
    tensors = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(4).double(), torch.zeros(2).double()]
    tensors += [torch.tensor([0.0, 0, 0, 1]), torch.tensor(0.0), torch.zeros(0)]
    tensors += [torch.zeros(4).bfloat16()]
    assert len({hash_values(tensor) for tensor in tensors}) == len(tensors)
    image = torch.rand(1, 3, 4, 5)
    assert hash_values(image) == hash_values(image.to(memory_format=torch.channels_last))
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert hash_file(path) == hashlib.sha256(b"abc").hexdigest()


def test_networks_differ_by_weights_and_arithmetic() -> None:
    one, shifted = tiny_extractor(), tiny_extractor()
    shifted.mean[0, 0] += 1
    weights = Weights(one.state_dict(), one.weights)
    changes: list[dict[str, Any]] = [{"pooling": "average"}, {"padding": "replicate"}]
    networks = [one, shifted, tiny_extractor(seed=1)]
    networks += [FeatureExtractor(weights, **change) for change in changes]
    assert len({hash_network(network) for network in networks}) == 5
    assert hash_network(one) == hash_network(tiny_extractor())
