import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst import load_image
from nst.images import to_pil
from nst.video import Frame, check_video_output, open_video, write_video
from tests.helpers import names, picture
from tests.video.videos import gray_levels, make_video, seen


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def grays(count: int = 6, height: int = 32, width: int = 48) -> list[Tensor]:
    return [torch.full((1, 3, height, width), level / 255) for level in gray_levels(count)]


def near(found: list[int], expected: list[int]) -> bool:
    return all(abs(one - other) <= 2 for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_an_independent_reader_finds_the_frames_of_a_video(suffix: str) -> None:
    write_video(iter(grays()), f"a.{suffix}", rate=10)
    found = seen(f"a.{suffix}")
    assert near(found["levels"], gray_levels(6))
    assert found["codec"] == ("vp9" if suffix == "webm" else "h264")
    assert found["times"] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert found["duration"] == pytest.approx(0.6, abs=0.002)
    assert names(Path()) == [f"a.{suffix}"]


def test_colors_are_those_of_the_picture() -> None:
    # Blocks of one color: half of the resolution is lost in the colors of H.264.
    blocks = picture(4, 6).repeat_interleave(8, -1).repeat_interleave(8, -2) * 0.8 + 0.1
    write_video([blocks] * 3, "a.mp4", crf=0)
    found = seen("a.mp4")
    assert found["colors"] == (1, 1), "BT.709 in the limited range"
    middle = found["arrays"][0].astype(int)[4::8, 4::8]
    assert np.abs(middle - np.asarray(to_pil(blocks)).astype(int)[4::8, 4::8]).max() <= 4
    read = (next(iter(open_video("a.mp4"))) * 255)[0, :, 4::8, 4::8].movedim(0, -1).numpy()
    assert np.abs(middle - read).max() <= 1


def test_sound_rate_times_and_duration_are_those_of_the_source() -> None:
    source = make_video("video.mp4", 30, sound=True)
    video = open_video(source)
    write_video(video, "out.mp4", like=video)
    before, after = seen(source), seen("out.mp4")
    assert len(before["sound"]) > 40
    for name in ("sound", "sound_times", "times", "rate", "duration"):
        assert after[name] == before[name], name


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_part_has_the_sound_of_its_time(name: str) -> None:
    source = make_video("video.mp4", 60, sound=True)
    part = open_video(source, start=0.8, end=1.6, every=2)
    write_video(part, name, like=part)
    before, after = seen(source), seen(name)
    first = before["sound"].index(after["sound"][0])
    assert before["sound_times"][first] == pytest.approx(0.8, abs=0.024)
    assert after["sound"] == before["sound"][first : first + len(after["sound"])]
    assert after["sound_times"][-1] == pytest.approx(0.8, abs=0.05)
    assert after["times"] == [round(0.08 * i, 3) for i in range(10)]


def test_a_variable_frame_rate_stays_and_further_frames_follow_at_the_mean_rate() -> None:
    video = open_video(make_video("video.mp4", 5, stamps=[0, 512, 2048, 2560, 6400]))
    write_video(video, "out.mp4", like=video)
    assert seen("out.mp4")["times"] == seen("video.mp4")["times"]
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 2)]
    write_video((Frame(*each, 0) for each in zip(grays(3), times, strict=True)), "b.mp4", rate=10)
    assert seen("b.mp4")["times"] == [0, 0.1, 0.5]
    write_video(grays(3), "a.mp4", rate=10)
    write_video(grays(6), "b.mp4", like=open_video("a.mp4"))
    assert seen("b.mp4")["times"] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_the_last_frame_is_shown_as_long_as_that_of_the_source(suffix: str) -> None:
    pictures = [to_pil(each) for each in grays(3)]
    pictures[0].save("a.gif", append_images=pictures[1:], save_all=True, duration=[100, 100, 3000])
    video = open_video("a.gif")
    write_video(video, f"b.{suffix}", like=video)
    assert open_video(f"b.{suffix}").end == video.end == Fraction(32, 10)
    assert seen(f"b.{suffix}")["duration"] == pytest.approx(3.2, abs=0.002)


def test_wide_pixels_stay_wide() -> None:
    wide = open_video(make_video("video.mp4", 2))
    object.__setattr__(wide, "aspect", Fraction(4, 3))
    write_video(wide, "out.mp4", like=wide)
    assert seen("out.mp4")["aspect"] == Fraction(4, 3)
    assert getattr(open_video("out.mp4"), "aspect") == Fraction(4, 3)  # noqa: B009


@pytest.mark.parametrize(
    ("name", "shape"), [("a.mp4", (34, 48)), ("a.webm", (33, 47)), ("a.gif", (33, 47))]
)
def test_odd_sizes_are_written(name: str, shape: tuple[int, int]) -> None:
    write_video(grays(3, 33, 47), name)
    assert open_video(name).shape == shape
    if name == "a.mp4":
        assert seen(name)["arrays"][2][-1, -1] == pytest.approx(gray_levels(3)[2], abs=3)


