"""`nst batch`: the pictures of a folder, each by itself."""

import io
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nst import MapResult, StyleTransfer, StyleTransferResult, load_image, save_image
from nst.cli.commands.batch import save_all
from nst.cli.main import parse
from nst.cli.workers import workers
from nst.images import read_record
from tests.cli.running import nst_command
from tests.helpers import picture

# Other processes know no pretended device.
pytestmark = [pytest.mark.usefixtures("loaded"), pytest.mark.cpu]

LINE = "batch photos --style a.png -o out --steps 2"
NAMES = ["one.png", "three.jpg", "two.png"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a painting and a folder of photographs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i, name in enumerate(["a.png", *(f"photos/{name}" for name in NAMES)]):
        save_image(picture(24, 32, seed=i), name)
    return tmp_path


def written() -> list[str]:
    return sorted(path.name for path in Path("out").iterdir())


def test_every_picture_becomes_what_stylize_makes_of_it(
    folder: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos" / "deeper").mkdir()
    Image.new("RGB", (24, 24)).save("photos/deeper/four.png")
    assert nst_command(LINE) == 0
    assert loaded == ["auto"]
    assert written() == ["one.png", "three.png", "two.png"]
    out, err = capsys.readouterr()
    *told, summary = out.splitlines()
    assert told == [f"[{i}/3] {folder}/out/{name}" for i, name in enumerate(written(), 1)]
    assert re.fullmatch(r"3 of 3 pictures in \d+ s", summary)
    assert "2/2" in err
    for name in NAMES:
        assert nst_command(f"stylize photos/{name} a.png -o alone.png --steps 2 --quiet") == 0
        path = Path("out", name).with_suffix(".png")
        assert torch.equal(load_image(path), load_image("alone.png"))
        assert read_record(path)["inputs"] == read_record("alone.png")["inputs"]


def test_options_and_styles_are_those_of_stylize() -> None:
    assert nst_command(f"{LINE} --style photos/one.png:0.5 --seed 3 --format webp --size 24") == 0
    assert written() == ["one.webp", "three.webp", "two.webp"]
    record = read_record("out/two.webp")
    assert (record["seed"], record["size"], len(record["styles"])) == (3, 24, 2)


@contextmanager
def dask_cluster(num_workers: int) -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=num_workers, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        yield f"--dask {cluster.scheduler_address}"


@pytest.mark.parametrize("kind", ["processes", "devices", "dask"])
def test_several_processes_and_a_cluster_make_the_same_pictures(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nst_command(LINE) == 0
    alone = [load_image(Path("out", name)) for name in written()]
    here = {"processes": "--workers 2", "devices": "--devices cpu,cpu"}
    with dask_cluster(1) if kind == "dask" else nullcontext(here[kind]) as option:
        assert nst_command(f"{LINE} --overwrite {option}") == 0
    for name, expected in zip(written(), alone, strict=True):
        assert torch.equal(load_image(Path("out", name)), expected)
    assert "3 of 3 pictures in " in capsys.readouterr().out


def test_a_cluster_without_workers_and_a_missing_dask_are_refused(
    loaded: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with dask_cluster(0) as option:
        assert nst_command(f"{LINE} {option}") == 2
    assert "which has no workers; one is needed. Run" in capsys.readouterr().err
    before = list(loaded)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert nst_command(f"{LINE} --dask tcp://127.0.0.1:8786") == 2
    assert capsys.readouterr().err == (
        "nst: error: `--dask` needs Dask, which is not installed. Run `pip install 'nst[dask]'`.\n"
    )
    assert loaded == before


def test_what_is_there_is_left_and_what_is_missing_is_made(
    loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert nst_command(LINE) == 0
    Path("out/two.png").unlink()
    before = Path("out/one.png").stat().st_mtime_ns
    capsys.readouterr()
    assert nst_command(LINE) == 0
    assert written() == ["one.png", "three.png", "two.png"]
    assert Path("out/one.png").stat().st_mtime_ns == before
    told, summary = capsys.readouterr().out.splitlines()
    assert told.startswith("[1/1]") and told.endswith("two.png")
    assert summary.endswith(", 2 skipped because their output exists")
    assert nst_command(LINE) == 0
    assert len(loaded) == 2, "where nothing is to be done, the network is not loaded"


def test_a_failed_picture_is_named_and_others_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("photos/one.png")
    path.write_bytes(path.read_bytes()[:100])
    assert nst_command(LINE) == 1
    assert written() == ["three.png", "two.png"]
    out, err = capsys.readouterr()
    assert "nst: error: one.png: `content` is" in err and "truncated or corrupt" in err
    summary = out.splitlines()[-1]
    assert summary.startswith("2 of 3 pictures in ") and summary.endswith(", 1 failed")
    for name in NAMES:
        Path("photos", name).write_text("no picture")
    assert nst_command(f"{LINE} --overwrite") == 1
    assert capsys.readouterr().err.count("nst: error: ") == len(NAMES)


def test_other_files_are_left_out_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".hidden.png", "notes.txt", "Thumbs.db"):
        Path("photos", name).write_text("no picture")
    assert nst_command(f"{LINE} --quiet") == 0
    warning = "nst: warning: skipped files without the suffix of a picture: Thumbs.db, notes.txt\n"
    assert capsys.readouterr() == ("", warning)


def test_ctrl_c_keeps_what_is_done_and_not_what_is_half_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = StyleTransfer.run

    def interrupted(self: StyleTransfer, content: Any, style: Any, **rest: Any) -> Any:
        result = run(self, content, style, **rest)
        if self.extractor.weights == "none" or "three" not in str(content):
            return result
        return replace(result, stop_reason="interrupted")

    monkeypatch.setattr(StyleTransfer, "run", interrupted)
    assert nst_command(LINE) == 130
    assert written() == ["one.png"]
    assert "1 of 3 pictures in " in capsys.readouterr().out


def test_workers_are_at_nothing_when_the_command_has_ended_early() -> None:
    options = parse([*LINE.split(), "--workers", "1"])
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), workers(options) as (executor, _):
        assert executor is not None
        slept = executor.submit(time.sleep, 60)
        while not slept.running():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert slept.done() and time.perf_counter() - start < 50


def test_what_broke_the_executor_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def outcomes() -> Iterator[tuple[MapResult, Path]]:
        yield MapResult(0, "one.png", None, BrokenExecutor("killed")), Path("out.png")
        raise BrokenExecutor("`executor` is broken")

    assert save_all(outcomes(), 1, 0, parse(LINE.split())) == 1
    assert capsys.readouterr().err == (
        "nst: error: one.png: killed\nnst: error: `executor` is broken\n"
    )


def test_a_picture_that_the_format_cannot_hold_is_rescued_and_the_others_are_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    image = torch.rand(1, 3, 1, 16_400)
    result = StyleTransferResult(image, {}, 1, "completed", 1.0, {}, image, [])
    results = [replace(result, image=image[..., :width]) for width in (8, 16_400, 8)]
    outcomes = [
        (MapResult(i, f"{i}", each, None), Path(f"{i}.webp")) for i, each in enumerate(results)
    ]
    assert save_all(outcomes, 3, 0, parse([*LINE.split(), "--quality", "90"])) == 1
    assert Path("0.webp").exists() and Path("2.webp").exists()
    (rescued,) = folder.glob("nst-*/1.png")
    assert load_image(rescued).shape == image.shape
    assert f"The picture is in {str(rescued)!r} instead" in capsys.readouterr().err


REFUSED = [
    ("batch missing --style a.png -o out", "`FOLDER` is 'missing'; it must be a folder"),
    ("batch a.png --style a.png -o out", "`FOLDER` is 'a.png'; it must be a folder"),
    ("batch photos --style a.png -o a.png", "`--output` is 'a.png'; it must be a folder"),
    ("batch photos --style a.png -o photos", "the folder of the pictures themselves"),
    ("batch photos --style a.png -o no/out", "`--output` is 'no/out'; it must be a folder"),
    ("batch empty --style a.png -o out", "`FOLDER` is 'empty', which contains no pictures"),
    ("batch twins --style a.png -o out", "`FOLDER` has 'one.jpg' and 'one.png', which would both"),
    ("batch photos --style missing.png -o out", "`style[0]` is 'missing.png'"),
    (f"{LINE} --where missing.png", "`--where` is 'missing.png'"),
    (f"{LINE} --devices cpu,none", "`device` is 'none', which cannot be used here"),
    (f"{LINE} --devices cpu --device cpu", "`--device` has no effect with `--devices`"),
    (f"{LINE} --devices cpu --workers 2", "not allowed with argument"),
    (f"{LINE} --workers 0", "`--workers` is 0"),
    (f"{LINE} --strength -1", "`strength` is -1"),
    (f"{LINE} --size 8", "Use a larger picture or size"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_before_the_network_is_loaded(
    line: str, message: str, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("twins").mkdir()
    for name in ("twins/one.jpg", "twins/one.png"):
        Image.new("RGB", (24, 24)).save(name)
    assert nst_command(line) == 2
    assert message in capsys.readouterr().err
    assert loaded == []


@pytest.mark.parametrize("source", ["photos/one.png", "a.png"])
def test_nothing_that_is_read_is_written_over(
    source: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    for make_link in (os.symlink, os.link):
        make_link(folder / source, "out/two.png")
        before = Path(source).read_bytes()
        assert nst_command(f"{LINE} --overwrite") == 2
        assert "would be overwritten. Choose another folder" in capsys.readouterr().err
        assert Path(source).read_bytes() == before
        Path("out/two.png").unlink()


@pytest.mark.parametrize(
    ("size", "options"), [((3, 3), ""), ((600, 10), ""), ((24, 32), "--where mask.png")]
)
def test_a_picture_that_fails_first_is_no_reason_to_refuse_the_others(
    size: tuple[int, int], options: str
) -> None:
    Image.new("RGB", size).save("photos/aaa.png")
    Path("photos/aab.png").write_text("no picture")
    Image.new("L", (32, 24), 255).save("mask.png")
    assert nst_command(f"{LINE} {options}") == 1
    assert written() == ["one.png", "three.png", "two.png"]


def test_unprintable_names_are_escaped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode("caf\xe9".encode("latin-1"))
    (folder / "photos" / "one.png").rename(folder / "photos" / f"{name}.png")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", shown)
    assert nst_command(LINE) == 0
    shown.flush()
    assert b"\\udce9.png" in shown.buffer.getvalue()


FOLDER = "batch photos --style paintings:0.5,scale=0.9 -o out --steps 1"


@pytest.fixture
def paintings(folder: Path) -> None:
    Path("paintings").mkdir()
    for name, color in (("night", "navy"), ("waves", "teal")):
        Image.new("RGB", (24, 24), color).save(f"paintings/{name}.png")


@pytest.mark.usefixtures("paintings")
def test_a_folder_of_paintings_repaints_every_picture_in_each(
    loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [
        f"{photo}-{style}.png" for photo in ("one", "three", "two") for style in ("night", "waves")
    ]
    Path("out").mkdir()
    Path("out", expected[0]).write_text("done before")
    assert nst_command(FOLDER) == 0
    assert written() == expected and loaded == ["auto"]
    assert Path("out", expected[0]).read_text() == "done before"
    out = capsys.readouterr().out
    assert "[5/5]" in out and "1 skipped because their output exists" in out
    record = read_record("out/two-waves.png")
    assert record["inputs"]["style[0]"]["name"] == "waves.png"
    assert record["styles"] == [{"weight": 0.5, "scale": 0.9}]
    assert nst_command(FOLDER) == 0 and loaded == ["auto"]


@pytest.mark.usefixtures("paintings")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{FOLDER} --style a.png", "is the folder 'paintings' and others. Pass one folder"),
        ("batch photos --style empty -o out", "`--style` is 'empty', which contains no pictures"),
        ("batch twins --style paintings -o out", "would both be 'out/a-b-night.png'. Rename one"),
        (f"{FOLDER} -o paintings", "`--output` is 'paintings', the folder of the paintings"),
        (f"{FOLDER} -o linked --overwrite", "is also the input 'paintings/waves.png' and would"),
    ],
)
def test_a_folder_of_paintings_that_cannot_be_used_is_refused(
    line: str, said: str, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "twins", "linked"):
        Path(name).mkdir()
    Path("linked/one-night.png").symlink_to("../paintings/waves.png")
    for name in ("twins/a.png", "twins/a-b.png", "paintings/b-night.png"):
        Image.new("RGB", (24, 24)).save(name)
    assert nst_command(line) == 2
    assert said in capsys.readouterr().err and loaded == []
