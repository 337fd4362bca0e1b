import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, features

from nst import load_image, save_image
from nst.video import DamagedVideo, open_video, write_video
from tests.helpers import names, picture, raising
from tests.video.videos import REORDERED, gray_levels, lose_last_frame, make_video, turn_video

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF here")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def near(video: Any, expected: list[int]) -> bool:
    """Whether the frames have these gray levels."""
    found = [round(float(pixels.mean()) * 255) for pixels in video]
    pairs = zip(found, expected, strict=False)
    return len(found) == len(expected) and all(abs(one - other) <= 2 for one, other in pairs)


def test_the_frames_of_a_video_are_decoded_with_their_times() -> None:
    video = open_video(make_video("video.mp4"))
    assert len(video) == 12 and video.shape == (32, 48) and video.rate == 25
    assert video.times == [Fraction(i, 25) for i in range(12)] and video.end == Fraction(12, 25)
    assert near(video, gray_levels(12))
    frames = list(video.frames())
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == video.times
    assert frames[0].pixels.shape == (1, 3, 32, 48) and frames[0].pixels.dtype == torch.float32


CONTAINERS = [
    "video.mp4",
    "video.mkv",
    "video.mov",
    "video.ts",
    "video.avi",
    "video.flv",
    "video.mpg",
]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_frames_in_order(name: str) -> None:
    video = open_video(make_video(name, encoder=REORDERED, base=Fraction(1, 25)))
    assert near(video, gray_levels(12))
    assert video.times == [Fraction(i, 25) for i in range(12)]
    assert [frame.number for frame in video.frames()] == list(range(12))


def test_undecoded_frames_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    make_video("whole.mkv", encoder={"bf": "0"})
    video = open_video(lose_last_frame("whole.mkv", "video.mkv"))
    assert len(video) == 12 and near(video, gray_levels(12)[:11])
    assert caplog.messages == ["`video.mkv` lacks 1 of 12 frames, which cannot be decoded"]


def test_a_variable_frame_rate_is_kept_in_the_times_of_which_none_is_before_the_start() -> None:
    stamps = [0, 512, 2048, 2560, 6400]
    video = open_video(make_video("video.mp4", 5, stamps=stamps))
    assert video.times == [Fraction(stamp, 12800) for stamp in stamps]
    video = open_video(make_video("video.ts", stamps=range(12), base=Fraction(1, 30)))
    assert video.times[0] == 0 and near(video, gray_levels(12))


def test_a_part_has_the_frames_between_two_times_or_one_of_several() -> None:
    part = open_video(make_video("video.mp4", 50), start=0.5, end=1.5, every=5)
    assert near(part, gray_levels(50)[13:38:5])
    assert part.times == [Fraction(i, 5) for i in range(5)] and part.rate == 5
    assert part.end == Fraction(3, 2)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_part_by_numbers_has_the_pixels_and_times_of_the_whole(name: str) -> None:
    video = open_video(make_video(name, 60, noise=True, encoder=REORDERED, base=Fraction(1, 25)))
    whole = list(video.frames())
    for first, last in [(0, 60), (7, 9), (12, 20), (31, 60), (59, 60)]:
        part = list(video.part(first, last).frames())
        assert [frame.time for frame in part] == [frame.time for frame in whole[first:last]]
        for one, other in zip(part, whole[first:last], strict=True):
            assert torch.equal(one.pixels, other.pixels)


def test_a_video_of_a_turned_telephone_is_upright() -> None:
    path = make_video("video.mp4", 3, noise=True)
    before = next(iter(open_video(path)))
    turn_video(path)
    video = open_video(path)
    assert video.shape == (48, 32)
    # Clockwise: what was the top row is the right column.
    assert torch.equal(next(iter(video)), before.rot90(-1, (-2, -1)))


