"""The network as one differentiable function: features of pictures, and their exact gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst._network.buffers import Workspaces
from nst._network.stage import Stage, Strip
from nst._network.sweep import Sweep

__all__ = ["pass_through"]


def pass_through(
    images: Tensor, stages: Sequence[Stage], workspaces: Workspaces
) -> dict[str, Tensor]:
    """Return the wanted features by layer, `(N, C, h, w)` each.

    Args:
        images: Normalized, `(N, 3, H, W)`.
        stages: The network.
        workspaces: Where to borrow one.
    """
    if not stages:
        return {}
    if not torch.is_grad_enabled() or not images.requires_grad:
        return _forth(_sweep(images, stages, workspaces), tracing=False)
    layers: list[str] = []
    features = _Pass.apply(images, stages, workspaces, layers)
    return dict(zip(layers, features, strict=True))


class _Pass(torch.autograd.Function):
    """The forward pass, with its exact gradient."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, stages: Sequence[Stage], workspaces: Workspaces, layers: list[str]
    ) -> tuple[Tensor, ...]:
        ctx.sweep = _sweep(images, stages, workspaces)
        features = _forth(ctx.sweep, tracing=True)
        layers += features
        ctx.layers = layers
        ctx.set_materialize_grads(False)
        return tuple(features.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        given: dict[str, Tensor | None] = dict(zip(ctx.layers, gradients, strict=True))

        def gradient(layer: str, feature: Tensor, first: int, height: int) -> Tensor | None:
            return given[layer]

        return ctx.sweep.backward(gradient, again=True), None, None, None


def _sweep(images: Tensor, stages: Sequence[Stage], workspaces: Workspaces) -> Sweep:
    rows = images.permute(0, 2, 3, 1).contiguous()
    return Sweep(Strip(rows, 0, rows.shape[1]), stages, workspaces)


def _forth(sweep: Sweep, *, tracing: bool) -> dict[str, Tensor]:
    features: dict[str, Tensor] = {}

    def see(layer: str, feature: Tensor, first: int, height: int, stays: bool) -> None:
        features[layer] = feature

    sweep.forward(see, tracing=tracing)
    return features
