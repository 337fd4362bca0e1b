"""Formulas of the losses.

Features are `(N, C, P)`: P positions of C channels. The weights of positions are `(N, 1, P)`, or
`(N, 1, 1)` where all are equal; by default they are equal and sum to one. A *statistic* is a
weighted sum over positions, so it is linear in its weights, which makes blending of styles and
regions possible. Distances are one number for each picture, `(N,)`; the first dimension of a target
may be 1, to compare every picture with the same target.

Gatys et al. is "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), Johnson et
al. is "Perceptual Losses for Real-Time Style Transfer" (ECCV 2016).
"""

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
from nst.functional.smoothness import laplacian, total_variation
from nst.functional.statistics import (
    covariance,
    cross_gram,
    gram_matrix,
    mask_weight,
    mean,
    mean_square_error,
    regularized,
    relative_square_error,
    second_moment,
    square_root,
    square_size,
    squared_bures,
    standard_deviation,
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
