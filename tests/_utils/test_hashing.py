"""Fingerprints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from nst._utils.hashing import hash_file, hash_network, hash_tensor
from nst.testing import tiny_extractor


def test_tensors_differ_by_type_shape_and_value() -> None:
    tensors = [
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([0.0, 0, 0, 1]),
        torch.tensor(0.0),
        torch.zeros(0),
        torch.zeros(4, dtype=torch.bfloat16),
    ]
    assert len({hash_tensor(tensor) for tensor in tensors}) == len(tensors)


def test_the_layout_in_memory_does_not_count() -> None:
    image = torch.rand(1, 3, 4, 5)
    assert hash_tensor(image) == hash_tensor(image.to(memory_format=torch.channels_last))


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert hash_file(path) == hashlib.sha256(b"abc").hexdigest()


def test_networks_differ_by_weights_and_arithmetic() -> None:
    one, pooled, padded = (tiny_extractor() for _ in range(3))
    pooled.pooling, padded.padding = "average", "replicate"
    networks = [one, pooled, padded, tiny_extractor(seed=1)]
    assert len({hash_network(network) for network in networks}) == 4
    assert hash_network(one) == hash_network(tiny_extractor())


@pytest.mark.parametrize("name", ["conv1_1.weight", "mean"])
def test_every_weight_counts(name: str) -> None:
    changed = tiny_extractor()
    changed.state_dict()[name][0, 0] += 1
    assert hash_network(changed) != hash_network(tiny_extractor())
