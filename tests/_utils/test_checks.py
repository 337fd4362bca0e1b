"""Numbers of every library are accepted, and rounding is clamped."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nst import Style, StyleTransfer
from nst._utils.checks import file_path, number, within_0_and_1
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO


@pytest.mark.parametrize(
    "value", [2, 2.0, np.float16(2), np.float64(2), np.int8(2), np.array(2.0), torch.tensor(2)]
)
def test_a_number_of_any_library_is_a_float(value: Any) -> None:
    assert type(number("weight", value)) is float and number("weight", value) == 2


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), torch.tensor(True), "2", b"2", None, 2j, np.ones(1)]
)
def test_anything_else_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match=r"`weight` is .*; a number is needed"):
        number("weight", value)


def test_a_run_takes_numbers_of_numpy() -> None:
    def settings(whole: Any, real: Any) -> Any:
        style = Style(PAINTING, real(2), scale=real(1), rotation=whole(30))
        transfer = StyleTransfer(tiny_extractor(), size=whole(32), num_steps=whole(2))
        options = {"init": "noise", "seed": whole(3), "strength": real(0.5)}
        return transfer.run(PHOTO, style, **options).settings

    assert settings(np.int64, np.float32) == settings(int, float)


@pytest.mark.parametrize(
    ("dtype", "overshoot"),
    [("float64", 5e-6), ("float32", 5e-6), ("float16", 0.0009), ("bfloat16", 0.0078)],
)
def test_what_rounding_made_leave_the_range_is_clamped(dtype: str, overshoot: float) -> None:
    values = torch.tensor([-overshoot, 0.5, 1 + overshoot], dtype=getattr(torch, dtype))
    assert within_0_and_1("`image`", values).tolist() == [0, 0.5, 1]
    for beyond in (values[2:] + 3 * overshoot, values[:1] - 3 * overshoot):
        with pytest.raises(ValueError, match=r"floats must lie in \[0, 1\]"):
            within_0_and_1("`image`", beyond)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("https://example.com/a.jpg", "a URL. Use a file of this machine; download"),
        ("s3://bucket/a.jpg", "a URL"),
        ("data:image/png;base64," + 1000 * "iVBO/Rw0", "a URL"),
        ("~/a.jpg", "a path with '~', which only the shell expands. Write the whole path"),
        (Path("~me/folder/out.png"), "a path with '~'"),
    ],
)
def test_a_path_that_another_program_would_have_resolved_is_refused(path: Any, words: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"^`path` is '.*, which is {re.escape(words)}"):
        file_path("path", path)


def test_names_that_look_like_it_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~", "http:"):
        Path(name).mkdir()
        assert file_path("path", f"{name}/a.png") == Path(name, "a.png")
    for name in ("~a.png", "data:a.png", "C:/a.png", "a/~/b.png"):
        assert file_path("path", name) == Path(name)


def test_a_long_value_is_not_printed() -> None:
    with pytest.raises(TypeError, match=r"^`path` is of type Tensor; a path"):
        file_path("path", torch.rand(1, 3, 32, 32))  # type: ignore[arg-type]
