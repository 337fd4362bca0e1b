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
        beginning: What the picture starts as, of the same proportions.
    """

    pixels: Tensor
    """The picture being optimized, `(1, 3, h, w)`; the leaf that gradients go to."""
    losses: dict[str, Tensor]
    """The weighted losses of the last accepted evaluation, detached."""
    best: Tensor
    """The picture with the lowest total at this scale that can be saved as it is."""
    failure: str | None
    """Why this picture cannot be worked on any more, at any scale."""
    stall: str | None
    """Why further steps at this scale would change nothing."""

    def __init__(self, content: Tensor, beginning: Tensor) -> None:
        self.best, self.losses = beginning, {}
        self.failure = self.stall = None
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
        objective.capture_content(resize(self._content, shape))
        self._objective = objective
        self.pixels = resize(self.best, shape).clone().requires_grad_()
        self.best, self._best_total = self.pixels.detach().clone(), math.inf
        self._best_losses: dict[str, Tensor] = {}
        self.stall = None
        self._trouble: str | None = None  # with the last evaluation
        self._scored_version = -1
        self._optimizer = make_optimizer([self.pixels])
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"`optimizer` made {self._optimizer!r}; it must return a torch.optim.Optimizer."
            )

    def step(self) -> None:
        """Take one step of the optimizer."""
        # torch's annotation says float; what its optimizers pass through is the tensor.
        self._optimizer.step(self._evaluate)  # type: ignore[arg-type]
        self.stall = getattr(self._optimizer, "stop_reason", None)
        if self._trouble is not None and (self.stall or not self._moved_on()):
            self.failure = f"diverged: {self._trouble}"
            with torch.no_grad():
                self.pixels.copy_(self.best)  # callbacks may want to save what they are shown
        if not self.active and self._best_losses:
            self.losses = self._best_losses  # what was evaluated last is not what the picture is
        self._project()

    def finish_scale(self) -> None:
        """See whether the last update, which nothing has scored yet, is the best picture."""
        if self.failure is None and self._scored_version != self.pixels._version:
            with torch.no_grad():
                self._note(self._objective.score(self.pixels))
            if self._trouble is not None:
                self.failure = f"diverged: {self._trouble}"

    def _evaluate(self) -> Tensor:
        losses, gradient = self._objective.evaluate(self.pixels)
        self.pixels.grad = gradient
        self._note(losses)
        if self._trouble is None and not bool(gradient.isfinite().all()):
            name = self._objective.blame(self.pixels)
            self._trouble = f"the gradient of loss {name!r} is not finite"
        return torch.stack(list(losses.values())).sum()

    def _note(self, losses: dict[str, Tensor]) -> None:
        self.losses = losses
        self._scored_version = self.pixels._version
        values = {name: float(value) for name, value in losses.items()}
        self._trouble = next(
            (f"loss {n!r} became {v}" for n, v in values.items() if not math.isfinite(v)), None
        )
        total = sum(values.values())
        # NaN compares false. Pixels out of range are not what would be saved.
        if total < self._best_total and not self._out_of_range():
            self.best, self._best_total = self.pixels.detach().clone(), total
            self._best_losses = losses

    def _moved_on(self) -> bool:
        """Whether the optimizer has left the trouble behind: it ended at a point that is sound."""
        sound = all(bool(value.isfinite()) for value in self.losses.values())
        return sound and bool(self.pixels.isfinite().all())

    def _project(self) -> None:
        """Bring the pixels back into [0, 1]; optimizers without bounds leave it."""
        if self._out_of_range():
            with torch.no_grad():
                self.pixels.clamp_(0, 1)

    def _out_of_range(self) -> bool:
        low, high = self.pixels.detach().aminmax()
        return bool((low < 0) | (high > 1))
