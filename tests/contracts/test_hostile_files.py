"""Style files, weights and records from strangers: used, or refused with the reason.

Nothing in them is executed, no path in them is followed, and none fills the memory.
"""

import getpass
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nst import GramStyleLoss, Style, StyleTransfer, save_image
from nst.images import check_output
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, mutations, places_in


def transfer(*, centered: bool = False) -> StyleTransfer:
    losses = {"style": GramStyleLoss(["relu1_1", "relu2_1"], centered=centered)}
    return StyleTransfer(tiny_extractor(), losses, num_steps=1, num_scales=1)


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """What a style file holds."""
    path = transfer().capture(PAINTING, sizes=[32]).save(tmp_path / "style.nst")
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def forged(content: dict[str, Any], path: Path) -> Path:
    with path.open("wb") as file:
        torch.save(content, file)
    return path


@pytest.mark.parametrize("shape", [(1, 0), (1, 6), (1, 3, 3)])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_a_style_whose_statistics_fit_no_loss_is_refused_by_the_run(
    shape: tuple[int, ...], centered: bool, several: bool, content: dict[str, Any], tmp_path: Path
) -> None:
    part, entry = torch.zeros(shape), content["value"]["entries"][0]
    entry["loss"]["centered"] = centered
    entry["statistics"]["relu1_1"] = (part,) if several else part
    path = forged(content, tmp_path / "forged.nst")
    with pytest.raises(ValueError, match=r"Capture again from references that fit|`style` "):
        transfer(centered=centered).run(PHOTO, Style.load(path))


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_style_file_can_be_used_or_is_refused(
    data: st.DataObject, content: dict[str, Any], tmp_path: Path
) -> None:
    path = forged(data.draw(mutations(content)), tmp_path / "forged.nst")
    try:
        result = transfer().run(PHOTO, Style.load(path), init="pink-noise")
    except ValueError as error:
        assert str(error).startswith(("`path` ", "`style`", "`loss")) or "references" in str(error)
    else:
        assert bool(result.image.isfinite().all())


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
    content: dict[str, Any], folder: Path
) -> None:
    secret = folder / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    record = transfer().run("photo.png", "photo.png").settings
    save_image(PHOTO, "forged.png")

    with audited() as seen:
        for container, key in [*places_in(record), *places_in(content)]:
            before, container[key] = container[key], str(secret)
            with suppress(ValueError, FileNotFoundError):
                save_image(PHOTO, "forged.png", record=json.loads(json.dumps(record)))
                StyleTransfer.rerun("forged.png", extractor=tiny_extractor())
            forged(content, Path("forged.nst"))
            with suppress(ValueError):
                transfer().run(PHOTO, Style.load("forged.nst"))
            container[key] = before
    opened = [str(arguments[0]) for event, arguments in seen if event == "open"]
    assert any("forged.png" in path for path in opened)
    assert not any("secret" in path for path in opened)
    assert {event for event, _ in seen} == {"open"}


def test_no_file_tells_whose_machine_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(variable, "alice-the-painter")
    monkeypatch.setattr(socket, "gethostname", lambda: "alice-the-host")
    home = tmp_path / "alice-the-home"
    home.mkdir()
    monkeypatch.chdir(home)
    assert getpass.getuser() == "alice-the-painter"
    save_image(PHOTO, home / "photo.png")
    own = StyleTransfer(tiny_extractor(), {"style": GramStyleLoss(["relu1_1"])}, num_steps=1)
    save_image(PHOTO[:, :1].expand(-1, 3, -1, -1), home / "mask.png")
    result = own.run(home / "photo.png", Style(home / "photo.png", mask=home / "mask.png"))
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
