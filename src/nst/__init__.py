"""Neural style transfer: repaint a photograph in the manner of a painting."""

import logging

from nst._backbone import BackboneExtractor
from nst._callbacks import Callback, EarlyStopping, LossHistory, RunState
from nst._checkpoint import Checkpoint
from nst._content_losses import (
    CONTENT_LAYERS,
    ContentLoss,
    LaplacianLoss,
    SelfSimilarityLoss,
    TotalVariationLoss,
)
from nst._estimate import Estimate
from nst._features import FeatureExtractor
from nst._lbfgs import BoundedLBFGS
from nst._live_page import LivePage
from nst._losses import Features, Loss, PointwiseLoss, Statistic, StatisticLoss
from nst._map import MapResult
from nst._matching_losses import (
    HistogramStyleLoss,
    NearestNeighborStyleLoss,
    RelaxedTransportStyleLoss,
    SlicedWassersteinStyleLoss,
)
from nst._progress import ProgressBar, SaveImages
from nst._result import StyleTransferResult
from nst._style import Style
from nst._style_losses import (
    STYLE_LAYERS,
    CrossLayerGramStyleLoss,
    GramStyleLoss,
    MeanStdStyleLoss,
    MomentStyleLoss,
    WassersteinStyleLoss,
)
from nst._transfer import StyleTransfer
from nst.images import load_image, save_image

__version__ = "0.1.0"

# Silent unless the application listens.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BackboneExtractor",
    "BoundedLBFGS",
    "CONTENT_LAYERS",
    "Callback",
    "Checkpoint",
    "ContentLoss",
    "CrossLayerGramStyleLoss",
    "EarlyStopping",
    "Estimate",
    "FeatureExtractor",
    "Features",
    "GramStyleLoss",
    "HistogramStyleLoss",
    "LaplacianLoss",
    "LivePage",
    "Loss",
    "LossHistory",
    "MapResult",
    "MeanStdStyleLoss",
    "MomentStyleLoss",
    "NearestNeighborStyleLoss",
    "PointwiseLoss",
    "ProgressBar",
    "RelaxedTransportStyleLoss",
    "RunState",
    "STYLE_LAYERS",
    "SaveImages",
    "SelfSimilarityLoss",
    "SlicedWassersteinStyleLoss",
    "Statistic",
    "StatisticLoss",
    "Style",
    "StyleTransfer",
    "StyleTransferResult",
    "TotalVariationLoss",
    "WassersteinStyleLoss",
    "load_image",
    "save_image",
]
