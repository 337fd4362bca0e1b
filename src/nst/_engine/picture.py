"""One optimized picture: its pixels, its optimizer, and the best result so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nst._engine.shared import AnyObjective
from nst.images import fit, resize
from nst.optim import OptimizerFactory, restore_optimizer


class OptimizedPicture:
    """One picture of a batch, optimized independently of the others, with its own optimizer.

    Args:
        content: The photograph, `(1, 3, H, W)`.
        start: The picture to start from, in the same proportions.
        where: Mask of what may change, `(1, 1, H, W)`; the rest is the photograph's. None for all.
        average: 0, or the decay of an exponential moving average over the steps of a scale, which
            then is the best picture (Polyak & Juditsky 1992).
    """

    pixels: Tensor
    """The picture being optimized, `(1, 3, h, w)`: the leaf that receives the gradient."""
    losses: dict[str, Tensor]
    """The weighted losses of the last accepted evaluation, detached."""
    failure: str | None = None
    """Why this picture cannot be optimized further, at any scale."""
    stall: str | None = None
    """Why further steps at this scale would change nothing."""

    def __init__(
        self, content: Tensor, start: Tensor, *, where: Tensor | None = None, average: float = 0.0
    ) -> None:
        self.losses = {}
        self._content, self._start, self._where = content, start, where
        self._decay, self._best = average, start
        self._average: Tensor | None = None
        self._averaged = 0
        self._size: int | None = None
        self._problem: str | None = None  # of the last evaluation
        self._scored_version = -1
        self._work: Mapping[str, Any] | None = None  # of a checkpoint, until the scale starts
        self._resumed = False

    @property
    def best(self) -> Tensor:
        """The picture with the lowest total at this scale; or the average."""
        return self._best if self._average is None else self._average

    @property
    def active(self) -> bool:
        """Whether another step at this scale could change anything."""
        return self.failure is None and self.stall is None

    def start_scale(
        self, objective: AnyObjective, size: int, make_optimizer: OptimizerFactory
    ) -> None:
        """Continue from the best picture so far, at another size."""
        shape = fit(self._content.shape[-2:], size)
        resumed, self._resumed = self._resumed, False
        if self.failure is not None:
            self.pixels = self.pixels if resumed else resize(self.best, shape)
            return
        content = resize(self._content, shape)
        self._free = None if self._where is None else (resize(self._where, shape) > 0)
        if not resumed:
            self._enlarge(content, size)
        objective.capture_content(content)
        self._objective = objective
        self._optimizer = make_optimizer([self.pixels])
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"`optimizer` made {self._optimizer!r}; it must return a torch.optim.Optimizer."
            )
        if self._work is not None:
            self._restore_work(self._work)
            self._work = None  # it is as large as the state of the optimizer

    def _enlarge(self, content: Tensor, size: int) -> None:
        """Bring the best picture so far to the size of the content.

        Details that the coarser scale could not hold are taken from the starting picture, so the
        photograph survives coarse scales, and only what they changed is changed.
        """
        shape, best = (content.shape[-2], content.shape[-1]), self.best
        pixels = resize(best, shape)
        if self._size is not None:
            before = resize(self._start, (best.shape[-2], best.shape[-1]))
            change = pixels - resize(before, shape)
            pixels = (resize(self._start, shape) + change).clamp(0, 1)
        if self._free is not None:
            pixels = torch.where(self._free, pixels, content)
        self.pixels = pixels.clone().requires_grad_()
        self._size, self._average, self._averaged = size, None, 0
        self._best, self._best_total = self.pixels.detach().clone(), math.inf
        self._best_losses: dict[str, Tensor] = {}
        self.stall = self._problem = None
        self._scored_version = -1

    def step(self) -> None:
        """Take one step of the optimizer."""
        # torch's annotation says float; its optimizers return the tensor.
        self._optimizer.step(self._evaluate)  # type: ignore[arg-type]
        self.stall = getattr(self._optimizer, "stop_reason", None)
        if self._problem is not None and (self.stall or not self._recovered()):
            self.failure = f"diverged: {self._problem}"
            with torch.no_grad():
                self.pixels.copy_(self._best)  # callbacks may save what they see
        if not self.active and self._best_losses:
            self.losses = self._best_losses  # the last evaluation was of another picture
        if self._out_of_range():  # of an optimizer without bounds
            with torch.no_grad():
                self.pixels.clamp_(0, 1)
        if self._problem is None and self._decay > 0:
            self._update_average()

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
        self._record(losses)
        if self._problem is None and not bool(gradient.isfinite().all()):
            name = self._objective.blame(self.pixels)
            self._problem = f"the gradient of loss {name!r} is not finite"
        return torch.stack(list(losses.values())).sum()

    def _record(self, losses: dict[str, Tensor]) -> None:
        """Note the losses of the present pixels, and the pixels if they are the best so far."""
        self.losses = losses
        self._scored_version = self.pixels._version
        values = {name: float(value) for name, value in losses.items()}
        self._problem = next(
            (f"loss {n!r} became {v}" for n, v in values.items() if not math.isfinite(v)), None
        )
        total = sum(values.values())
        # NaN compares false. Pixels out of range are not what would be saved.
        if total < self._best_total and not self._out_of_range():
            self._best, self._best_total = self.pixels.detach().clone(), total
            self._best_losses = losses

    def _recovered(self) -> bool:
        """Whether the optimizer ended the step at a sound point in spite of the problem."""
        sound = all(bool(value.isfinite()) for value in self.losses.values())
        return sound and bool(self.pixels.isfinite().all())

    def _out_of_range(self) -> bool:
        low, high = self.pixels.detach().aminmax()
        return bool((low < 0) | (high > 1))

    def _update_average(self) -> None:
        """Update the moving average; the weights are corrected for the bias of a short one."""
        self._averaged += 1
        share = (1 - self._decay) / (1 - self._decay**self._averaged)
        pixels = self.pixels.detach()
        # The first share is 1.
        self._average = (
            pixels.clone() if self._average is None else self._average.lerp(pixels, share)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs, after a step; tensors are not copied."""
        return {
            "pixels": self.pixels.detach(),
            "scored": self._scored_version == self.pixels._version,
            "size": self._size,
            "best": self._best,
            "best_total": self._best_total,
            "best_losses": self._best_losses,
            "average": self._average,
            "averaged": self._averaged,
            "losses": self.losses,
            "failure": self.failure,
            "stall": self.stall,
            "problem": self._problem,
            "work": None
            if self.failure is not None
            else {
                "losses": self._objective.state_dict(),
                "optimizer": type(self._optimizer).__qualname__,
                "state": self._optimizer.state_dict(),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of another picture, without copying; its scale must be started next.

        A damaged state can raise nearly any error.
        """
        self._size, self.failure, self.stall = state["size"], state["failure"], state["stall"]
        for name in ("failure", "stall"):
            if not isinstance(state[name], (str, type(None))):
                raise TypeError(f"`{name}` is {state[name]!r}; a string is needed.")
        self._problem, self.losses = state["problem"], dict(state["losses"])
        self._best, self._best_total = state["best"], state["best_total"]
        self._best_losses = dict(state["best_losses"])
        self._averaged, self._average = state["averaged"], state["average"]
        self.pixels = state["pixels"].requires_grad_()
        shape = (*self._content.shape[:2], *fit(self._content.shape[-2:], state["size"]))
        for name in ("pixels", "best", "average"):
            # A picture that failed at a coarser scale is shown larger than it was optimized.
            if state[name] is not None and self.failure is None and state[name].shape != shape:
                raise ValueError(f"`{name}` has another shape; it must be that of the scale.")
        self._scored_version = self.pixels._version if state["scored"] else -1
        self._resumed, self._work = True, state["work"]

    def _restore_work(self, work: Mapping[str, Any]) -> None:
        try:
            self._objective.load_state_dict(work["losses"])
        except Exception as error:  # a custom loss may raise anything
            raise ValueError(
                f"`losses` has one that cannot restore its state ({error}). Pass the losses that "
                "the run was started with."
            ) from error
        restore_optimizer(self._optimizer, work["optimizer"], work["state"])
