"""Promises of every built-in loss, in all its units and forms."""

import inspect
import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import Loss
from nst.losses import LOSSES
from nst.testing import check_loss

# Largest gradient at the target that counts as rounding, relative to another picture's.
REST = {torch.float64: 1e-6, torch.float32: 1e-3}


def variants() -> Iterator[Any]:
    """Yield every loss class with each of its units and forms."""
    for name, loss in LOSSES.items():
        forms: dict[str, tuple[Any, ...]] = {"centered": (False, True), "power": (1, 2)}
        forms["differences"] = (False, True)
        forms["units"] = getattr(loss, "known_units", ())
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
def test_every_built_in_loss_can_be_created_from_its_settings(make: partial[Loss]) -> None:
    original = make(weight=0.5)
    assert type(original)(**original.settings()).settings() == original.settings()


def test_every_exported_loss_is_tested_here() -> None:
    exported = (getattr(nst, name) for name in nst.__all__)
    assert set(LOSSES.values()) == {
        value
        for value in exported
        if inspect.isclass(value) and issubclass(value, Loss) and not inspect.isabstract(value)
    }


@every_variant
def test_every_target_is_the_losss_own_and_stays_in_single_precision(make: partial[Loss]) -> None:
    loss = make()
    given, found = (features(loss, seed, torch.float32) for seed in (1, 0))
    loss.capture(given)
    before = loss(found)
    for feature in given.values():
        feature.zero_()
    torch.testing.assert_close(loss.half()(found), before)


@every_variant
def test_every_gradient_agrees_with_finite_differences_and_nan_is_nan(make: partial[Loss]) -> None:
    loss = make()
    loss.capture(features(loss, 1))
    found = features(loss, 0)
    assert torch.autograd.gradcheck(
        lambda *values: loss(dict(zip(found, values, strict=True))),
        tuple(feature.requires_grad_() for feature in found.values()),
    )
    loss = make()
    loss.capture(features(loss, 1))
    found = features(loss, 0)
    for feature in found.values():
        feature[..., 2, :] = torch.nan
    assert math.isnan(loss(found))


def dull(found: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return features that are constant, or have a dead channel."""
    changed = {layer: feature.clone() for layer, feature in found.items()}
    for feature in changed.values():
        if kind == "zeros":
            feature.zero_()
        elif kind == "flat":
            feature.copy_(feature[..., :1, :1].abs().expand_as(feature) + 0.1)
        else:  # one channel of several
            feature[:, 0] = 0
    return changed


KINDS = ("zeros", "flat", "dead channel")


@every_variant
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", [*KINDS, None])
def test_every_loss_and_gradient_vanish_at_its_own_target_and_within_rounding_of_it(
    make: partial[Loss], dtype: torch.dtype, kind: str | None
) -> None:
    loss = make()
    if loss.reference is None:
        return
    target, noise = features(loss, 1, dtype), features(loss, 2, dtype)
    target = target if kind is None else dull(target, kind)
    loss.capture(target)
    away, elsewhere = value_and_slope(loss, features(loss, 0, dtype))
    for eps in (0, torch.finfo(dtype).eps) if kind is None else (0,):
        near = {layer: value * (1 + eps * noise[layer]) for layer, value in target.items()}
        value, slope = value_and_slope(loss, near)
        assert abs(value) <= REST[dtype] * away
        assert slope <= REST[dtype] * elsewhere


@every_variant
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("style", [*KINDS, None])
@pytest.mark.parametrize("picture", [*KINDS, None])
def test_every_loss_and_gradient_are_of_a_usable_size_for_constant_pictures(
    make: partial[Loss], dtype: torch.dtype, style: str | None, picture: str | None
) -> None:
    loss = make()
    target, found = features(loss, 1, dtype), features(loss, 0, dtype)
    loss.capture(target if style is None else dull(target, style))
    value, slope = value_and_slope(loss, found if picture is None else dull(found, picture))
    assert -1e-6 <= value < 1e7
    assert 0 <= slope < 1e8


@every_variant
def test_a_flat_picture_of_another_size_matches_a_flat_style(make: partial[Loss]) -> None:
    loss = make()
    if loss.reference != "style":
        return
    flat = dull(features(loss, 1, torch.float32), "flat")
    loss.capture(flat)
    larger = {
        layer: f[..., :1, :1].expand(-1, -1, 33, 31).contiguous() for layer, f in flat.items()
    }
    assert abs(float(loss(larger))) < 1e-4


@every_variant
def test_every_picture_of_a_batch_is_compared_as_if_alone(make: partial[Loss]) -> None:
    loss, alone = make(), []
    scale = torch.tensor([1.0, 100.0], dtype=torch.float64)[:, None, None, None]
    targets, pictures = (
        {layer: scale * value for layer, value in features(loss, seed, n=2).items()}
        for seed in (1, 0)
    )
    for i in range(2):
        loss.capture({layer: value[i : i + 1] for layer, value in targets.items()})
        alone.append(float(loss({layer: value[i : i + 1] for layer, value in pictures.items()})))
    loss.capture(targets)
    assert float(loss(pictures)) == pytest.approx(sum(alone) / 2, rel=1e-12)
