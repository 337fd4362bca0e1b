"""A style file keeps the statistics of a style, and any other file is refused."""

import math
import operator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import GramStyleLoss, Style, StyleTransfer
from nst.losses.base import parts_of
from nst.styles.statistics import Entry, StyleStatistics
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, uniform


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = StyleTransfer(tiny_extractor(), {"style": GramStyleLoss(["relu1_1", "relu2_1"])})
    return made.capture(PAINTING, sizes=[32]).save(tmp_path / "style.nst")


MISSING = object()
COLORS = "must be the colors of a picture"
CHANGES: list[tuple[str, Any, str]] = [
    ("network", MISSING, "it lacks 'network'"),
    ("network", 7, "`network` is 7; it must be a string"),
    ("entries", [], "`entries` is empty"),
    ("entries", 7, "`entries` is 7; it must be a list"),
    ("painting", "a.png", "unexpected keyword argument 'painting'"),
    ("color_mean", [1, 2], r"`color_mean` is \[1, 2\]; it must be a tensor"),
    ("color_mean", torch.full((3,), math.nan), "`color_mean` must be made of finite"),
    ("color_mean", torch.full((3,), 1e30), f"`color_mean` {COLORS}"),
    ("color_covariance", torch.zeros(3), f"`color_covariance` {COLORS}"),
    ("entries 0 size", 0, "size` is 0; it must be at least 1"),
    ("entries 0 size", 10**30, "size` is .* of 64 bits"),
    ("entries 0 size", "32", "size` is '32'; it must be a whole"),
    ("entries 0 loss type", MISSING, "loss` lacks 'type'"),
    ("entries 0 loss layers", torch.ones(2), "not JSON serializable"),
    ("entries 0 statistics relu1_1", (), r"\['relu1_1'\]` is None; it must be a tensor"),
    ("entries 0 statistics relu1_1", torch.ones(1, 2).int(), "must be made of finite"),
    ("entries 0 statistics relu2_1", torch.full((1, 2), math.nan), "must be made of finite"),
    ("entries 0 statistics relu1_1", torch.ones(2, 3), "is of 2 pictures; it must be of one"),
    ("entries 0 statistics relu1_1", [torch.ones(1, 5)], "shape mismatch|could not be broadcast"),
    ("entries 0 statistics relu1_1", [torch.ones(1)], "out of range"),
]


@pytest.mark.parametrize(("part", "new", "reason"), CHANGES)
def test_a_file_with_other_values_is_refused_with_the_reason(
    part: str, new: Any, reason: str, file: Path
) -> None:
    content = torch.load(file, weights_only=True)
    *parents, last = [int(key) if key.isdigit() else key for key in part.split()]
    container = reduce(operator.getitem, parents, content["value"])
    if new is MISSING:
        del container[last]
    else:
        container[last] = new
    with file.open("wb") as opened:
        torch.save(content, opened)
    message = rf"cannot be read \(.*({reason}).*must be a style file of version 1"
    with pytest.raises(ValueError, match=rf"style\.nst', which {message}"):
        Style.load(file)


def test_statistics_are_read_as_they_were_and_half_of_a_symmetric_one_does(tmp_path: Path) -> None:
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
    matrix = uniform(1, channels, channels).float()
    return matrix + matrix.mT
