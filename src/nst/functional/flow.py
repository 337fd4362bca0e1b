"""Optical flow: warping, and which pixels have a counterpart in the frame before.

A flow `(N, H, W, 2)` gives, for each pixel of a frame, the way to the same point in another frame,
in pixels: first x, to the right, then y, downward. Formulas are those of Ruder et al., "Artistic
Style Transfer for Videos" (GCPR 2016).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["flow_reliability", "long_term_weights", "warp"]


def _sources(
    argument: str, flow: Tensor, height: int, width: int, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return x and y of the points that a flow leads to, `(N, H, W)` each; check its shape."""
    if flow.shape[1:] != (height, width, 2) or len(flow) not in (1, count or len(flow)):
        raise ValueError(
            f"`{argument}` is {tuple(flow.shape)}; it must be (N, {height}, {width}, 2): x and y "
            "for each pixel."
        )
    x = torch.arange(width, dtype=flow.dtype, device=flow.device)
    y = torch.arange(height, dtype=flow.dtype, device=flow.device)
    return flow[..., 0] + x, flow[..., 1] + y[:, None]


def leads_outside(flow: Tensor, argument: str = "flow") -> Tensor:
    """Return where a flow leads out of the frame, `(N, 1, H, W)`."""
    height, width = flow.shape[1:3]
    x, y = _sources(argument, flow, height, width)
    outside = (x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)
    return outside[:, None]


def warp(image: Tensor, flow: Tensor) -> Tensor:
    r"""Return the image as the flow moves it, \(y(p) = x(p + w(p))\), `(N, C, H, W)`.

    Bilinear; points outside of the image have the color of its nearest border pixel.

    Args:
        image: `(N, C, H, W)`.
        flow: From each pixel of the result to its point in the image, `(N, H, W, 2)`.

    Raises:
        ValueError: The shapes do not fit.

    Examples:
        >>> to_the_right = torch.tensor([1.0, 0.0]).expand(1, 1, 3, 2)
        >>> warp(torch.tensor([[[[1.0, 2.0, 3.0]]]]), to_the_right).tolist()
        [[[[2.0, 3.0, 3.0]]]]
    """
    height, width = image.shape[-2:]
    kind = torch.promote_types(image.dtype, torch.float32)  # half precision rounds to whole pixels
    x, y = _sources("flow", flow.to(image.device, kind), height, width, len(image))
    # Clamped to the centers of the border pixels, as MPS had no padding_mode="border" for long.
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    # The coordinates of `grid_sample`: the borders of the image are at -1 and 1.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    grid = grid.expand(len(image), -1, -1, -1)
    return F.grid_sample(image.to(kind), grid, align_corners=False).to(image)


def flow_reliability(forward: Tensor, backward: Tensor) -> Tensor:
    r"""Return 1 where a pixel has a counterpart in the frame before, else 0, `(N, 1, H, W)`.

    It has none where the flows there and back disagree (a part that was hidden), at edges of the
    motion, or if it comes from outside of the frame:

    $$|\tilde w + \hat w|^2 > 0.01\,(|\tilde w|^2 + |\hat w|^2) + 0.5, \qquad
    |\nabla \hat u|^2 + |\nabla \hat v|^2 > 0.01\,|\hat w|^2 + 0.002$$

    with \(\hat w = (\hat u, \hat v)\) the backward flow and \(\tilde w(p) = w(p + \hat w(p))\) the
    forward flow warped by it. Gradients are central differences.

    Args:
        forward: From each pixel of the frame before to its point in this frame, `(N, H, W, 2)`.
        backward: From each pixel of this frame to its point in the frame before, `(N, H, W, 2)`.

    Raises:
        ValueError: The shapes do not fit.

    Examples:
        >>> right = torch.tensor([1.0, 0.0]).expand(1, 1, 3, 2)  # the left pixel is new
        >>> flow_reliability(right, -right).tolist()
        [[[[0.0, 1.0, 1.0]]]]
    """
    outside = leads_outside(backward, "backward")
    _sources("forward", forward, backward.shape[1], backward.shape[2], len(backward))  # to check
    there, back = warp(forward.movedim(-1, 1), backward), backward.movedim(-1, 1)
    length = back.square().sum(1, keepdim=True)
    apart = (there + back).square().sum(1, keepdim=True)
    hidden = apart > 0.01 * (there.square().sum(1, keepdim=True) + length) + 0.5
    padded = F.pad(back, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    slope = (across.square() + down.square()).sum(1, keepdim=True)
    unreliable = hidden | (slope > 0.01 * length + 0.002) | outside
    return (~unreliable).to(backward.dtype)


def long_term_weights(reliabilities: Sequence[Tensor]) -> list[Tensor]:
    r"""Return the weights of several earlier frames, of any common shape.

    $$c_k = \max\bigl(r_k - \sum_{j < k} r_j,\, 0\bigr)$$

    A pixel is compared with the latest frame that shows it. `StyleTransfer.frames` uses only the
    previous frame; these weights are for a loop of your own.

    Args:
        reliabilities: \(r_k\), results of `flow_reliability` between each earlier frame and this
            one, the latest first.

    Examples:
        >>> latest, earlier = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
        >>> [each.tolist() for each in long_term_weights([latest, earlier])]
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    earlier = torch.stack(list(reliabilities))
    return list((2 * earlier - earlier.cumsum(0)).clamp_min(0))
