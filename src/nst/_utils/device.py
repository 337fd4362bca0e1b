"""Which device to work on, and that its numbers are computed as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["plain_arithmetic", "resolve_device"]


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


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Let tensors be computed in their own type and with gradients, whatever the caller has set."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda", "mps"):
            # PyTorch 2.4 knows no autocast on MPS, and raises when asked.
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
