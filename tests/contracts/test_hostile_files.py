"""Style files, weights and records from strangers: used, or refused with the reason.

Nothing in them is executed, no path in them is followed, and none fills the memory.
"""

from __future__ import annotations

import copy
import getpass
import io
import json
import math
import os
import socket
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nst import GramStyleLoss, Style, StyleTransfer, save_image
from nst.extractors.weights import CONVOLUTIONS, load_weights
from nst.images import check_output
from nst.testing import tiny_extractor

PHOTO = torch.rand(1, 3, 32, 24, generator=torch.Generator().manual_seed(1))
PAINTING = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(2))


def transfer(*, centered: bool = False) -> StyleTransfer:
    losses = {"style": GramStyleLoss(["relu1_1", "relu2_1"], centered=centered)}
    return StyleTransfer(tiny_extractor(), losses, num_steps=1, num_scales=1)


# Style files


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    """What is in the archive of a style."""
    path = transfer().capture(PAINTING, sizes=[32]).save(tmp_path / "style.nst")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def about_of(members: dict[str, bytes]) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(str(np.load(io.BytesIO(members["about.npy"]))))
    return about


def array_file(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def forged(
    members: dict[str, bytes],
    path: Path,
    change: Callable[[dict[str, Any]], object] = lambda about: None,
    compression: int = zipfile.ZIP_STORED,
    **arrays: Any,
) -> Path:
    about = about_of(members)
    change(about)
    files = {**members, **{f"{name}.npy": array_file(each) for name, each in arrays.items()}}
    files["about.npy"] = array_file(json.dumps(about))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def first_statistics(about: dict[str, Any]) -> dict[str, Any]:
    statistics: dict[str, Any] = about["entries"][0]["statistics"]
    return statistics


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "NaN for a color": lambda about: about["color"].__setitem__(0, [math.nan] * 3),
    "a color beyond white": lambda about: about["color"].__setitem__(0, [1e300] * 3),
    "an endless covariance": lambda about: about["color"].__setitem__(1, [[math.inf] * 3] * 3),
    "an endless size": lambda about: about["entries"][0].update(size=10**400),
    "a size in words": lambda about: about["entries"][0].update(size="32"),
    "no statistic": lambda about: first_statistics(about).update(relu1_1=[]),
    "an array used twice": lambda about: about.update(entries=about["entries"] * 2),
    "endless depth": lambda about: about.update(entries=json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_style_of_impossible_values_is_refused(
    change: Callable[[dict[str, Any]], object], members: dict[str, bytes], tmp_path: Path
) -> None:
    path = forged(members, tmp_path / "forged.nst", change)
    with pytest.raises(ValueError, match=r"forged\.nst', which is no style file of version 1"):
        Style.load(path)


def test_a_style_file_that_grows_in_memory_is_refused_before_it_does(
    members: dict[str, bytes], tmp_path: Path
) -> None:
    zeros = np.zeros((1, 100_000_000), np.uint8)
    path = forged(members, tmp_path / "bomb.nst", array0=zeros, compression=zipfile.ZIP_DEFLATED)
    del zeros
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="it is compressed"):
            Style.load(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_style_file_whose_parts_overlap_is_refused(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = forged(members, tmp_path / "overlapping.nst")
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist() * 50
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: listed)
    with pytest.raises(ValueError, match="its parts overlap"):
        Style.load(path)


@pytest.mark.parametrize("array", [np.zeros((1, 0)), np.zeros((1, 6)), np.zeros((1, 3, 3))])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_a_style_whose_statistics_fit_no_loss_is_refused_by_the_run(
    array: Any, centered: bool, several: bool, members: dict[str, bytes], tmp_path: Path
) -> None:
    def change(about: dict[str, Any]) -> None:
        about["entries"][0]["loss"]["centered"] = centered
        part = {"array": 0, "symmetric": False, "side": 1}
        first_statistics(about).update(relu1_1=[part] if several else part)

    path = forged(members, tmp_path / "forged.nst", change, array0=array.astype(np.float32))
    with pytest.raises(ValueError, match=r"Capture again from references that fit|`style` "):
        transfer(centered=centered).run(PHOTO, Style.load(path))


ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([-1, 0, 10**30, 1e308, "", "relu1_1", [], {}])
    | st.lists(st.integers(-1, 5), max_size=3)
)


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_style_file_can_be_used_or_is_refused(
    data: st.DataObject, members: dict[str, bytes], tmp_path: Path
) -> None:
    def change(about: dict[str, Any]) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            places = list(places_in(about))
            container, key = data.draw(st.sampled_from(places))
            container[key] = data.draw(ODD)

    path = forged(members, tmp_path / "forged.nst", change)
    try:
        result = transfer().run(PHOTO, Style.load(path), init="pink-noise")
    except ValueError as error:
        assert str(error).startswith(("`path` ", "`style`", "`loss")) or "references" in str(error)
    else:
        assert bool(result.image.isfinite().all())


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, (dict, list)):
        for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from places_in(each)


