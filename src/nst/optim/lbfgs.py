"""L-BFGS for pictures: every pixel stays within its bounds.

Two-metric projection (Bertsekas, "Projected Newton Methods for Optimization Problems with Simple
Constraints", SIAM J. Control Optim. 1982) with the limited-memory BFGS direction of Nocedal &
Wright, "Numerical Optimization" (2006), algorithm 7.4, over the pixels that are not at a bound.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nst._utils.checks import at_least

HISTORY_SIZE = 20
"""Default number of stored pairs."""

_ARMIJO = 1e-4  # sufficient decrease, relative to the slope (Nocedal & Wright, section 3.1)
_MAX_TRIALS = 12
# The limit of a large picture's history, and the fewest pairs that textbooks recommend.
_HISTORY_BYTES, _SHORTEST_HISTORY = 2**31, 4


class BoundedLBFGS(torch.optim.Optimizer):
    """L-BFGS within bounds, one iteration for each `step`.

    Most steps evaluate the closure once, at the new parameters. The scale of the loss has no
    effect. If no direction lowers the loss, the parameters stay and `stop_reason` is set. Changes
    of the parameters between steps are noticed; after one through `.data` or NumPy, which PyTorch
    does not count, call `reevaluate`.

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
        if not 0 < first_step < math.inf:
            raise ValueError(f"`first_step` is {first_step}; it must be positive and finite.")
        options = {"lower": lower, "upper": upper, "first_step": first_step}
        options["history_size"] = at_least("history_size", history_size, 1)
        options["levels"] = at_least("levels", levels, 0)
        super().__init__(params, options)
        self._versions: list[int] | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the only group; raise `ValueError` for a second one."""
        if self.param_groups:
            raise ValueError("`params` has several groups; BoundedLBFGS takes a single one.")
        super().add_param_group(param_group)

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
        point = _joined([p.detach() for p in params]).clamp(group["lower"], group["upper"])
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
        return state["loss"]  # type: ignore[no-any-return]

    def reevaluate(self) -> None:
        """Evaluate the closure again before the next step, as it has slightly changed."""
        self._state.pop("loss", None)
        self._state["stalled"] = False

    @property
    def _state(self) -> dict[str, Any]:
        # Where torch looks for it, so that state_dict() and copies include it.
        return self.state[self.param_groups[0]["params"][0]]  # type: ignore[no-any-return]

    def _moved(self) -> bool:
        """Return whether other code has changed the parameters since the last step."""
        versions = [p._version for p in self.param_groups[0]["params"]]
        return self._versions not in (None, versions)

    def _improve(self, closure: Callable[[], Tensor], point: Tensor) -> bool:
        """Move from the point to a better one; return False if there is none."""
        state, group, free = self._state, self.param_groups[0], self._free(point)
        gradient, pairs = state["gradient"] * free, state["pairs"]
        while True:
            (direction, divisor), length = self._direction(gradient, free, pairs), 1.0
            step = direction
            for _ in range(_MAX_TRIALS):
                trial = (point + step).clamp_(group["lower"], group["upper"])
                change = trial - point
                numbers = torch.stack([state["gradient"] @ change, divisor, *gradient.aminmax()])
                slope, curved, low, high = numbers.tolist()  # a single wait for the device
                if not 0 < max(-low, high) < math.inf:  # NaN if any value is NaN
                    return False
                if not (math.isfinite(curved) and slope < 0):
                    break
                self._move(trial)
                loss = closure().detach()
                rise = state["unit"] * float(loss) - state["unit"] * float(state["loss"])
                if rise <= _ARMIJO * slope:
                    new_gradient = self._read_gradient()
                    pair = change, new_gradient - state["gradient"]
                    # Relative to both lengths, so that the scale of the loss has no effect.
                    lengths = [(each @ each).sqrt() for each in pair]
                    smallest = torch.finfo(change.dtype).eps * lengths[0] * lengths[1]
                    if pair[1] @ change > smallest:  # more than rounding, as the metric requires
                        stored = [*state["pairs"], (*pair, smallest)]
                        state["pairs"] = stored[-group["history_size"] :]
                    state.update(loss=loss, gradient=new_gradient)
                    return True
                # To the minimum of the interpolating parabola, within limits.
                shorter = slope / (2 * (slope - rise)) if math.isfinite(rise) else 0.1
                length *= min(max(shorter, 0.1), 0.5)
                step = length * direction
            if not math.isfinite(curved):
                pairs = pairs[:-1]
            elif state["pairs"]:
                state["pairs"] = pairs = []  # restart from the steepest descent
            else:
                self._move(point)
                return False

    def _direction(
        self, gradient: Tensor, free: Tensor, pairs: Sequence[tuple[Tensor, ...]]
    ) -> tuple[Tensor, Tensor]:
        """Return the L-BFGS direction over the free values (the two-loop recursion).

        It is valid if the second result is finite: if the last pair has positive curvature.
        """
        direction, group = -gradient, self.param_groups[0]
        if not pairs:
            direction = self._preconditioned(direction, free)
            length = direction.square().mean().sqrt()
            return direction * (group["first_step"] / length), torch.ones_like(length)
        changes, gradient_changes, smallest = zip(*reversed(pairs), strict=True)
        gradient_changes = torch._foreach_mul(gradient_changes, [free] * len(pairs))
        products = map(torch.dot, gradient_changes, changes)
        curvatures, shares = torch.stack([*products]), list[Tensor]()
        # Dividing by infinity skips a pair without waiting for the device.
        divisors = torch.where(curvatures > torch.stack(smallest), curvatures, torch.inf).unbind()
        triples = list(zip(changes, gradient_changes, divisors, strict=True))
        for change, gradient_change, divisor in triples:
            shares.append(change @ direction / divisor)
            direction.addcmul_(gradient_change, shares[-1], value=-1)
        direction = self._preconditioned(direction, free)
        preconditioned = self._preconditioned(gradient_changes[0], free)
        direction *= divisors[0] / (gradient_changes[0] @ preconditioned)
        for change, gradient_change, divisor in reversed(triples):
            along = gradient_change @ direction
            direction.addcmul_(change, torch.addcdiv(shares.pop(), along, divisor, value=-1))
        return direction * free, divisors[0]

    def _preconditioned(self, values: Tensor, free: Tensor) -> Tensor:
        """Apply the inverse of the initial metric to values that are 0 unless they are free."""
        levels = self.param_groups[0]["levels"]
        if levels == 0:
            return values
        return _joined([favor_coarse(part, levels) for part in self._split(values)]) * free

    def _free(self, point: Tensor) -> Tensor:
        """Return 1 where a small step against the gradient stays within the bounds, else 0."""
        # Bertsekas requires a margin around the bounds; on pictures it made no difference. Coarse
        # changes would spill over to values without a gradient.
        gradient, group = self._state["gradient"], self.param_groups[0]
        can_rise = (point < group["upper"]) & (gradient < 0)
        return torch.where(gradient > 0, point > group["lower"], can_rise).to(point.dtype)

    def _read_gradient(self) -> Tensor:
        params = self.param_groups[0]["params"]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        return _joined(parts) * float(self._state["unit"])

    def _move(self, point: Tensor) -> None:
        for p, part in zip(self.param_groups[0]["params"], self._split(point), strict=True):
            p.copy_(part)

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Return the part of each parameter, in its shape."""
        params = self.param_groups[0]["params"]
        parts = torch.split(flat, [p.numel() for p in params]) if len(params) > 1 else [flat]
        return [part.view_as(p) for part, p in zip(parts, params, strict=True)]


