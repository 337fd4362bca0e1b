"""What the figures of a benchmark depend on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

__all__ = ["describe_machine", "megabytes"]


def describe_machine() -> str:
    """Return the processor, its instructions, the threads and the versions, in a line."""
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    name = models[0].split(":")[1].strip() if models else platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {capability}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def megabytes(name: str, pid: int | None = None) -> float:
    """Return how much memory a process has or had; 0 if it is gone.

    Args:
        name: `VmRSS` for now, `VmHWM` for the most so far.
        pid: Which process; this one by default.
    """
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith(f"{name}:")), 0.0)
