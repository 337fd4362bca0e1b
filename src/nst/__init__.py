"""Neural style transfer: repaint a photograph in the manner of a painting."""

import logging

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
from nst._losses import Features, Loss, PointwiseLoss, Statistic, StatisticLoss
from nst._optimizers import BoundedLBFGS
from nst._result import StyleTransferResult
from nst._style import Style
from nst._transfer import StyleTransfer
from nst.images import load_image, save_image

__version__ = "0.1.0"

# Silent unless the application listens.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BoundedLBFGS",
    "CONTENT_LAYERS",
    "Callback",
    "ContentLoss",
    "EarlyStopping",
    "FeatureExtractor",
    "Features",
    "GramStyleLoss",
    "Loss",
    "LossHistory",
    "MomentStyleLoss",
    "PointwiseLoss",
    "ProgressBar",
    "RunState",
    "STYLE_LAYERS",
    "SaveImages",
    "Statistic",
    "StatisticLoss",
    "Style",
    "StyleTransfer",
    "StyleTransferResult",
    "TotalVariationLoss",
    "load_image",
    "save_image",
]
