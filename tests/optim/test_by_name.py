from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nst import BoundedLBFGS
from nst.optim.by_name import optimizer_factory, restore_optimizer
from tests.optim.test_lbfgs import closure_of


def test_optimizers_are_chosen_by_name_or_factory() -> None:
    params = [torch.zeros(1, requires_grad=True)]
    assert isinstance(optimizer_factory("lbfgs")(params), BoundedLBFGS)
    assert isinstance(optimizer_factory("adam")(params), torch.optim.Adam)
    levels = [
        optimizer_factory("lbfgs", fine=fine)(params).param_groups[0]["levels"]
        for fine in (False, True)
    ]
    assert levels == [3, 0]  # coarser scales have made the broad changes
    sgd = optimizer_factory(lambda params: torch.optim.SGD(params, lr=0.1))(params)
    assert isinstance(sgd, torch.optim.SGD)
    with pytest.raises(ValueError, match="`optimizer` is 'adm'; it must be 'lbfgs' or 'adam'"):
        optimizer_factory("adm")
    with pytest.raises(TypeError, match="`optimizer` is a int"):
        optimizer_factory(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        BoundedLBFGS,
        lambda params: torch.optim.NAdam(params, lr=0.1),
        lambda params: torch.optim.LBFGS(params, max_iter=1),
    ],
)
def test_a_restored_optimizer_has_exactly_the_state_of_the_other(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> None:
    def loss_of(x: Tensor) -> Tensor:
        return ((x - 0.3) ** 2).sum().double() / 3  # in another type than the parameters

    x = torch.linspace(0, 1, 5, requires_grad=True)
    optimizer = make([x])
    for _ in range(3):
        optimizer.step(closure_of(loss_of, x))
    twin_x = x.detach().clone().requires_grad_()
    twin = make([twin_x])
    state = copy.deepcopy(optimizer.state_dict())
    restore_optimizer(twin, type(optimizer).__qualname__, state)
    torch.testing.assert_close(twin.state_dict(), optimizer.state_dict(), rtol=0, atol=0)
    for _ in range(3):
        optimizer.step(closure_of(loss_of, x))
        twin.step(closure_of(loss_of, twin_x))
    assert torch.equal(x, twin_x)


def test_an_optimizer_that_cannot_restore_a_state_is_refused() -> None:
    x, y = (torch.zeros(2, requires_grad=True) for _ in range(2))
    adam, two = torch.optim.Adam([x]), torch.optim.Adam([x, y])
    with pytest.raises(ValueError, match="makes a Adam, but the run was made with a SGD"):
        restore_optimizer(adam, "SGD", {})
    with pytest.raises(ValueError, match="makes a Adam, which cannot restore its state"):
        restore_optimizer(adam, "Adam", two.state_dict())
