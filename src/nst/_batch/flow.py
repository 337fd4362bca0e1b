"""The motion between two frames of a video."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst import functional
from nst._engine.objective import Previous
from nst._utils.checks import required
from nst._utils.device import restored
from nst.functional.flow import leads_outside

FlowLike: TypeAlias = Literal["dis"] | Callable[[Tensor, Tensor], Any] | None
"""Name of a method, a function from two frames to the flow `(H, W, 2)`, or None for no motion."""

# Largest change of a color from frame to frame, of 1, that is taken for the same thing.
_SAME = 0.1
# Share of reliable pixels up to which a frame begins a new scene.
_SCENE = 0.4
# How far away the flow of a pixel is tried for an unreliable one, in pixels.
_REACHES = (4, 8, 16)


def as_flow(flow: FlowLike) -> Callable[[Tensor, Tensor], Any] | None:
    """Return the function that a `flow` argument names; raise for anything else."""
    if flow is None or callable(flow):
        return flow
    if flow != "dis":
        raise ValueError(
            f"`flow` is {flow!r}; it must be 'dis', None, or a function from two frames to the "
            "flow (H, W, 2)."
        )
    otherwise = ", or use flow=None for a still camera"
    required("cv2", "`flow` is 'dis', which needs OpenCV", "video", otherwise)
    return _dis


def _dis(previous: Tensor, following: Tensor) -> Any:
    """Return the flow by dense inverse search (Kroeger et al., ECCV 2016)."""
    import cv2

    # On videos whose flow is known, this halves the error of the preset, and finds the motion of a
    # noisy sky: half of the noise is blurred, and the flow is full-size and smoother.
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    method.setFinestScale(0)
    method.setVariationalRefinementAlpha(100)
    method.setVariationalRefinementIterations(20)
    gray = list[Any]()
    for frame in (previous, following):
        pixels = (frame[0].movedim(0, -1) * 255).round().byte().cpu().numpy()
        single = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        gray.append(cv2.GaussianBlur(single, (0, 0), 0.7))
    try:
        with _one_thread(cv2):
            return method.calc(*gray, None)
    except cv2.error as error:
        raise ValueError(
            f"`flow` is 'dis', which fails for frames of {gray[0].shape} pixels ({error}). Use "
            "larger ones, or flow=None."
        ) from error


@contextmanager
def _one_thread(cv2: Any) -> Iterator[None]:
    """Let OpenCV use one thread, as its flow depends on their number."""
    with restored("threads of OpenCV", cv2.getNumThreads, cv2.setNumThreads):
        cv2.setNumThreads(1)
        yield


def follow(
    flow: Callable[[Tensor, Tensor], Any] | None, before: Tensor, result: Tensor, content: Tensor
) -> Previous | None:
    """Return what a frame is compared with, given the previous frame and its result.

    None after a cut, where most of the flow is unreliable.
    """
    if flow is None:
        change = content - before
        same = _is_same(change)
        return Previous(result, same, change) if same.mean() > _SCENE else None
    there, back = (
        _checked(flow(one.clone(), other.clone()), content)
        for one, other in ((before, content), (content, before))
    )
    reliability = functional.flow_reliability(there, back)
    if reliability.mean() <= _SCENE:
        return None
    explaining, error = _explaining(before, content, back)
    back = torch.where(reliability[:, 0, ..., None] > 0, back, explaining)
    moved = functional.warp(torch.cat([before, result]), back)
    change = content - moved[:1]
    mask = torch.maximum(reliability, _is_same(change) * error.isfinite())
    return Previous(moved[1:], mask, change)


def _explaining(before: Tensor, content: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return, of the flows at and near each pixel, the one that explains its color best.

    And its error, `(1, 1, H, W)`, which is infinite where all lead out of the frame.
    """
    # Around a thing that moves, the flow is often that of its other side.
    found, lowest = flow, _error(before, content, flow)
    planes, (height, width) = flow.movedim(-1, 1), flow.shape[1:3]
    for reach in _REACHES:
        padded = F.pad(planes, (reach,) * 4, mode="replicate")
        for y, x in ((0, reach), (2 * reach, reach), (reach, 0), (reach, 2 * reach)):
            other = padded[..., y : y + height, x : x + width].movedim(1, -1)
            error = _error(before, content, other)
            found = torch.where((error < lowest)[:, 0, ..., None], other, found)
            lowest = torch.minimum(lowest, error)
    return found, lowest


def _error(before: Tensor, content: Tensor, flow: Tensor) -> Tensor:
    """Return the mean difference of colors around each pixel, `(1, 1, H, W)`."""
    difference = (functional.warp(before, flow) - content).abs().mean(1, keepdim=True)
    mean = F.avg_pool2d(F.pad(difference, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return mean.masked_fill(leads_outside(flow), torch.inf)


def _is_same(change: Tensor) -> Tensor:
    """Return 1 where a change of the content is small enough for noise, else 0."""
    return (change.abs().amax(1, keepdim=True) < _SAME).to(change)


def _checked(flow: Any, like: Tensor) -> Tensor:
    """Return a flow as `(1, H, W, 2)`; raise if it is something else or not finite."""
    wanted = (*like.shape[-2:], 2)
    rule = f"{wanted}, all finite: x and y in pixels for each pixel of the frame."
    try:
        found = torch.as_tensor(flow).detach()
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"`flow` returned a {type(flow).__name__}; it must return {rule}"
        ) from error
    found = found.to(like)
    if tuple(found.shape) != wanted or not found.isfinite().all():
        raise ValueError(f"`flow` returned {tuple(found.shape)}; it must return {rule}")
    return found[None]
