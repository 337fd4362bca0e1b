"""Neural style transfer: repaint a photograph in the manner of a painting."""

import logging

from nst import losses
from nst._batch.map import MapResult
from nst._utils.version import __version__ as __version__
from nst.callbacks.base import Callback, LossHistory, RunState
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.early_stopping import EarlyStopping
from nst.callbacks.live_page import LivePage
from nst.callbacks.progress import ProgressBar
from nst.callbacks.save_images import SaveImages
from nst.estimate import Estimate
from nst.extractors.backbone import BackboneExtractor
from nst.extractors.vgg import FeatureExtractor
from nst.images import load_image, save_image
from nst.losses import *  # noqa: F403
from nst.optim import BoundedLBFGS
from nst.result import StyleTransferResult
from nst.styles.style import Style
from nst.transfer import StyleTransfer

# Silent unless the application listens.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BackboneExtractor",
    "BoundedLBFGS",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Estimate",
    "FeatureExtractor",
    "LivePage",
    "LossHistory",
    "MapResult",
    "ProgressBar",
    "RunState",
    "SaveImages",
    "Style",
    "StyleTransfer",
    "StyleTransferResult",
    "load_image",
    "save_image",
]
__all__ += losses.__all__
__all__.sort()

# Reprs and tracebacks name the one public import path.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = "nst"
