"""A value is checked against a schema, and the part that breaks it is named."""

import math
from typing import Any

import pytest
import torch

from nst._utils.schema import Rule, check, whole

SCHEMA: Rule = {
    "name": (None, str),
    "size": ("auto", whole),
    "weight": float,
    "done": bool,
    "layers": [str],
    "losses": {str: {"type": str}},
    "target?": torch.Tensor,
}
VALID = {
    "name": None,
    "size": "auto",
    "weight": 1,
    "done": True,
    "layers": ("relu1_1",),
    "losses": {"style": {"type": "GramStyleLoss", "more": object()}},
}


def test_a_value_that_follows_the_schema_passes() -> None:
    others = {"name": "a", "size": 7, "weight": 0.5, "layers": []}
    for changes in ({}, others, {"target": torch.ones(1), "x": 1}):
        check({**VALID, **changes}, SCHEMA)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": True}, "`size` is True; it must be a whole number"),
        ({"weight": math.nan}, "`weight` is nan; it must be a finite number"),
        ({"weight": False}, "`weight` is False; it must be a finite number"),
        ({"layers": ["relu1_1", 2]}, r"`layers\[1\]` is 2; it must be a string"),
        ({"losses": []}, r"`losses` is \[\]; it must be a mapping"),
        ({"losses": {1: {}}}, "`a name in losses` is 1; it must be a string"),
        ({"losses": {"a": {"type": None}}}, r"`losses\['a'\].type` is None; it must be a string"),
    ],
)
def test_the_part_that_breaks_the_schema_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check({**VALID, **changes}, SCHEMA)
