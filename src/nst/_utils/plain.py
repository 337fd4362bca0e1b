"""Convert values to JSON, without the names of folders, or hash them, for records."""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
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
# Folders of absolute paths, up to the last slash of a line or quotation: names may have spaces.
_FOLDERS = re.compile(
    r"(?<![\w.~/\\-])"  # not within a relative path
    r"(?:file:/+|[A-Za-z]:[\\/]+|\\\\|/(?!/)|(?<!:)//+)"  # but no https://
    r"(?=[^\s/\\])"
    r"""(?:[^'"\n]*[\\/])?"""
)


def json_ready(value: Any, depth: int = 0) -> Any:
    """Convert a value, within `depth` containers, to one that JSON supports; never raise.

    A path becomes its last part, a set a sorted list, and an unknown object its `repr` without
    memory addresses, or its type. Absolute paths in strings lose their folders, for privacy.

    Examples:
        >>> json_ready({"seed": np.int64(7), "end": math.inf, "brush": PurePath("/home/me/a.png")})
        {'seed': 7, 'end': 'inf', 'brush': 'a.png'}
    """
    try:
        if value is None or isinstance(value, (bool, np.bool_)):
            return None if value is None else bool(value)
        if isinstance(value, Integral):
            number = int(value)  # most readers of JSON support no more than 64 bits
            return number if -(2**63) <= number < 2**64 else hex(number)
        if isinstance(value, Real):
            return float(value) if math.isfinite(value) else repr(float(value))
        if isinstance(value, str):
            text = str.__str__(value)
            while (shorter := _FOLDERS.sub("", text)) != text:
                text = shorter
            return text
        if isinstance(value, os.PathLike):
            return json_ready(PurePath(os.fsdecode(value)).name)
        if isinstance(value, (np.ndarray, Tensor)):
            if math.prod(value.shape) > _MOST_VALUES:
                return f"<{type(value).__name__} of {value.dtype}, {tuple(value.shape)}>"
            return json_ready(value.tolist(), depth)
        depth += 1
        if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth <= _DEEPEST:
            ready = [json_ready(each, depth) for each in value]
            if isinstance(value, Mapping):
                names = (key if isinstance(key, str) else json.dumps(key) for key in ready)
                converted = (json_ready(each, depth) for each in value.values())
                return dict(zip(names, converted, strict=True))
            # The order of a set depends on the process.
            return sorted(ready, key=json.dumps) if isinstance(value, (set, frozenset)) else ready
        return json_ready(_ADDRESS.sub("", repr(value)))
    except Exception:  # a user's object may raise anything
        return f"<{type(value).__name__}>"


def hash_values(values: Tensor | npt.NDArray[Any]) -> str:
    """Return the SHA-256 of dtype, shape and values; PyTorch and NumPy lack types of each other."""
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    if isinstance(values, Tensor):
        flat = values.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    else:
        digest.update(values.tobytes())
    return digest.hexdigest()


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with Path(os.fsdecode(path)).open("rb") as file:
        while part := file.read(1 << 20):  # the file may be larger than the memory
            digest.update(part)
    return digest.hexdigest()


class OwnHook(partial[Any]):
    """A hook of nst itself, which is registered for a single pass of one thread."""


def hooks_of(module: nn.Module, kinds: Sequence[str] = ("forward", "backward")) -> list[Any]:
    """Return the user's hooks of a module and all in it, and those of all modules."""
    names = [f"{kind}{pre}_hooks" for kind in kinds for pre in ("", "_pre")]
    found = [getattr(nn.modules.module, f"_global_{name}", {}) for name in names]
    found += [getattr(each, f"_{name}") for each in module.modules() for name in names]
    # A copy of each, as another thread may register its own.
    every = [hook for hooks in found for hook in list(hooks.values())]
    return [hook for hook in every if not isinstance(hook, OwnHook)]


def hash_network(network: nn.Module) -> str:
    """Hash what affects a network's features: settings, tensors and hooks of its modules.

    Of a hook, only the name is known, which is the same in other processes.
    """
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        # The settings of an extractor of nst, whose `extra_repr` shows others.
        about = getattr(module, "fingerprint_settings", module.extra_repr)()
        digest.update(f"{name} {type(module).__name__} {_ADDRESS.sub('', str(about))}".encode())
        if hooks := hooks_of(module):
            names = [getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks]
            digest.update(f" with {names}".encode())
    tensors = {**dict(network.named_buffers()), **network.state_dict()}
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {hash_values(value)}".encode())
    return digest.hexdigest()


def fingerprint(network: nn.Module) -> str | None:
    """Return `hash_network`; None for a network with hooks or a state that cannot be hashed."""
    try:
        return None if hooks_of(network) else hash_network(network)
    except Exception:  # a user's module may hold anything
        return None
