"""Losses: functions of a picture's features that the loop minimizes."""

import inspect
from collections.abc import Mapping

from nst.losses.base import Features, Loss, Statistic, StatisticLoss
from nst.losses.content import CONTENT_LAYERS, ContentLoss, PointwiseLoss, SelfSimilarityLoss
from nst.losses.gram import STYLE_LAYERS, CrossLayerGramStyleLoss, GramStyleLoss
from nst.losses.matching import (
    HistogramStyleLoss,
    NearestNeighborStyleLoss,
    RelaxedTransportStyleLoss,
    SlicedWassersteinStyleLoss,
)
from nst.losses.moments import MeanStdStyleLoss, MomentStyleLoss, WassersteinStyleLoss
from nst.losses.smoothness import LaplacianLoss, TotalVariationLoss

__all__ = [
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "ContentLoss",
    "CrossLayerGramStyleLoss",
    "Features",
    "GramStyleLoss",
    "HistogramStyleLoss",
    "LaplacianLoss",
    "Loss",
    "MeanStdStyleLoss",
    "MomentStyleLoss",
    "NearestNeighborStyleLoss",
    "PointwiseLoss",
    "RelaxedTransportStyleLoss",
    "SelfSimilarityLoss",
    "SlicedWassersteinStyleLoss",
    "Statistic",
    "StatisticLoss",
    "TotalVariationLoss",
    "WassersteinStyleLoss",
]

LOSSES: Mapping[str, type[Loss]] = {
    name: value
    for name, value in sorted(globals().items())
    if name in __all__
    and inspect.isclass(value)
    and issubclass(value, Loss)
    and not inspect.isabstract(value)
}
"""Loss classes by name, those that can be instantiated."""
