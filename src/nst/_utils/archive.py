"""Plain values and tensors in one file, in which nothing is pickled.

A ZIP archive without compression: a JSON text for the values, and the bytes of every tensor as they
lie in memory, with shape and strides. What is read has the same bits in the same order, so that
whatever is computed from it is the same, too.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_archive", "check_values", "read_archive", "read_values", "write_archive"]

_VALUES = "values.json"
_TYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
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
    )
}


def write_archive(file: BinaryIO, value: Any) -> None:
    """Write a value, one tensor after the other.

    Args:
        file: Open for writing.
        value: None, a truth value, number, text or dense tensor; or a list, a tuple, or a mapping
            from texts or whole numbers, of such values.

    Raises:
        TypeError: A part is of another type.
        OSError: The file cannot be written.
    """
    tensors: list[Tensor] = []
    text = json.dumps(_packed(value, "value", tensors), allow_nan=False)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_VALUES), text)
        for i, tensor in enumerate(tensors):
            with archive.open(str(i), "w", force_zip64=True) as entry:
                entry.write(_bytes_of(tensor))


def check_values(name: str, value: Any) -> None:
    """Raise for what `write_archive` would refuse.

    Args:
        name: What the value is called in messages.
        value: As for `write_archive`.

    Raises:
        TypeError: A part is of another type.
    """
    _packed(value, name, [])


def read_archive(file: BinaryIO) -> Any:
    """Return what `write_archive` wrote; tensors are on the CPU.

    Args:
        file: Open for reading.

    Raises:
        Exception: It is no such archive, or is damaged: of nearly any type.
    """
    return _read(file, tensors=True)


def read_values(file: BinaryIO) -> Any:
    """Return what `write_archive` wrote, with None in place of tensors, which are not read.

    Args:
        file: Open for reading.

    Raises:
        Exception: It is no such archive, or is damaged: of nearly any type.
    """
    return _read(file, tensors=False)


def check_archive(file: BinaryIO) -> None:
    """Refuse a ZIP archive that is larger inside than outside: it could fill the memory.

    Args:
        file: Open for reading; it is left at its beginning.

    Raises:
        ValueError: A part is compressed, or shared.
        Exception: It is no archive, or is damaged: of nearly any type.
    """
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("it is compressed")
    if sum(part.file_size for part in parts) > file.seek(0, os.SEEK_END):
        raise ValueError("its parts overlap")
    file.seek(0)


def _read(file: BinaryIO, *, tensors: bool) -> Any:
    check_archive(file)
    with zipfile.ZipFile(file) as archive:
        values = json.loads(archive.read(_VALUES))
        return _unpacked(values, _Parts(archive) if tensors else None)


class _Parts:
    """Hands out the parts of an archive, each once, lest a small file become large."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._left = {part.filename: part for part in archive.infolist()}

    def take(self, name: str, size: int) -> bytes:
        part = self._left.pop(name)
        if part.file_size != size:
            raise ValueError("a tensor has another size than it should")
        return self._archive.read(part)


def _packed(value: Any, where: str, tensors: list[Tensor]) -> Any:
    """Return what JSON can hold of a value, whose tensors are collected.

    Numbers, texts and lists stand for themselves; everything else is an object of one key.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, Tensor):
        return _packed_tensor(value, where, tensors)
    if isinstance(value, (list, tuple)):
        items = [_packed(each, f"{where}[{i}]", tensors) for i, each in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                raise TypeError(
                    f"`{where}` has the key {key!r}; keys must be texts or whole numbers."
                )
        pairs = [[k, _packed(each, f"{where}[{k!r}]", tensors)] for k, each in value.items()]
        return {"mapping": pairs}
    raise TypeError(
        f"`{where}` is a {type(value).__name__}, which cannot be kept without pickling it. Use "
        "plain values and tensors."
    )


def _packed_tensor(value: Tensor, where: str, tensors: list[Tensor]) -> dict[str, Any]:
    kind = str(value.dtype).removeprefix("torch.")
    if kind not in _TYPES or value.layout != torch.strided:
        raise TypeError(
            f"`{where}` is a tensor of {value.dtype}, {value.layout}; it must be dense, of a usual "
            "type."
        )
    value = value.detach()
    if not _is_dense(value.shape, value.stride()):
        value = value.contiguous()
    tensors.append(value)
    shape, stride = list(value.shape), list(value.stride())
    return {"tensor": {"index": len(tensors) - 1, "type": kind, "shape": shape, "stride": stride}}


def _is_dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether the numbers lie side by side in memory, in whatever order; and there is one."""
    reach = 1 + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    return math.prod(shape) == reach


def _bytes_of(tensor: Tensor) -> memoryview:
    if tensor.numel() == 0:
        return memoryview(b"")
    return _flat(tensor).cpu().view(torch.uint8).numpy().data


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _unpacked(value: Any, parts: _Parts | None) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_unpacked(each, parts) for each in content)
    if kind == "mapping":
        return {key: _unpacked(each, parts) for key, each in content}
    if kind == "tensor":
        return None if parts is None else _read_tensor(content, parts)
    raise ValueError(f"it has a {kind!r}")


def _read_tensor(about: dict[str, Any], parts: _Parts) -> Tensor:
    shape, stride, dtype = tuple(about["shape"]), tuple(about["stride"]), _TYPES[about["type"]]
    content = parts.take(str(about["index"]), math.prod(shape) * dtype.itemsize)
    if not content:
        return torch.empty(shape, dtype=dtype)
    if not _is_dense(shape, stride) or min(shape, default=1) < 1 or min(stride, default=0) < 0:
        raise ValueError("a tensor has another shape than it should")
    # In memory of torch's own alignment, which a sum's order may depend on.
    flat = torch.empty(len(content), dtype=torch.uint8)
    flat.numpy()[:] = np.frombuffer(content, dtype=np.uint8)
    return flat.view(dtype).as_strided(shape, stride)