def bounded_lbfgs(params: list[Tensor], *, levels: int) -> BoundedLBFGS:
    """Return the optimizer of pictures, whose history is shorter if they are large."""
    pair = 2 * sum(p.nbytes for p in params)
    history_size = min(max(_HISTORY_BYTES // max(pair, 1), _SHORTEST_HISTORY), HISTORY_SIZE)
    return BoundedLBFGS(params, history_size=history_size, levels=levels)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return all values as one vector, a view if there is one part."""
    return torch.cat([p.flatten() for p in parts]) if len(parts) > 1 else parts[0].flatten()


def favor_coarse(image: Tensor, levels: int) -> Tensor:
    r"""Return \(\sum_k 8^k D_k^\top D_k x\): a picture `(N, C, H, W)` with amplified coarse parts.

    \(D_k\) halves a picture k times, at most `levels` times. Structure of many pixels is multiplied
    by up to \(2^{k+1} - 1\), that of single pixels by 1. Other shapes are returned unchanged.
    """
    if image.ndim != 4:
        return image
    halve, enlarge = _kernels(image.dtype, image.device)
    halved = [image.reshape(-1, 1, *image.shape[2:])]
    while len(halved) <= levels and min(halved[-1].shape[2:]) >= 2:
        halved.append(F.conv2d(halved[-1], halve, stride=2, padding=1))
    coarse = halved.pop()
    for fine in reversed(halved):
        odd = fine.shape[2] % 2, fine.shape[3] % 2
        coarse = fine + F.conv_transpose2d(coarse, enlarge, stride=2, padding=1, output_padding=odd)
    return coarse.view_as(image)


@functools.cache
def _kernels(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the kernels that halve and enlarge a picture; copying them each time would wait."""
    with torch.inference_mode(False):
        side = torch.tensor([1, 3, 3, 1], dtype=dtype, device=device) / 8
        kernel = side.outer(side)[None, None]
        # The adjoint of halving, times 4 to preserve the level, times 2 to favor it.
        return kernel, 8 * kernel


def _unit(largest: Tensor) -> float:
    """Return the power of two that scales a gradient to order 1, given its largest magnitude."""
    # Squares of extreme values would overflow or vanish. A power of two is exact.
    size = float(largest)
    if not 0 < size < math.inf:
        return 1.0
    most = math.frexp(torch.finfo(largest.dtype).max)[1] - 2
    return math.ldexp(1.0, max(-most, min(most, -math.frexp(size)[1])))
