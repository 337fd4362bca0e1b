"""Plain values and tensors in a file keep their bits, and nothing else is read."""

import io
import math
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nst._utils.tensors import _DTYPES, FileFormat, check_values

FILE = FileFormat("test file", 3, lambda name, value: None, "Make another.")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: (
        st.lists(each, max_size=3)
        | st.tuples(each, each)
        | st.dictionaries(st.text() | st.integers(), each, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def read_again(value: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        FILE.write(Path(folder) / "file", value)
        return FILE.read(Path(folder) / "file")


@given(PLAIN)
def test_plain_values_are_read_as_they_were_written(value: Any) -> None:
    assert repr(read_again(value)) == repr(value)


def test_unusual_numbers_are_read_as_plain_ones_and_nan_keeps_its_bits() -> None:
    value = [math.inf, -math.inf, math.nan, -0.0, 5e-324, np.float64(0.5), "\ud800", 2**70]
    text = r"[inf, -inf, nan, -0.0, 5e-324, 0.5, '\ud800', 1180591620717411303424]"
    assert repr(read_again(value)) == text
    assert repr(read_again({np.str_("a"): 1})) == "{'a': 1}"
    bits = torch.tensor([0x7FC00001, 0x7F800000], dtype=torch.int32)
    assert torch.equal(read_again(bits.view(torch.float32)).view(torch.int32), bits)


@pytest.mark.parametrize("dtype", sorted(_DTYPES, key=str))
def test_tensors_keep_dtype_shape_and_strides(dtype: torch.dtype) -> None:
    whole = (torch.rand(2, 3, 4, 5) * 100).to(dtype)
    dense = [whole, whole.contiguous(memory_format=torch.channels_last)]
    dense += [whole.permute(3, 1, 0, 2), whole[1:], whole[0, 0, 0, 0]]
    with_gaps = [whole[:, 1, 2, 3], whole[:1].expand(4, -1, -1, -1), whole[:0], whole.new_empty(0)]
    found = read_again({"a": (dense, with_gaps)})["a"]
    for each, tensor in zip([*found[0], *found[1]], [*dense, *with_gaps], strict=True):
        assert each.dtype == dtype and torch.equal(each, tensor)
        assert each.data_ptr() % 64 == 0  # as torch aligns tensors: sums can depend on it
    assert [each.stride() for each in found[0]] == [tensor.stride() for tensor in dense]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 elsewhere")
@pytest.mark.parametrize("name", [b"\xff", "写真 🎨".encode()])
def test_a_file_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    FILE.write(path, torch.ones(3))
    assert torch.equal(FILE.read(path), torch.ones(3))


def test_a_view_is_stored_without_the_rest_and_shares_no_memory_when_read(path: Path) -> None:
    tensor = torch.zeros(1_000_000)[:4]
    FILE.write(path, [tensor, tensor.view(2, 2)])
    assert path.stat().st_size < 3000
    one, other = FILE.read(path)
    one += 1
    assert float(other.sum()) == 0


def test_a_part_is_read_without_the_tensors_and_named_if_it_breaks_the_schema(path: Path) -> None:
    file = FileFormat("test file", 3, {"record": {"a": int}, "pixels": {}}, "")
    file.write(path, {"record": {"a": 1}, "pixels": torch.ones(100_000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # a part that is not read may be damaged
    path.write_bytes(bytes(content))
    assert file.read(path, part="record") == {"a": 1}
    with pytest.raises(ValueError, match="its checksum is wrong"):
        file.read(path)
    file.write(path, {"record": {"a": "x"}, "pixels": {}})
    with pytest.raises(ValueError, match=r"`record.a` is 'x'; it must be a whole number"):
        file.read(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [Path("b")]}, r"`value\['a'\]\[0\]` is a PosixPath, which cannot be stored"),
        ([object()], "is a object, which cannot be stored without pickling it"),
        ({1.5: 2}, r"has the key 1\.5; keys must be strings or integers"),
        ({True: 2}, "has the key True"),
        (torch.ones(2).to_sparse(), "it must be dense"),
        (torch.ones(2, device="meta"), "it must be dense, have values"),
        (torch.ones(2, dtype=torch.complex64), "tensor of torch.complex64"),
    ],
)
def test_other_values_are_refused_before_any_writing(value: Any, message: str, path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        FILE.write(path, value)
    assert not path.exists()
    with pytest.raises(TypeError, match=message):
        check_values("value", value)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("room", [10, 1000, 100_000])
def test_an_error_of_the_file_is_raised_as_it_is(
    error: BaseException, room: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            if self.tell() + len(content) > room:
                raise error
            return super().write(content)

        def fileno(self) -> int:
            return 0

    monkeypatch.setattr("nst._utils.tensors.write_whole", lambda path, write, **_: write(Full()))
    with pytest.raises(type(error)) as caught:
        FILE.write(path, torch.ones(100_000))
    assert caught.value is error


def saved(path: Path, value: Any, **header: Any) -> None:
    with path.open("wb") as file:
        torch.save({"format": "nst test file", "version": 3, **header, "value": value}, file)


def refused(path: Path, reason: str) -> None:
    message = rf"^`path` is '.*', which cannot be read \({reason}.*\); it must be a test file of "
    with pytest.raises(ValueError, match=message + r"version 3\. Make another\.$"):
        FILE.read(path)


DEPTH = 100_000
DEEP = pickle.dumps({"format": "nst test file", "version": 3, "value": 1}, protocol=2)
DEEP = DEEP.removesuffix(b"K\x01u.") + b"]" * DEPTH + b"a" * (DEPTH - 1) + b"u."


@pytest.mark.parametrize(
    ("value", "change", "compression", "reason"),
    [
        (torch.ones(4), lambda p: p.replace(b"K\x04\x85", b"J\x00\xca\x9a\x3b\x85"), 0, ""),
        (torch.ones(4), lambda p: p.replace(b"K\x04\x85", b"J\xfc\xff\xff\xff\x85"), 0, ""),
        (torch.ones(4), lambda p: p.replace(b"K\x01\x85", b"J\xff\xff\xff\xff\x85"), 0, ""),
        (torch.ones(4), lambda p: p.replace(b"QK\x00", b"QK\x03"), 0, ""),
        (torch.ones(4), lambda p: p.replace(b"X\x01\0\0\x000", b"X\x01\0\0\x007"), 0, ""),
        (1, lambda p: DEEP, 0, "maximum recursion depth"),
        (torch.zeros(1_000_000), lambda p: p, zipfile.ZIP_DEFLATED, "it is compressed"),
    ],
    ids=["10**9 numbers", "-4 numbers", "stride", "offset", "member", "depth", "compressed"],
)
def test_a_file_that_contradicts_itself_or_expands_is_refused(
    value: Any, change: Callable[[bytes], bytes], compression: int, reason: str, path: Path
) -> None:
    FILE.write(path, value)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    refused(path, reason)


@pytest.mark.parametrize("name", ["constants.pkl", "DATA.pkl"])  # of a program; of one more value
def test_a_file_with_other_or_overlapping_members_is_refused(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE.write(path, torch.ones(100))
    with zipfile.ZipFile(path, "a") as archive:
        listed = archive.infolist() * 50
        archive.writestr(f"archive/{name}", b"")
    refused(path, "it has other parts")
    FILE.write(path, torch.ones(100))
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: listed)
    refused(path, "its parts overlap")


def test_another_kind_or_version_or_file_of_torch_is_refused(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="which is not a file"):
        FILE.read(path)
    saved(path, 1, version=4)
    refused(path, r"its format is \('nst test file', 4\)")
    saved(path, 1, format="other")
    refused(path, r"its format is \('other', 3\)")
    content = {"format": "nst test file", "version": 3, "value": 1}
    for data in (pickle.dumps(content), b"nothing" * 1000):
        path.write_bytes(data)
        refused(path, "")
    torch.save(content, path, _use_new_zipfile_serialization=False)
    refused(path, "")


def test_a_file_cut_short_is_refused_and_a_flipped_bit_is_noticed_or_changes_nothing(
    path: Path,
) -> None:
    value = {"record": {"a": 1}, "pixels": [torch.ones(100), torch.zeros(7)]}
    FILE.write(path, value)
    whole, noticed = path.read_bytes(), 0
    for length in (*range(0, len(whole), len(whole) // 20), len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "")
    for place in range(0, len(whole), len(whole) // 100):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(bytes(damaged))
        try:
            assert repr(FILE.read(path)) == repr(value)  # it is between two parts
        except ValueError:
            noticed += 1
    assert noticed > 50


class Hostile:
    """Creates a file when it is unpickled without care."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("value", [Hostile(), bytearray(9), torch.nn.Parameter(torch.ones(1))])
def test_nothing_is_called_or_made_but_tensors(
    value: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    saved(path, value)
    refused(path, "it has .*, which is neither a value nor a tensor")
    assert not Path("executed").exists()


def test_parts_that_repeat_do_not_fill_the_memory(path: Path) -> None:
    laughs: Any = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    for value in (laughs, [torch.zeros(1000)] * 10, torch.zeros(1).expand(10**12)):
        saved(path, value)
        refused(path, "it has parts that repeat")
