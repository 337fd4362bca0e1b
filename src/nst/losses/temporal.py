"""A loss between the frames of a video."""

from typing import ClassVar

from torch import Tensor

from nst._utils.checks import Checked
from nst.losses.base import Features, Reference
from nst.losses.content import PointwiseLoss


class TemporalLoss(PointwiseLoss):
    r"""Compares the frame of a video with the previous result, warped to it.

    \(\frac{1}{3P} \sum_p r_p \lVert x_p - y_p \rVert^2\) with y the previous result, warped to this
    frame, and r its reliability: `nst.functional.warp` and `flow_reliability`. Ruder et al.,
    "Artistic Style Transfer for Videos" (GCPR 2016).

    `StyleTransfer.frames` adds it to the losses; the first frame and other runs leave it out, as
    they have no previous frame. In a training loop, `capture` takes the warped
    previous result as `"image"`, the reliability as `"mask"` and, for `differences`, the change of
    the content from its warped previous frame as `"change"`, `(N, 3, H, W)`; without it, 0.

    Args:
        differences: Whether to compare \(x - y\) with the change of the content, which lets
            shadows and lights pass over the picture. Without a flow, y is not warped. Gao et al.,
            "ReCoNet: Real-time Coherent Video Style Transfer Network" (ACCV 2018).

    Examples:
        >>> loss, previous = TemporalLoss(), torch.zeros(1, 3, 4, 4)
        >>> loss.capture({"image": previous, "mask": torch.full((1, 1, 4, 4), 0.5)})
        >>> float(loss({"image": previous + 1}))
        0.5
    """

    reference: ClassVar[Reference] = "previous"
    differences = Checked(lambda _, value: bool(value))

    def __init__(self, *, weight: float = 1.0, differences: bool = False) -> None:
        super().__init__(["image"], weight=weight)
        self.differences = differences

    def error(self, feature: Tensor, target: Tensor) -> Tensor:
        return (feature - target).square()

    def _compared(self, layer: str, features: Features) -> Tensor:
        previous = super()._compared(layer, features)
        if self.differences and "change" in features:
            return previous + self._feature("change", features)
        return previous
