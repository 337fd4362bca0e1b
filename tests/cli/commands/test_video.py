"""`nst video`: the frames of a video, from the file to the file."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst import LivePage, StyleTransfer, load_image, save_image
from nst.cli import segments
from nst.cli.segments import Segment
from nst.testing import tiny_extractor
from nst.video import open_video, write_video
from nst.video.write import ANIMATIONS
from tests.cli.running import nst_command, refused
from tests.helpers import names, picture, raising, spy
from tests.video.videos import lose_last_frame, make_video, seen

# Other processes know no pretended device.
pytestmark = [pytest.mark.usefixtures("loaded"), pytest.mark.cpu]

OPTIONS = "--steps 3 --frame-steps 2"
LINE = f"video video.mp4 a.png -o out.mp4 {OPTIONS}"
# The same in another process, whose network has no weights to load.
SCRIPT = """
import sys, nst.cli.build
from nst.testing import tiny_extractor
nst.cli.build.FeatureExtractor = lambda *_, **__: tiny_extractor()
from nst.cli.main import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a painting and a video of a picture that moves."""
    monkeypatch.chdir(tmp_path)
    save_image(picture(24, 32, seed=2), "a.png")
    move()
    return tmp_path


def move(count: int = 6, cut: int = 99) -> None:
    """Write a video of a smooth picture that moves to the left; another one from a cut on."""
    scenes = [
        torch.nn.functional.interpolate(picture(6, 12, seed=seed), (32, 64), mode="bicubic")
        for seed in range(2)
    ]
    frames = [scenes[i >= cut].clamp(0, 1)[..., i : i + 40] for i in range(count)]
    write_video(frames, "video.mp4", rate=10)


def pixels(path: str) -> list[Tensor]:
    return list(open_video(path))


def test_the_video_has_the_frames_of_the_library_and_nothing_else_stays(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert nst_command(LINE) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["6 of 6 frames", str(folder / "out.mp4")]
    assert "6/6 frames" in err and "left" in err
    assert names(folder) == ["a.png", "out.mp4", "video.mp4"]
    transfer = StyleTransfer(tiny_extractor(), num_steps=3)
    results = transfer.frames(open_video("video.mp4"), "a.png", num_steps=2)
    write_video((result.image for result in results), "own.mp4", like=open_video("video.mp4"))
    assert all(map(torch.equal, pixels("out.mp4"), pixels("own.mp4")))


def test_sound_rate_times_and_duration_stay() -> None:
    make_video("video.mp4", 10, sound=True)
    assert nst_command(f"{LINE} --flow none --quiet") == 0
    before, after = seen("video.mp4"), seen("out.mp4")
    for name in ("sound", "sound_times", "times", "rate", "duration"):
        assert after[name] == before[name], name


def test_options_arrive_in_the_transfer_and_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spy(monkeypatch, StyleTransfer, "frames")
    more = "--size 32 --seed 3 --strength 0.5 --temporal-weight 7 --flow none --quiet"
    line = f"{LINE} {more} --start 0.1 --end 0.5 --every 2"
    assert nst_command(f"{line} --codec libvpx-vp9 --crf 40") == 0
    transfer, *_, arguments = asked[-1]
    assert (transfer.size, transfer.num_steps, arguments["num_steps"]) == (32, 3, 2)
    found = [arguments[name] for name in ("flow", "temporal_weight", "seed", "strength")]
    assert found == [None, 7, 3, 0.5]
    written = seen("out.mp4")
    assert (written["codec"], written["times"]) == ("vp9", [0, 0.2])
    assert written["arrays"][0].shape == (26, 32, 3)


@pytest.mark.parametrize("output", ["out.gif", "out.webp", "out", "out/%02d.png"])
def test_animations_and_pictures_come_out_and_go_in(output: str) -> None:
    assert nst_command(f"video video.mp4 a.png -o {output} {OPTIONS} --quiet") == 0
    rate = "" if Path(output).suffix in ANIMATIONS else "--rate 10"
    found = open_video(output, rate=10 if rate else None)
    assert len(found) == 6 and [float(t) for t in found.times] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert nst_command(f"video {output} a.png -o again.mp4 {OPTIONS} {rate} --quiet") == 0
    assert seen("again.mp4")["times"] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]


def start() -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, *LINE.split()]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)


def finished_frames() -> int:
    return len(list(Path("out.mp4.partial").glob("*.png")))


def test_a_killed_command_resumes_with_the_same_frames() -> None:
    move(count=8)
    assert nst_command(f"{LINE} --quiet".replace("out.mp4", "whole.mp4")) == 0
    for wanted, number in ((2, signal.SIGKILL), (4, signal.SIGTERM), (6, signal.SIGKILL)):
        process = start()
        while finished_frames() < wanted and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, text = process.communicate()
        assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
        if number == signal.SIGTERM:
            assert re.search(r"nst: \d of 8 frames are finished; the same command resumes", text)
        assert not Path("out.mp4").exists() and finished_frames() >= wanted
    before, process = finished_frames(), start()
    _, text = process.communicate()
    assert process.returncode == 0
    found = re.search(r"(\d) of 8 frames are finished; the others follow", text)
    assert found and int(found[1]) >= before - 1
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert not Path("out.mp4.partial").exists()


def fail_at_frame(monkeypatch: pytest.MonkeyPatch, frame: int, error: Any) -> None:
    """Let the library fail at a frame, or at the end."""
    frames = StyleTransfer.frames

    @wraps(frames)
    def failing(self: StyleTransfer, content: Any, style: Any, **arguments: Any) -> Any:
        yield from itertools.islice(frames(self, content, style, **arguments), frame)
        raise error

    monkeypatch.setattr(StyleTransfer, "frames", failing)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a command line that ends with an error at a frame."""

    def run(frame: int, line: str = f"{LINE} --quiet", error: Any = KeyboardInterrupt) -> None:
        with monkeypatch.context() as patch:
            fail_at_frame(patch, frame, error)
            assert nst_command(line) == (130 if error is KeyboardInterrupt else 2)

    return run


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("`flow` returned (1,).")])
def test_an_error_at_a_frame_loses_no_other(
    error: Any, interrupt: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(3, error=error)
    err = capsys.readouterr().err
    assert err.startswith("nst: 3 of 6 frames are finished; the same command resumes\n")
    assert names(Path()) == ["a.png", "out.mp4.partial", "video.mp4"]
    assert nst_command(LINE) == 0
    assert "nst: 3 of 6 frames are finished; the others follow" in capsys.readouterr().err
    assert nst_command(f"{LINE} --quiet".replace("out.mp4", "whole.mp4")) == 0
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()


@pytest.mark.parametrize(
    ("output", "place"),
    [("out", "out"), ("out/%02d.png", "out"), ("50%.mp4", "50%.mp4"), ("%d.gif", "%d.gif")],
)
def test_interrupted_writing_resumes(
    output: str, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, finished = f"video video.mp4 a.png -o {output} {OPTIONS} --quiet", Segment.finished

    def interrupted(self: Segment) -> Any:
        yield from itertools.islice(finished(self), 3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "finished", interrupted)
        assert nst_command(line) == 130
    assert "nst: 6 of 6 frames are finished; the same command resumes" in capsys.readouterr().err
    assert len(names(Path(f"{place}.partial"))) > 6
    assert nst_command(line) == 0
    assert len(open_video(output)) == 6 and names(Path()) == sorted(["a.png", "video.mp4", place])


def test_another_command_is_refused_beside_an_unfinished_one(
    interrupt: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(1)
    capsys.readouterr()
    for change, name in (
        ("--seed 1", "seed"),
        ("--style-weight 3", "losses"),
        ("--start 0.1", "inputs|start"),
        ("--frame-steps 4", "num_steps"),
        ("--temporal-weight 3", "temporal_weight"),
    ):
        err = refused(f"{LINE} {change} --quiet", capsys)
        assert re.search(rf"another command \(its ({name}) differs\). Run that one to finish", err)
    assert nst_command(f"{LINE} --crf 30 --quiet") == 0, "the encoder is another matter"


def test_another_video_network_or_folder_is_refused(
    interrupt: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt(1)
    move(count=7)
    capsys.readouterr()
    assert re.search(r"\(its (inputs|video) differs\)", refused(f"{LINE} --quiet", capsys))
    move()
    with monkeypatch.context() as patch:
        patch.setattr("nst.cli.build.FeatureExtractor", lambda *_, **__: tiny_extractor(seed=1))
        assert "(its network differs)" in refused(f"{LINE} --quiet", capsys)
    Path("b.mp4.partial").mkdir()
    Path("b.mp4.partial/mine.txt").write_text("mine")
    err = refused(f"{LINE} --quiet".replace("out.mp4", "b.mp4"), capsys)
    assert "(its file 'job.json' differs)" in err
    assert Path("b.mp4.partial/mine.txt").read_text() == "mine"


def test_a_folder_of_finished_frames_may_be_a_link() -> None:
    Path("large").mkdir()
    Path("out.mp4.partial").symlink_to("large")
    for _ in range(2):
        assert nst_command(f"{LINE} --end 0.2 --quiet") == 0
    assert names(Path()) == ["a.png", "large", "out.mp4", "out.mp4.partial", "video.mp4"]
    assert names(Path("large")) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b.mp4", "for which 'b.mp4.partial' cannot be created or read (File exists)"),
        (250 * "c", "too long"),
    ],
)
def test_a_folder_of_frames_that_cannot_be_created_is_refused(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("b.mp4.partial").touch()
    err = refused(f"video video.mp4 a.png -o {name}", capsys)
    assert err.startswith("nst: error: `--output` is ") and said in err


def test_a_folder_of_frames_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with segments.workspace(Path("out.mp4"), {"record": {}}):
        err = refused(f"{LINE} --quiet", capsys)
    assert "'out.mp4.partial' is used by another nst. Wait until it ends" in err


@pytest.mark.parametrize("workers", ["", "--workers 2"])
def test_a_video_that_is_broken_in_the_middle_is_written_as_far_as_it_goes(
    workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video("video.mp4", 60, noise=True, options={"movflags": "faststart"})
    data = Path("video.mp4").read_bytes()
    Path("video.mp4").write_bytes(data[: len(data) // 2])
    assert nst_command(f"{LINE} --every 8 {workers}") == 1
    out, err = capsys.readouterr()
    found = re.search(r"damaged after (\d+) frames.*The (\d) frames before are written", err)
    assert found is not None
    done = int(found[2])
    assert done == -(-int(found[1]) // 8) and f"{done} of {done} frames" in out
    assert len(pixels("out.mp4")) == done
    assert names(Path()) == ["a.png", "out.mp4", "video.mp4"]


@pytest.mark.parametrize("workers", ["", "--workers 2"])
def test_a_video_whose_last_frame_is_not_decoded_is_written_without_it(
    workers: str, interrupt: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    make_video("whole.mkv", 3, encoder={"bf": "0"})
    lose_last_frame("whole.mkv", "video.mkv")
    line = f"{LINE} --flow none".replace("video.mp4", "video.mkv")
    assert nst_command(f"{line} -o other.mp4 {workers}") == 0
    interrupt(99, line)
    assert nst_command(f"{line} {workers}") == 0, "no frame is left, but the video is not written"
    out, err = capsys.readouterr()
    assert "`video.mkv` lacks 1 of 3 frames" in err
    for name in ("other.mp4", "out.mp4"):
        assert f"2 of 3 frames\n{Path(name).resolve()}\n" in out and len(pixels(name)) == 2


@pytest.mark.parametrize(
    ("options", "shape"), [("", (128, 512)), ("--size 800 --upscale", (200, 800))]
)
def test_cuts_are_found_in_frames_of_the_size_of_the_result(
    options: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video("video.mp4", 2, sizes=[(160, 640)])
    monkeypatch.setattr(segments, "follow", raising(KeyboardInterrupt))
    calls = spy(monkeypatch, segments, "follow")
    assert nst_command(f"{LINE} --workers 2 {options}") == 130
    ((_, before, _, after, _),) = calls
    assert before.shape[-2:] == after.shape[-2:] == shape


def test_an_error_before_the_first_frame_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_at_frame(monkeypatch, 0, ValueError("`flow` returned (1,)."))
    assert refused(f"{LINE} --quiet", capsys) == "nst: error: `flow` returned (1,).\n"
    assert names(Path()) == ["a.png", "video.mp4"]


@pytest.mark.parametrize("end", ["", "--end 0.4"])
def test_workers_make_the_same_video_from_the_parts_between_its_cuts(
    end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    move(count=6, cut=3)
    assert nst_command(f"{LINE} {end} --quiet") == 0
    Path("out.mp4").rename("whole.mp4")
    assert nst_command(f"{LINE} {end} --workers 2") == 0
    *told, _ = capsys.readouterr().out.splitlines()
    assert told[1] == told[2] and len(told) == 3, "two parts, and the whole"
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()


def test_an_estimate_counts_the_frames(capsys: pytest.CaptureFixture[str]) -> None:
    assert nst_command(f"{LINE} --estimate") == 0
    assert re.fullmatch(r"6 frames: about \d+ s and \d+ MB\n", capsys.readouterr().out)
    assert names(Path()) == ["a.png", "video.mp4"]


def test_the_page_shows_the_latest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, publish = list[str](), LivePage._publish

    def recorded(self: Any, server: Any, *shown: str) -> None:
        publish(self, server, *shown)
        pages.append(server.pages["/"][1].decode())

    monkeypatch.setattr(LivePage, "_publish", recorded)
    assert nst_command(f"{LINE} --page 0 --quiet") == 0
    assert "Frame 6 of 6" in pages[-1] and "completed" in pages[-1]
    assert len({re.findall(r"picture.jpg\?(\d+)", page)[0] for page in pages[1:]}) >= 6


def test_options_come_from_a_file() -> None:
    Path("options.toml").write_text('style = "a.png"\noutput = "out.gif"\nsteps = 2\nend = 0.3\n')
    assert nst_command("video video.mp4 --config options.toml --frame-steps 1 --quiet") == 0
    assert len(open_video("out.gif")) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("video video.mp4 a.png -o video.mp4", "`--output` is 'video.mp4', which is also `VIDEO`"),
        ("video video.mp4 a.png -o a.png", "neither a folder nor a video that can be written"),
        ("video a.png a.png -o out.mp4", "`VIDEO` is 'a.png', which is one picture"),
        ("video none.mp4 a.png -o out.mp4", "`VIDEO` is 'none.mp4', which does not exist"),
        ("video video.mp4 -o out.mp4", "arguments are required: STYLE"),
        (f"{LINE} --preserve-color histogram", "`color_when`"),
        (f"{LINE} --crf 99", "`crf` is 99"),
        (f"{LINE} --start 9", "ends at 0.60 s and has no frames"),
        (f"{LINE} --temporal-weight -1", "`weight` is -1"),
        (f"{LINE} --page --workers 2", "`--page` cannot show the frames of workers"),
        (f"{LINE} --estimate --quiet", "`--quiet` would suppress the estimate"),
        (f"{LINE} --quality 90", "unrecognized arguments: --quality"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_network_is_loaded(
    line: str, message: str, capsys: pytest.CaptureFixture[str], loaded: list[str]
) -> None:
    assert message in refused(line, capsys)
    assert loaded == [] and names(Path()) == ["a.png", "video.mp4"]


@pytest.mark.parametrize("source", ["frames", "frames/%d.gif"])
def test_a_video_does_not_go_over_one_of_its_pictures(
    source: str, capsys: pytest.CaptureFixture[str], loaded: list[str]
) -> None:
    Path("frames").mkdir()
    for i in range(2):
        save_image(picture(24, 32, seed=i), f"frames/{i}.gif")
    err = refused(f"video {source} a.png -o frames/1.gif {OPTIONS}", capsys)
    assert "`--output` is 'frames/1.gif', which is also `VIDEO`" in err and loaded == []


@pytest.mark.parametrize("module", ["av", "cv2"])
def test_a_missing_extra_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert "Run `pip install 'nst[video]'`" in refused(LINE, capsys)


def test_finished_frames_are_rounded_only_in_the_video(interrupt: Callable[..., None]) -> None:
    interrupt(2)
    transfer = StyleTransfer(tiny_extractor(), num_steps=3)
    results = list(transfer.frames(list(open_video("video.mp4"))[:2], "a.png", num_steps=2))
    stored = load_image("out.mp4.partial/000001.png")
    assert torch.equal(stored, (results[1].image * 255).round() / 255)
