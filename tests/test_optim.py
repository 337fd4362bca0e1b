import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from nst import BoundedLBFGS
from nst.optim import optimizer_factory, restore_optimizer
from nst.optim.lbfgs import favor_coarse
from tests.helpers import uniform

Function = Callable[[Tensor], Tensor]


def quadratic(x: Tensor) -> Tensor:
    """Badly conditioned, with its minimum partly outside the box."""
    scales = torch.logspace(0, 3, x.numel(), dtype=x.dtype)
    return (scales * (x - torch.linspace(-0.5, 1.5, x.numel(), dtype=x.dtype)).square()).sum()


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1].square()).square() + (1 - x[:-1]).square()).sum()


def half(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.full(shape, 0.5, dtype=dtype, requires_grad=True)


def closure_of(function: Function, x: Tensor) -> Callable[[], Any]:
    def closure() -> Tensor:
        x.grad = None
        loss = function(x)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def minimized(
    function: Function, x: Tensor, steps: int, bounds: tuple[float, float] | None = (0.0, 1.0)
) -> tuple[float, int, BoundedLBFGS]:
    evaluations = 0
    optimizer = BoundedLBFGS([x.requires_grad_()], bounds=bounds)

    def counted(x: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return function(x)

    loss = torch.tensor(torch.inf)
    for _ in range(steps):
        before, loss = loss, optimizer.step(closure_of(counted, x))
        assert loss <= before
        if bounds is not None:
            assert bool(((x >= bounds[0]) & (x <= bounds[1])).all())
    return float(loss), evaluations, optimizer


@pytest.mark.parametrize("function", [quadratic, rosenbrock])
def test_the_minimum_within_bounds_is_that_of_scipy(function: Function) -> None:
    def value_and_gradient(array: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.tensor(array, requires_grad=True)
        loss = closure_of(function, x)()
        assert x.grad is not None
        return float(loss.detach()), x.grad.numpy()

    how: Any = {"method": "L-BFGS-B", "bounds": [(0, 0.9)] * 20}
    expected, x = minimize(value_and_gradient, np.full(20, 0.5), jac=True, **how), half(20)
    loss, _, _ = minimized(function, x, 200, bounds=(0.0, 0.9))
    assert loss == pytest.approx(expected.fun, rel=1e-6)
    np.testing.assert_allclose(x.detach().numpy(), expected.x, atol=2e-3)


def test_without_bounds_it_is_plain_lbfgs() -> None:
    x = half(6)
    loss, _, _ = minimized(rosenbrock, x, 200, bounds=None)
    assert loss < 1e-10
    torch.testing.assert_close(x.detach(), torch.ones(6, dtype=torch.float64), atol=1e-4, rtol=0)


def test_most_steps_cost_one_evaluation_and_the_search_steps_back_from_infinite_losses() -> None:
    _, evaluations, _ = minimized(quadratic, half(50), 40)
    assert evaluations <= 1.3 * 40 + 1
    x = torch.full((4,), 0.1, dtype=torch.float64)
    loss, *_ = minimized(lambda x: torch.where(x < 0.6, (x - 0.59) ** 2, torch.inf).sum(), x, 30)
    assert loss < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [2.0**-100, 2.0**-20, 2.0**30, 2.0**100])
def test_the_path_does_not_depend_on_the_losss_scale(scale: float, dtype: torch.dtype) -> None:
    plain, scaled = (torch.full((20,), 0.5, dtype=dtype) for _ in range(2))
    minimized(quadratic, plain, 10)
    _, _, optimizer = minimized(lambda x: scale * quadratic(x), scaled, 10)
    torch.testing.assert_close(plain.detach(), scaled.detach(), rtol=1e-5, atol=1e-6)
    assert len(optimizer.state_dict()["state"][0]["pairs"]) >= 8


@pytest.mark.parametrize("deep", [True, False])
def test_a_copy_or_a_reloaded_state_continues_as_the_original_would(deep: bool) -> None:
    x = torch.full((20,), 0.5, dtype=torch.float64)
    _, _, optimizer = minimized(quadratic, x, 5)
    if deep:
        twin = copy.deepcopy(optimizer)
    else:
        twin = BoundedLBFGS([x.detach().clone().requires_grad_()])
        twin.load_state_dict(optimizer.state_dict())
    (own,) = twin.param_groups[0]["params"]
    for params, each in ((own, twin), (x, optimizer)):
        for _ in range(5):
            each.step(closure_of(quadratic, params))
    assert own is not x and torch.equal(x, own)


def test_at_the_minimum_it_stalls_until_the_parameters_are_changed() -> None:
    def distance(x: Tensor) -> Tensor:
        return (x - torch.tensor([0.25, 2.0])).square().sum()

    x = torch.tensor([0.25, 1.0])
    _, _, optimizer = minimized(distance, x, 3)
    assert optimizer.stop_reason == "the loss cannot be lowered any further"
    assert x.tolist() == [0.25, 1.0]
    with torch.no_grad():
        x.fill_(0.9)
    for _ in range(20):
        optimizer.step(closure_of(distance, x))
    torch.testing.assert_close(x.detach(), torch.tensor([0.25, 1.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 1, 9, 7), (1, 2, 2, 3), (1, 1, 1, 5)])
@pytest.mark.parametrize("levels", [1, 3])
def test_the_metric_is_symmetric_and_favors_coarseness(shape: tuple[int, ...], levels: int) -> None:
    unit = torch.eye(torch.Size(shape).numel()).double()
    matrix = torch.stack([favor_coarse(each.view(shape), levels).flatten() for each in unit])
    torch.testing.assert_close(matrix, matrix.mT)
    values = torch.linalg.eigvalsh(matrix)
    assert float(values.min()) > 1 - 1e-9
    assert float(values.max()) < 2 ** (levels + 1)


def test_coarse_changes_come_first_with_levels() -> None:
    goal, roughness = uniform(1, 1, 32, 32), []
    for levels in (0, 3):
        x = torch.full_like(goal, 0.5, requires_grad=True)
        BoundedLBFGS([x], levels=levels).step(closure_of(lambda x: (x - goal).square().sum(), x))
        change = (x - 0.5).detach()
        roughness.append(float(change.diff().norm() / change.norm()))
    assert roughness[1] < 0.8 * roughness[0]


@pytest.mark.parametrize("levels", [0, 3])
def test_values_without_a_gradient_stay(levels: int) -> None:
    x = half(1, 1, 16, 16)
    optimizer = BoundedLBFGS([x], levels=levels)
    for _ in range(20):
        optimizer.step(closure_of(lambda x: (x[..., :8] - 0.75).square().sum(), x))
    assert bool((x[..., 8:] == 0.5).all())
    assert float((x[..., :8] - 0.75).detach().abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (1.0, 0.0)}, "`bounds` is"),
        ({"history_size": 0}, "`history_size` is 0"),
        ({"first_step": 0.0}, "`first_step` is 0.0"),
        ({"first_step": math.inf}, "`first_step` is inf"),
        ({"levels": -1}, "`levels` is -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundedLBFGS([torch.zeros(1)], **arguments)  # type: ignore[arg-type]
    groups: Any = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(2)]}]
    with pytest.raises(ValueError, match="`params` has several groups"):
        BoundedLBFGS(groups)
    with pytest.raises(ValueError, match="`params` has several groups"):
        BoundedLBFGS([torch.zeros(1)]).add_param_group({"params": [torch.zeros(2)]})


