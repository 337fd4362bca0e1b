"""Store plain values and tensors with `torch.save`, and read untrusted files.

They are checked before `torch.load`: nothing is executed, or uses more memory than the file's size.
"""

import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from nst._utils.checks import file_path
from nst._utils.device import is_exhausted
from nst._utils.files import write_whole
from nst._utils.schema import Rule, check
from nst._utils.text import one_line

_DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8}
_DTYPES |= {torch.int64, torch.int32, torch.int16, torch.int8}
# What `torch.save` needs for plain values and tensors; `torch.load` accepts more.
_OPCODES = re.compile(
    r"PROTO|STOP|MARK|NONE|NEW(TRUE|FALSE)|BININT[12]?|LONG1|BINFLOAT|BINUNICODE|TUPLE[123]?|"
    r"EMPTY_(LIST|TUPLE|DICT)|APPENDS?|SETITEMS?|(LONG_)?BIN(PUT|GET)|BINPERSID|REDUCE"
)
_GLOBALS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")


@dataclass(frozen=True)
class FileFormat:
    """A kind of file that stores one value; `remedy` ends the message for an unreadable one."""

    name: str
    version: int
    schema: Rule
    remedy: str

    def write(self, path: Path, value: Any, *, sole_writer: bool = False) -> None:
        """Write a value; raise as `check_values` and `write_whole` do."""
        content = {"format": f"nst {self.name}", "version": self.version}
        content["value"] = _copy(value, "value", _owner())

        def save(file: BinaryIO) -> None:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch's own, which hides the error of the file
                raise error.__context__ or OSError(str(error)) from None

        write_whole(path, save, sole_writer=sole_writer)

    def read(self, path: str | os.PathLike[str], part: str | None = None) -> Any:
        """Return the value that `write` wrote, or a part of it, on the CPU; or raise `refusal`."""
        path = file_path("path", path)
        if not path.is_file():
            raise FileNotFoundError(f"`path` is {str(path)!r}, which is not a file. Check it.")
        try:
            _check_archive(path, tensors=part is None)
            # torch cannot map a file whose name is not UTF-8.
            mmap = str(path).encode(errors="ignore") == os.fsencode(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            header = content["format"], content["version"]
            if header != (f"nst {self.name}", self.version):
                raise ValueError(f"its format is {header}")
            value, rule = content["value"], self.schema
            if part is not None:
                value, rule = value[part], rule[part]
            value = _copy(value, "value", _budget(path.stat().st_size))
            check(value, rule)
            return value
        except PermissionError:
            raise
        except Exception as error:  # a damaged file can raise nearly anything
            raise self.refusal(path, error) from error

    def refusal(self, path: str | os.PathLike[str], error: Exception) -> ValueError | MemoryError:
        """Return the error to raise for a file that caused another error."""
        what = f"`path` is {os.fsdecode(path)!r}, which"
        if isinstance(error, MemoryError) or is_exhausted(error):
            return MemoryError(
                f"{what} needs more memory than is free. Use a machine that has it, or close "
                "other programs."
            )
        return ValueError(
            f"{what} cannot be read ({one_line(error)}); it must be a {self.name} of version "
            f"{self.version}. {self.remedy}"
        )


def check_values(name: str, value: Any) -> None:
    """Raise `TypeError` unless a value consists of plain values and dense tensors.

    They may be in lists, tuples, and mappings from strings or whole numbers.
    """
    _copy(value, name, lambda part: part)


def _copy(value: Any, where: str, take: Callable[[Any], Any]) -> Any:
    """Return a copy made of plain values; `take` maps each part, and copies tensors."""
    if isinstance(value, Tensor) and (
        value.dtype not in _DTYPES or value.layout != torch.strided or value.is_meta
    ):
        raise TypeError(
            f"`{where}` is a tensor of {value.dtype}, {value.layout}, {value.device}; it must be "
            "dense, have values, and be of a usual type."
        )
    value = take(value)
    if value is None or isinstance(value, (bool, Tensor)):
        return value
    if isinstance(value, (int, float)):  # NumPy's numbers would be pickled as objects
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        items = [_copy(each, f"{where}[{i}]", take) for i, each in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{where}` is a {type(value).__name__}, which cannot be stored without pickling it. "
            "Use plain values and tensors."
        )
    for key in value:
        if isinstance(key, bool) or not isinstance(key, (int, str)):
            raise TypeError(f"`{where}` has the key {key!r}; keys must be strings or integers.")
    return {
        _copy(key, where, take): _copy(each, f"{where}[{key!r}]", take)
        for key, each in value.items()
    }


def _owner() -> Callable[[Any], Any]:
    """Return a function that copies views and shared tensors into memory of their own."""
    # `torch.save` stores the whole memory of a view, and shared memory only once.
    seen: set[int] = set()

    def take(part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        tensor = part.detach().as_subclass(Tensor).cpu()
        memory = tensor.untyped_storage()
        if memory.nbytes() != tensor.nbytes or memory.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        return tensor

    return take


def _budget(size: int) -> Callable[[Any], Any]:
    """Return a function that copies tensors of a file; it raises if they exceed the file's size."""

    def take(part: Any) -> Any:
        nonlocal size
        size -= 1 + (part.nbytes if isinstance(part, Tensor) else 0)
        if size < 0:
            raise ValueError("it has parts that repeat")
        return part.detach().clone() if isinstance(part, Tensor) else part

    return take


def check_expansion(path: Path) -> None:
    """Raise for an archive whose parts take more memory than the file has bytes."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts overlap or are compressed")


def _check_archive(path: Path, *, tensors: bool) -> None:
    """Raise if a file contains more than plain values and tensors, or damaged ones if `tensors`."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        # It could fill the memory.
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("it is compressed")
        check_expansion(path)
        # torch ignores case, and treats a file with `constants.pkl` as a program.
        names = {part.filename.lower() for part in parts}
        alone = len(names) == len(parts) and all(name.startswith("archive/") for name in names)
        if not alone or "archive/constants.pkl" in names:
            raise ValueError("it has other parts than values and tensors")
        if tensors and archive.testzip() is not None:
            raise ValueError("its checksum is wrong")
        pickled = archive.read("archive/data.pkl")
    for opcode, argument, _ in pickletools.genops(pickled):
        pattern, name = _OPCODES, opcode.name
        if name == "GLOBAL":
            pattern, name = _GLOBALS, str(argument)
        if not pattern.fullmatch(name):
            raise ValueError(f"it has {argument!r}, which is neither a value nor a tensor")
