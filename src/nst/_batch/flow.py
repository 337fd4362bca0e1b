"""The motion between two frames of a film."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nst import functional
from nst._engine.objective import Previous

FlowLike: TypeAlias = 'Literal["dis"] | Callable[[Tensor, Tensor], Any] | None'
"""Name of a method, a function from two frames to the flow `(H, W, 2)`, or None for no motion."""

# Largest change of a color from frame to frame, of 1, that is taken for the same thing.
_SAME = 0.1


def as_flow(flow: FlowLike) -> Callable[[Tensor, Tensor], Any] | None:
    """Return the function that a `flow` argument names; raise for anything else."""
    if flow is None or callable(flow):
        return flow
    if flow != "dis":
        raise ValueError(
            f"`flow` is {flow!r}; it must be 'dis', None, or a function of two frames that returns "
            "the flow (H, W, 2)."
        )
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "`flow` is 'dis', which needs OpenCV, which is not installed. Run "
            "`pip install 'nst[video]'`, or use flow=None for a still camera."
        ) from error
    return _dis


def _dis(previous: Tensor, following: Tensor) -> npt.NDArray[np.float32]:
    """Return the flow by dense inverse search (Kroeger et al., ECCV 2016)."""
    import cv2

    # On films whose flow is known, this halves the error of the preset, and finds the motion of a
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
    # The result depends on the number of threads, which is that of the processors.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        found: npt.NDArray[np.float32] = method.calc(*gray, None)
    except cv2.error as error:
        raise ValueError(
            f"`flow` is 'dis', which fails for frames of {gray[0].shape} pixels ({error}). Use "
            "larger ones, or flow=None."
        ) from error
    finally:
        cv2.setNumThreads(threads)
    return found


def _checked(flow: Any, like: Tensor) -> Tensor:
    """Return a flow as `(1, H, W, 2)`; raise if it has another shape or is not finite."""
    found = torch.as_tensor(flow if isinstance(flow, Tensor) else np.asarray(flow))
    shape = (*like.shape[-2:], 2)
    if tuple(found.shape) != shape:
        raise ValueError(
            f"`flow` returned {tuple(found.shape)}; it must return {shape}: x and y in pixels for "
            "each pixel of the frame."
        )
    found = found.detach().to(like)
    if not found.isfinite().all():
        raise ValueError("`flow` returned values that are not finite. Use 0 for unknown motion.")
    return found[None]


def follow(
    flow: Callable[[Tensor, Tensor], Any] | None, before: Tensor, result: Tensor, content: Tensor
) -> Previous:
    """Return what a frame is compared with.

    Args:
        flow: Function from two frames to the flow; None for a still camera.
        before: The frame before, `(1, 3, H, W)`.
        result: The result of the frame before, of the same shape.
        content: The frame, of the same shape.
    """
    if flow is None:
        change = content - before
        same = change.abs().amax(1, keepdim=True) < _SAME
        return Previous(result, same.to(content), change)
    forward = _checked(flow(before.clone(), content.clone()), content)
    backward = _checked(flow(content.clone(), before.clone()), content)
    mask = functional.flow_reliability(forward, backward)
    moved = functional.warp(torch.cat([before, result]), backward)
    return Previous(moved[1:], mask, content - moved[:1])
