"""Videos: frames that follow one another."""

from __future__ import annotations

import gc
import itertools
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import ContentLoss, GramStyleLoss, Style, StyleTransfer, StyleTransferResult, TemporalLoss
from nst._engine.objective import Objective
from nst.images import read_record
from nst.testing import tiny_extractor

from ..helpers import LEFT, PAINTING, Deep, hooked, in_turn, picture, small, spy

HEIGHT, WIDTH = 32, 40
WIDE = torch.nn.functional.interpolate(picture(9, 20, seed=5), (HEIGHT, 80), mode="bicubic")


def pan(count: int, speed: int = 2, start: int = 0) -> list[Tensor]:
    """Return frames of a camera that moves to the right."""
    places = range(start, start + count * speed, speed)
    return [WIDE[..., at : at + WIDTH].clamp(0, 1) for at in places]


def exact(one: Tensor, other: Tensor) -> Tensor:
    """Return the flow of `pan`, in either direction; none between other frames."""
    shift, flow = 2, torch.zeros(HEIGHT, WIDTH, 2)
    for sign in (-1, 1):
        a, b = (one, other) if sign < 0 else (other, one)
        if torch.equal(a[..., shift:], b[..., :-shift]):
            flow[..., 0] = sign * shift
            return flow
    flow[..., 0] = 1000
    return flow


def stylized(frames: Any, **arguments: Any) -> list[StyleTransferResult]:
    arguments = {"flow": exact, "num_steps": 2, "first_steps": 3, **arguments}
    transfer = arguments.pop("transfer", None) or small()
    return list(transfer.frames(frames, arguments.pop("style", PAINTING), **arguments))


def steps(results: list[StyleTransferResult]) -> list[int]:
    return [result.num_steps for result in results]


def test_the_first_frame_is_that_of_run_and_the_others_follow_it() -> None:
    results = stylized(pan(3))
    assert torch.equal(results[0].image, small(num_steps=3).run(pan(1)[0], PAINTING).image)
    assert steps(results) == [3, 2, 2]
    assert [result.settings["task"] for result in results] == ["run", "frame", "frame"]
    assert [list(result.history)[-1] for result in results] == ["style", "temporal", "temporal"]


def test_frames_are_read_one_by_one_and_no_earlier_than_needed() -> None:
    taken = []

    def frames() -> Iterator[Tensor]:
        for index, frame in enumerate(pan(3)):
            taken.append(index)
            yield frame

    results = small().frames(frames(), PAINTING, flow=exact, num_steps=1)
    assert taken == []
    next(results)
    next(results)
    assert taken == [0, 1]


