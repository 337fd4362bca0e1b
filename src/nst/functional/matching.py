"""Distances between sets of features rather than their means; see `nst.functional`."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Largest number of pairs of positions to compare at once: 64 MB in float32.
_PAIRS = 2**24


def sample_positions(feature: Tensor, count: int, seed: int) -> Tensor:
    """Return the features at random positions, `(N, C, min(P, count))`.

    Positions depend only on the seed and P; no global generator is touched.

    Examples:
        >>> tuple(sample_positions(torch.rand(1, 3, 100), 10, seed=0).shape)
        (1, 3, 10)
    """
    positions = feature.shape[-1]
    if positions <= count:
        return feature
    generator = torch.Generator("cpu").manual_seed(seed)
    chosen = torch.randperm(positions, generator=generator, device="cpu")[:count].sort().values
    return feature[..., chosen.to(feature.device)]


def sorted_error(value: Tensor, target: Tensor) -> Tensor:
    r"""Return the squared Wasserstein distance of the values, a mean over channels, `(N,)`.

    \(\overline{(x_{(k)} - \hat x_{(k)})^2}\) of sorted values, `(N, C, P)`. The target, `(N, C, Q)`
    or `(1, C, Q)`, must be sorted along the last dimension; it is interpolated to P values.

    Examples:
        >>> value, target = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 5.0]]])
        >>> sorted_error(value, target).tolist()  # (1 - 1)**2 and (3 - 5)**2
        [2.0]
    """
    if target.shape[-1] != value.shape[-1]:
        target = F.interpolate(target, value.shape[-1], mode="linear", align_corners=False)
    return (value.sort(-1).values - target).square().flatten(1).mean(1)


def sliced_wasserstein(feature: Tensor, target: Tensor, directions: Tensor) -> Tensor:
    r"""Return the sliced Wasserstein distance, `(N,)`: `sorted_error` of projected features.

    Features are `(N, C, P)`, directions unit vectors `(K, C)`, and the target is projected on them
    and sorted, `(N, K, Q)` or `(1, K, Q)`. Heitz et al., "A Sliced Wasserstein Loss for Neural
    Texture Synthesis" (CVPR 2021).

    Examples:
        >>> feature = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]])
        >>> sliced_wasserstein(feature, torch.tensor([[[1.0, 5.0]]]), torch.tensor([[1.0, 0.0]]))
        tensor([2.])
    """
    return sorted_error(directions @ feature, target)


def nearest_neighbor_error(feature: Tensor, target: Tensor) -> Tensor:
    r"""Return the mean distance of features to the nearest target: \(\overline{1 - \cos}\), `(N,)`.

    Between 0 and 2. The means of both sets, `(N, C, P)` and `(N, C, Q)` or `(1, C, Q)`, are
    subtracted first; the search for the nearest has no gradient. Kolkin et al., "Neural Neighbor
    Style Transfer" (2022).

    Examples:
        >>> feature = torch.rand(1, 8, 20)
        >>> round(float(nearest_neighbor_error(feature, feature)), 5)
        0.0
    """
    return _nearest_error(*_units(feature, target, centered=True))


def relaxed_transport(feature: Tensor, target: Tensor) -> Tensor:
    r"""Return the relaxed earth mover's distance between features, by cosine distance, `(N,)`.

    $$\max\bigl(\overline{\min_j C_{ij}}, \overline{\min_i C_{ij}}\bigr), \qquad
    C_{ij} = 1 - \cos(F_i, \hat F_j)$$

    Between 0 and 2, of `(N, C, P)` and `(N, C, Q)` or `(1, C, Q)`. Kolkin et al., "Style Transfer
    by Relaxed Optimal Transport and Self-Similarity" (CVPR 2019).

    Examples:
        >>> one, two = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> relaxed_transport(one, two).tolist()  # the second target is at distance 1
        [0.5]
    """
    own, other = _units(feature, target, centered=False)
    return torch.maximum(_nearest_error(own, other), _nearest_error(other, own))


def self_similarity(feature: Tensor) -> Tensor:
    r"""Return the cosine distances between positions, `(N, P, P)`, each column divided by its sum.

    A column of equal features is all 0.

    Examples:
        >>> self_similarity(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
        [[[0.0, 1.0], [1.0, 0.0]]]
    """
    unit = _unit(feature, 1e-12 * _mean_square_length(feature))
    apart = (1 - unit.mT @ unit).clamp_min(0)
    total = apart.sum(1, keepdim=True)
    return apart / torch.where(total > 1e-6 * feature.shape[-1], total, torch.inf)


def unit_features(feature: Tensor, floor: Tensor | None = None) -> Tensor:
    r"""Scale the features `(N, C, P)` of each position to length 1.

    \(F_p / \sqrt{\lVert F_p \rVert^2 + \epsilon}\), where `floor`, \(\epsilon\), `(N, 1, 1)` or
    `(N, 1, P)`, bounds the gradient; `unit_floor(feature)` by default. The square distance of two
    features of length 1 is \(2 - 2 \cos\).

    Examples:
        >>> unit_features(torch.tensor([[[3.0], [4.0]]])).flatten()
        tensor([0.6000, 0.8000])
    """
    return _unit(feature, unit_floor(feature) if floor is None else floor)


def unit_floor(feature: Tensor) -> Tensor:
    r"""Return a hundred-millionth of the mean of \(\lVert F_p \rVert^2\), `(N, 1, 1)`, 1 for zeros.

    Examples:
        >>> unit_floor(torch.zeros(1, 2, 3)).item()
        1.0
    """
    floor = 1e-8 * _mean_square_length(feature)
    return torch.where(floor > 0, floor, 1)


def _unit(feature: Tensor, floor: Tensor) -> Tensor:
    """Scale each position's features to length 1, or less where they do not exceed the floor."""
    squares = feature.square().sum(1, keepdim=True)
    return feature / (squares + floor + torch.finfo(feature.dtype).tiny).sqrt()


def _units(feature: Tensor, target: Tensor, *, centered: bool) -> tuple[Tensor, Tensor]:
    """Scale both to length 1, with equal floors if they are equal; the target's floor may be 0."""
    own, other = _mean_square_length(feature), _mean_square_length(target)
    if centered:  # after measuring them, because equal features leave only rounding errors
        feature, target = (each - each.mean(-1, keepdim=True) for each in (feature, target))
    target = _unit(target, 1e-8 * other).expand(len(feature), -1, -1)
    return _unit(feature, 1e-8 * (own + other) / 2), target


def _mean_square_length(feature: Tensor) -> Tensor:
    return feature.detach().square().sum(1, keepdim=True).mean(-1, keepdim=True)


def _nearest_error(own: Tensor, other: Tensor) -> Tensor:
    """Return the mean cosine distance from each own to the nearest other, all units, `(N,)`."""
    rows = max(1, _PAIRS // (len(own) * other.shape[-1]))
    fixed = other.detach()
    half = fixed.square().sum(1, keepdim=True) / 2
    parts = torch.split(own.detach(), rows, dim=-1)
    nearest = torch.cat([(part.mT @ fixed - half).argmax(-1) for part in parts], dim=1)
    chosen = other.gather(2, nearest[:, None].expand_as(own))
    return (own - chosen).square().sum(1).mean(1) / 2  # equals 1 - cos, and is exact near 0
