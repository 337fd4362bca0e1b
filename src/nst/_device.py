"""Which device to work on."""

from __future__ import annotations

import torch

__all__ = ["resolve_device"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the `device` argument into a device that can be used here.

    Args:
        device: `"auto"` (CUDA, else MPS, else CPU), or what `torch.device` takes.

    Raises:
        TypeError: Neither a name nor a `torch.device`.
        ValueError: An unknown device, or one that this machine does not have.
    """
    if not isinstance(device, (str, torch.device)):
        raise TypeError(f"`device` is {device!r}; pass 'auto', 'cpu', 'cuda' or a torch.device.")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=resolved)  # a known name may still be out of reach
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"`device` is {str(device)!r}, which cannot be used here "
            f"({str(error).splitlines()[0]}). Use 'auto' or 'cpu'."
        ) from error
    return resolved
