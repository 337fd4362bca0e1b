"""A picture's way through the network and back, in as little memory as is wanted.

The network is divided into segments, at VGG's blocks. A segment is either *kept*: computed as a
whole, and what the backward pass needs of it stays. Or it is computed *in tiles*, bands of rows:
then nothing stays but what it was given, and on the backward pass each tile is computed again. The
numbers are the same either way.

Who wants the features is shown them, some rows at a time, as they pass by, and asked for the
gradient of the same rows on the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nst._engine.processes import Share
from nst._network.buffers import Workspace, Workspaces
from nst._network.segment import FeatureGradient, Memory, See, Segment, reach_of
from nst._network.stage import Stage, Strip

__all__ = ["Sweep"]

# How many rows are computed again at a time, of a segment that need not be kept though others are.
_ROWS = 64


class Sweep:
    """Takes a picture through the network, forward and backward.

    Args:
        picture: Normalized. The gradient may take its place.
        stages: The network.
        workspaces: Where to borrow one.
        tile: How many rows of a segment are computed at a time. None keeps every segment.
        apart: How many of the first stages are computed again although the rest is kept.
        divisor: What pixels were divided by to be normalized, and their gradient is as well.
        share: Which rows of the picture these are, if other processes have others; by default all.
    """

    def __init__(
        self,
        picture: Strip,
        stages: Sequence[Stage],
        workspaces: Workspaces,
        *,
        tile: int | None = None,
        apart: int = 0,
        divisor: Tensor | None = None,
        share: Share | None = None,
    ) -> None:
        self._picture, self._workspaces, self._divisor = picture, workspaces, divisor
        self._tile, self._apart = None if tile is None else -(-tile // 4) * 4, apart
        self._segments = _divided(stages, apart)
        self._share = share or Share.of_all(picture.height)
        self._left: list[Strip | Segment] = []

    def forward(self, see: See, *, tracing: bool = True) -> None:
        """Compute the features.

        Args:
            see: Is shown every layer that is wanted.
            tracing: Whether there will be a backward pass.
        """
        strip = self._beginning()
        with self._workspaces.borrow() as workspace:
            for number, stages in enumerate(self._segments):
                share, result = self._share.at(strip.height), self._room_after(number, strip)
                left: Strip | Segment = strip
                if self._tile is not None:
                    _in_tiles(stages, strip, share, self._tile, see, workspace, result)
                else:
                    keeps = tracing and number >= self._apart
                    segment = _whole(stages, strip, share, result, tracing=keeps)
                    segment.forward(share.last, see, workspace)
                    left = segment if keeps else strip
                if tracing:
                    self._left.append(left)
                if result is not None:
                    reach = reach_of(self._segments[number + 1])
                    self._share.at(result.height).fill(result, reach)
                    strip = result

    def backward(self, feature_gradient: FeatureGradient, *, again: bool = False) -> Tensor | None:
        """Return the gradient for the picture, `(N, 3, H, W)`; None if there is none.

        Args:
            feature_gradient: Is asked for the gradients of every layer that is wanted, the deepest
                first.
            again: Whether the backward pass will be taken once more; only where all is kept.
        """
        gradient: Strip | None = None
        left = list(self._left) if again else self._left
        with self._workspaces.borrow() as workspace:
            while left:
                stages, last = self._segments[len(left) - 1], left.pop()
                share = self._share.at(last.height)
                if isinstance(last, Segment):
                    gradient = last.backward(
                        None, gradient, feature_gradient, workspace, again=again
                    )
                else:
                    tile = self._tile or _ROWS
                    gradient = _backward_in_tiles(
                        stages, last, share, tile, gradient, feature_gradient, workspace
                    )
                gradient = None if gradient is None else share.folded(gradient)
        if gradient is None:
            return None
        pixels = gradient.rows.permute(0, 3, 1, 2)
        return pixels if self._divisor is None else pixels.div_(self._divisor)

    def _beginning(self) -> Strip:
        """Return the picture's rows, with those around them."""
        share, rows = self._share, self._picture.rows
        if not share.divided:
            return self._picture
        reach = reach_of(self._segments[0])
        strip = share.room(reach, rows, rows.shape[2], rows.shape[3])
        strip.part(share.first, share.last).copy_(rows)
        share.fill(strip, reach)
        return strip

    def _room_after(self, number: int, strip: Strip) -> Strip | None:
        """Return memory for what the segment after one is given; None after the last."""
        if number == len(self._segments) - 1:
            return None
        last, reach = self._segments[number][-1], reach_of(self._segments[number + 1])
        share, width = self._share.at(strip.height // last.stride), strip.rows.shape[2]
        return share.room(reach, strip.rows, width // last.stride, len(last.convolution.weight))


def _divided(stages: Sequence[Stage], apart: int) -> list[list[Stage]]:
    """Return the stages up to each pooling; some at the beginning alone."""
    segments: list[list[Stage]] = [[]]
    for number, stage in enumerate(stages):
        segments[-1].append(stage)
        if (stage.pools or number < apart) and number < len(stages) - 1:
            segments.append([])
    return segments


def _whole(
    stages: Sequence[Stage], strip: Strip, share: Share, result: Strip | None, *, tracing: bool
) -> Segment:
    """Return a segment that is computed at once, in memory of its own."""
    like = strip.rows.new_empty(0)  # not the strip, which would be kept with the segment

    def memory(label: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return like.new_empty(tuple(shape), dtype=dtype)

    span, own = (share.first, share.last), _own(result, stages, share)
    return Segment(stages, strip, span, span[1] - span[0], memory, tracing=tracing, result=own)


def _own(result: Strip | None, stages: Sequence[Stage], share: Share) -> Tensor | None:
    """Return where a segment's result goes among what the next one is given."""
    if result is None:
        return None
    stride = stages[-1].stride
    return result.part(share.first // stride, share.last // stride)


def _reused(strip: Strip, workspace: Workspace) -> Memory:
    return lambda label, shape, dtype: workspace.take(label, shape, strip.rows, dtype)


def _in_tiles(
    stages: Sequence[Stage],
    strip: Strip,
    share: Share,
    tile: int,
    see: See,
    workspace: Workspace,
    result: Strip | None,
) -> None:
    """Compute a segment tile by tile; of the last one, the result is not needed."""
    span, own = (share.first, share.last), _own(result, stages, share)
    memory = _reused(strip, workspace)
    segment = Segment(stages, strip, span, tile, memory, tracing=False, result=own)
    for stop in segment.tiles(tile):
        segment.forward(stop, see, workspace)


def _backward_in_tiles(
    stages: Sequence[Stage],
    strip: Strip,
    share: Share,
    tile: int,
    gradient: Strip | None,
    feature_gradient: FeatureGradient,
    workspace: Workspace,
) -> Strip | None:
    """Compute a segment's tiles again, and pull the gradient back through each.

    It is written over what the segment was given: no later tile looks so far up.
    """
    span, start, first = (share.first, share.last), share.first, max(share.first - len(stages), 0)
    last = min(span[1] + len(stages), strip.height)
    segment = Segment(stages, strip, span, tile, _reused(strip, workspace), tracing=True)
    stride = stages[-1].stride
    for stop in segment.tiles(tile):
        segment.forward(stop, None, workspace)
        of_result = gradient
        if gradient is not None:
            own = start // stride, stop // stride
            of_result = Strip(gradient.part(*own), own[0], gradient.height)
        pulled = segment.backward(stop, of_result, feature_gradient, workspace)
        if pulled is None:
            return None
        strip.part(pulled.first, pulled.last).copy_(pulled.rows)
        start = stop
    return Strip(strip.part(first, last), first, strip.height)
