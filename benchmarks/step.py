"""Seconds per step of StyleTransfer against a hand-written loop of the same layers.

    python benchmarks/step.py [--size 256] [--steps 5] [--repeats 7]

Both optimize the same picture with Adam, the same layers, Gram matrices and content loss, on the
same weights. The hand-written loop is the shortest that does the same: torchvision's layer list,
`autograd` and `torch.optim.Adam`. They alternate; the medians and the ratio of each pair are
printed, with the machine.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst import CONTENT_LAYERS, STYLE_LAYERS, FeatureExtractor, StyleTransfer
from nst._weights import CONVOLUTIONS, load_weights


class HandWritten:
    """What somebody writes in an afternoon: no library, no checks, no callbacks."""

    def __init__(self, content: Tensor, style: Tensor) -> None:
        weights = load_weights("auto")
        self.mean = torch.tensor(weights.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(weights.std).view(1, 3, 1, 1)
        layers: list[nn.Module] = []
        self.names: dict[int, str] = {}
        block = "1"
        for name in CONVOLUTIONS[: CONVOLUTIONS.index("conv5_1") + 1]:
            if name[4] != block:
                layers.append(nn.MaxPool2d(2))
                block = name[4]
            kernel = weights.tensors[f"{name}.weight"]
            layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            layer.weight.data, layer.bias.data = kernel, weights.tensors[f"{name}.bias"]  # type: ignore[union-attr]
            layers += [layer, nn.ReLU(inplace=True)]
            self.names[len(layers) - 1] = name.replace("conv", "relu")
        self.network = nn.Sequential(*layers).requires_grad_(False)
        with torch.no_grad():
            self.content = self.features(content)["relu4_2"]
            self.grams = {n: gram(f) for n, f in self.features(style).items() if n in STYLE_LAYERS}

    def features(self, x: Tensor) -> dict[str, Tensor]:
        features, x = {}, (x - self.mean) / self.std
        for i, layer in enumerate(self.network):
            x = layer(x)
            name = self.names.get(i)
            if name in STYLE_LAYERS or name in CONTENT_LAYERS:
                features[name] = x
        return {str(name): feature for name, feature in features.items()}

    def run(self, image: Tensor, steps: int) -> None:
        image = image.clone().requires_grad_()
        optimizer = torch.optim.Adam([image], lr=0.02)
        for _ in range(steps):
            features = self.features(image)
            loss = 0.02 * F.mse_loss(features["relu4_2"], self.content)
            for name, target in self.grams.items():
                loss = loss + F.mse_loss(gram(features[name]), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            image.data.clamp_(0, 1)


def gram(feature: Tensor) -> Tensor:
    flat = feature.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


class Stopwatch:
    """Seconds between the ends of steps, as a callback."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __call__(self, state: object) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, arguments.size, arguments.size)
    content, style = (torch.rand(shape, generator=generator) for _ in range(2))
    loop = HandWritten(content, style)
    transfer = StyleTransfer(
        FeatureExtractor(), optimizer="adam", num_scales=1, num_steps=arguments.steps + 1
    )
    loop.run(content, 1)  # warm up
    ours, theirs = [], []
    for _ in range(arguments.repeats):
        watch = Stopwatch()
        transfer.run(content, style, callbacks=[watch])
        ours.append((watch.ends[-1] - watch.ends[0]) / arguments.steps)
        start = time.perf_counter()
        loop.run(content, arguments.steps)
        theirs.append((time.perf_counter() - start) / arguments.steps)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, "
        f"{arguments.size} px, {arguments.repeats} repeats of {arguments.steps} steps"
    )
    print(f"StyleTransfer      {statistics.median(ours):.3f} s per step")
    print(f"hand-written loop  {statistics.median(theirs):.3f} s per step")
    print(
        f"ratio              {statistics.median(ratios):.3f} "
        f"(from {min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
