"""Optimizers by name, and their exact state."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nst._utils.checks import non_negative
from nst.optim.lbfgs import bounded_lbfgs

_LEVELS = 3  # measured on one picture of 512 px: a sixth fewer steps to the same loss than with 0

OPTIMIZERS = ("lbfgs", "adam")
OptimizerFactory: TypeAlias = Callable[[list[Tensor]], torch.optim.Optimizer]
OptimizerLike: TypeAlias = str | OptimizerFactory


def optimizer_factory(
    optimizer: OptimizerLike, learning_rate: float | None = None, *, fine: bool = False
) -> OptimizerFactory:
    """Return the factory that an `optimizer` argument names, or the callable itself.

    Args:
        optimizer: `"lbfgs"` (`BoundedLBFGS`), `"adam"`, or a callable that takes the list of
            parameters and returns a `torch.optim.Optimizer`.
        learning_rate: Learning rate of Adam; None is 0.02.
        fine: Whether coarser scales have already made the broad changes.

    Raises:
        ValueError: An unknown name, or a learning rate that is not positive or not of Adam.
        TypeError: Neither a name nor a callable.
    """
    if learning_rate is not None and optimizer != "adam":
        raise ValueError(
            f"`learning_rate` is {learning_rate!r}, but `optimizer` is {optimizer!r}; only 'adam' "
            "has one. Use optimizer='adam', leave it out, or set it in a callable."
        )
    if callable(optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(
            f"`optimizer` is a {type(optimizer).__name__}; pass a name, or a callable that takes "
            "the parameters and returns a torch.optim.Optimizer."
        )
    rate = 0.02 if learning_rate is None else non_negative("learning_rate", learning_rate)
    if rate == 0:
        raise ValueError("`learning_rate` is 0; it must be positive.")
    known: dict[str, OptimizerFactory] = {
        "lbfgs": partial(bounded_lbfgs, levels=0 if fine else _LEVELS),
        "adam": partial(torch.optim.Adam, lr=rate),
    }
    if optimizer not in known:
        raise ValueError(
            f"`optimizer` is {optimizer!r}; it must be {' or '.join(map(repr, known))}, or a "
            "callable such as `lambda params: torch.optim.SGD(params, lr=0.1)`."
        )
    return known[optimizer]


def restore_optimizer(optimizer: torch.optim.Optimizer, name: str, state: dict[str, Any]) -> None:
    """Restore the exact state of an optimizer of this type; raise `ValueError` for another."""
    what = f"`optimizer` makes a {type(optimizer).__qualname__}"
    remedy = "Pass the optimizer that the run was made with."
    if type(optimizer).__qualname__ != name:
        raise ValueError(f"{what}, but the run was made with a {name}. {remedy}")
    try:
        optimizer.load_state_dict(state)
        # torch casts the state to the parameters' type, even a loss in float64.
        for index, exact in state["state"].items():
            restored = optimizer.state_dict()["state"][index]
            restored.update(_in_own_types(restored, exact))
    except Exception as error:  # an optimizer of the user's may raise anything
        raise ValueError(f"{what}, which cannot restore its state ({error}). {remedy}") from error


def _in_own_types(restored: Any, exact: Any) -> Any:
    """Return restored values on their device, in the types of the exact ones."""
    if isinstance(exact, Tensor):
        return restored if restored.dtype == exact.dtype else exact.to(restored.device)
    if isinstance(exact, Mapping):
        return {key: _in_own_types(restored[key], each) for key, each in exact.items()}
    if isinstance(exact, (list, tuple)):
        pairs = zip(restored, exact, strict=True)
        return type(exact)(_in_own_types(one, other) for one, other in pairs)
    return exact