def test_ten_bits_are_read_as_more_than_eight() -> None:
    video = open_video(make_video("video.mkv", 2, pixels="yuv420p10le"))
    assert near(video, gray_levels(2))
    (array,) = {tuple(np.unique((pixels * 65535).round())) for pixels in [next(iter(video))]}
    assert all(value % 257 for value in array), "no multiple of a step of eight bits"


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer: int, name: str) -> None:
    path = make_video("video.mkv", 2, pixels="yuv420p10le", transfer=transfer)
    with pytest.raises(ValueError, match=rf"'video.mkv', which is HDR video \({name}\).*SDR"):
        open_video(path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", pytest.param("avif", marks=needs_avif)])
def test_the_frames_of_an_animation_have_its_durations(suffix: str) -> None:
    frames = [Image.new("RGB", (12, 8), (level,) * 3) for level in (0, 100, 200)]
    durations = [100, 50, 200]
    frames[0].save(
        f"video.{suffix}",
        append_images=frames[1:],
        save_all=True,
        duration=durations,
        lossless=True,
        quality=95,
    )
    video = open_video(f"video.{suffix}")
    assert video.times == [0, Fraction(1, 10), Fraction(3, 20)] and video.end == Fraction(7, 20)
    assert near(video, [0, 100, 200])
    assert near(video.part(2, 3), [200])


def test_a_pattern_matches_only_numbers_and_no_other_character_is_special() -> None:
    Path("frames").mkdir()
    for name in ("a[1]_2.png", "a[1]_010.png", "a[1]_mask.png", "a[1]_1-depth.png", "a1_3.png"):
        save_image(picture(8, 12), Path("frames", name))
    files = getattr(open_video("frames/a[1]_%04d.png"), "files")  # noqa: B009
    assert [file.name for file in files] == ["a[1]_2.png", "a[1]_010.png"]


@pytest.mark.parametrize("pattern", ["frames", "frames/*.png", "frames/f%d.png"])
def test_pictures_are_read_by_their_numbers(pattern: str) -> None:
    Path("frames").mkdir()
    for number in (1, 2, 10, 11):
        save_image(torch.full((1, 3, 4, 6), number / 20), f"frames/f{number}.png")
    video = open_video(pattern, rate=10)
    assert near(video, [round(number / 20 * 255) for number in (1, 2, 10, 11)])
    assert video.rate == 10 and video.end == Fraction(2, 5) and video.shape == (4, 6)


@pytest.mark.parametrize("kind", ["header", "data", "missing"])
def test_a_video_that_is_broken_in_the_middle_gives_the_frames_before(kind: str) -> None:
    name = "video.mkv" if kind == "missing" else "video.mp4"
    path = make_video(name, 60, noise=True, options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half:] = b"" if kind != "data" else bytes(4000) + data[half + 4000 :]
    whole = list(open_video(path))
    path.write_bytes(data)
    video, frames = open_video(path), list[torch.Tensor]()
    with pytest.raises(DamagedVideo, match=rf"`{name}` is damaged after (\d+) frames, at") as error:
        for pixels in video:
            frames.append(pixels)
    assert f"after {len(frames)} frames" in str(error.value) and 20 < len(frames) < 40
    assert all(torch.equal(one, other) for one, other in zip(frames, whole, strict=False))
    assert list(open_video(path, end=0.4)) and len(list(open_video(path, end=0.4))) == 10


def frames_before(path: str, message: str) -> int:
    """Return the number of frames of a video before it turns out to be damaged."""
    found = 0
    with pytest.raises(DamagedVideo, match=message) as error:
        for _ in open_video(path):
            found += 1
    assert f"after {found} frames" in str(error.value) or "change from" in message
    return found


def test_a_broken_animation_or_frames_of_changing_size_give_the_frames_before() -> None:
    write_video([picture(32, 32, seed=i) for i in range(6)], "video.gif")
    data = Path("video.gif").read_bytes()
    Path("video.gif").write_bytes(data[: len(data) * 2 // 3])
    assert frames_before("video.gif", r"damaged after (3|4) frames") > 0
    first, second = make_video("a.ts", 4), make_video("b.ts", 4, sizes=[(48, 64)], options=None)
    Path("both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    assert frames_before("both.ts", r"`frames` change from \(32, 48\) to \(48, 64\)") == 4


def test_a_postscript_file_with_another_suffix_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", raising(AssertionError("is run")))
    Image.new("RGB", (8, 8)).save("video.eps")
    Path("video.eps").rename("video.gif")
    with pytest.raises(ValueError, match="is not a picture that Pillow can read"):
        open_video("video.gif")


def sound_only() -> None:
    make_video("video.mp4", sound=True)
    with av.open("video.mp4") as video, av.open("sound.mp4", "w") as out:
        copy = out.add_stream_from_template(video.streams.audio[0])
        for packet in video.demux(video.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                out.mux(packet)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.mp4", FileNotFoundError, "does not exist"),
        ("text.mp4", ValueError, "is not a video that PyAV can read"),
        ("playlist.mp4", ValueError, "is not a video that PyAV can read"),
        ("empty.mp4", ValueError, "is empty"),
        ("sound.mp4", ValueError, "has no video stream"),
        ("no-frames.mp4", ValueError, "has no video stream"),
        ("picture.png", ValueError, "is one picture"),
        ("picture.jpg", ValueError, "is a picture. Use `nst stylize`"),
        ("picture.heic", ValueError, "is a picture. Use `nst stylize`"),
        ("nothing", ValueError, "contains no pictures"),
        ("nothing/%d.png", ValueError, "contains no pictures"),
        ("sizes", ValueError, "contains pictures of several sizes, such as 'b.png'"),
        ("turned", ValueError, "contains pictures of several sizes, such as 'b.png'"),
    ],
)
def test_what_is_no_video_is_refused(name: str, error: type[Exception], message: str) -> None:
    Path("text.mp4").write_text("I am no video. " * 100)
    Path("playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nvideo.mp4\n#EXT-X-ENDLIST\n")
    Path("empty.mp4").touch()
    sound_only()
    with av.open("no-frames.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        out.start_encoding()
    save_image(picture(8, 8), "picture.png")
    save_image(picture(8, 8), "picture.jpg")
    Path("picture.heic").write_bytes(b"unread")
    for folder in ("nothing", "sizes", "turned"):
        Path(folder).mkdir()
    for folder, width in (("sizes", 8), ("turned", 9)):
        save_image(picture(width, 8), f"{folder}/a.png")
        save_image(picture(8, 9), f"{folder}/b.png")
    with pytest.raises(error, match=rf"`source` is '{name}', which ({message})"):
        open_video(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1}, "`start` is -1"),
        ({"every": 0}, "`every` is 0; it must be at least 1"),
        ({"rate": 0}, "`rate` is 0; it must be at least 1/600"),
        ({"rate": 30}, "`rate` is 30, but 'video.mp4' has a rate of its own"),
        ({"start": 5}, "ends at 0.48 s and has no frames from 5 s"),
        ({"start": 0.2, "end": 0.1}, "has no frames from 0.2 s to 0.1 s"),
    ],
)
def test_a_part_that_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    path: str | Path = make_video("video.mp4")
    if arguments == {"rate": 0}:
        path = "frames/%d.png"
        write_video([picture(8, 8)], path)
    with pytest.raises(ValueError, match=re.escape(message)):
        open_video(path, **arguments)


def test_pyav_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("video.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"Run `pip install 'nst\[video\]'`"):
        open_video(path)


def test_a_frame_is_the_picture_that_pillow_reads() -> None:
    write_video([picture(8, 12)], "frames")
    (name,) = names(Path("frames"))
    assert torch.equal(next(iter(open_video("frames"))), load_image(f"frames/{name}"))
