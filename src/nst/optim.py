"""L-BFGS for pictures: every pixel stays within its bounds.

Two-metric projection (Bertsekas, "Projected Newton Methods for Optimization Problems with Simple
Constraints", SIAM J. Control Optim. 1982) with the limited-memory BFGS direction of Nocedal &
Wright, "Numerical Optimization" (2006), algorithm 7.4, over the pixels that are not at a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._utils.checks import at_least, non_negative

HISTORY_SIZE = 20
"""Default number of stored pairs."""

_ARMIJO = 1e-4  # sufficient decrease, relative to the slope (Nocedal & Wright, section 3.1)
_MAX_TRIALS = 12
_LEVELS = 3  # measured on one picture of 512 px: a sixth fewer steps to the same loss than with 0
# The limit of a large picture's history, and the fewest pairs that textbooks recommend.
_HISTORY_BYTES, _SHORTEST_HISTORY = 2**31, 4

OptimizerFactory: TypeAlias = Callable[[list[Tensor]], torch.optim.Optimizer]
OptimizerLike: TypeAlias = str | OptimizerFactory


class BoundedLBFGS(torch.optim.Optimizer):
    """L-BFGS within bounds, one iteration for each `step`.

    Most steps evaluate the closure once, at the new parameters. The scale of the loss has no
    effect. If no direction lowers the loss, the parameters stay and `stop_reason` is set.

    Args:
        params: Tensors to optimize; they share one history. Groups are not supported.
        bounds: Lowest and highest value; None for no bounds.
        history_size: Number of stored pairs of changes of the parameters and of the gradient.
        first_step: Root mean square change of the first step, in units of the parameters.
        levels: Number of halvings up to which coarse changes of pictures `(N, C, H, W)` are
            favored, which helps early on. 0 treats all pixels alike.

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
        >>> [round(value, 3) for value in x.tolist()]  # the second is at its bound
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
        options = {"lower": lower, "upper": upper, "first_step": first_step}
        options["history_size"] = at_least("history_size", history_size, 1)
        options["levels"] = at_least("levels", levels, 0)
        super().__init__(params, options)
        if len(self.param_groups) != 1:
            raise ValueError("`params` has several groups; BoundedLBFGS takes a single one.")
        self._versions: list[int] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state that belongs to the current parameters."""
        super().__setstate__(state)
        self._versions = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state, including whether other code has changed the parameters."""
        if self._moved():
            self._state["moved"] = True
        return super().state_dict()

    @property
    def stop_reason(self) -> str | None:
        """Reason why further steps would change nothing; None otherwise."""
        return "the loss cannot be lowered any further" if self._state.get("stalled") else None

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one iteration and return the loss at the new parameters.

        `closure` clears the gradients, computes the loss and its gradients, and returns the loss.
        """
        closure = torch.enable_grad()(closure)
        state, group, params = self._state, self.param_groups[0], self.param_groups[0]["params"]
        point = torch.cat([p.detach().flatten() for p in params])
        point.clamp_(group["lower"], group["upper"])
        moved = state.pop("moved", self._moved())
        if moved or "loss" not in state:
            self._move(point)
            loss, pairs = closure().detach(), [] if moved else state.get("pairs", [])
            if not pairs:
                state["unit"] = 1.0
                state["unit"] = _unit(self._read_gradient().abs().max())
            state.update(loss=loss, gradient=self._read_gradient(), pairs=pairs, stalled=False)
        if not state["stalled"]:
            state["stalled"] = not self._improve(closure, point)
        self._versions = [p._version for p in params]
        loss_here: Tensor = state["loss"]
        return loss_here

    def reevaluate(self) -> None:
        """Evaluate the closure again before the next step, as it has slightly changed."""
        self._state.pop("loss", None)
        self._state["stalled"] = False

    @property
    def _state(self) -> dict[str, Any]:
        # Where torch looks for it, so that state_dict() and copies include it.
        state: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return state

    def _moved(self) -> bool:
        """Return whether other code has changed the parameters since the last step."""
        versions = [p._version for p in self.param_groups[0]["params"]]
        return self._versions not in (None, versions)

    def _improve(self, closure: Callable[[], Tensor], point: Tensor) -> bool:
        """Move from the point to a better one; return False if there is none."""
        state, group, free = self._state, self.param_groups[0], self._free(point)
        gradient = state["gradient"] * free
        if not gradient.any() or not gradient.isfinite().all():
            return False
        while True:
            direction, length = self._direction(gradient, free, state["pairs"]), 1.0
            for _ in range(_MAX_TRIALS):
                trial = (point + length * direction).clamp_(group["lower"], group["upper"])
                change = trial - point
                slope = float(state["gradient"] @ change)
                if not slope < 0:
                    break
                self._move(trial)
                loss = closure().detach()
                rise = state["unit"] * float(loss) - state["unit"] * float(state["loss"])
                if rise <= _ARMIJO * slope:
                    new_gradient = self._read_gradient()
                    self._remember(change, new_gradient - state["gradient"])
                    state.update(loss=loss, gradient=new_gradient)
                    return True
                # To the minimum of the interpolating parabola, within limits.
                shorter = slope / (2 * (slope - rise)) if math.isfinite(rise) else 0.1
                length *= min(max(shorter, 0.1), 0.5)
            if not state["pairs"]:
                self._move(point)
                return False
            state["pairs"] = []  # restart from the steepest descent

    def _direction(self, gradient: Tensor, free: Tensor, pairs: list[Any]) -> Tensor:
        """Return the L-BFGS direction over the free values (the two-loop recursion)."""
        direction: Tensor = -gradient
        used = []
        for change, gradient_change, smallest in reversed(pairs):
            gradient_change = gradient_change * free
            curvature, along = gradient_change @ change, change @ direction
            if curvature > smallest:
                share = along / curvature
                direction.addcmul_(gradient_change, share, value=-1)
                used.append((change, gradient_change, curvature, share))
        direction = self._preconditioned(direction, free)
        if not used:
            first_step: float = self.param_groups[0]["first_step"]
            return direction * (first_step / direction.square().mean().sqrt())
        _, gradient_change, curvature, _ = used[0]
        preconditioned = self._preconditioned(gradient_change, free)
        direction *= curvature / (gradient_change @ preconditioned)
        for change, gradient_change, curvature, share in reversed(used):
            along = gradient_change @ direction
            direction.addcmul_(change, share - along / curvature)
        return direction * free

    def _preconditioned(self, values: Tensor, free: Tensor) -> Tensor:
        """Apply the inverse of the initial metric, which is symmetric and positive definite."""
        levels = self.param_groups[0]["levels"]
        if levels == 0:
            return values
        parts = self._split(values * free)
        return torch.cat([favor_coarse(part, levels).flatten() for part in parts]) * free

    def _free(self, point: Tensor) -> Tensor:
        """Return 1 where a small step against the gradient stays within the bounds, else 0."""
        # Bertsekas requires a margin around the bounds; on pictures it made no difference. Coarse
        # changes would spill over to values without a gradient.
        gradient, group = self._state["gradient"], self.param_groups[0]
        held_low = (point <= group["lower"]) & (gradient >= 0)
        held_high = (point >= group["upper"]) & (gradient <= 0)
        free: Tensor = ~(held_low | held_high | (gradient == 0))
        return free.to(point.dtype)

    def _remember(self, change: Tensor, gradient_change: Tensor) -> None:
        """Store a pair of changes if its curvature is positive, as the metric requires."""
        curvature = gradient_change @ change
        # A test of the angle is independent of the loss's scale.
        lengths = (change @ change).sqrt(), (gradient_change @ gradient_change).sqrt()
        smallest = torch.finfo(change.dtype).eps * lengths[0] * lengths[1]
        if curvature > smallest:
            pairs = [*self._state["pairs"], (change, gradient_change, smallest)]
            self._state["pairs"] = pairs[-self.param_groups[0]["history_size"] :]

    def _read_gradient(self) -> Tensor:
        params = self.param_groups[0]["params"]
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in params]
        return torch.cat(parts) * float(self._state["unit"])

    def _move(self, point: Tensor) -> None:
        for p, part in zip(self.param_groups[0]["params"], self._split(point), strict=True):
            p.copy_(part)

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Return the part of each parameter, in its shape."""
        params = self.param_groups[0]["params"]
        parts = torch.split(flat, [p.numel() for p in params])
        return [part.view_as(p) for part, p in zip(parts, params, strict=True)]


