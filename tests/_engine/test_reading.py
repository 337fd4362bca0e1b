"""Noise to start from."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from nst._engine.reading import color_moments, colored_noise
from tests.helpers import uniform


@pytest.fixture
def colors() -> tuple[Tensor, Tensor]:
    mean = torch.tensor([0.3, 0.5, 0.6], dtype=torch.float64)
    factor = torch.tensor([[0.05, 0.0, 0.0], [0.03, 0.04, 0.0], [0.0, -0.02, 0.03]])
    return mean, (factor @ factor.mT).double()


def test_color_moments_agree_with_numpy() -> None:
    image, mask = uniform(1, 3, 5, 7).float(), uniform(1, 1, 5, 7, seed=1).float()
    pixels, weights = image[0].flatten(1).double().numpy(), mask.flatten().double().numpy()
    mean, covariance = color_moments(image, mask)
    np.testing.assert_allclose(mean, np.average(pixels, axis=1, weights=weights))
    np.testing.assert_allclose(covariance, np.cov(pixels, aweights=weights, ddof=0))
    np.testing.assert_allclose(color_moments(image)[1], np.cov(pixels, ddof=0))


@pytest.mark.parametrize("pink", [False, True])
def test_noise_has_the_given_colors(pink: bool, colors: tuple[Tensor, Tensor]) -> None:
    mean, covariance = color_moments(colored_noise((200, 150), *colors, pink=pink, seed=0))
    # Waves as long as the picture are few, so that channels of pink noise correlate by chance.
    tolerance = 6e-4 if pink else 1e-4
    torch.testing.assert_close(mean, colors[0], atol=2e-3, rtol=0)
    torch.testing.assert_close(covariance, colors[1], atol=tolerance, rtol=0)
    for shape in ((1, 1), (1, 7), (5, 1)):  # the smallest pictures have noise as well
        noise = colored_noise(shape, *colors, pink=pink, seed=0)
        assert noise.shape == (1, 3, *shape) and bool(((noise >= 0) & (noise <= 1)).all())


@pytest.mark.parametrize(("pink", "slope"), [(False, 0.0), (True, -1.0)])
def test_the_amplitude_falls_with_the_frequency_as_it_should(pink: bool, slope: float) -> None:
    mean, covariance = torch.full((3,), 0.5), torch.eye(3) * 0.05**2
    noise = colored_noise((256, 256), mean, covariance, pink=pink, seed=1)[0, 0].numpy()
    waves = np.abs(np.fft.fft2(noise - noise.mean()))
    axis = np.fft.fftfreq(256)
    frequency = np.hypot(axis[:, None], axis)
    pairs = list(itertools.pairwise(np.geomspace(0.02, 0.4, 9)))
    power = [
        np.sqrt((waves[(frequency >= low) & (frequency < high)] ** 2).mean()) for low, high in pairs
    ]
    found = np.polyfit(np.log([np.sqrt(low * high) for low, high in pairs]), np.log(power), 1)[0]
    assert found == pytest.approx(slope, abs=0.1)
