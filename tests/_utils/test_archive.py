"""Plain values and tensors in a file: the same bits in the same order, and nothing else."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nst._utils.archive import check_values, read_archive, read_values, write_archive

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: (
        st.lists(each, max_size=3)
        | st.tuples(each, each)
        | st.dictionaries(st.text() | st.integers(), each, max_size=3)
    ),
    max_leaves=8,
)
TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def written(value: Any) -> io.BytesIO:
    file = io.BytesIO()
    write_archive(file, value)
    return file


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    file = written(value)
    assert repr(read_archive(file)) == repr(value)
    assert repr(read_values(file)) == repr(value)


def test_numbers_that_json_lacks_come_back() -> None:
    found = read_archive(written([math.inf, -math.inf, math.nan, -0.0, 5e-324]))
    assert repr(found) == "[inf, -inf, nan, -0.0, 5e-324]"


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_come_back_with_type_shape_and_order_in_memory(dtype: torch.dtype) -> None:
    whole = (torch.rand(2, 3, 4, 5) * 100).to(dtype)
    dense = [
        whole,
        whole.contiguous(memory_format=torch.channels_last),
        whole.permute(3, 1, 0, 2),
        whole[1:],
        whole[0, 0, 0, 0],
    ]
    with_gaps = [whole[:, 1, 2, 3], whole[:1].expand(4, -1, -1, -1), whole[:0], whole.new_empty(0)]
    found = read_archive(written({"a": (dense, with_gaps)}))["a"]
    for each, tensor in zip([*found[0], *found[1]], [*dense, *with_gaps], strict=True):
        assert each.dtype == dtype and torch.equal(each, tensor)
        assert each.data_ptr() % 64 == 0  # as torch has it, for sums that depend on that
    assert [each.stride() for each in found[0]] == [tensor.stride() for tensor in dense]


def test_a_tensor_that_is_not_a_number_keeps_its_bits() -> None:
    bits = torch.tensor([0x7FC00001, 0x7F800000], dtype=torch.int32)
    found = read_archive(written(bits.view(torch.float32)))
    assert torch.equal(found.view(torch.int32), bits)


def test_values_can_be_read_without_the_tensors() -> None:
    file = written({"record": {"a": 1}, "pixels": torch.ones(3)})
    assert read_values(file) == {"record": {"a": 1}, "pixels": None}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [Path("b")]}, r"`value\['a'\]\[0\]` is a PosixPath, which cannot be kept"),
        ([object()], "is a object, which cannot be kept without pickling it"),
        ({1.5: 2}, r"has the key 1\.5; keys must be texts or whole numbers"),
        ({True: 2}, "has the key True"),
        (torch.ones(2).to_sparse(), "it must be dense"),
        (torch.ones(2, dtype=torch.complex64), "tensor of torch.complex64"),
    ],
)
def test_anything_else_is_refused_before_anything_is_written(value: Any, message: str) -> None:
    file = io.BytesIO()
    with pytest.raises(TypeError, match=message):
        write_archive(file, value)
    assert file.getvalue() == b""
    with pytest.raises(TypeError, match=message):
        check_values("value", value)


def forged(about: Any, content: bytes, compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("values.json", json.dumps(about))
        archive.writestr("0", content)
    return file


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**6, 10**6]},
        {"shape": [5]},
        {"shape": [-2, -2]},
        {"stride": [1000]},
        {"stride": [-1]},
        {"stride": [1, 1]},
        {"type": "pickle"},
        {"index": "../../etc/passwd"},
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    about = {"index": 0, "type": "float32", "shape": [4], "stride": [1], **changes}
    with pytest.raises((ValueError, KeyError, RuntimeError)):
        read_archive(forged({"tensor": about}, bytes(16)))


def test_what_is_compressed_is_refused() -> None:
    about = {"tensor": {"index": 0, "type": "uint8", "shape": [10**6], "stride": [1]}}
    with pytest.raises(ValueError, match="compressed"):
        read_archive(forged(about, bytes(10**6), zipfile.ZIP_DEFLATED))


@given(PLAIN)
def test_any_other_json_raises_an_ordinary_error(value: Any) -> None:
    try:
        read_archive(forged(value, b""))
    except Exception as error:
        assert not isinstance(error, (SystemError, MemoryError))


def rewritten(change: Any) -> io.BytesIO:
    """Return an archive of two tensors whose values have been changed."""
    file = io.BytesIO()
    tensors = written([torch.ones(3), torch.zeros(3)])
    with zipfile.ZipFile(tensors) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "values.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content)
    return file


def test_a_tensor_is_read_once_lest_a_small_file_become_large() -> None:
    with pytest.raises(KeyError):
        read_archive(rewritten(lambda values: values[:1] * 1000))
    assert len(read_archive(rewritten(lambda values: values))) == 2
