"""Neural style transfer: repaint a photograph in the manner of a painting."""

import logging

from nst._batch.map import MapResult
from nst._utils.version import __version__ as __version__
from nst.callbacks.base import Callback, CallbackLike, LossHistory, RunState
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.early_stopping import EarlyStopping
from nst.callbacks.live_page import LivePage
from nst.callbacks.progress import ProgressBar
from nst.callbacks.save_images import SaveImages
from nst.callbacks.time_limit import TimeLimit
from nst.estimate import Estimate
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.vgg import FeatureExtractor
from nst.images import ImageLike, load_image, save_image
from nst.losses.base import Features, Loss, Statistic
from nst.losses.content import (
    CONTENT_LAYERS,
    ContentLoss,
    LaplacianLoss,
    PointwiseLoss,
    SelfSimilarityLoss,
    TotalVariationLoss,
)
from nst.losses.matching import (
    HistogramStyleLoss,
    NearestNeighborStyleLoss,
    RelaxedTransportStyleLoss,
    SlicedWassersteinStyleLoss,
)
from nst.losses.statistics import (
    STYLE_LAYERS,
    CrossLayerGramStyleLoss,
    GramStyleLoss,
    MeanStdStyleLoss,
    MomentStyleLoss,
    WassersteinStyleLoss,
    style_layers,
)
from nst.losses.storable import StatisticLoss
from nst.losses.temporal import TemporalLoss
from nst.optim.lbfgs import BoundedLBFGS
from nst.result import StyleTransferResult
from nst.styles.style import Style, StyleLike
from nst.transfer import StyleTransfer

# Silent unless the application listens.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BackboneExtractor",
    "BoundedLBFGS",
    "CONTENT_LAYERS",
    "Callback",
    "CallbackLike",
    "Checkpoint",
    "ContentLoss",
    "CrossLayerGramStyleLoss",
    "EarlyStopping",
    "Estimate",
    "FeatureExtractor",
    "Features",
    "GramStyleLoss",
    "HistogramStyleLoss",
    "ImageLike",
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
    "StyleLike",
    "StyleTransfer",
    "StyleTransferResult",
    "TemporalLoss",
    "TimeLimit",
    "TotalVariationLoss",
    "WassersteinStyleLoss",
    "load_image",
    "save_image",
    "style_layers",
]

# Reprs and tracebacks name the one public import path.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = "nst"
