"""A style file keeps the statistics of a style, and any other file is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import FeatureExtractor, GramStyleLoss, Style, StyleTransfer
from nst.losses.base import parts_of
from nst.styles.statistics import Entry, StyleStatistics


def transfer(extractor: FeatureExtractor) -> StyleTransfer:
    return StyleTransfer(extractor, {"style": GramStyleLoss(["relu1_1", "relu2_1"])})


@pytest.fixture
def file(extractor: FeatureExtractor, painting: Tensor, tmp_path: Path) -> Path:
    return transfer(extractor).capture(painting, sizes=[32]).save(tmp_path / "style.nst")


def first(value: Any) -> dict[str, Any]:
    entry: dict[str, Any] = value["entries"][0]
    return entry


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "it lacks 'network'": lambda value: value.pop("network"),
    "`network` is 7; it must be a string": lambda value: value.update(network=7),
    "`entries` is empty": lambda value: value.update(entries=[]),
    "`entries` is 7; it must be a list": lambda value: value.update(entries=7),
    "unexpected keyword argument 'painting'": lambda value: value.update(painting="a.png"),
    "`color_mean` is .1, 2.; it must be a tensor": lambda value: value.update(color_mean=[1, 2]),
    "`color_covariance` must be the colors of a picture": lambda value: value.update(
        color_covariance=value["color_mean"]
    ),
    "`color_mean` must be made of finite": lambda value: value["color_mean"].fill_(math.nan),
    "`color_mean` must be the colors of a picture": lambda value: value["color_mean"].fill_(1e300),
    "size` is 0; it must be at least 1": lambda value: first(value).update(size=0),
    "size` is .* of 64 bits": lambda value: first(value).update(size=10**30),
    "size` is '32'; it must be a whole": lambda value: first(value).update(size="32"),
    "loss` lacks 'type'": lambda value: first(value)["loss"].pop("type"),
    "not JSON serializable": lambda value: first(value)["loss"].update(layers=torch.ones(2)),
    r"\['relu1_1'\]` is None; it must be a tensor": lambda value: statistics(value).update(
        relu1_1=()
    ),
    r"\['relu1_1'\]` must be made of finite": lambda value: statistics(value).update(
        relu1_1=torch.ones(1, 2, dtype=torch.int64)
    ),
    r"\['relu2_1'\]` must be made of finite": lambda value: statistics(value).update(
        relu2_1=torch.full((1, 2), math.nan)
    ),
    "is of 2 pictures; it must be of one": lambda value: statistics(value).update(
        relu1_1=torch.ones(2, 3)
    ),
    "shape mismatch|could not be broadcast": lambda value: statistics(value).update(
        relu1_1=[torch.ones(1, 5)]
    ),
    "index out of range|out of range": lambda value: statistics(value).update(
        relu1_1=[torch.ones(1)]
    ),
}


def statistics(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = first(value)["statistics"]
    return found


@pytest.mark.parametrize("reason", CHANGES)
def test_a_file_with_other_values_is_refused_with_the_reason(reason: str, file: Path) -> None:
    content = torch.load(file, weights_only=True)
    CHANGES[reason](content["value"])
    with file.open("wb") as opened:
        torch.save(content, opened)
    message = rf"style\.nst', which cannot be read \(.*{reason}.*must be a style file of version 1"
    with pytest.raises(ValueError, match=message):
        Style.load(file)


def test_statistics_are_read_as_they_were_and_half_of_a_symmetric_one_is_enough(
    tmp_path: Path,
) -> None:
    # The layers of VGG19: 64, 128, 256, 512 and 512 channels, 2.4 MB in full.
    statistics = {f"relu{i}_1": symmetric(c) for i, c in enumerate((64, 128, 256, 512, 512), 1)}
    parts = torch.rand(1, 3), torch.rand(1, 3, 3), symmetric(3)
    entries = [Entry({"type": "GramStyleLoss"}, 512, {**statistics, "conv1_1": parts})]
    colors = torch.zeros(3).double(), torch.eye(3).double()
    path = StyleStatistics("network", entries, *colors).save(tmp_path / "style.nst")
    assert path.stat().st_size < 1.3e6
    read = StyleStatistics.load(path)
    assert (read.network, read.file_name, read.sizes) == ("network", "style.nst", [512])
    (entry,) = read.entries
    assert entry.loss == {"type": "GramStyleLoss"}
    for layer, statistic in entries[0].statistics.items():
        pairs = zip(parts_of(entry.statistics[layer]), parts_of(statistic), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def symmetric(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    matrix = torch.rand(1, channels, channels, generator=generator)
    return matrix + matrix.mT
