"""Winograd's convolution against PyTorch's own at the shapes of VGG19, and how exact each is.

    python benchmarks/winograd.py [--size 512] [--repeats 9] [--threads 2]

Both ways alternate, on a picture of 4:3. Ratios are the median of the pairs; errors are relative,
against float64. The last column is what nst chooses. A machine with AVX-512 shows what others would
do with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 in the environment.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from _machine import describe_machine
from nst._network import winograd
from nst._network.stage import Stage

# Inputs, outputs and by how much the picture is smaller there.
_SHAPES = (
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 2),
    (128, 256, 4),
    (256, 256, 4),
    (256, 512, 8),
    (512, 512, 8),
    (512, 512, 16),
)


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe_machine())
    print("channels   pixels     direct  winograd  ratio   errors             chosen")
    generator = torch.Generator().manual_seed(0)
    for inputs, outputs, shrunk in _SHAPES:
        height, width = 3 * arguments.size // 4 // shrunk, arguments.size // shrunk
        image = torch.rand(1, inputs, height, width, generator=generator)
        image = image.contiguous(memory_format=torch.channels_last)
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator) / (4.5 * inputs) ** 0.5
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        layer = Stage(kernel, torch.rand(outputs, generator=generator))

        def own(image: Tensor = image, layer: Stage = layer) -> Tensor:
            with patch.object(winograd, "is_faster", lambda *_: True):
                return layer.compute(image, "conv")

        def direct(image: Tensor = image, layer: Stage = layer) -> Tensor:
            return F.conv2d(image, layer.weight, layer.bias, padding=1)

        exact = F.conv2d(image.double(), kernel.double(), layer.bias.double(), padding=1)
        errors = [float((run() - exact).norm() / exact.norm()) for run in (direct, own)]
        pairs = [(seconds(direct), seconds(own)) for _ in range(arguments.repeats)]
        a, b = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        chosen = winograd.is_faster(kernel, height, width)
        print(
            f"{inputs:3}->{outputs:3} {width:4}x{height:<4} {a:7.1f} ms {b:6.1f} ms  {ratio:.2f}   "
            f"{errors[0]:.1e} {errors[1]:.1e}    {'winograd' if chosen else 'direct'}"
        )


if __name__ == "__main__":
    main()
