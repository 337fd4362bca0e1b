"""Neural style transfer: repaint a photograph in the manner of a painting."""

from nst._builtin_losses import (
    CONTENT_LAYERS,
    STYLE_LAYERS,
    ContentLoss,
    GramStyleLoss,
    MomentStyleLoss,
    TotalVariationLoss,
)
from nst._callbacks import (
    Callback,
    EarlyStopping,
    LossHistory,
    ProgressBar,
    RunState,
    SaveImages,
)
from nst._features import FeatureExtractor
from nst._losses import Loss, PointwiseLoss, StatisticLoss
from nst._optimizers import BoundedLBFGS
from nst._result import StyleTransferResult
from nst._style import Style
from nst._transfer import StyleTransfer
from nst.images import load_image, save_image

__version__ = "0.1.0"

__all__ = [
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "BoundedLBFGS",
    "Callback",
    "ContentLoss",
    "EarlyStopping",
    "FeatureExtractor",
    "GramStyleLoss",
    "Loss",
    "LossHistory",
    "MomentStyleLoss",
    "PointwiseLoss",
    "ProgressBar",
    "RunState",
    "SaveImages",
    "StatisticLoss",
    "Style",
    "StyleTransfer",
    "StyleTransferResult",
    "TotalVariationLoss",
    "load_image",
    "save_image",
]
