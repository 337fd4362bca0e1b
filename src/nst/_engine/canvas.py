"""One picture being painted: its pixels, its optimizer, and the best that was seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nst._engine.objective import Objective
from nst._engine.processes import Ranks, Share
from nst.images import fit, resize
from nst.optim.by_name import OptimizerFactory, restore_optimizer
from nst.optim.lbfgs import BoundedLBFGS

__all__ = ["Canvas"]


class Canvas:
    """One picture of a batch, optimized as if it were alone.

    Each has an optimizer of its own, so that no line search, history or step length of one picture
    depends on another.

    Args:
        content: The photograph, `(1, 3, H, W)`.
        beginning: What the picture starts as, of the same proportions.
        where: What may change, `(1, 1, H, W)`; the rest is the photograph's. None for all of it.
        average: 0, or the decay of an exponential moving average over the steps of a scale, which
            then is the best picture (Polyak & Juditsky 1992).
    """

    pixels: Tensor
    """The picture being optimized, `(1, 3, h, w)`, or this process's rows of it; the leaf that
    gradients go to."""
    beginning: Tensor
    """What it started as."""
    losses: dict[str, Tensor]
    """The weighted losses of the last accepted evaluation, detached."""
    failure: str | None
    """Why this picture cannot be worked on any more, at any scale."""
    stall: str | None
    """Why further steps at this scale would change nothing."""

    def __init__(
        self,
        content: Tensor,
        beginning: Tensor,
        *,
        where: Tensor | None = None,
        average: float = 0.0,
    ) -> None:
        self._best, self.beginning, self.losses = beginning, beginning, {}
        self.failure = self.stall = None
        self._content, self._where = content, where
        self._decay, self._average = average, _Average(average)
        self._size: int | None = None
        self._ranks, self._share = Ranks(), Share.of_all(content.shape[-2])
        self._begun = beginning
        self._resumed = False
        self._kept_work: Any = None

    @property
    def best(self) -> Tensor:
        """The picture with the lowest total at this scale that can be saved; or the average.

        While several processes are at it, and so after an error, what the scale began with.
        """
        if self._share.divided:
            return self._begun
        return self._best if self._average.value is None else self._average.value

    @property
    def active(self) -> bool:
        """Whether another step at this scale could change anything."""
        return self.failure is None and self.stall is None

    def start_scale(
        self,
        objective: Objective,
        size: int,
        make_optimizer: OptimizerFactory,
        ranks: Ranks | None = None,
    ) -> None:
        """Go on from the best picture so far, at another size.

        Args:
            objective: Holds the styles' targets; this canvas alone uses it.
            size: The longer side, in pixels.
            make_optimizer: From the list of parameters.
            ranks: The processes that work on it, which all do the same; by default, this one.
        """
        shape = fit(self._content.shape[-2:], size)
        resumed, self._resumed = self._resumed, False
        if self.failure is not None:
            self.pixels = self.pixels if resumed else resize(self.best, shape)
            return
        content = resize(self._content, shape)
        self._ranks = ranks or Ranks()
        share = self._ranks.share(shape[0])
        free = None if self._where is None else (resize(self._where, shape) > 0)
        self._free = None if free is None else share.own(free)
        if not resumed:
            self._prepare(content, size, free)
        self._share, self._begun = share, self._best
        if share.divided:
            self._change_pictures(self._own)
        if share.waits:
            return
        objective.divide(share)
        objective.capture_content(content)
        self._objective = objective
        self._optimizer = make_optimizer([self.pixels])
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"`optimizer` made {self._optimizer!r}; it must return a torch.optim.Optimizer."
            )
        if isinstance(self._optimizer, BoundedLBFGS):
            self._optimizer.divide(share)
        if resumed:
            self._take_up(self._kept_work)

    def _prepare(self, content: Tensor, size: int, free: Tensor | None) -> None:
        pixels = self._enlarged((content.shape[-2], content.shape[-1]))
        if free is not None:
            pixels = torch.where(free, pixels, content)
        self.pixels = pixels.clone().requires_grad_()
        self._size, self._average = size, _Average(self._decay)
        self._best, self._best_total = self.pixels.detach().clone(), math.inf
        self._best_losses: dict[str, Tensor] = {}
        self.stall = None
        self._trouble: str | None = None  # with the last evaluation
        self._scored_version = -1

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs: plain values and the canvas's own tensors.

        The optimizer must have made a step. Where several processes share the picture, all must be
        asked, and the first returns the state of the whole.
        """
        if self._share.waits:
            return {}
        return {
            "pixels": self._whole(self.pixels.detach()),
            "scored": self._scored_version == self.pixels._version,
            "size": self._size,
            "best": self._whole(self._best),
            "best_total": self._best_total,
            "best_losses": self._best_losses,
            "average": None if self._average.value is None else self._whole(self._average.value),
            "averaged": self._average.count,
            "losses": self.losses,
            "failure": self.failure,
            "stall": self.stall,
            "trouble": self._trouble,
            "work": None if self.failure is not None else self._work(),
        }

    def _work(self) -> dict[str, Any]:
        """Return what only a picture has that is still worked on."""
        return {
            "losses": self._objective.state_dict(),
            "optimizer": type(self._optimizer).__qualname__,
            "state": _each_picture(self._optimizer.state_dict(), self.pixels.shape, self._whole),
        }

    def _whole(self, rows: Tensor) -> Tensor:
        """Return the whole picture in the first process; all must be asked."""
        return self._share.whole(rows, for_all=False)

    def _own(self, picture: Tensor) -> Tensor:
        return self._share.own(picture).clone()

    def _change_pictures(self, change: Callable[[Tensor], Tensor]) -> None:
        """Put something else in the place of each picture that is being worked on."""
        scored = self._scored_version == self.pixels._version
        self.pixels = change(self.pixels.detach()).requires_grad_()
        self._scored_version = self.pixels._version if scored else -1
        self._best = change(self._best)
        if self._average.value is not None:
            self._average.value = change(self._average.value)

    def _unite(self) -> None:
        """Let every process have the whole picture."""
        share, self._share = self._share, Share.of_all(self._share.height)
        if share.divided:
            self._change_pictures(share.whole)
        elif self._ranks.size > 1:  # the first has worked for all
            losses = {name: value.cpu() for name, value in self.losses.items()}
            best, self.failure, self.losses = self._ranks.agree(
                (self.best.cpu(), self.failure, losses)
            )
            self._best, self._average = best.to(self._content), _Average(self._decay)

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Be what another canvas was; the scale that it was at is to be started next.

        Args:
            kept: What `state_dict` returned, on the same device; its tensors become this canvas's.

        Raises:
            KeyError: A part is missing.
            ValueError: A picture has another shape than it should; a reason is no text.
        """
        self._size, self.failure, self.stall = kept["size"], kept["failure"], kept["stall"]
        for name in ("failure", "stall"):
            if not isinstance(kept[name], (str, type(None))):
                raise ValueError(f"{name!r} is no text")
        self._trouble, self.losses = kept["trouble"], dict(kept["losses"])
        self._best, self._best_total = kept["best"], kept["best_total"]
        self._best_losses = dict(kept["best_losses"])
        self._average.count, self._average.value = kept["averaged"], kept["average"]
        self.pixels = kept["pixels"].requires_grad_()
        shape = (*self._content.shape[:2], *fit(self._content.shape[-2:], kept["size"]))
        for name in ("pixels", "best", "average"):
            # A picture that failed at a coarser scale is shown larger than it was painted.
            if kept[name] is not None and self.failure is None and kept[name].shape != shape:
                raise ValueError(f"{name!r} has another shape than the scale")
        self._scored_version = self.pixels._version if kept["scored"] else -1
        self._resumed, self._kept_work = True, kept["work"]

    def _take_up(self, work: Mapping[str, Any]) -> None:
        try:
            self._objective.load_state_dict(work["losses"])
        except Exception as error:  # a loss of the user's may raise anything
            raise ValueError(
                f"`losses` has one that cannot take over what it had kept ({error}). Pass those "
                "that the run was made with."
            ) from error
        shape = (*self.pixels.shape[:2], self._share.height, self.pixels.shape[3])
        state = _each_picture(work["state"], shape, self._own)
        restore_optimizer(self._optimizer, work["optimizer"], state)
        self._kept_work = None  # it is as large as what the optimizer remembers

    def _enlarged(self, shape: tuple[int, int]) -> Tensor:
        """Return the best picture so far at another size.

        Enlarged, it lacks what the coarser scale was too small for; that is taken from what the
        picture started as. So the photograph survives coarse scales, and only what they changed
        is changed.
        """
        if self._size is None:
            return resize(self.best, shape)
        best = self.best
        before = resize(self.beginning, (best.shape[-2], best.shape[-1]))
        change = resize(best, shape) - resize(before, shape)
        return (resize(self.beginning, shape) + change).clamp(0, 1)

    def shown(self) -> Tensor:
        """Return the picture as callbacks see it, in the first process; all must be asked."""
        return self._whole(self.pixels.detach())

    def step(self) -> None:
        """Take one step of the optimizer."""
        if self._share.waits:
            return
        # torch's annotation says float; what its optimizers pass through is the tensor.
        self._optimizer.step(self._evaluate)  # type: ignore[arg-type]
        self.stall = getattr(self._optimizer, "stop_reason", None)
        if self._trouble is not None and (self.stall or not self._moved_on()):
            self.failure = f"diverged: {self._trouble}"
            with torch.no_grad():
                self.pixels.copy_(self._best)  # callbacks may want to save what they are shown
        if not self.active and self._best_losses:
            self.losses = self._best_losses  # what was evaluated last is not what the picture is
        self._project()
        if self._trouble is None:
            self._average.add(self.pixels.detach())

    def finish_scale(self) -> None:
        """See whether the last update, which nothing has scored yet, is the best picture."""
        here = self.failure is None and not self._share.waits
        if here and self._scored_version != self.pixels._version:
            with torch.no_grad():
                self._note(self._objective.score(self.pixels))
            if self._trouble is not None:
                self.failure = f"diverged: {self._trouble}"
        self._unite()

    def _evaluate(self) -> Tensor:
        losses, gradient = self._objective.evaluate(self.pixels)
        if self._free is not None:
            gradient = gradient * self._free
        self.pixels.grad = gradient
        self._note(losses)
        if self._trouble is None and self._share.any(~gradient.isfinite().all()):
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
            self._best, self._best_total = self.pixels.detach().clone(), total
            self._best_losses = losses

    def _moved_on(self) -> bool:
        """Whether the optimizer has left the trouble behind: it ended at a point that is sound."""
        sound = all(bool(value.isfinite()) for value in self.losses.values())
        return sound and not self._share.any(~self.pixels.isfinite().all())

    def _project(self) -> None:
        """Bring the pixels back into [0, 1]; optimizers without bounds leave it."""
        if self._out_of_range():
            with torch.no_grad():
                self.pixels.clamp_(0, 1)

    def _out_of_range(self) -> bool:
        low, high = self.pixels.detach().aminmax()
        return self._share.any((low < 0) | (high > 1))


def _each_picture(value: Any, shape: Sequence[int], change: Callable[[Tensor], Tensor]) -> Any:
    """Return what an optimizer keeps with each picture changed; they may be flat there."""
    if isinstance(value, Tensor) and value.numel() == math.prod(shape):
        changed = change(value.reshape(*shape))
        return changed.flatten() if value.ndim == 1 else changed
    if isinstance(value, Mapping):
        return {key: _each_picture(each, shape, change) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each_picture(each, shape, change) for each in value)
    return value


class _Average:
    """An exponential moving average without a bias towards its beginning."""

    def __init__(self, decay: float) -> None:
        self._decay, self.count = decay, 0
        self.value: Tensor | None = None

    def add(self, picture: Tensor) -> None:
        if self._decay == 0:
            return
        self.count += 1
        share = (1 - self._decay) / (1 - self._decay**self.count)
        # The first share is 1; lerp is then the picture itself.
        self.value = picture.clone() if self.value is None else self.value.lerp(picture, share)