def test_only_pictures_have_coarse_changes() -> None:
    values = torch.rand(3, 4)
    assert favor_coarse(values, 2) is values


def test_parameters_or_functions_that_have_changed_are_evaluated_again() -> None:
    x = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    optimizer, closure = BoundedLBFGS([x]), closure_of(lambda x: x.square().sum(), x)
    optimizer.step(closure)
    assert "moved" not in optimizer.state_dict()["state"][0]
    with torch.no_grad():
        x.fill_(0.9)
    assert optimizer.state_dict()["state"][0]["moved"]
    assert float(optimizer.step(closure)) < 4 * 0.9**2
    assert "moved" not in optimizer.state_dict()["state"][0]
    x = torch.tensor([0.9, 0.6], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1.0, 30.0], dtype=torch.float64)
    optimizer = BoundedLBFGS([x])
    for _ in range(4):
        optimizer.step(closure_of(lambda x: (scale * (x - 0.5).square()).sum(), x))
    pairs, point = optimizer._state["pairs"], x.detach().clone()
    optimizer._state["stalled"] = True
    seen: list[Tensor] = []

    def changed(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return (scale * (x - 0.4).square()).sum() + 100

    optimizer.reevaluate()
    optimizer.step(closure_of(changed, x))
    assert torch.equal(seen[0], point)
    assert len(optimizer._state["pairs"]) == len(pairs) + 1
    assert not optimizer._state["stalled"]
    assert float(changed(x.detach())) < float(changed(point))


def test_optimizers_are_chosen_by_name_or_factory_and_only_adam_has_a_learning_rate() -> None:
    params = [torch.zeros(1, requires_grad=True)]
    assert isinstance(optimizer_factory("lbfgs")(params), BoundedLBFGS)
    for fine, levels in ((False, 3), (True, 0)):  # coarser scales have made the broad changes
        assert optimizer_factory("lbfgs", fine=fine)(params).param_groups[0]["levels"] == levels
    adam = optimizer_factory("adam", 0.5)(params)
    assert isinstance(adam, torch.optim.Adam) and adam.param_groups[0]["lr"] == 0.5
    sgd = optimizer_factory(lambda params: torch.optim.SGD(params, lr=0.1))(params)
    assert isinstance(sgd, torch.optim.SGD)
    with pytest.raises(ValueError, match=r"'lbfgs'; only 'adam' has one. Use optimizer="):
        optimizer_factory("lbfgs", 0.5)
    with pytest.raises(ValueError, match="or set it in a callable"):
        optimizer_factory(torch.optim.SGD, 0.5)


def test_an_optimizer_that_cannot_restore_a_state_is_refused() -> None:
    x, y = (torch.zeros(2, requires_grad=True) for _ in range(2))
    adam, two = torch.optim.Adam([x]), torch.optim.Adam([x, y])
    with pytest.raises(ValueError, match="makes a Adam, which cannot restore its state"):
        restore_optimizer(adam, "Adam", two.state_dict())


def test_a_newest_pair_without_curvature_is_passed_over() -> None:
    x, y = half(20), half(20)
    (_, _, plain), (_, _, disturbed) = (minimized(quadratic, each, 5) for each in (x, y))
    state, change = disturbed.state[y], torch.ones_like(x).detach()
    state["pairs"] = [*state["pairs"], (change, -change, torch.zeros((), dtype=torch.float64))]
    plain.step(closure_of(quadratic, x))
    disturbed.step(closure_of(quadratic, y))
    assert torch.equal(x, y)