@pytest.mark.parametrize(("suffix", "unit"), [("gif", 10), ("webp", 1)])
def test_rounded_durations_of_an_animation_do_not_add_up(suffix: str, unit: int) -> None:
    path, durations = write_video(grays(24), f"a.{suffix}", rate=24), []
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0
        for i in range(24):
            animation.seek(i)
            animation.load()
            durations.append(animation.info["duration"])
    assert sum(durations) == 1000
    assert {*durations} <= {1000 // 24 // unit * unit, (1000 // 24 // unit + 1) * unit}


@pytest.mark.parametrize(
    ("path", "expected"), [("out", "out/frame-00002.png"), ("out/%03d.jpg", "out/002.jpg")]
)
def test_pictures_are_numbered_from_one(path: str, expected: str) -> None:
    write_video(grays(3), path)
    assert len(names(Path("out"))) == 3
    assert round(float(load_image(expected).mean()) * 255) == gray_levels(3)[1]


@pytest.mark.parametrize("path", ["out", "a.gif", "a.webp", "a.mp4"])
def test_frames_may_reuse_the_memory_of_the_frame_before(path: str) -> None:
    buffer = torch.empty(1, 3, 32, 48)
    write_video((buffer.copy_(gray) for gray in grays(3)), path)
    found = [round(float(frame.mean()) * 255) for frame in open_video(path)]
    assert near(found, gray_levels(3))


def test_a_failure_leaves_the_old_file_and_nothing_else() -> None:
    Path("a.mp4").write_bytes(b"mine")

    def broken() -> Any:
        yield from grays(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_video(broken(), "a.mp4")
    assert Path("a.mp4").read_bytes() == b"mine" and names(Path()) == ["a.mp4"]


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        ("a.mpg", {}, "neither a folder nor a video that can be written. Use .mp4"),
        ("a.png", {}, "neither a folder nor a video that can be written"),
        ("a.gif", {"crf": 20}, "`crf` has no effect on 'a.gif'"),
        ("a", {"codec": "libx264"}, "`codec` has no effect on 'a'"),
        ("a.mp4", {"codec": "divx"}, "`codec` is 'divx'; it must be one of 'libx264'"),
        ("a.mp4", {"crf": 64}, "`crf` is 64; it must be at most 63"),
        ("a.mp4", {"rate": 1e-7}, "`rate` is 1e-07; it must be at least 1/600"),
        ("a.webm", {"codec": "libx264"}, "`codec` is 'libx264'; it must be one of 'libvpx-vp9'"),
        ("full", {}, "'full' exists and is not empty. Name a new folder"),
        ("full/mine.png/%d.png", {}, "'full/mine.png' is a file. Name a folder"),
        ("nowhere/a.mp4", {}, "whose folder does not exist"),
        ("new/*.png", {}, "'new/*.png', in which %d does not number the frames"),
        ("new/100%.png", {}, "in which %d does not number the frames. Use e.g. %04d.png"),
        ("new/%04d", {}, "'new/%04d', whose suffix is unknown. Use e.g. %04d.png"),
        ("new/%04d.xyz", {}, "whose suffix is unknown"),
    ],
)
def test_an_impossible_video_is_refused(path: str, arguments: dict[str, Any], message: str) -> None:
    Path("full").mkdir()
    Path("full/mine.png").touch()
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        write_video(grays(2), path, **arguments)
    assert names(Path()) == ["full"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "`frames` is empty"),
        ([None], "`frames[0]` is of type NoneType; a tensor or a Frame is needed"),
        ([*grays(2), torch.zeros(1, 3, 8, 8)], "`frames[2]` is (8, 8)"),
        (
            [torch.zeros(1, 3, 2, 16_386)],
            "`path` is 'a.mp4', a file of at most 16384 pixels a side",
        ),
        (
            [Frame(grays()[0], Fraction(time, 10), 0) for time in (0, 3, 2)],
            "`frames[2]` is at 0.2 s, but follows one at 0.3 s; times must increase",
        ),
    ],
)
def test_frames_that_make_no_video_are_refused(frames: list[Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        write_video(frames, "a.mp4")


def test_a_gif_that_would_show_a_frame_for_too_long_is_refused() -> None:
    write_video(grays(2), "a.webp", rate=1 / 500)
    slow = open_video("a.webp", every=2)
    check_video_output("b.webp", like=slow)
    message = r"`path` is 'b\.gif', and GIF cannot show a frame for more than 655 s. Choose \.webp"
    with pytest.raises(ValueError, match=message):
        check_video_output("b.gif", like=slow)
    with pytest.raises(ValueError, match=message):
        write_video(grays(1) * 2, "b.gif", rate=1 / 500)  # equal frames are merged
    assert names(Path()) == ["a.webp"]


def test_sound_that_does_not_fit_is_found_before_the_work() -> None:
    video = open_video(make_video("video.mp4", sound=True))
    with pytest.raises(ValueError, match=r"cannot hold the sound of 'video.mp4'.*Choose .mkv"):
        check_video_output("out.webm", like=video)
    assert check_video_output("out.mkv", like=video) == Path("out.mkv")
    assert names(Path()) == ["video.mp4"]
