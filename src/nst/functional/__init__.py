"""Every formula, once: tensors in, tensors out.

Features are `(N, C, P)`, P positions of C channels; weights are `(N, 1, P)`, or `(N, 1, 1)` where
all positions weigh the same.
"""

from nst.functional.covariances import (
    covariance,
    regularized,
    square_root,
    squared_bures,
    standard_deviation,
)
from nst.functional.matching import (
    nearest_neighbor_error,
    relaxed_transport,
    sample_positions,
    self_similarity,
    sliced_wasserstein,
    sorted_error,
    unit_features,
    unit_floor,
)
from nst.functional.statistics import (
    cross_gram,
    gram_matrix,
    laplacian,
    mask_weight,
    mean,
    mean_square_error,
    relative_square_error,
    second_moment,
    square_size,
    total_variation,
    uniform_weight,
)

__all__ = [
    "covariance",
    "cross_gram",
    "gram_matrix",
    "laplacian",
    "mask_weight",
    "mean",
    "mean_square_error",
    "nearest_neighbor_error",
    "regularized",
    "relative_square_error",
    "relaxed_transport",
    "sample_positions",
    "second_moment",
    "self_similarity",
    "sliced_wasserstein",
    "sorted_error",
    "square_root",
    "square_size",
    "squared_bures",
    "standard_deviation",
    "total_variation",
    "uniform_weight",
    "unit_features",
    "unit_floor",
]
