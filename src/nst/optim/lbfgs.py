"""L-BFGS for pictures: every pixel stays in the range that can be saved.

Method: the two-metric projection of Bertsekas, "Projected Newton Methods for Optimization Problems
with Simple Constraints" (SIAM J. Control Optim. 1982), with the limited-memory BFGS direction of
Nocedal & Wright, "Numerical Optimization" (2006), algorithm 7.4, over the pixels that are not held
by a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._utils.checks import at_least

__all__ = ["HISTORY_SIZE", "BoundedLBFGS", "favor_coarse"]

HISTORY_SIZE = 20
"""How many pairs are kept, if nothing else is said."""

# Sufficient decrease, as a share of what the gradient promises (Nocedal & Wright, section 3.1).
_ARMIJO = 1e-4
_MAX_TRIALS = 12
_STALLED = "the loss cannot be lowered any further"


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
        levels: How many levels of a pyramid the metric has, each twice as coarse as the one before,
            in which changes of pictures `(N, C, H, W)` are cheaper the coarser they are. 0 makes
            every pixel its own; more helps where broad changes are still to come.

    Raises:
        ValueError: The bounds are not increasing, or a number is out of range.

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

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        history_size: int = HISTORY_SIZE,
        first_step: float = 0.02,
        levels: int = 0,
    ) -> None:
        lower, upper = bounds if bounds is not None else (-math.inf, math.inf)
        if not lower < upper:
            raise ValueError(f"`bounds` is {bounds}; the first must be below the second.")
        if not first_step > 0:
            raise ValueError(f"`first_step` is {first_step}; it must be positive.")
        options = {
            "lower": lower,
            "upper": upper,
            "history_size": at_least("history_size", history_size, 1),
            "first_step": first_step,
            "levels": at_least("levels", levels, 0),
        }
        super().__init__(params, options)
        if len(self.param_groups) != 1:
            raise ValueError("`params` has several groups; BoundedLBFGS takes a single one.")
        self._versions: list[int] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a saved state; the parameters are then as they were when it was saved."""
        super().__setstate__(state)
        self._versions = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state; it also says whether somebody else has moved the parameters since."""
        if self._moved:
            self._state["moved"] = True
        return super().state_dict()

    @property
    def stop_reason(self) -> str | None:
        """Why further steps would change nothing; None while they might."""
        return _STALLED if self._state.get("stalled") else None

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one iteration.

        Args:
            closure: Clears the gradients, computes the loss and its gradients, returns the loss.

        Returns:
            The loss at the point where the parameters are left.
        """
        closure = torch.enable_grad()(closure)
        state = self._state
        if state.pop("moved", self._moved) or "loss" not in state:
            # The first step, or somebody else has moved the parameters.
            self._move(self._point())
            loss, state["unit"] = closure().detach(), 1.0
            state["unit"] = _unit(self._read_gradient().abs().max())
            state.update(loss=loss, gradient=self._read_gradient(), pairs=[], stalled=False)
        if not state["stalled"]:
            state["stalled"] = not self._iterate(closure)
        self._versions = [p._version for p in self._params]
        loss_here: Tensor = state["loss"]
        return loss_here

    @property
    def _moved(self) -> bool:
        return self._versions is not None and self._versions != [p._version for p in self._params]

    @property
    def _params(self) -> list[Tensor]:
        params: list[Tensor] = self.param_groups[0]["params"]
        return params

    @property
    def _state(self) -> dict[str, Any]:
        # Kept where torch looks for it, so that state_dict() and copies hold all there is.
        state: dict[str, Any] = self.state[self._params[0]]
        return state

    def _iterate(self, closure: Callable[[], Tensor]) -> bool:
        """Move to a better point; return False where there is none."""
        state, point = self._state, self._point()
        free = self._free(point)
        gradient = state["gradient"] * free
        if not bool(gradient.any()) or not bool(gradient.isfinite().all()):
            return False
        while True:
            if self._search(closure, point, self._direction(gradient, free)):
                return True
            if not state["pairs"]:
                self._move(point)
                return False
            state["pairs"] = []  # start again from the steepest descent

    def _search(self, closure: Callable[[], Tensor], point: Tensor, direction: Tensor) -> bool:
        """Go along the direction, bent at the bounds, until the loss has dropped enough."""
        state, group, length = self._state, self.param_groups[0], 1.0
        loss, gradient = state["unit"] * float(state["loss"]), state["gradient"]
        for _ in range(_MAX_TRIALS):
            trial = (point + length * direction).clamp_(group["lower"], group["upper"])
            change = trial - point
            slope = float(gradient @ change)
            if not slope < 0:
                return False
            self._move(trial)
            new_loss = closure().detach()
            rise = state["unit"] * float(new_loss) - loss
            if rise <= _ARMIJO * slope:
                new_gradient = self._read_gradient()
                self._remember(change, new_gradient - gradient)
                state.update(loss=new_loss, gradient=new_gradient)
                return True
            length *= _shorter(slope, rise)
        return False

    def _direction(self, gradient: Tensor, free: Tensor) -> Tensor:
        """Return the L-BFGS direction over the free values (the two-loop recursion)."""
        direction: Tensor = -gradient
        used = []
        for change, gradient_change, smallest in reversed(self._state["pairs"]):
            gradient_change = gradient_change * free  # what bounds hold has no say
            curvature, along = gradient_change @ change, change @ direction
            if curvature > smallest:
                share = along / curvature
                direction.addcmul_(gradient_change, share, value=-1)
                used.append((change, gradient_change, curvature, share))
        if not used:
            direction = self._preconditioned(direction, free)
            first_step: float = self.param_groups[0]["first_step"]
            return direction * (first_step / direction.square().mean().sqrt())
        _, gradient_change, curvature, _ = used[0]
        direction = self._preconditioned(direction, free)
        preconditioned = self._preconditioned(gradient_change, free)
        direction *= curvature / (gradient_change @ preconditioned)
        for change, gradient_change, curvature, share in reversed(used):
            along = gradient_change @ direction
            direction.addcmul_(change, share - along / curvature)
        return direction * free

    def _preconditioned(self, values: Tensor, free: Tensor) -> Tensor:
        """Apply the inverse of the metric that steps start from: symmetric, positive definite."""
        levels = self.param_groups[0]["levels"]
        if levels == 0:
            return values
        parts = self._split(values * free)
        return torch.cat([favor_coarse(part, levels).flatten() for part in parts]) * free

    def _free(self, point: Tensor) -> Tensor:
        """Return 1 where a small step against the gradient stays within the bounds, else 0.

        What the loss does not depend on is not free either, lest coarse changes spill over to it.
        """
        # Bertsekas asks for a margin around the bounds; on pictures it made no difference.
        gradient, group = self._state["gradient"], self.param_groups[0]
        held_low = (point <= group["lower"]) & (gradient >= 0)
        held_high = (point >= group["upper"]) & (gradient <= 0)
        free: Tensor = ~(held_low | held_high | (gradient == 0))
        return free.to(point.dtype)

    def _remember(self, change: Tensor, gradient_change: Tensor) -> None:
        """Keep a pair of changes, if it has positive curvature; else it would spoil the metric."""
        curvature = gradient_change @ change
        # The angle decides, not the size: the test must not depend on the loss's scale.
        lengths = (change @ change).sqrt(), (gradient_change @ gradient_change).sqrt()
        smallest = torch.finfo(change.dtype).eps * lengths[0] * lengths[1]
        if curvature > smallest:
            pairs = [*self._state["pairs"], (change, gradient_change, smallest)]
            self._state["pairs"] = pairs[-self.param_groups[0]["history_size"] :]

    def _point(self) -> Tensor:
        flat = torch.cat([p.detach().flatten() for p in self._params])
        return flat.clamp_(self.param_groups[0]["lower"], self.param_groups[0]["upper"])

    def _read_gradient(self) -> Tensor:
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad) for p in self._params]
        unit: float = self._state["unit"]
        return torch.cat([part.flatten() for part in parts]) * unit

    def _move(self, point: Tensor) -> None:
        for p, part in zip(self._params, self._split(point), strict=True):
            p.copy_(part)

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Return the parts that belong to each parameter, in its shape."""
        parts = torch.split(flat, [p.numel() for p in self._params])
        return [part.view_as(p) for part, p in zip(parts, self._params, strict=True)]


def favor_coarse(image: Tensor, levels: int) -> Tensor:
    r"""Return \(\sum_k 8^k D_k^\top D_k x\): a picture in which what is coarse weighs more.

    \(D_k\) halves a picture k times. What varies over many pixels is multiplied by up to
    \(2^{k+1} - 1\), what varies from pixel to pixel by 1.

    Args:
        image: `(N, C, H, W)`; anything else comes back as it is.
        levels: How many times it is halved, at the most; 0 changes nothing.
    """
    if levels == 0 or image.ndim != 4 or min(image.shape[-2:]) < 2:
        return image
    n, channels, height, width = image.shape
    side = image.new_tensor([1, 3, 3, 1]) / 8
    kernel = side.outer(side)[None, None]
    single = image.reshape(n * channels, 1, height, width)
    half = F.conv2d(single, kernel, stride=2, padding=1)
    coarse = favor_coarse(half.view(n, channels, *half.shape[-2:]), levels - 1)
    # The adjoint of halving, times 4 to keep the level, times 2 to favor it.
    back = F.conv_transpose2d(
        coarse.view_as(half),
        8 * kernel,
        stride=2,
        padding=1,
        output_padding=(height % 2, width % 2),
    )
    return image + back.view_as(image)


def _unit(largest: Tensor) -> float:
    """Return the power of two that brings a gradient to order 1, by its largest absolute value.

    Squares of what is very large or very small would not be numbers any more. A power of two
    changes nothing else, not even in the last bit.
    """
    size = float(largest)
    if not 0 < size < math.inf:
        return 1.0
    most = math.frexp(torch.finfo(largest.dtype).max)[1] - 2
    return math.ldexp(1.0, max(-most, min(most, -math.frexp(size)[1])))


def _shorter(slope: float, rise: float) -> float:
    """Return the factor to the minimum of the parabola through what is known, within [0.1, 0.5]."""
    if not math.isfinite(rise):
        return 0.1
    return min(max(slope / (2 * (slope - rise)), 0.1), 0.5)
