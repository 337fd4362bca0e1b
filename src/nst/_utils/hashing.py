"""Fingerprints: whether two networks, pictures or files are the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["fingerprint", "hash_array", "hash_file", "hash_network", "hash_tensor"]


def hash_tensor(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and values.

    Args:
        tensor: Of any type, on any device.

    Examples:
        >>> hash_tensor(torch.zeros(2)) == hash_tensor(torch.zeros(1, 2))
        False
    """
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    # As bytes: numpy lacks some of torch's types.
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def hash_array(array: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of an array's type, shape and values.

    Args:
        array: Of any type, also those that torch lacks.
    """
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content.

    Args:
        path: A regular file.
    """
    digest = hashlib.sha256()
    with Path(os.fsdecode(path)).open("rb") as file:
        # In parts: a file that only has the name of a picture may be of any size.
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def hash_network(network: nn.Module) -> str:
    """Return what tells networks apart whose features differ: type, weights and arithmetic.

    Args:
        network: Its parameters and buffers count, and the attributes `pooling` and `padding`.
    """
    ways = [str(getattr(network, name, None)) for name in ("pooling", "padding")]
    digest = hashlib.sha256(" ".join([type(network).__name__, *ways]).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {hash_tensor(value)}".encode())
    return digest.hexdigest()


def fingerprint(network: nn.Module) -> str | None:
    """Return `hash_network`; None for a network that holds what cannot be hashed.

    Args:
        network: Of any kind: a run's record has it, and no run fails because of its record.
    """
    try:
        return hash_network(network)
    except Exception:  # tensors without values, state that is none, whatever a module may hold
        return None
