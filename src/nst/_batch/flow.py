"""The motion between two frames of a film."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nst import functional
from nst._engine.objective import Previous

FlowLike: TypeAlias = Literal["dis"] | Callable[[Tensor, Tensor], Any] | None
"""Name of a method, a function from two frames to the flow `(H, W, 2)`, or None for no motion."""

# Largest change of a color from frame to frame, of 1, that is taken for the same thing.
_SAME = 0.1


def as_flow(flow: FlowLike) -> Callable[[Tensor, Tensor], Any] | None:
    """Return the function that a `flow` argument names; raise for anything else."""
    if flow is None or callable(flow):
        return flow
    if flow != "dis":
        raise ValueError(
            f"`flow` is {flow!r}; it must be 'dis', None, or a function from two frames to the "
            "flow (H, W, 2)."
        )
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "`flow` is 'dis', which needs OpenCV, which is not installed. Run "
            "`pip install 'nst[video]'`, or use flow=None for a still camera."
        ) from error
    return _dis


def _dis(previous: Tensor, following: Tensor) -> Any:
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
        return method.calc(*gray, None)
    except cv2.error as error:
        raise ValueError(
            f"`flow` is 'dis', which fails for frames of {gray[0].shape} pixels ({error}). Use "
            "larger ones, or flow=None."
        ) from error
    finally:
        cv2.setNumThreads(threads)


def follow(
    flow: Callable[[Tensor, Tensor], Any] | None, before: Tensor, result: Tensor, content: Tensor
) -> Previous:
    """Return what a frame is compared with, given the frame before and its result."""
    if flow is None:
        change = content - before
        same = change.abs().amax(1, keepdim=True) < _SAME
        return Previous(result, same.to(content), change)
    there, back = (
        _checked(flow(one.clone(), other.clone()), content)
        for one, other in ((before, content), (content, before))
    )
    moved = functional.warp(torch.cat([before, result]), back)
    return Previous(moved[1:], functional.flow_reliability(there, back), content - moved[:1])


def _checked(flow: Any, like: Tensor) -> Tensor:
    """Return a flow as `(1, H, W, 2)`; raise if it has another shape or is not finite."""
    found = torch.as_tensor(flow).detach().to(like)
    if tuple(found.shape) != (*like.shape[-2:], 2) or not found.isfinite().all():
        raise ValueError(
            f"`flow` returned {tuple(found.shape)}; it must return {(*like.shape[-2:], 2)}, all "
            "finite: x and y in pixels for each pixel of the frame."
        )
    return found[None]