def test_a_frame_starts_from_the_moved_result_and_from_the_photograph_where_that_is_new() -> None:
    starts, frames = list[Tensor](), pan(2)
    results = stylized(
        frames, callbacks=hooked(on_start=lambda state: starts.append(state.image.cpu()))
    )
    torch.testing.assert_close(starts[1][..., :-3], results[0].image[..., 2:-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(starts[1][..., -2:], frames[1][..., -2:])


def test_the_target_is_the_moved_result_and_reliability(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, frames = spy(monkeypatch, Objective, "capture"), pan(2)
    first, _ = stylized(frames)
    ((_, image, _, others),) = [call for call in calls if "previous" in call[2:-1]]
    flow = exact(frames[1], frames[0])[None]
    torch.testing.assert_close(image.cpu(), nst.functional.warp(first.image, flow))
    assert others["mask"][..., :-2].all() and not others["mask"][..., -2:].any()
    assert float(others["change"][..., :-2].abs().max()) < 1e-5


def test_losses_see_a_change_to_darker_in_a_reduced_video(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, frame = spy(monkeypatch, TemporalLoss, "capture"), pan(1)[0].clamp(0.2, 0.8)
    stylized([frame, frame - 0.05], flow=None, transfer=small(size=32, num_scales=2))
    ((_, features, _),) = calls
    expected = torch.full((1, 3, 26, 32), -0.05)
    torch.testing.assert_close(features["change"].cpu(), expected, rtol=0, atol=1e-3)


def test_a_heavier_temporal_loss_makes_a_calmer_video() -> None:
    apart = []
    for weight in (0, 1, 1000):
        first, second = stylized(pan(2), temporal_weight=weight, num_steps=8)
        apart.append(float((second.image[..., :-2] - first.image[..., 2:]).square().mean()))
    assert apart[0] > apart[1] > 4 * apart[2]


def test_a_cut_begins_a_new_scene() -> None:
    scene = [picture(HEIGHT, WIDTH, seed=9).sqrt()]
    results = stylized([*pan(2), *scene, *scene])
    assert steps(results) == [3, 2, 3, 3]  # `exact` finds no motion between equal frames
    assert torch.equal(results[2].image, small(num_steps=3).run(scene[0], PAINTING).image)


def test_a_still_camera_needs_no_flow_and_what_changes_much_is_released() -> None:
    still, lit = pan(1)[0].clamp(0.2, 0.8), 0.05
    passing = still.clone()
    passing[..., 10:20, 10:20] = 1 - passing[..., 10:20, 10:20].round()
    results = stylized([still, still + lit, passing, 1 - still.round()], flow=None, num_steps=30)
    assert steps(results) == [3, 30, 30, 3]
    change = results[1].image - results[0].image
    assert float(change.mean()) == pytest.approx(lit, abs=0.02), "light passes over the picture"


def continued(count: int, at: int, **arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    whole = stylized(pan(count), **arguments)
    previous = pan(count)[at - 1], whole[at - 1].image
    rest = stylized(pan(count)[at:], previous=previous, **arguments)
    return [each.image for each in whole[at:]], [each.image for each in rest]


@pytest.mark.parametrize("flow", [exact, "dis", None, "none, smaller"])
def test_a_continued_video_is_bit_identical_to_an_uninterrupted_one(flow: Any) -> None:
    if flow == "dis":
        pytest.importorskip("cv2")
    if flow == "none, smaller":  # from the original frames
        whole, rest = continued(3, 1, transfer=small(size=24), flow=None)
        assert whole[0].shape == (1, 3, 19, 24)
    else:
        whole, rest = continued(4, 2, flow=flow)
    assert len(rest) == 2
    assert all(itertools.starmap(torch.equal, zip(whole, rest, strict=True)))


def test_the_same_video_is_repainted_bit_for_bit() -> None:
    pytest.importorskip("cv2")
    one, two = (stylized(pan(3), flow="dis", init="noise", seed=4) for _ in range(2))
    assert all(torch.equal(a.image, b.image) for a, b in zip(one, two, strict=True))


def test_dis_finds_the_motion_whatever_the_number_of_threads_and_leaves_that_alone() -> None:
    cv2 = pytest.importorskip("cv2")
    from nst._batch.flow import _one_thread, as_flow

    find: Any = as_flow("dis")
    wide = torch.nn.functional.interpolate(picture(20, 30, seed=5), (120, 180), mode="bicubic")
    one, other = wide[..., :150].clamp(0, 1), wide[..., 3:153].clamp(0, 1)
    before, found = cv2.getNumThreads(), []
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(torch.as_tensor(find(other, one)))
            assert cv2.getNumThreads() == threads
        in_turn(_one_thread(cv2), _one_thread(cv2))
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)
    assert torch.equal(*found)
    assert float((found[0][10:-10, 10:-10] - torch.tensor([3.0, 0.0])).norm(dim=-1).mean()) < 0.2


def test_what_is_drawn_on_a_result_does_not_enter_the_next_frame() -> None:
    still = [pan(1)[0]] * 2
    expected, drawn = stylized(still, flow=None)[1].image, list[Tensor]()
    for result in small().frames(still, PAINTING, flow=None, num_steps=2, first_steps=3):
        drawn.append(result.image.clone())
        result.image.zero_()
        result.content.zero_()
    assert torch.equal(drawn[1], expected)


def test_styles_are_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = spy(monkeypatch, Objective, "summarize")
    results = stylized(pan(4), style=[Style(PAINTING, 0.7), Style(picture(30, 30), 0.3)])
    assert len(captured) == 2
    assert len(results[3].styles) == 2


def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    alive = list[Any]()
    for result in small().frames(pan(6), PAINTING, flow=exact, num_steps=1):
        alive.append(weakref.ref(result))
    del result
    gc.collect()
    assert len(alive) == 6
    assert not any(each() for each in alive)


@pytest.mark.float64
@pytest.mark.parametrize("extra", [{}, {"deep": True}])
def test_a_video_in_tiles_is_the_same(extra: dict[str, bool]) -> None:
    losses: Any = {"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}
    if extra:
        losses["deep"] = Deep(["relu2_1"], weight=0.5)
    wanted = []
    for tile in (None, 8):
        transfer = StyleTransfer(tiny_extractor().double(), losses, num_scales=1, tile=tile)
        wanted.append(stylized(pan(3), transfer=transfer))
    assert list(wanted[0][1].history)[-1] == ("deep" if extra else "temporal")
    for whole, tiled in zip(*wanted, strict=True):
        torch.testing.assert_close(tiled.image, whole.image, rtol=0, atol=1e-9)


def test_what_where_leaves_alone_stays_in_every_frame() -> None:
    frames = pan(3)
    for frame, result in zip(frames, stylized(frames, where=LEFT), strict=True):
        assert torch.equal(result.image[..., 20:], frame[..., 20:])
        assert not torch.equal(result.image[..., :20], frame[..., :20])


def test_losses_of_the_transfer_take_the_place_of_the_default_one() -> None:
    losses: Any = {"style": GramStyleLoss(), "calm": TemporalLoss(weight=3)}
    transfer = small(losses=losses, num_steps=3)
    first, second = stylized(pan(2), transfer=transfer)
    assert list(second.history) == ["style", "calm"]
    with pytest.raises(ValueError, match=r"`temporal_weight` is 2, .* already: 'calm'"):
        stylized(pan(2), transfer=transfer, temporal_weight=2)
    alone = transfer.run(pan(1)[0], PAINTING)  # has no previous frame, as the first
    assert list(alone.history) == ["style"]
    assert torch.equal(alone.image, first.image)
    calm: Any = {"style": GramStyleLoss(["relu1_1"]), "temporal": nst.TotalVariationLoss()}
    with pytest.raises(ValueError, match=r"`losses\['temporal'\]` is a TotalVariationLoss, but"):
        small(losses=calm).frames(pan(2), PAINTING)
    with pytest.raises(ValueError, match="nothing to optimize"):
        small(losses={"calm": TemporalLoss()}).run(pan(1)[0], PAINTING)


def test_ctrl_c_ends_the_video_with_the_frame_as_it_is() -> None:
    calls = itertools.count()

    def interrupt(state: nst.RunState) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    results = stylized(pan(4), callbacks=interrupt)
    assert [result.stop_reason for result in results] == ["completed", "interrupted"]


def test_a_frame_cannot_be_repeated_without_the_one_before(tmp_path: Any) -> None:
    (path,) = stylized(pan(2))[1].save(tmp_path / "frame.png")
    assert read_record(path)["losses"]["temporal"]["type"] == "TemporalLoss"
    with pytest.raises(ValueError, match="frame of a video"):
        StyleTransfer.rerun(path, extractor=tiny_extractor())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"frames": "video.mp4"}, TypeError, "`frames` is 'video.mp4'"),
        ({"flow": "raft"}, ValueError, "`flow` is 'raft'; it must be 'dis', None"),
        ({"num_steps": 0}, ValueError, "`num_steps` is 0"),
        ({"first_steps": 0}, ValueError, "`first_steps` is 0"),
        ({"temporal_weight": -1}, ValueError, "`weight` is -1"),
        ({"preserve_color": "luminance"}, ValueError, "`color_when` is 'after'"),
        ({"callbacks": [nst.Checkpoint("a.ckpt")]}, ValueError, "`callbacks` has a Checkpoint"),
        ({"previous": PAINTING}, TypeError, "`previous` is a Tensor"),
        ({"strenght": 1}, TypeError, "`frames` has no argument 'strenght'"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: Any = {"frames": pan(2), "flow": exact, **arguments}
    with pytest.raises(error, match=message):
        small().frames(given.pop("frames"), PAINTING, **given)


@pytest.mark.parametrize(
    ("frames", "flow", "message"),
    [
        ([*pan(1), picture(24, 40)], exact, r"`frames\[1\]` gives a result of \(24, 40\)"),
        ([*pan(1), picture(32, 40).expand(2, -1, -1, -1)], exact, r"`frames\[1\]` is a batch of 2"),
        (pan(2), lambda *_: torch.zeros(2, HEIGHT, WIDTH), r"`flow` returned \(2, 32, 40\)"),
        (pan(2), lambda *_: torch.full((HEIGHT, WIDTH, 2), torch.nan), r"`flow` .* finite"),
        (pan(2), lambda *_: None, r"`flow` returned a NoneType; it must return \(32, 40, 2\)"),
    ],
)
def test_a_frame_that_cannot_follow_is_an_error_and_the_others_were_there_before(
    frames: list[Tensor], flow: Any, message: str
) -> None:
    results = small().frames(frames, PAINTING, flow=flow, num_steps=1)
    assert next(results).stop_reason == "completed"
    with pytest.raises((TypeError, ValueError), match=message):
        next(results)


def test_a_missing_opencv_is_answered_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'nst\[video\]'"):
        small().frames(pan(2), PAINTING)
    assert steps(stylized([*pan(1), *pan(1)], flow=None)) == [3, 2]
