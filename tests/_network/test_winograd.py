from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nst._network import winograd
from nst._network.winograd import is_faster, transform_kernel
from tests.helpers import normal


def convolve(image: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve a picture or, without a bias, pull the gradient back that takes its place."""
    backward = bias is None
    rows = F.pad(image, (0, 0, 1, 1)).permute(0, 2, 3, 1).contiguous()
    out = rows.new_empty(len(image), *image.shape[2:], kernel.shape[1] if backward else len(kernel))
    winograd.convolve(rows, transform_kernel(kernel), out, bias, rotated=backward)
    return out.permute(0, 3, 1, 2)


@settings(deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 19), st.integers(1, 19), st.integers(1, 5), st.integers(1, 5)
)
def test_it_is_a_convolution_and_pulls_a_gradient_back(
    n: int, height: int, width: int, inputs: int, outputs: int
) -> None:
    image, kernel = normal(n, inputs, height, width), normal(outputs, inputs, 3, 3, seed=1)
    bias, gradient = normal(outputs, seed=2), normal(n, outputs, height, width)
    expected = F.conv2d(image, kernel, bias, padding=1)
    torch.testing.assert_close(convolve(image, kernel, bias), expected, rtol=1e-11, atol=1e-11)
    expected = F.conv_transpose2d(gradient, kernel, padding=1)
    torch.testing.assert_close(convolve(gradient, kernel, None), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_in_float32_it_is_exact_to_a_hundred_thousandth(channels: int) -> None:
    # As in the network: not negative, and with kernels that keep the size.
    image, kernel = normal(1, channels, 24, 20).relu(), normal(channels, channels, 3, 3, seed=1)
    kernel, bias = kernel / (4.5 * channels) ** 0.5, normal(channels, seed=2)
    expected = F.conv2d(image, kernel, bias, padding=1)
    found = convolve(image.float(), kernel.float(), bias.float())
    assert (found - expected).norm() / expected.norm() < 1e-5
    expected = F.conv_transpose2d(image, kernel, padding=1)
    found = convolve(image.float(), kernel.float(), None)
    assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.mark.cpu
def test_where_it_pays_depends_on_shapes_alone() -> None:
    narrow, wide = torch.empty(32, 64, 3, 3), torch.empty(512, 512, 3, 3)
    assert not is_faster(narrow, 512, 384)
    assert is_faster(torch.empty(64, 64, 3, 3), 512, 384)
    assert is_faster(wide, 64, 48)
    assert not is_faster(wide, 4, 4)
    assert not is_faster(wide.double(), 64, 48)
    assert not is_faster(wide.to("meta"), 64, 48)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # the caller accepts rounded products
    try:
        assert not is_faster(wide, 64, 48)
    finally:
        torch.set_float32_matmul_precision(before)
