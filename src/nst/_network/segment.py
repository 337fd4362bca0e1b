"""Some stages of the network without pooling in between, computed from the top to the bottom.

Every stage goes on where it stopped, as far as the rows that it is given reach: nothing is computed
twice, and what has been used is left behind. On the backward pass likewise, every stage a row
behind the one after it. So tiles of any height give the numbers that the whole gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from nst._network.buffers import Workspace
from nst._network.stage import Stage, Strip, Trace, stage_backward, stage_forward

__all__ = ["FeatureGradient", "Memory", "See", "Segment", "reach_of"]

See: TypeAlias = Callable[[str, Tensor, int, int, bool], None]
"""Is shown a layer's name, some rows of its features `(N, C, h, W)`, which row is the first of
them, how many there are in all, and whether they stay until the backward pass has come to them;
else their memory is used again."""
FeatureGradient: TypeAlias = Callable[[str, Tensor, int, int], "Tensor | None"]
"""Is shown the same rows, or others where they have not stayed, and returns their gradient; None
for a layer without one."""
Memory: TypeAlias = Callable[[str, Sequence[int], torch.dtype], Tensor]
"""From what it is for, a shape and a type of number to memory."""

# Stages reach a multiple of so many rows, as Winograd's method does: then all is computed alike
# whatever the tiles are. Else a value that rounding decides could pass a ReLU here and not there.
_STEP = 4
_HALVED = ("pool", "largest")
_TRACED = ("positive", "largest")


def reach_of(stages: Sequence[Stage]) -> int:
    """Return how many rows beyond its span a segment of these stages is to be given."""
    return _STEP * (len(stages) - 1) + 1


class _Window:
    """Rows that come in at the bottom and leave at the top, in memory for a part of them."""

    def __init__(self, memory: Tensor, first: int) -> None:
        self._memory, self._origin = memory, first
        self.first = self.last = first

    def take_in(self, count: int) -> Tensor:
        """Return memory for the next rows."""
        if self.last + count - self._origin > self._memory.shape[1]:
            staying = self.part(self.first, self.last).clone()
            self._memory[:, : staying.shape[1]] = staying
            self._origin = self.first
        self.last += count
        return self.part(self.last - count, self.last)

    def part(self, start: int, stop: int) -> Tensor:
        return self._memory[:, start - self._origin : stop - self._origin]

    def leave(self, before: int) -> None:
        """Forget the rows before one."""
        self.first = max(self.first, min(before, self.last))


class Segment:
    """Computes some stages, and the gradient for what they are given.

    Args:
        stages: At least one; only the last may pool.
        strip: What they are given, with the rows beyond the span that they look at.
        span: The first row of the result and the one after the last, before it is pooled.
        tile: At most how many rows are computed at a time; so much memory is taken.
        memory: Where it is taken.
        tracing: Whether there will be a backward pass.
        result: Where the whole result goes; None if nobody needs it.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        strip: Strip,
        span: tuple[int, int],
        tile: int,
        memory: Memory,
        *,
        tracing: bool,
        result: Tensor | None = None,
    ) -> None:
        self._stages, self._strip, self._memory = stages, strip, memory
        self._span, self._tracing = span, tracing
        self._capacity = tile + 2 * _STEP * len(stages)
        self._stays = tracing and tile >= span[1] - span[0]
        self._more = range(len(stages) - 1, -1, -1)  # rows that later stages look at
        self._done = [max(span[0] - _STEP * more, 0) for more in self._more]
        self._pulled = [max(span[0] - more, 0) for more in self._more]
        self._open: dict[int, Tensor] = {}  # the last two rows of a gradient, not complete yet
        self._windows: dict[tuple[int, str], _Window] = {}
        if result is not None:
            window = _Window(result, span[0] // stages[-1].stride)
            self._windows[len(stages) - 1, stages[-1].parts[-1]] = window

    @property
    def height(self) -> int:
        """How many rows the picture has that it is given rows of."""
        return self._strip.height

    def tiles(self, rows: int) -> Iterator[int]:
        """Yield up to where to compute, so many rows at a time."""
        for start in range(self._span[0], self._span[1], rows):
            yield min(start + rows, self._span[1])

    def forward(self, stop: int, see: See | None, workspace: Workspace) -> None:
        """Compute the result up to a row, and show the features that are wanted."""
        for k, stage in enumerate(self._stages):
            start, end = self._done[k], min(stop + _STEP * self._more[k], self._strip.height)
            if start == end:  # it has come to the end before the stages after it
                continue
            room = partial(self._take_in, k, start)
            parts = stage_forward(
                self._given(k), stage, (start, end), workspace, room, tracing=self._tracing
            )
            self._done[k] = end
            if k > 0:
                self._trim(k - 1)
            for part, layer in stage.wanted.items():
                own = parts[part] if part == "pool" else self._own(parts[part])
                if see is not None and own.first < own.last:
                    rows = own.rows.permute(0, 3, 1, 2)
                    see(layer, rows, own.first, own.height, self._stays)
        self._trim(len(self._stages) - 1)
        if self._done[0] == self._complete_to(0):  # of what was given, only the shape is needed
            outline = self._strip.rows.new_empty(1).expand(self._strip.rows.shape)
            self._strip = self._strip._replace(rows=outline)

    def backward(
        self,
        stop: int | None,
        gradient: Strip | None,
        feature_gradient: FeatureGradient,
        workspace: Workspace,
        *,
        again: bool = False,
    ) -> Strip | None:
        """Return the gradient for what was given, as far as it is complete.

        Args:
            stop: Up to which row the result was computed; None for all.
            gradient: For the result, the rows that there have not been yet.
            feature_gradient: Is asked for the gradients of the features that are wanted.
            workspace: Used alone.
            again: Whether the same way will be gone once more.
        """
        stop = self._span[1] if stop is None else stop
        before, height = list(self._pulled), self._strip.height
        final = stop == self._span[1]
        for k in reversed(range(len(self._stages))):
            stage, more = self._stages[k], self._more[k]
            start, end = self._pulled[k], min(stop + more, height) if final else stop - more
            gradients = {} if gradient is None else {stage.parts[-1]: gradient}
            for part, layer in stage.wanted.items():
                feature = self._feature(k, part, start, end)
                rows = (start // 2, end // 2) if part in _HALVED else (start, end)
                merged = _with_own(gradients.get(part), layer, feature, rows, feature_gradient)
                if merged is not None:
                    gradients[part] = merged
            self._pulled[k] = end
            if gradients:
                shape = height, self._strip.rows.shape[2]
                trace, room = self._trace(k, start, end), partial(self._spare, k)
                pulled = stage_backward(
                    gradients, stage, (start, end), trace, shape, workspace, room
                )
                gradient = self._complete(k, pulled, final=final)
            if not again:
                self._trim(k)
        if again:
            self._pulled = before
        return gradient

    def _given(self, k: int) -> Strip:
        if k == 0:
            return self._strip
        window = self._windows[k - 1, self._stages[k - 1].parts[-1]]
        return Strip(window.part(window.first, window.last), window.first, self._strip.height)

    def _own(self, strip: Strip) -> Strip:
        """Return those rows that belong to the span."""
        start, stop = max(strip.first, self._span[0]), min(strip.last, self._span[1])
        return Strip(strip.part(start, stop), start, strip.height)

    def _take_in(
        self, k: int, start: int, part: str, shape: Sequence[int], dtype: torch.dtype
    ) -> Tensor:
        """Return memory for the next rows of a part of a stage."""
        halved = part in _HALVED
        if (k, part) not in self._windows:
            capacity = min(self._capacity, self._strip.height)
            rows = max(capacity // 2 if halved else capacity, shape[1])
            memory = self._memory(f"{part} of stage {k}", (shape[0], rows, *shape[2:]), dtype)
            self._windows[k, part] = _Window(memory, start // 2 if halved else start)
        return self._windows[k, part].take_in(shape[1])

    def _trim(self, k: int) -> None:
        """Let go of those rows of a stage that nobody looks at any more."""
        stage = self._stages[k]
        for (number, part), window in list(self._windows.items()):
            if number != k:
                continue
            halves, needed = (2 if part in _HALVED else 1), []
            is_given = part == stage.parts[-1] and k + 1 < len(self._stages)
            if is_given and self._done[k + 1] < self._complete_to(k + 1):
                needed.append(self._done[k + 1] - 1)
            looked_at = self._tracing and (part in stage.wanted or part in _TRACED)
            if looked_at and self._pulled[k] < min(
                self._span[1] + self._more[k], self._strip.height
            ):
                needed.append(self._pulled[k] // halves)
            window.leave(min(needed, default=window.last))
            if not needed and self._done[k] == self._complete_to(k):
                del self._windows[k, part]

    def _complete_to(self, k: int) -> int:
        return min(self._span[1] + _STEP * self._more[k], self._strip.height)

    def _trace(self, k: int, start: int, end: int) -> Trace:
        known_by = "relu" if "relu" in self._stages[k].wanted else "positive"
        positive, largest = (self._windows.get((k, part)) for part in (known_by, "largest"))
        return Trace(
            None if positive is None else positive.part(start, end),
            None if largest is None else largest.part(start // 2, end // 2),
            start,
        )

    def _feature(self, k: int, part: str, start: int, end: int) -> Strip:
        """Return rows of a feature that is wanted, of those that belong to the span."""
        window, height = self._windows[k, part], self._strip.height
        start, end = max(start, self._span[0]), min(end, self._span[1])
        if part in _HALVED:
            start, end, height = start // 2, end // 2, height // 2
        return Strip(window.part(start, end), start, height)

    def _spare(self, k: int, part: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return memory for a gradient, which only the stage before this one looks at."""
        return self._memory(f"{part} {k % 2}", shape, dtype)

    def _complete(self, k: int, pulled: Strip, *, final: bool) -> Strip:
        """Return the rows of a gradient to which nothing will be added; keep the others."""
        if k in self._open:
            pulled.rows[:, : self._open[k].shape[1]] += self._open.pop(k)
        if final:
            return pulled
        self._open[k] = pulled.rows[:, -2:].clone()
        return pulled._replace(rows=pulled.rows[:, :-2])


def _with_own(
    gradient: Strip | None,
    layer: str,
    feature: Strip,
    span: tuple[int, int],
    feature_gradient: FeatureGradient,
) -> Strip | None:
    """Add a layer's own gradient to what deeper layers have found for some rows of it."""
    if feature.first == feature.last and gradient is None:
        return feature
    own = feature_gradient(layer, feature.rows.permute(0, 3, 1, 2), feature.first, feature.height)
    if own is None:
        return gradient
    own = own.permute(0, 2, 3, 1)
    if gradient is None and (feature.first, feature.last) == span:
        return feature._replace(rows=own)
    if gradient is None:
        n, _, width, channels = own.shape
        zeros = own.new_zeros(n, span[1] - span[0], width, channels)
        gradient = Strip(zeros, span[0], feature.height)
    gradient.part(feature.first, feature.last).add_(own)
    return gradient
