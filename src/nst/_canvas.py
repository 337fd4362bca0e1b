"""One picture being painted: its pixels, its optimizer, and the best that was seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nst._objective import Objective
from nst._optimizers import OptimizerFactory
from nst.images import fit, resize

__all__ = ["Canvas"]


class Canvas:
    """One picture of a batch, optimized as if it were alone.

    Each has an optimizer of its own, so that no line search, history or step length of one picture
    depends on another.

    Args:
        content: The photograph, `(1, 3, H, W)`.
        beginning: What the picture starts as, of the same shape.
    """

    pixels: Tensor
    """The picture being optimized, `(1, 3, h, w)`; the leaf that gradients go to."""
    losses: dict[str, Tensor]
    """The weighted losses of the last accepted evaluation, detached."""

    def __init__(self, content: Tensor, beginning: Tensor) -> None:
        self.best = beginning
        self.failure: str | None = None
        self.stall: str | None = None
        self._content = content

    @property
    def active(self) -> bool:
        """Whether another step at this scale could change anything."""
        return self.failure is None and self.stall is None

    def start_scale(
        self, objective: Objective, size: int, make_optimizer: OptimizerFactory
    ) -> None:
        """Go on from the best picture so far, at another size.

        Args:
            objective: Holds the styles' targets; this canvas alone uses it.
            size: The longer side, in pixels.
            make_optimizer: From the list of parameters.
        """
        shape = fit(self._content.shape[-2:], size)
        if self.failure is not None:
            self.pixels = resize(self.best, shape)
            return
        objective.capture("content", [resize(self._content, shape)])
        self._objective = objective
        self.pixels = resize(self.best, shape).clone().requires_grad_()
        self.best, self._best_total = self.pixels.detach().clone(), math.inf
        self.losses, self.stall = {}, None
        self._evaluated_version = -1
        self._optimizer = make_optimizer([self.pixels])

    def step(self) -> None:
        """Take one step of the optimizer."""
        before = self.losses
        # torch's annotation says float; what its optimizers pass through is the tensor.
        total = self._optimizer.step(self._evaluate)  # type: ignore[arg-type]
        self._project()
        if not math.isfinite(float(total)):
            name = next((n for n, v in self.losses.items() if not v.isfinite()), "total")
            self.failure = f"diverged: loss {name!r} became {float(total)}"
            with torch.no_grad():
                self.pixels.copy_(self.best)  # callbacks may want to save what they are shown
        self.stall = getattr(self._optimizer, "stop_reason", None)
        if self.stall is not None and before:
            self.losses = before  # the last evaluation was a trial that was not accepted

    def finish_scale(self) -> None:
        """See whether the last update, which nothing has scored yet, is the best picture."""
        if self.failure is None and self._evaluated_version != self.pixels._version:
            with torch.no_grad():
                self._note(self._objective(self.pixels))

    def _evaluate(self) -> Tensor:
        losses = self._objective(self.pixels)
        total = torch.stack(list(losses.values())).sum()
        # Not `backward`: an extractor of the user's may have parameters that want gradients.
        (gradient,) = torch.autograd.grad(total, self.pixels)
        # The network works in another memory layout, which torch's own L-BFGS cannot take.
        self.pixels.grad = gradient.contiguous()
        self._note(losses)
        return total.detach()

    def _note(self, losses: dict[str, Tensor]) -> None:
        self.losses = {name: value.detach() for name, value in losses.items()}
        self._evaluated_version = self.pixels._version
        total = float(sum(self.losses.values()))
        # NaN compares false. Pixels out of range are not what would be saved.
        if total < self._best_total and not self._out_of_range():
            self.best, self._best_total = self.pixels.detach().clone(), total

    def _project(self) -> None:
        """Bring the pixels back into [0, 1]; optimizers without bounds leave it."""
        if self._out_of_range():
            with torch.no_grad():
                self.pixels.clamp_(0, 1)

    def _out_of_range(self) -> bool:
        low, high = self.pixels.detach().aminmax()
        return bool((low < 0) | (high > 1))
