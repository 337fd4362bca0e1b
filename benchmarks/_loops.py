"""The loops that a step of nst is compared with; each evaluates the same layers and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst import CONTENT_LAYERS, STYLE_LAYERS, FeatureExtractor, StyleTransfer, save_image
from nst.extractors.weights import CONVOLUTIONS, load_weights

__all__ = ["LOOPS", "Loop"]

Loop = Callable[[int], None]
"""Takes so many optimizer steps of one evaluation each."""

_CONTENT_WEIGHT = 0.02


def ours(content: Tensor, style: Tensor, folder: Path, *, winograd: bool = True) -> Loop:
    """Make a run of nst; its captures are part of the first of the steps."""
    extractor = FeatureExtractor(winograd=winograd)
    transfer = StyleTransfer(extractor, optimizer="adam", num_scales=1, size=None)

    def loop(steps: int) -> None:
        replace(transfer, num_steps=steps).run(content, style)

    return loop


def hand_written(content: Tensor, style: Tensor, folder: Path) -> Loop:
    """Make what somebody writes in an afternoon: no library, no checks, no callbacks."""
    return _hand_written(content, style, torch.contiguous_format)


def hand_written_channels_last(content: Tensor, style: Tensor, folder: Path) -> Loop:
    """Make the same in the memory format that is faster on CPUs."""
    return _hand_written(content, style, torch.channels_last)


def _hand_written(content: Tensor, style: Tensor, memory_format: torch.memory_format) -> Loop:
    network, mean, std = _sequential(inplace=True)
    network.to(memory_format=memory_format)
    wanted = {*STYLE_LAYERS, *CONTENT_LAYERS}

    def features(x: Tensor) -> dict[str, Tensor]:
        found, x = {}, (x - mean) / std
        for name, layer in network.named_children():
            x = layer(x)
            if name in wanted:
                found[name] = x
        return found

    with torch.no_grad():
        target = features(content)["relu4_2"]
        grams = {n: _gram(f) for n, f in features(style).items() if n in STYLE_LAYERS}

    def loop(steps: int) -> None:
        image = content.clone().requires_grad_()
        optimizer = torch.optim.Adam([image], lr=0.02)
        for _ in range(steps):
            found = features(image)
            loss = _CONTENT_WEIGHT * F.mse_loss(found["relu4_2"], target)
            for name, gram in grams.items():
                loss = loss + F.mse_loss(_gram(found[name]), gram)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            image.data.clamp_(0, 1)

    return loop


def tutorial(content: Tensor, style: Tensor, folder: Path) -> Loop:
    """Make the recipe of PyTorch's tutorial, at the layers that the paper names.

    Losses are modules within the network that pass on what they are given.
    """
    network, mean, std = _sequential(inplace=False)
    model = nn.Sequential(_Normalization(mean, std))
    losses: list[_LossWithin] = []
    for name, layer in network.named_children():
        model.add_module(name, layer)
        for layers, image, reduce in (
            (CONTENT_LAYERS, content, lambda feature: feature),
            (STYLE_LAYERS, style, _gram),
        ):
            if name in layers:
                loss = _LossWithin(model(image).detach(), reduce)
                model.add_module(f"loss_{name}_{len(losses)}", loss)
                losses.append(loss)
    model.requires_grad_(False)

    def loop(steps: int) -> None:
        image = content.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([image], max_iter=steps, max_eval=steps, tolerance_grad=0)

        def closure() -> Tensor:
            with torch.no_grad():
                image.clamp_(0, 1)
            optimizer.zero_grad()
            model(image)
            total = torch.stack([loss.value for loss in losses]).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    return loop


def pastiche(content: Tensor, style: Tensor, folder: Path) -> Loop:
    """Make a run of pastiche, from PyPI, with its own layers (which are the same) and losses."""
    from pastiche.pastiche import PasticheArtist

    paths = [str(folder / name) for name in ("content.png", "style.png")]
    for image, path in zip((content, style), paths, strict=True):
        save_image(image, path)
    size = list(content.shape[-2:])
    artist = PasticheArtist(
        paths[0], [paths[1]], optimizer="adam", device="cpu", size=size, style_size=size
    )

    def loop(steps: int) -> None:
        for _ in range(steps):
            artist.draw()

    return loop


LOOPS: dict[str, Callable[[Tensor, Tensor, Path], Loop]] = {
    "nst": ours,
    "nst, winograd=False": partial(ours, winograd=False),
    "hand-written": hand_written,
    "hand-written, channels_last": hand_written_channels_last,
    "PyTorch's tutorial": tutorial,
    "pastiche": pastiche,
}
"""Name to what makes the loop for a photograph, a painting and a folder for files."""


class _Normalization(nn.Module):
    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class _LossWithin(nn.Module):
    value: Tensor

    def __init__(self, feature: Tensor, reduce: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.target, self.reduce = reduce(feature), reduce

    def forward(self, feature: Tensor) -> Tensor:
        if feature.requires_grad:
            self.value = F.mse_loss(self.reduce(feature), self.target)
        return feature


def _sequential(*, inplace: bool) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return VGG19 to relu5_1 as a list of PyTorch's own layers, and its normalization."""
    weights = load_weights("auto")
    network = nn.Sequential()
    for name in CONVOLUTIONS[: CONVOLUTIONS.index("conv5_1") + 1]:
        if name.endswith("_1") and name != "conv1_1":
            network.add_module(f"pool{int(name[4]) - 1}", nn.MaxPool2d(2))
        kernel, bias = weights.tensors[f"{name}.weight"], weights.tensors[f"{name}.bias"]
        layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        layer.weight, layer.bias = nn.Parameter(kernel), nn.Parameter(bias)
        network.add_module(name, layer)
        network.add_module(name.replace("conv", "relu"), nn.ReLU(inplace=inplace))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (weights.mean, weights.std))
    return network.requires_grad_(False), mean, std


def _gram(feature: Tensor) -> Tensor:
    flat = feature.flatten(2)
    return flat @ flat.mT / flat.shape[-1]
