"""L-BFGS for pictures: every pixel stays in the range that can be saved.

Method: the two-metric projection of Bertsekas, "Projected Newton Methods for Optimization Problems
with Simple Constraints" (SIAM J. Control Optim. 1982), with the limited-memory BFGS direction of
Nocedal & Wright, "Numerical Optimization" (2006), algorithm 7.4, over the pixels that are not held
by a bound.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["BoundedLBFGS", "OptimizerLike", "optimizer_factory"]

OptimizerFactory: TypeAlias = Callable[[list[Tensor]], torch.optim.Optimizer]
OptimizerLike: TypeAlias = "str | OptimizerFactory"

# Sufficient decrease, as a share of what the gradient promises (Nocedal & Wright, section 3.1).
_ARMIJO = 1e-4
_MAX_TRIALS = 12


class BoundedLBFGS(torch.optim.Optimizer):
    """L-BFGS within bounds, one iteration for each `step`.

    In the usual case a step costs one evaluation of the closure; the point it accepts is the point
    at which the parameters are left and the loss was computed. Nothing depends on the loss's scale.
    When no direction lowers the loss any more, the parameters stay as they are and `stop_reason`
    says so.

    Args:
        params: The tensors to optimize; they share one history. Groups are not supported.
        bounds: The lowest and highest value; None for no bounds.
        history_size: How many pairs of steps and gradient changes are kept, each as large as the
            parameters.
        first_step: The root mean square change of the first step, in units of the parameters.

    Raises:
        ValueError: The bounds are not increasing, or a number is not positive.

    Examples:
        >>> x = torch.tensor([0.5, 0.5], requires_grad=True)
        >>> optimizer = BoundedLBFGS([x])
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (x - torch.tensor([0.25, 2.0])).square().sum()
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(20):
        ...     loss = optimizer.step(closure)
        >>> [round(value, 3) for value in x.tolist()]  # the second is held by its bound
        [0.25, 1.0]
    """

    stop_reason: str | None = None
    """Why further steps would change nothing; None while they might."""

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        history_size: int = 20,
        first_step: float = 0.02,
    ) -> None:
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"`bounds` is {bounds}; the first must be below the second.")
        if history_size < 1:
            raise ValueError(f"`history_size` is {history_size}; it must be at least 1.")
        if not first_step > 0:
            raise ValueError(f"`first_step` is {first_step}; it must be positive.")
        super().__init__(params, {})
        if len(self.param_groups) != 1:
            raise ValueError("`params` has several groups; BoundedLBFGS takes a single one.")
        self._params: list[Tensor] = self.param_groups[0]["params"]
        self._lower, self._upper = bounds if bounds is not None else (-math.inf, math.inf)
        self._first_step = first_step
        self._pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=history_size)
        self._loss: Tensor | None = None  # at the point where the last step ended
        self._gradient = torch.empty(0)
        self._versions: list[int] = []

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one iteration.

        Args:
            closure: Clears the gradients, computes the loss and its gradients, returns the loss.

        Returns:
            The loss at the point where the parameters are left.
        """
        closure = torch.enable_grad()(closure)
        if self._loss is None or self._versions != [p._version for p in self._params]:
            # The first step, or somebody else has moved the parameters.
            self._pairs.clear()
            self._move(self._point())
            self._loss, self._gradient = closure().detach(), self._read_gradient()
        if self.stop_reason is None and not self._iterate(closure):
            self.stop_reason = "the loss cannot be lowered any further"
        self._versions = [p._version for p in self._params]
        return self._loss

    def _iterate(self, closure: Callable[[], Tensor]) -> bool:
        """Move to a better point; return False where there is none."""
        point = self._point()
        free = self._free(point)
        gradient = self._gradient * free
        if not gradient.any() or not gradient.isfinite().all():
            return False
        while True:
            direction = self._direction(gradient, free)
            if self._search(closure, point, direction):
                return True
            if not self._pairs:
                self._move(point)
                return False
            self._pairs.clear()  # start again from the steepest descent

    def _search(self, closure: Callable[[], Tensor], point: Tensor, direction: Tensor) -> bool:
        """Go along the direction, bent at the bounds, until the loss has dropped enough."""
        assert self._loss is not None
        loss, gradient, length = float(self._loss), self._gradient, 1.0
        for _ in range(_MAX_TRIALS):
            trial = (point + length * direction).clamp_(self._lower, self._upper)
            change = trial - point
            slope = float(gradient @ change)
            if not slope < 0:
                return False
            self._move(trial)
            new_loss = closure().detach()
            if float(new_loss) <= loss + _ARMIJO * slope:
                new_gradient = self._read_gradient()
                self._remember(change, new_gradient - gradient)
                self._loss, self._gradient = new_loss, new_gradient
                return True
            length *= _shorter(slope, float(new_loss) - loss)
        return False

    def _direction(self, gradient: Tensor, free: Tensor) -> Tensor:
        """Return the L-BFGS direction over the free values (the two-loop recursion)."""
        direction = -gradient
        used = []
        for change, gradient_change in reversed(self._pairs):
            gradient_change = gradient_change * free  # what bounds hold has no say
            curvature = gradient_change @ change
            if curvature > 0:
                share = (change @ direction) / curvature
                direction -= share * gradient_change
                used.append((change, gradient_change, curvature, share))
        if not used:
            return direction * (self._first_step / gradient.square().mean().sqrt())
        _, gradient_change, curvature, _ = used[0]
        direction *= curvature / (gradient_change @ gradient_change)
        for change, gradient_change, curvature, share in reversed(used):
            direction += change * (share - (gradient_change @ direction) / curvature)
        return direction * free

    def _free(self, point: Tensor) -> Tensor:
        """Return 1 where a small step against the gradient stays within the bounds, else 0."""
        held_low = (point <= self._lower) & (self._gradient > 0)
        held_high = (point >= self._upper) & (self._gradient < 0)
        return (~(held_low | held_high)).to(point.dtype)

    def _remember(self, change: Tensor, gradient_change: Tensor) -> None:
        # A pair without positive curvature would spoil the metric (Nocedal & Wright, eq. 7.29).
        eps = torch.finfo(change.dtype).eps
        if change @ gradient_change > eps * (gradient_change @ gradient_change):
            self._pairs.append((change, gradient_change))

    def _point(self) -> Tensor:
        flat = torch.cat([p.detach().flatten() for p in self._params])
        return flat.clamp_(self._lower, self._upper)

    def _read_gradient(self) -> Tensor:
        return torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self._params]
        )

    def _move(self, point: Tensor) -> None:
        start = 0
        for p in self._params:
            p.copy_(point[start : start + p.numel()].view_as(p))
            start += p.numel()


