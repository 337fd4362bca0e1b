"""The device to compute on, and plain arithmetic there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that the `device` argument names, if it can be used here.

    `"auto"` is CUDA, else MPS, else the CPU.
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
        torch.empty(0, device=resolved)  # the machine may lack a known device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"`device` is {str(device)!r}, which cannot be used here "
            f"({str(error).splitlines()[0]}). Use 'auto' or 'cpu'."
        ) from error
    return resolved


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Turn off the caller's autocast and inference mode."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda", "mps"):
            # PyTorch 2.4 has no autocast on MPS, and raises an error for it.
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
