"""Values as a record stores them: converted for JSON, without the names of folders, or hashed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_DEEPEST = 16  # nested containers; deeper ones may contain themselves
_MOST_VALUES = 64  # of an array that is converted in full

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
# The folders of an absolute path, also within a sentence or a repr. They end at the last slash of
# the line or the quotation, as names of folders may have spaces.
_FOLDERS = re.compile(
    r"(?<![\w.~/\\-])"  # not within a relative path
    r"(?:file:/+|[A-Za-z]:[\\/]+|\\\\|/(?!/)|(?<!:)//+)"  # but no https://
    r"(?=[^\s/\\])"
    r"""(?:[^'"\n]*[\\/])?"""
)


def json_ready(value: Any, depth: int = 0) -> Any:
    """Convert a value, within `depth` containers, to one that JSON can hold; it never raises.

    Numbers become plain numbers, paths their last part, mappings and sequences those of JSON, sets
    sorted lists, and anything else its `repr` without memory addresses, or the name of its type.
    Absolute paths in strings lose their folders, which could identify a person or a machine.

    Examples:
        >>> json_ready({"seed": np.int64(7), "end": math.inf, "brush": PurePath("/home/me/a.png")})
        {'seed': 7, 'end': 'inf', 'brush': 'a.png'}
    """
    try:
        if value is None or isinstance(value, (bool, np.bool_)):
            return None if value is None else bool(value)
        if isinstance(value, Integral):
            number = int(value)
            # Most readers of JSON support no longer ones.
            return number if -(2**63) <= number < 2**64 else hex(number)
        if isinstance(value, Real):
            return float(value) if math.isfinite(value) else repr(float(value))
        if isinstance(value, str):
            return _without_folders(str.__str__(value))
        if isinstance(value, os.PathLike):
            return _without_folders(PurePath(os.fsdecode(value)).name)
        if isinstance(value, (np.ndarray, Tensor)):
            if math.prod(value.shape) > _MOST_VALUES:
                return f"<{type(value).__name__} of {value.dtype}, {tuple(value.shape)}>"
            return json_ready(value.tolist(), depth)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth < _DEEPEST:
            return _container(value, depth + 1)
        return _without_folders(_ADDRESS.sub("", repr(value)))
    except Exception:  # a user's object may raise anything
        return f"<{type(value).__name__}>"


def _container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        keys = [json_ready(key, depth) for key in value]
        names = [key if isinstance(key, str) else json.dumps(key) for key in keys]
        return dict(zip(names, (json_ready(each, depth) for each in value.values()), strict=True))
    ready = [json_ready(each, depth) for each in value]
    # The order of a set differs between processes.
    return sorted(ready, key=json.dumps) if isinstance(value, (set, frozenset)) else ready


def _without_folders(text: str) -> str:
    shorter = _FOLDERS.sub("", text)
    while shorter != text:
        text, shorter = shorter, _FOLDERS.sub("", shorter)
    return text


def hash_tensor(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and values."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    # As bytes: NumPy lacks some of torch's dtypes.
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def hash_array(array: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of an array's dtype, shape and values; of dtypes that torch lacks, too."""
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with Path(os.fsdecode(path)).open("rb") as file:
        while part := file.read(1 << 20):  # the file may be larger than the memory
            digest.update(part)
    return digest.hexdigest()


def hash_network(network: nn.Module) -> str:
    """Return a hash of all that a network's features depend on: type, weights and arithmetic."""
    arithmetic = [str(getattr(network, name, None)) for name in ("pooling", "padding")]
    digest = hashlib.sha256(" ".join([type(network).__name__, *arithmetic]).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {hash_tensor(value)}".encode())
    return digest.hexdigest()


def fingerprint(network: nn.Module) -> str | None:
    """Return `hash_network`, or None if the network has a state that cannot be hashed."""
    try:
        return hash_network(network)
    except Exception:  # a user's module may hold anything
        return None
