"""Names of files: whatever is given as one is used, or refused with the reason."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nst import FeatureExtractor, RunState, SaveImages, Style, StyleTransfer, save_image
from nst.images import check_output, load_image, read_record
from nst.testing import tiny_extractor
from tests.helpers import PHOTO, paint


def start_saving(path: Any) -> None:
    SaveImages(path).on_start(RunState(image=PHOTO, num_steps=1))


def rerun(path: Any, *inputs: Any) -> Any:
    return StyleTransfer.rerun(path, inputs, extractor=tiny_extractor())


USES: dict[str, Callable[[Any], object]] = {
    "load_image": load_image,
    "read_record": read_record,
    "check_output": check_output,
    "save_image": lambda path: save_image(PHOTO, path),
    "Style.load": Style.load,
    "weights": FeatureExtractor,
    "rerun": rerun,
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
def folder(folder: Path) -> Path:
    """The working folder, with files that are no pictures as well."""
    Path("one.png").symlink_to("other.png")
    Path("other.png").symlink_to("one.png")
    os.mkfifo("pipe.png")
    Path("file").touch()
    return folder


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


def painted() -> None:
    paint(content="photo.png", style="photo.png", num_steps=1).save("made.png")
    Path("photo.png").unlink()


def test_a_file_of_the_same_name_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    painted()
    for name in ("too long", "a zero", "a circle of links"):  # of folders to search
        with pytest.raises(ValueError, match=r"^`inputs` is .*which no file can be called"):
            rerun("made.png", BAD_NAMES[name])
    with Path("photo.png").open("wb") as file:
        file.truncate(1 << 28)  # a hole, which takes no space on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it is read as a whole"))
    with pytest.raises(ValueError, match=r"'photo\.png', but .* has another content"):
        rerun("made.png")


class InBytes:
    """A path in bytes, as some systems have them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __fspath__(self) -> bytes:
        return os.fsencode(self.name)


@pytest.mark.parametrize(
    "name", ["a b.png", "ä 写真 🎨.png", "-o.png", "'\"$(x)`\n.png", "a" * 200 + ".png"]
)
@pytest.mark.parametrize("kind", [str, Path, InBytes])
def test_any_name_that_a_file_can_have_is_used(name: str, kind: Callable[[str], Any]) -> None:
    save_image(PHOTO, kind(name))
    result = paint(content=kind(name), style=kind(name), num_steps=1, num_scales=1)
    result.save(kind("made.png"))
    assert torch.equal(rerun(kind("made.png")).image, result.image)
