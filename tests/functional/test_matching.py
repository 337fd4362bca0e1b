"""The formulas between sets of features, each against naive loops, in float64."""

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nst import functional
from nst.functional import matching
from tests.helpers import normal as random


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


def test_a_sample_is_seeded_without_repetition_and_complete_for_few_positions() -> None:
    feature = torch.arange(100.0).expand(1, 2, -1)
    before = torch.random.get_rng_state()
    some = functional.sample_positions(feature, 10, seed=3)
    assert len(set(some[0, 0].tolist())) == 10
    assert torch.equal(some, functional.sample_positions(feature, 10, seed=3))
    assert not torch.equal(some, functional.sample_positions(feature, 10, seed=4))
    assert functional.sample_positions(feature, 100, seed=3) is feature
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_sorted_error_is_the_change_of_matching_histograms() -> None:
    ramp = torch.linspace(0, 1, 10001, dtype=torch.float64).expand(1, 1, -1)
    # Means of a uniform distribution over 100 equal ranks, in any order.
    value = ((torch.arange(100, dtype=torch.float64) + 0.5) / 100).flip(0).expand(1, 1, -1)
    assert float(functional.sorted_error(value, ramp)) == pytest.approx(0, abs=1e-9)
    assert float(functional.sorted_error(value + 2, ramp)) == pytest.approx(4, rel=1e-4)
    value, target = random(2, 3, 8).requires_grad_(), random(1, 3, 8, seed=1).sort(-1).values
    matched = target.expand(2, -1, -1).gather(2, value.detach().argsort(-1).argsort(-1))
    expected = (value - matched).square().mean((1, 2))
    found = functional.sorted_error(value, target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*[torch.autograd.grad(x.sum(), value)[0] for x in (found, expected)])


def test_the_sliced_distance_of_a_shift_is_its_length_along_the_directions() -> None:
    feature, shift = random(1, 3, 40), torch.tensor([3.0, 0.0, 4.0]).double()
    directions = torch.eye(3, dtype=torch.float64)
    target = (feature + shift[:, None]).sort(-1).values
    found = functional.sliced_wasserstein(feature, target, directions)
    assert float(found) == pytest.approx(25 / 3)


def test_the_nearest_neighbor_error_agrees_with_naive_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feature, target = random(2, 4, 7), random(1, 4, 9, seed=1)
    a, b = (x - x.mean(-1, keepdim=True) for x in (feature, target))
    at_once = functional.nearest_neighbor_error(feature, target)
    for n, found in enumerate(at_once.tolist()):
        best = [min(1 - cosine(a[n, :, p], b[0, :, q]) for q in range(9)) for p in range(7)]
        assert found == pytest.approx(sum(best) / 7)
    monkeypatch.setattr(matching, "_PAIRS", 20)  # two positions at a time
    assert torch.equal(functional.nearest_neighbor_error(feature, target), at_once)


def test_relaxed_transport_agrees_with_naive_loops() -> None:
    feature, target = random(2, 4, 7), random(1, 4, 9, seed=1)
    for n, found in enumerate(functional.relaxed_transport(feature, target).tolist()):
        cost = [[1 - cosine(feature[n, :, p], target[0, :, q]) for q in range(9)] for p in range(7)]
        there = sum(min(row) for row in cost) / 7
        back = sum(min(row[q] for row in cost) for q in range(9)) / 9
        assert found == pytest.approx(max(there, back))


def test_self_similarity_agrees_with_naive_loops() -> None:
    feature = random(1, 4, 6)
    apart = [[1 - cosine(feature[0, :, i], feature[0, :, j]) for j in range(6)] for i in range(6)]
    expected = torch.tensor(apart, dtype=torch.float64)
    torch.testing.assert_close(
        functional.self_similarity(feature)[0], expected / expected.sum(0), atol=1e-9, rtol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_unit_features_have_the_direction_of_the_features_and_length_one(scale: float) -> None:
    feature = random(2, 4, 7)
    expected = torch.nn.functional.normalize(feature, dim=1)
    torch.testing.assert_close(functional.unit_features(scale * feature), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("dead", [slice(2), slice(None)], ids=["some positions", "all"])
def test_dead_positions_stay_zero_with_a_bounded_gradient(dtype: torch.dtype, dead: slice) -> None:
    feature = random(1, 4, 7).to(dtype)
    feature[..., dead] = 0
    feature.requires_grad_()
    found = functional.unit_features(feature)
    (gradient,) = torch.autograd.grad(found.sum(), feature)
    assert not found[..., dead].any()
    assert float(gradient.abs().max()) < 1e5


@pytest.mark.parametrize("formula", ["nearest_neighbor_error", "relaxed_transport"])
def test_the_pairs_compared_at_once_are_few(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    monkeypatch.setattr(matching, "_PAIRS", 3000)
    feature, target = random(8, 2, 100), random(1, 2, 90, seed=1)
    with Watch():
        getattr(functional, formula)(feature, target)
    assert largest <= 3000  # of 72000, for all pictures of the batch together
