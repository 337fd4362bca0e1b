"""Names of files: whatever is given as one is used, or refused with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import RunState, SaveImages, Style, StyleTransfer, StyleTransferResult, save_image
from nst.extractors.weights import load_weights
from nst.images import check_output, load_image, read_record
from nst.testing import tiny_extractor

PICTURE = torch.zeros(1, 3, 8, 8)


def start_saving(path: Any) -> None:
    SaveImages(path).on_start(RunState(image=PICTURE, num_steps=1))


USES: dict[str, Callable[[Any], object]] = {
    "load_image": load_image,
    "read_record": read_record,
    "check_output": check_output,
    "save_image": lambda path: save_image(PICTURE, path),
    "Style.load": Style.load,
    "weights": load_weights,
    "rerun": StyleTransfer.rerun,
    "SaveImages": start_saving,
}

BAD_NAMES = {
    "a zero": "a\0b.png",
    "too long": "a" * 300 + ".png",
    "too long a folder": "a" * 300 + "/a.png",
    "too deep": "a/" * 3000 + "a.png",
    "half a character": "\ud800.png",
    "a circle of links": "one.png",
    "empty": "",
    "a pipe": "pipe.png",
    "a device": "/dev/zero",
    "under a device": "/dev/null/a.png",
    "under a file": "file/a.png",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("one.png").symlink_to("other.png")
    Path("other.png").symlink_to("one.png")
    os.mkfifo("pipe.png")
    Path("file").touch()
    return tmp_path


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("use", USES)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason(use: str, name: str) -> None:
    if (use, name) == ("SaveImages", "empty"):
        return  # the current folder
    with pytest.raises((ValueError, OSError)) as caught:
        USES[use](BAD_NAMES[name])
    message = str(caught.value)
    assert message.startswith(("`source` is", "`path` is", "`weights` is")), message
    assert len(message) < 600


@pytest.mark.parametrize("name", ["too long", "a zero", "a circle of links"])
def test_places_to_look_into_are_checked_too(name: str, photo: Tensor, painting: Tensor) -> None:
    save_image(photo, "photo.png")
    result = StyleTransfer(tiny_extractor(), num_steps=1).run("photo.png", "photo.png")
    result.save("made.png")
    Path("photo.png").unlink()
    with pytest.raises(ValueError, match=r"^`inputs` is .*which no file can be called"):
        StyleTransfer.rerun("made.png", [BAD_NAMES[name]], extractor=tiny_extractor())


class InBytes:
    """A path that comes as bytes, as some systems have them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __fspath__(self) -> bytes:
        return os.fsencode(self.name)


@pytest.mark.parametrize(
    "name", ["a b.png", "ä 写真 🎨.png", "-o.png", "'\"$(x)`\n.png", "a" * 200 + ".png"]
)
@pytest.mark.parametrize("kind", [str, Path, InBytes])
def test_any_name_that_a_file_can_have_will_do(
    name: str, kind: Callable[[str], Any], photo: Tensor
) -> None:
    save_image(photo, kind(name))
    transfer = StyleTransfer(tiny_extractor(), num_steps=1, num_scales=1)
    result: StyleTransferResult = transfer.run(kind(name), kind(name))
    result.save(kind("made.png"))
    again = StyleTransfer.rerun(kind("made.png"), extractor=tiny_extractor())
    assert torch.equal(again.image, result.image)


def test_a_file_that_only_has_the_name_is_not_held_in_memory(
    photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(photo, "photo.png")
    StyleTransfer(tiny_extractor(), num_steps=1).run("photo.png", "photo.png").save("made.png")
    Path("photo.png").unlink()
    with Path("photo.png").open("wb") as file:
        file.truncate(1 << 28)  # a hole, which takes no room on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it is read as a whole"))
    with pytest.raises(ValueError, match=r"'photo\.png', but .* has another content"):
        StyleTransfer.rerun("made.png", extractor=tiny_extractor())