# Weights


def saved_network(path: Path, **changes: Any) -> Path:
    """Save what a `FeatureExtractor` would, with changes; expanded scalars, not 80 MB."""
    state: dict[str, Any] = {"mean": torch.zeros(3), "std": torch.ones(3)}
    inputs = 3
    for name in CONVOLUTIONS:
        outputs = min(64 * 2 ** (int(name[4]) - 1), 512)
        state[f"{name}.weight"] = torch.tensor(0.5).expand(outputs, inputs, 3, 3)
        state[f"{name}.bias"] = torch.tensor(0.5).expand(outputs)
        inputs = outputs
    torch.save({**state, **changes}, path)
    return path


BAD_WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "a list for the mean": ({"mean": [1, 2, 3]}, "has no three finite numbers at mean"),
    "five numbers": ({"mean": torch.zeros(5)}, "has no three finite numbers at mean"),
    "NaN": ({"std": torch.full((3,), math.nan)}, "has no three finite numbers at std"),
    "nothing to divide by": ({"std": torch.zeros(3)}, "by which pixels are divided"),
    "complex": (
        {"conv1_1.bias": torch.zeros(64, dtype=torch.cfloat)},
        "has no plain numbers at conv1_1.bias",
    ),
    "no values": ({"conv1_1.bias": torch.zeros(64, device="meta")}, "has no plain numbers"),
    "a tensor of tensors": ({"conv1_1.bias": {"a": torch.zeros(64)}}, "has neither"),
}


@pytest.mark.parametrize(("changes", "problem"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_that_are_no_plain_numbers_are_refused(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    path = saved_network(tmp_path / "weights.pth", **changes)
    with pytest.raises(ValueError, match=rf"^`weights`: .*weights.pth' .*{problem}"):
        load_weights(path)


def test_weights_cut_at_any_tenth_are_refused(tmp_path: Path) -> None:
    path = saved_network(tmp_path / "weights.pth")
    content = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(ValueError, match=r"^`weights`: "):
            load_weights(path)


# What they must not do

_watchers: list[list[tuple[str, tuple[Any, ...]]]] = []
_AUDITED = ("open", "pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "exec")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _AUDITED:
        for seen in _watchers:
            seen.append((event, arguments))


sys.addaudithook(_audit)  # cannot be taken off again, but sees nothing without a watcher


@contextmanager
def audited() -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """Tell what Python opens, executes and calls within the block."""
    seen: list[tuple[str, tuple[Any, ...]]] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


def test_no_path_in_a_file_is_followed_and_nothing_in_it_is_executed(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    save_image(PHOTO, "photo.png")
    record = transfer().run("photo.png", "photo.png").settings
    about = about_of(members)
    save_image(PHOTO, "forged.png")

    with audited() as seen:
        for container, key in [*places_in(record), *places_in(about)]:
            before, container[key] = container[key], str(secret)
            with suppress(ValueError, FileNotFoundError):
                save_image(PHOTO, "forged.png", record=json.loads(json.dumps(record)))
                StyleTransfer.rerun("forged.png", extractor=tiny_extractor())
            forged(members, Path("forged.nst"), lambda was: was.update(copy.deepcopy(about)))
            with suppress(ValueError):
                transfer().run(PHOTO, Style.load("forged.nst"))
            container[key] = before
    opened = [str(arguments[0]) for event, arguments in seen if event == "open"]
    assert any("forged.png" in path for path in opened)
    assert not any("secret" in path for path in opened)
    assert {event for event, _ in seen} == {"open"}


def test_weights_are_read_without_calling_anything(tmp_path: Path) -> None:
    path = saved_network(tmp_path / "weights.pth")
    with audited() as seen:
        load_weights(path)
    events = {event for event, _ in seen}
    assert events <= {"open"}


def test_no_file_tells_whose_machine_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(variable, "alice-the-painter")
    monkeypatch.setattr(socket, "gethostname", lambda: "alice-the-host")
    home = tmp_path / "alice-the-home"
    home.mkdir()
    monkeypatch.chdir(home)
    assert getpass.getuser() == "alice-the-painter"
    save_image(PHOTO, home / "photo.png")
    losses = {"style": GramStyleLoss(["relu1_1"])}
    own = StyleTransfer(tiny_extractor(), losses, num_steps=1)
    result = own.run(home / "photo.png", Style(home / "photo.png", mask=home / "photo.png"))
    written = [own.capture(home / "photo.png", sizes=[32]).save(home / "style.nst")]
    for suffix, name in Image.registered_extensions().items():
        with suppress(ValueError):
            check_output(home / f"made{suffix}")
            if name != "MPO":
                written += result.save(home / f"made{suffix}")
    assert len(written) > 20
    for path in written:
        content = path.read_bytes()
        assert b"alice" not in content, path
        assert os.fsencode(tmp_path) not in content, path
    with Image.open(home / "made.png") as image:
        assert "photo.png" in str(image.getexif()[0x010E])
        assert "alice" not in str(image.info)