def _shorter(slope: float, rise: float) -> float:
    """Return the factor to the minimum of the parabola through what is known, within [0.1, 0.5]."""
    if not math.isfinite(rise):
        return 0.1
    return min(max(slope / (2 * (slope - rise)), 0.1), 0.5)


def optimizer_factory(optimizer: OptimizerLike) -> OptimizerFactory:
    """Turn the `optimizer` argument into what makes an optimizer from parameters.

    Args:
        optimizer: `"lbfgs"` (`BoundedLBFGS`), `"adam"` (learning rate 0.02), or a callable that
            takes the list of parameters and returns a `torch.optim.Optimizer`.

    Raises:
        ValueError: An unknown name.
        TypeError: Neither a name nor callable.
    """
    known: dict[str, Any] = {
        "lbfgs": BoundedLBFGS,
        "adam": lambda params: torch.optim.Adam(params, lr=0.02),
    }
    if isinstance(optimizer, str):
        if optimizer not in known:
            raise ValueError(
                f"`optimizer` is {optimizer!r}; it must be {' or '.join(map(repr, known))}, or a "
                "callable such as `lambda params: torch.optim.SGD(params, lr=0.1)`."
            )
        factory: OptimizerFactory = known[optimizer]
        return factory
    if not callable(optimizer):
        raise TypeError(
            f"`optimizer` is a {type(optimizer).__name__}; pass a name, or a callable that takes "
            "the parameters and returns a torch.optim.Optimizer."
        )
    return optimizer
