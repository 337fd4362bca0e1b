"""What the figures of a benchmark depend on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

__all__ = ["describe_machine"]


def describe_machine() -> str:
    """Return the processor, its instructions, the threads and the versions, in a line."""
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    name = models[0].split(":")[1].strip() if models else platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {capability}, {torch.get_num_threads()} threads, torch {torch.__version__}"
