"""What every built-in loss promises, in all its units and forms."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import nst
from nst import Loss, functional
from nst._catalog import LOSSES
from nst._content_losses import Units
from nst.testing import check_loss

# How much of another picture's gradient counts as none: at the target, but for rounding.
REST = {torch.float64: 1e-6, torch.float32: 1e-3}


def variants() -> Iterator[Any]:
    """Yield every loss that can be made by its name, once for each of its forms."""
    for name, loss in LOSSES.items():
        forms = {"centered": (False, True), "power": (1, 2)}
        forms["units"] = getattr(loss, "known_units", get_args(Units))
        taken = [key for key in forms if key in inspect.signature(loss).parameters]
        for values in itertools.product(*(forms[key] for key in taken)):
            chosen = dict(zip(taken, values, strict=True))
            yield pytest.param(partial(loss, **chosen), id=f"{name}-{chosen}")


every_variant = pytest.mark.parametrize("make", list(variants()))


def features(
    loss: Loss, seed: int, dtype: torch.dtype = torch.float64, n: int = 1
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {layer: (n, 4, 5, 5) if layer != "image" else (n, 3, 16, 16) for layer in loss.layers}
    return {
        layer: (torch.randn(*shape, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
        for layer, shape in shapes.items()
    }


def value_and_slope(loss: Loss, found: dict[str, Tensor]) -> tuple[float, float]:
    leaves = {layer: feature.clone().requires_grad_() for layer, feature in found.items()}
    value = loss(leaves)
    gradients = torch.autograd.grad(value, list(leaves.values()))
    return float(value.detach()), math.hypot(*(float(g.norm()) for g in gradients))


@every_variant
def test_every_built_in_loss_keeps_the_promises_of_its_kind(make: partial[Loss]) -> None:
    check_loss(make())


@every_variant
def test_every_built_in_loss_can_be_made_again_from_its_settings(make: partial[Loss]) -> None:
    original = make(weight=0.5)
    assert type(original)(**original.settings()).settings() == original.settings()


def test_every_loss_that_is_exported_is_examined_here() -> None:
    exported = (getattr(nst, name) for name in nst.__all__)
    assert set(LOSSES.values()) == {
        value
        for value in exported
        if inspect.isclass(value) and issubclass(value, Loss) and not inspect.isabstract(value)
    }


@every_variant
def test_every_gradient_is_that_of_difference_quotients(make: partial[Loss]) -> None:
    loss = make()
    loss.capture(features(loss, 1))
    found = features(loss, 0)
    assert torch.autograd.gradcheck(
        lambda *values: loss(dict(zip(found, values, strict=True))),
        tuple(feature.requires_grad_() for feature in found.values()),
    )


@every_variant
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_loss_rests_at_its_own_target_and_within_rounding_of_it(
    make: partial[Loss], dtype: torch.dtype
) -> None:
    loss = make()
    if loss.reference is None:
        return
    target = features(loss, 1, dtype)
    noise = features(loss, 2, dtype)
    loss.capture(target)
    away, elsewhere = value_and_slope(loss, features(loss, 0, dtype))
    for eps in (0, torch.finfo(dtype).eps):
        near = {layer: value * (1 + eps * noise[layer]) for layer, value in target.items()}
        value, slope = value_and_slope(loss, near)
        assert abs(value) <= REST[dtype] * away
        assert slope <= REST[dtype] * elsewhere


@every_variant
def test_what_a_difference_is_divided_by_is_computed_at_capture(
    make: partial[Loss], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = make()
    loss.capture(features(loss, 1))
    for name in ("_size", "scale"):
        monkeypatch.setattr(type(loss), name, None, raising=False)
    monkeypatch.setattr(functional, "square_size", None)
    assert math.isfinite(loss(features(loss, 0)))
