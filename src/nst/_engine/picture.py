"""An optimized picture: its pixels, its optimizer, and the best result so far."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nst._engine.shared import AnyObjective
from nst._utils.text import logger
from nst.images import fit, resize
from nst.optim import OptimizerFactory, restore_optimizer
from nst.optim.lbfgs import BoundedLBFGS

# Attributes that `state_dict` stores as they are.
_STORED: tuple[str, ...] = ("losses", "failure", "stall", "is_mixed", "_size", "_problem")
_STORED += ("_best", "_best_total", "_best_losses", "_average", "_averaged")


class OptimizedPicture:
    """One picture of a batch, with its own optimizer.

    It starts from `start`, in the proportions of `content`, and changes only pixels in `where`. An
    exponential moving average with a decay of `average` above 0 is the best picture of a scale
    (Polyak & Juditsky 1992).
    """

    pixels: Tensor
    """The picture being optimized, `(1, 3, h, w)`: the leaf that receives the gradient."""
    losses: dict[str, Tensor]
    """The weighted losses of the last accepted evaluation, on the CPU."""
    failure: str | None = None
    """Why this picture cannot be optimized further at any scale."""
    stall: str | None = None
    """Why further steps at this scale would change nothing."""

    is_mixed = False
    """Whether it is evaluated in a lower precision than the targets of its losses."""

    def __init__(
        self, content: Tensor, start: Tensor, *, where: Tensor | None = None, average: float = 0.0
    ) -> None:
        self.losses = {}
        self._content, self._start, self._where = content, start, where
        self._decay, self._best = average, start
        self._average: Tensor | None = None
        self._size: int | None = None
        self._problem: str | None = None  # of the last evaluation
        self._work: Mapping[str, Any] | None = None  # of a checkpoint, until the scale starts
        self._resumed = False
        self._in_range = True

    @property
    def best(self) -> Tensor:
        """The picture with the lowest total at this scale, or the average."""
        return self._best if self._average is None else self._average

    @property
    def active(self) -> bool:
        """Whether another step at this scale could change anything."""
        return self.failure is None and self.stall is None

    def start_scale(
        self, objective: AnyObjective, shape: tuple[int, int], make_optimizer: OptimizerFactory
    ) -> None:
        """Continue from the best picture so far at another height and width."""
        resumed, self._resumed = self._resumed, False
        if self.failure is not None:
            self.pixels = self.pixels if resumed else resize(self.best, shape)
            return
        content = resize(self._content, shape)
        self._free = None if self._where is None else (resize(self._where, shape) > 0)
        if not resumed:
            self._enlarge(content, shape)
            self.is_mixed = objective.is_mixed
        elif objective.is_mixed and not self.is_mixed:
            objective.set_full_precision()
        objective.capture(content)
        self._objective = objective
        self._make_optimizer, self._optimizer = make_optimizer, make_optimizer([self.pixels])
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"`optimizer` made {self._optimizer!r}; it must return a torch.optim.Optimizer."
            )
        if self._work is not None:
            work, self._work = self._work, None  # it is as large as the state of the optimizer
            try:
                objective.load_state_dict(work["losses"])
            except Exception as error:  # a custom loss may raise anything
                raise ValueError(
                    f"`losses` has one that cannot restore its state ({error}). Pass the losses "
                    "that the run was started with."
                ) from error
            restore_optimizer(self._optimizer, work["optimizer"], work["state"])

    def set_full_precision(self) -> None:
        """Continue in full precision, in which the losses have other values."""
        if not self.is_mixed or self.failure is not None:
            return
        self._objective.set_full_precision()
        self.is_mixed, self.stall, self._problem = False, None, None
        self._best, self._best_total = self.pixels.detach().clone(), math.inf
        self._scored_version = -1
        if isinstance(self._optimizer, BoundedLBFGS):
            self._optimizer.reevaluate()

    def _enlarge(self, content: Tensor, shape: tuple[int, int]) -> None:
        """Resize the best picture so far, with details of the starting picture."""
        best = self.best
        pixels = resize(best, shape)
        if self._size is not None:
            before = resize(self._start, (best.shape[-2], best.shape[-1]))
            change = pixels - resize(before, shape)
            pixels = (resize(self._start, shape) + change).clamp(0, 1)
        if self._free is not None:
            pixels = torch.where(self._free, pixels, content)
        self.pixels = pixels.clone(memory_format=torch.contiguous_format).requires_grad_()
        self._size, self._average, self._averaged = max(shape), None, 0
        self._best, self._best_total = self.pixels.detach().clone(), math.inf
        self._best_losses: dict[str, Tensor] = {}
        self.stall = self._problem = None
        self._scored_version = -1

    def step(self) -> None:
        """Take one step of the optimizer."""
        # torch's annotation says float; its optimizers return the tensor.
        self._optimizer.step(self._evaluate)  # type: ignore[arg-type]
        self.stall = getattr(self._optimizer, "stop_reason", None)
        if self.is_mixed and (self.stall or self._problem):  # perhaps by rounding or overflow
            if self._problem:
                logger.warning("%s, so the scale is completed in full precision", self._problem)
                with torch.no_grad():
                    self.pixels.copy_(self._best)
                self._optimizer = self._make_optimizer([self.pixels])
            self.set_full_precision()
            return self.step()
        # The optimizer may have ended the step at finite values despite the problem.
        values = [self.pixels, *self.losses.values()]
        if self._problem is not None and (
            self.stall or not all(bool(each.isfinite().all()) for each in values)
        ):
            self.failure = f"diverged: {self._problem}"
            with torch.no_grad():
                self.pixels.copy_(self._best)  # callbacks may save it
        if not self.active and self._best_losses:
            self.losses = self._best_losses  # the last evaluation was of another picture
        if self._scored_version != self.pixels._version:
            low, high = self.pixels.detach().aminmax()
            self._in_range = not bool((low < 0) | (high > 1))
        if not self._in_range:  # of an optimizer without bounds
            with torch.no_grad():
                self.pixels.clamp_(0, 1)
        if self._problem is None and self._decay > 0:
            # The share corrects the bias of a few steps; the first one is 1.
            self._averaged += 1
            share = (1 - self._decay) / (1 - self._decay**self._averaged)
            pixels, before = self.pixels.detach(), self._average
            self._average = pixels.clone() if before is None else before.lerp(pixels, share)

    def finish_scale(self) -> None:
        """Score the last update, which may be the best picture."""
        if self.failure is None and self._scored_version != self.pixels._version:
            with torch.no_grad():
                self._record(self._objective.score(self.pixels))
            if self._problem is not None:
                self.failure = f"diverged: {self._problem}"

    def _evaluate(self) -> Tensor:
        losses, gradient = self._objective.evaluate(self.pixels)
        if self._free is not None:
            gradient = gradient * self._free
        self.pixels.grad = gradient
        if not self._record(losses, *gradient.aminmax()) and self._problem is None:
            name = self._objective.blame(self.pixels)
            self._problem = f"the gradient of loss {name!r} is not finite"
        return torch.stack(list(self.losses.values())).sum()

    def _record(self, losses: dict[str, Tensor], *gradient: Tensor) -> bool:
        """Store the losses of the current pixels, and the pixels if they are the best so far.

        Return whether the extreme values of their gradient are finite.
        """
        # All numbers are copied in one tensor, as each copy waits for the device.
        numbers = torch.stack([*losses.values(), *self.pixels.detach().aminmax(), *gradient]).cpu()
        count, (low, high, *extremes) = len(losses), numbers[len(losses) :].tolist()
        self.losses = dict(zip(losses, numbers[:count].unbind(), strict=True))
        self._scored_version = self.pixels._version
        self._in_range = low >= 0 and high <= 1
        values = dict(zip(losses, numbers[:count].tolist(), strict=True))
        self._problem = next(
            (f"loss {n!r} became {v}" for n, v in values.items() if not math.isfinite(v)), None
        )
        total = sum(values.values())
        # NaN compares false. Pixels out of range would be clamped, so they have other losses.
        if total < self._best_total and self._in_range:
            self._best, self._best_total = self.pixels.detach().clone(), total
            self._best_losses = self.losses
        return all(map(math.isfinite, extremes))

    def state_dict(self) -> dict[str, Any]:
        """Return the state after a step for `load_state_dict`; tensors are not copied."""
        work = None
        if self.failure is None:
            work = {
                "losses": self._objective.state_dict(),
                "optimizer": type(self._optimizer).__qualname__,
                "state": self._optimizer.state_dict(),
            }
        return {
            **{name: getattr(self, name) for name in _STORED},
            "pixels": self.pixels.detach(),
            "scored": self._scored_version == self.pixels._version,
            "work": work,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state, without copying, before its scale starts; it can raise any error."""
        for name in ("failure", "stall"):
            if not isinstance(state[name], (str, type(None))):
                raise TypeError(f"`{name}` is {state[name]!r}; a string is needed.")
        for name in _STORED:
            setattr(self, name, state[name])
        self.losses, self._best_losses = dict(self.losses), dict(self._best_losses)
        self.pixels = state["pixels"].requires_grad_()
        shape = (*self._content.shape[:2], *fit(self._content.shape[-2:], state["_size"]))
        for name in ("pixels", "_best", "_average"):
            # A picture that failed at a coarser scale was enlarged later.
            if state[name] is not None and self.failure is None and state[name].shape != shape:
                raise ValueError(f"`{name}` has another shape; it must be that of the scale.")
        self._scored_version = self.pixels._version if state["scored"] else -1
        self._resumed, self._work = True, state["work"]
