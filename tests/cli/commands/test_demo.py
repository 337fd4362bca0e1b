import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from nst import Estimate, ProgressBar, RunState, StyleTransfer, load_image
from tests.cli.running import Run, needs_skimage, nst_command, refused
from tests.helpers import names, raising, spy

pytestmark = pytest.mark.usefixtures("loaded", "folder")


@needs_skimage
@pytest.mark.parametrize(("option", "name"), [("", "nst-demo.png"), ("-o cat.jpg", "cat.jpg")])
def test_demo_needs_no_files_and_says_at_the_start_what_it_takes(
    folder: Path, runs: list[Run], capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    assert nst_command(f"demo --size 48 --steps 2 {option}") == 0
    with Image.open(folder / name) as image:
        assert max(image.size) == 48
    assert runs[0].result.num_steps == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(r"this takes about \d+ s and \d+ MB", err.splitlines()[0])
    assert out.splitlines()[-1] == str(folder / name)
    assert names(folder) == sorted([name, "painting.png", "photo.png"])
    assert nst_command(f"demo --size 48 --steps 2 --quiet {option}") == 0
    assert capsys.readouterr() == ("", "")


@needs_skimage
@pytest.mark.parametrize(
    ("seconds", "option", "steps"),
    [
        (30, "", 50),
        (120, "", 25),
        (120, "--quiet", 25),
        (6000, "", 20),
        (6000, "--steps 3", 3),
        (6000, "--size 48", 50),
        (6000, "--preset gatys", 500),
    ],
)
def test_demo_takes_fewer_steps_of_its_own_accord_where_one_is_slow(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    option: str,
    steps: int,
) -> None:
    monkeypatch.setattr(StyleTransfer, "estimate", lambda *_: Estimate(seconds, 2_000_000))
    monkeypatch.setattr("nst.cli.commands.demo.check_run", lambda *_: None)
    monkeypatch.setattr(StyleTransfer, "run", raising(ValueError("enough")))
    painted = spy(monkeypatch, StyleTransfer, "run")
    assert nst_command(f"demo {option}") == 2
    assert [transfer.num_steps for transfer, *_ in painted] == [steps]
    slow = f"with {steps} steps, as this machine is slow; use `--steps 50` for all"
    assert (slow in capsys.readouterr().err) == (steps in (20, 25) and not option)


@needs_skimage
def test_demo_saves_a_coarse_preview_before_the_last_scale_is_done(
    runs: list[Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, torch.Size | None]] = []

    def look(bar: ProgressBar, state: RunState) -> None:
        there = Path("nst-demo.png").exists()
        seen.append((state.scale, load_image("nst-demo.png").shape[-2:] if there else None))

    monkeypatch.setattr(ProgressBar, "on_step", look)
    assert nst_command("demo --size 96 --steps 6") == 0
    assert {scale for scale, size in seen if size is None} == {0}
    assert {scale for scale, size in seen if size == runs[0].result.image.shape[-2:]} == {1}
    assert "a coarse preview will be saved to nst-demo.png first" in capsys.readouterr().err


def test_demo_without_skimage_says_what_to_install(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert "Run `pip install 'nst[demo]'`." in refused("demo", capsys)
    assert "nst-demo.png" not in names(folder)


@needs_skimage
def test_samples_are_pictures_to_try(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nst_command("samples new") == 0
    made = ["mask.png", "other.jpg", "painting.jpg", "photo.jpg"]
    assert names(folder / "new") == made
    assert sorted(Path(line).name for line in capsys.readouterr().out.splitlines()) == made
    photo, mask = load_image("new/photo.jpg"), load_image("new/mask.png")
    assert mask.shape == photo.shape
    assert 0.3 < float(mask.mean()) < 0.6
    for name in ("painting", "other"):
        path = Path("new", f"{name}.jpg")
        assert load_image(path).shape == (1, 3, 384, 512) and path.stat().st_size < 150_000
    assert "Name another folder." in refused("samples new", capsys)
    for below_a_file in ("photo.png", "photo.png/new"):
        err = refused(f"samples {below_a_file}", capsys)
        assert f"`FOLDER` is {below_a_file!r}, a folder that cannot be created (" in err
        assert "Errno" not in err