def favor_coarse(image: Tensor, levels: int) -> Tensor:
    r"""Return \(\sum_k 8^k D_k^\top D_k x\): a picture `(N, C, H, W)` with amplified coarse parts.

    \(D_k\) halves a picture k times, at most `levels` times. Structure of many pixels is multiplied
    by up to \(2^{k+1} - 1\), that of single pixels by 1. Other shapes are returned unchanged.
    """
    if levels == 0 or image.ndim != 4 or min(image.shape[-2:]) < 2:
        return image
    n, channels, height, width = image.shape
    side = image.new_tensor([1, 3, 3, 1]) / 8
    kernel = side.outer(side)[None, None]
    single = image.reshape(n * channels, 1, height, width)
    half = F.conv2d(single, kernel, stride=2, padding=1)
    coarse = favor_coarse(half.view(n, channels, *half.shape[-2:]), levels - 1).view_as(half)
    # The adjoint of halving, times 4 to preserve the level, times 2 to favor it.
    odd = (height % 2, width % 2)
    back = F.conv_transpose2d(coarse, 8 * kernel, stride=2, padding=1, output_padding=odd)
    return image + back.view_as(image)


def _unit(largest: Tensor) -> float:
    """Return the power of two that scales a gradient to order 1, given its largest magnitude."""
    # Squares of extreme values would overflow or vanish. A power of two is exact.
    size = float(largest)
    if not 0 < size < math.inf:
        return 1.0
    most = math.frexp(torch.finfo(largest.dtype).max)[1] - 2
    return math.ldexp(1.0, max(-most, min(most, -math.frexp(size)[1])))


def _bounded_lbfgs(params: list[Tensor], *, levels: int) -> BoundedLBFGS:
    pair = 2 * sum(p.nbytes for p in params)
    history_size = min(max(_HISTORY_BYTES // max(pair, 1), _SHORTEST_HISTORY), HISTORY_SIZE)
    return BoundedLBFGS(params, history_size=history_size, levels=levels)


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
        "lbfgs": partial(_bounded_lbfgs, levels=0 if fine else _LEVELS),
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
