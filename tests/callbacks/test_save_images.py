import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import nst
from nst import SaveImages
from tests.callbacks.conftest import interrupt_at, paint
from tests.helpers import Recorder, names
from tests.video.videos import seen


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def frames_of(path: Path) -> list[tuple[tuple[int, int], int]]:
    frames = []
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0
        for i in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(i)
            animation.load()
            frames.append((animation.size, animation.info["duration"]))
    return frames


def test_the_picture_is_saved_every_few_steps_and_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "steps.png"
    paint(SaveImages(folder.with_suffix(""), every=3), num_steps=3)
    folder.with_suffix("").rename(folder)
    result = paint(SaveImages(folder, every=2), num_steps=5)
    # Other files in the folder stay.
    assert names(folder) == ["step-0002.png", "step-0003.png", "step-0004.png", "step-0005.png"]
    assert torch.allclose(nst.load_image(folder / "step-0005.png"), result.image, atol=0.51 / 255)


def test_a_batch_is_saved_side_by_side_as_large_as_its_scale(photo: Tensor, tmp_path: Path) -> None:
    batch = torch.cat([photo, 1 - photo, photo])
    result = paint(SaveImages(tmp_path, every=1), content=batch, num_steps=2, num_scales=2)
    row = torch.cat(list(result.image[:, None]), dim=-1)
    saved = nst.load_image(tmp_path / "step-0002.png")
    assert saved.shape == (1, 3, 32, 120)
    assert torch.allclose(saved, row, atol=0.51 / 255)
    assert size_of(tmp_path / "step-0001.png") == (60, 16)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
def test_an_animation_shows_the_start_every_few_steps_and_the_result_at_one_size(
    photo: Tensor, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"evolution{suffix}"
    paint(SaveImages(path, every=2, frame_ms=80), content=1 - photo, num_steps=5, num_scales=2)
    assert frames_of(path) == [((40, 32), 80)] * 4  # start, steps 2 and 4, result
    assert names(tmp_path) == [path.name]


def test_an_interrupted_run_leaves_its_pictures(tmp_path: Path) -> None:
    folder, path = tmp_path / "steps", tmp_path / "evolution.gif"
    paint(SaveImages(folder, every=2), SaveImages(path, every=1), interrupt_at(3))
    assert names(folder) == ["step-0002.png", "step-0003.png"]
    assert size_of(path) == (40, 32)
    assert names(tmp_path) == ["evolution.gif", "steps"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("file", NotADirectoryError),
        ("file/steps", NotADirectoryError),
        ("nowhere/evolution.gif", FileNotFoundError),
        ("folder.gif", IsADirectoryError),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_any_step(
    tmp_path: Path, path: str, error: type[OSError]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.gif").mkdir()
    recorder = Recorder()
    with pytest.raises(error, match=re.escape(path)):
        paint(recorder, SaveImages(tmp_path / path))
    assert recorder.calls == ["start", "end"]
    assert names(tmp_path) == ["file", "folder.gif"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_video_shows_the_start_every_few_steps_and_the_result(
    photo: Tensor, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"run{suffix}"
    saver = SaveImages(path, every=2, frame_ms=80)
    result = paint(saver, content=1 - photo, num_steps=5, num_scales=2)
    found = seen(path)
    assert [array.shape for array in found["arrays"]] == [(32, 40, 3)] * 4
    assert found["times"] == [0, 0.08, 0.16, 0.24]
    # H.264 and VP9 store colors at half of the resolution, but not the brightness.
    luma = torch.tensor([0.2126, 0.7152, 0.0722])
    last = torch.from_numpy(found["arrays"][-1]) / 255 @ luma
    assert (last - result.image[0].movedim(0, -1) @ luma).abs().mean() < 0.05
    assert names(tmp_path) == [path.name]


def test_another_video_is_not_taken_for_a_folder() -> None:
    with pytest.raises(ValueError, match=r"`path` is 'steps.mpg', which is neither a folder nor"):
        SaveImages("steps.mpg")
    assert SaveImages("steps.v2").path == Path("steps.v2")
