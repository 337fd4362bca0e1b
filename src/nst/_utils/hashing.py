"""Hashes of networks, pictures and files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn


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
