"""Each formula against an independent one, in float64."""

from typing import Literal

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from nst import functional
from tests.helpers import normal, uniform
from tests.pretend import PretendedDevice


@pytest.fixture
def feature() -> Tensor:
    return normal(2, 3, 7, seed=1)


@pytest.fixture
def weight() -> Tensor:
    weight = uniform(2, 1, 7, seed=2)
    return weight / weight.sum(-1, keepdim=True)


def test_a_gram_matrix_of_a_feature_map_says_to_flatten_it() -> None:
    with pytest.raises(ValueError, match=r"`feature` is \(1, 4, 8, 8\); .* Use feature.flatten"):
        functional.gram_matrix(torch.rand(1, 4, 8, 8))


@pytest.mark.parametrize("weighted", [True, False])
def test_gram_matrices_are_weighted_sums_of_outer_products(
    feature: Tensor, weight: Tensor, weighted: bool
) -> None:
    other, weights = feature[:, :2].flip(-1), weight if weighted else torch.full((2, 1, 7), 1 / 7)
    own, cross = (
        torch.einsum("np,nip,njp->nij", weights[:, 0].double(), feature, each)
        for each in (feature, other)
    )
    given = weight if weighted else None
    torch.testing.assert_close(functional.gram_matrix(feature, given), own)
    torch.testing.assert_close(functional.cross_gram(feature, other, given), cross)


def test_errors_are_mean_squares_and_relative_ones_ignore_the_scale(feature: Tensor) -> None:
    target = feature.roll(1, dims=-1)
    squared = (feature - target).square()
    mean, relative = functional.mean_square_error, functional.relative_square_error
    torch.testing.assert_close(mean(feature, target), squared.mean((1, 2)))
    expected = squared.sum((1, 2)) / target.square().sum((1, 2))
    torch.testing.assert_close(relative(feature, target), expected)
    torch.testing.assert_close(relative(50 * feature, 50 * target), expected)
    zeros = torch.zeros_like(feature)  # compared absolutely
    torch.testing.assert_close(relative(feature, zeros), feature.square().sum((1, 2)))


@pytest.mark.parametrize("power", [1, 2])
def test_total_variation_agrees_with_numpy(power: Literal[1, 2]) -> None:
    image = uniform(2, 3, 4, 5)
    down, right = (np.abs(np.diff(image.numpy(), axis=axis)) ** power for axis in (2, 3))
    expected = down.mean((1, 2, 3)) + right.mean((1, 2, 3))
    np.testing.assert_allclose(functional.total_variation(image, power=power), expected, rtol=1e-12)
    row = torch.tensor([[[[0.0, 1.0, 1.0]]]])  # a single row, and a single pixel
    assert functional.total_variation(row).tolist() == [0.5]
    assert functional.total_variation(row[..., :1]).tolist() == [0.0]


def test_covariance_and_deviation_agree_with_numpy(feature: Tensor, weight: Tensor) -> None:
    mean, gram = functional.mean(feature, weight), functional.gram_matrix(feature, weight)
    found = functional.covariance(gram, mean)
    deviation = functional.standard_deviation(mean, functional.second_moment(feature, weight), 0.0)
    for n in range(2):
        expected = np.cov(feature[n].numpy(), aweights=weight[n, 0].numpy(), ddof=0)
        np.testing.assert_allclose(found[n], expected, rtol=1e-10)
        np.testing.assert_allclose(deviation[n], np.sqrt(np.diag(expected)), rtol=1e-10)


def test_the_bures_distance_agrees_with_scipy() -> None:
    factors, floor = normal(2, 2, 4, 6, seed=3), torch.tensor([1e-4, 2e-4], dtype=torch.float64)
    one, other = (functional.regularized(matrix, floor) for matrix in factors @ factors.mT)
    found = functional.squared_bures(one, functional.square_root(other), floor)
    for n in range(2):
        s, a = one[n].numpy(), other[n].numpy()
        root = scipy.linalg.sqrtm(a)
        expected = np.trace(s + a - 2 * scipy.linalg.sqrtm(root @ s @ root)).real
        assert float(found[n]) == pytest.approx(expected, rel=1e-8)


def test_functional_gradients_are_those_of_autograd() -> None:
    def distance(feature: Tensor) -> Tensor:
        gram = functional.gram_matrix(feature)
        return functional.squared_bures(gram, functional.square_root(gram.detach()), floor).sum()

    feature, floor = normal(1, 3, 9, seed=4), torch.tensor([1e-4], dtype=torch.float64)
    leaf = feature.clone().requires_grad_()
    for function in (distance, lambda x: functional.gram_matrix(x).square().sum()):
        (expected,) = torch.autograd.grad(function(leaf), leaf)
        assert torch.equal(torch.func.grad(function)(feature), expected)


def test_variances_below_zero_by_rounding_and_small_targets_are_raised_to_the_floor() -> None:
    floor, goal = torch.tensor([1e-4]).double(), torch.diag(torch.tensor([4.0, 9.0]).double())[None]
    found, slopes = [], []
    for least in (0.0, -1e-3):  # of a variance
        matrix = torch.diag(torch.tensor([least, 4.0]).double())[None]
        matrix = functional.regularized(matrix, floor).requires_grad_()
        distance = functional.squared_bures(matrix, functional.square_root(goal), floor).sum()
        (gradient,) = torch.autograd.grad(distance, matrix)
        found.append(float(distance.detach()))
        slopes.append(float(gradient.norm()))
    assert found[1] == pytest.approx(found[0], rel=1e-2)
    assert slopes[1] == pytest.approx(2 * slopes[0], rel=1e-2)  # to a quarter of it
    target = torch.tensor([[1e-9, 1e-9], [3.0, 4.0], [0.0, 0.0]])
    floor = torch.tensor([0.5, 0.5, 0.0])
    assert functional.square_size(target, floor).tolist() == [0.5, 25.0, 1.0]


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_the_laplacian_agrees_with_scipy(pool: int) -> None:
    image, rows, columns = uniform(1, 1, 13, 11), 13 // pool, 11 // pool
    cells = image[0, 0, : rows * pool, : columns * pool].numpy()
    cells = cells.reshape(rows, pool, columns, pool).mean((1, 3))
    expected = scipy.ndimage.laplace(cells)[1:-1, 1:-1]
    np.testing.assert_allclose(functional.laplacian(image, pool)[0, 0].numpy(), expected)
    for shape in ((1, 1), (2, 9), (4, 3)):  # too few cells
        assert functional.laplacian(torch.rand(1, 3, *shape), 4).numel() == 0


@pytest.mark.parametrize("shape", [(3, 5), (7, 9), (4, 12), (10, 11)])
def test_areas_are_averaged_on_mps_as_elsewhere(shape: tuple[int, int]) -> None:
    image = torch.rand(2, 3, 7, 11, generator=torch.Generator().manual_seed(0))
    with PretendedDevice("mps") as device:
        found = functional.area_average(image.to("mps"), shape).cpu()
    assert "_adaptive_avg_pool2d" not in device.operations
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(image, shape))
