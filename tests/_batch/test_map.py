"""Many pictures: each is as `run` makes it, and none stops the others."""

import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import nst
import nst._batch.map as map_module
import nst._batch.styles as styles_module
from nst import ContentLoss, GramStyleLoss, Loss, MapResult, Style, StyleTransfer, save_image
from nst._batch import worker
from nst._batch.worker import PARTS, PartCache
from nst.styles.statistics import StyleStatistics
from tests import helpers
from tests.helpers import PAINTING, MeanLoss, Recorder, fail_at, halve, spy, stop_at
from tests.pretend import PretendedDevice

pytestmark = pytest.mark.cpu  # other processes know no pretended device
LAYERS = ["relu1_1", "relu2_1"]
assert_same = partial(helpers.assert_same, num_threads=1)


class BrightnessLoss(Loss):
    """Does something to whoever repaints a picture that is nearly white."""

    def __init__(self, action: str, *, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        self.action = action

    def forward(self, features: Any) -> Tensor:
        brightness: Tensor = features["image"].mean()
        if brightness > 0.9:
            if self.action == "die":
                os._exit(1)
            if self.action == "wait":
                time.sleep(0.3)
            else:
                raise UnpicklableError("too bright", brightness)
        return brightness


class UnpicklableError(Exception):
    def __init__(self, why: str, brightness: Tensor) -> None:
        super().__init__(why)
        self.lock = threading.Lock()


class Noting(Executor):
    def __init__(self, executor: Executor) -> None:
        self.executor, self.sizes, self.futures = executor, list[int](), list[Future[Any]]()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self.executor.submit(fn, *args, **kwargs)
        self.sizes.append(sum(map(len, (args[0], *args[1].values()))))
        self.futures.append(future)
        return future


def process_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with process_pool(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def dask() -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed")
    # By default, a task that kills its worker is tried on three more.
    failures = pytest.importorskip("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        failures,
        distributed.LocalCluster(**local, processes=True) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(params=["none", "threads", "processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor | None:
    if request.param == "none":
        return None
    found: Executor = request.getfixturevalue(request.param)
    return found


def transfer(*losses: Loss, **arguments: Any) -> StyleTransfer:
    named: dict[str, Loss] = {"content": ContentLoss(["relu2_1"], weight=0.1)}
    for i, loss in enumerate(losses or [GramStyleLoss(LAYERS)]):
        named[f"style{i}"] = loss
    return helpers.small(losses=named, **{"num_steps": 3, "num_scales": 2, **arguments})


def picture(height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    return helpers.picture(height, width, seed)


def files(folder: Path, count: int) -> list[Path]:
    return [save_image(picture(seed=i), folder / f"photo-{i:02}.png") for i in range(count)]


def in_order(results: Iterator[MapResult]) -> list[MapResult]:
    return sorted(results, key=lambda each: each.index)


def results_of(outcomes: Iterator[MapResult]) -> list[nst.StyleTransferResult]:
    found = []
    for each in in_order(outcomes):
        assert each.error is None and each.result is not None, each.error
        found.append(each.result)
    return found


def test_each_picture_is_bit_for_bit_that_of_run(executor: Executor | None, tmp_path: Path) -> None:
    save_image(PAINTING, tmp_path / "painting.png")
    contents: list[Any] = [*files(tmp_path, 2), picture(40, 20), np.ones((20, 30, 3), np.float32)]
    contents += [Image.new("RGBA", (30, 20), (200, 10, 10, 100))]
    styles = [Style(tmp_path / "painting.png", 0.7, scale=0.8), Style(picture(30, 30, 9), 0.3)]
    repaint = transfer(MeanLoss(LAYERS), GramStyleLoss(LAYERS), size=28)
    found = results_of(repaint.map(contents, styles, executor=executor, init="pink-noise"))
    assert len(found) == len(contents)
    for result, content in zip(found, contents, strict=True):
        assert_same(result, repaint.run(content, styles, init="pink-noise"))


@pytest.mark.parametrize("executor", ["none", "processes"], indirect=True)
def test_an_open_pil_image_gives_what_its_file_gives(
    executor: Executor | None, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x0112] = "Ann", 6  # artist, and turned
    small = Image.fromarray(np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3))
    small.save(tmp_path / "a.tiff", exif=exif)
    save_image(picture(), tmp_path / "b.png", bit_depth=16)
    with Image.open(tmp_path / "a.tiff") as mask:
        for name in ("a.tiff", "b.png"):
            path, style = tmp_path / name, Style(picture(seed=1), mask=picture(seed=2)[:, :1])
            with Image.open(path) as image:
                found = results_of(
                    transfer().map([image], style, executor=executor, init=mask.copy())
                )
            expected = transfer().run(path, style, init=mask)
            assert torch.equal(found[0].content, expected.content)
            assert torch.equal(found[0].image, expected.image)
            assert found[0].exif == expected.exif


def test_each_device_repaints_pictures_in_a_process_of_its_own(tmp_path: Path) -> None:
    contents, repaint = [*files(tmp_path, 2), tmp_path / "missing.png"], transfer()
    before = multiprocessing.active_children()
    *found, failed = in_order(repaint.map(contents, picture(seed=9), devices=["cpu", "cpu:0"]))
    assert isinstance(failed.error, FileNotFoundError)
    for each in found:
        assert each.result is not None, each.error
        device = each.result.settings["device"]
        assert_same(each.result, repaint.run(each.content, picture(seed=9)), device=device)
    assert {each.result.settings["device"] for each in found if each.result} <= {"cpu", "cpu:0"}
    assert set(multiprocessing.active_children()) <= set(before)


def test_a_process_has_the_next_device_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    own: dict[str, torch.device] = {}
    monkeypatch.setattr(worker, "_own", own)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    devices = multiprocessing.get_context("spawn").SimpleQueue()
    for name in ("cuda:1", "cpu"):
        devices.put(name)
    worker.take_device(devices)
    assert own["device"] == torch.device("cuda:1") and chosen == [torch.device("cuda:1")]
    worker.take_device(devices)
    assert own["device"] == torch.device("cpu") and len(chosen) == 1


class Elsewhere(nn.Linear):
    """A network on a device that this machine lacks."""

    def to(self, *target: Any, **_: Any) -> Any:
        return [*target]


def test_workers_are_sent_no_tensors_on_a_device_that_they_may_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    style, cpu = transfer().capture(picture(), sizes=[32]), torch.device("cpu")
    moved = spy(monkeypatch, StyleStatistics, "to")
    sent: Any = map_module._on_cpu(style, torch.float64)
    assert [arguments for _, *arguments in moved] == [[cpu, torch.float64, {}]]
    assert sent.image.entries[0].statistics["relu1_1"].dtype == torch.float64
    here = nn.Linear(1, 1)
    assert map_module._on_cpu(here) is here
    assert map_module._on_cpu(Elsewhere(1, 1, device="meta")) == [cpu]
    with PretendedDevice("cuda"):
        there, color = torch.ones(2, device="cuda"), "#ff0000"
        assert there.device.type == "cuda" and map_module._absolute(there).device == cpu
        labels, kept = map_module._absolute((there, color))
        assert labels.device == cpu and kept == color
        sent = map_module._with_absolute_paths(Style(there, mask=there))
        assert sent.image.device == sent.mask.device == cpu


def test_closing_the_generator_ends_the_processes_of_the_devices() -> None:
    before, contents = set(multiprocessing.active_children()), [picture(seed=i) for i in range(4)]
    results = transfer().map(contents, picture(), devices=["cpu"])
    assert next(results).error is None
    assert set(multiprocessing.active_children()) - before
    results.close()
    assert not set(multiprocessing.active_children()) - before


CAPTURED_AND_REGIONS = [
    Style(transfer().capture(picture(30, 30, 4), sizes=[16, 32]).image, region=torch.eye(24, 32)),
    Style(picture(30, 30, 5)),
]


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (nst.NearestNeighborStyleLoss(["relu2_1"]), {}),
        (nst.CrossLayerGramStyleLoss(LAYERS), {}),
        (GramStyleLoss(LAYERS), {"init": "style"}),
        (GramStyleLoss(LAYERS), {"preserve_color": "pca", "color_when": "before"}),
        (GramStyleLoss(LAYERS), {"preserve_color": "luminance", "strength": 0.7, "seed": 3}),
        (GramStyleLoss(LAYERS), {"init": picture(seed=5), "where": torch.eye(24, 32)}),
        # Too narrow for a loss at half the size: 4 pixels wide, where 8 are needed.
        (GramStyleLoss(["relu4_1"]), {"style": picture(9, 32, 6)}),
        (GramStyleLoss(LAYERS), {"style": CAPTURED_AND_REGIONS}),
    ],
)
@pytest.mark.parametrize("executor", ["none", "processes"], indirect=True)
def test_so_it_is_for_every_handle_and_kind_of_loss(
    executor: Executor | None, loss: Loss, arguments: dict[str, Any]
) -> None:
    repaint, arguments = transfer(loss), {"style": PAINTING, **arguments}
    (found,) = results_of(repaint.map([picture()], executor=executor, **arguments))
    assert_same(found, repaint.run(picture(), **arguments))


def test_inference_mode_changes_nothing(threads: Executor) -> None:
    repaint, content = transfer(), picture()
    expected = repaint.run(content, picture(seed=1))
    for executor in (None, threads):
        with torch.inference_mode():
            (found,) = results_of(repaint.map([content], picture(seed=1), executor=executor))
        assert_same(found, expected)


def test_contents_may_reuse_the_memory_of_the_picture_before(processes: Executor) -> None:
    buffer, repaint = torch.empty(1, 3, 24, 32), transfer()
    contents = (buffer.copy_(picture(seed=i)) for i in range(3))
    found = results_of(repaint.map(contents, PAINTING, executor=processes, max_in_flight=3))
    assert_same(found[0], repaint.run(picture(seed=0), PAINTING))


def test_another_network_is_sent_whole_with_its_hooks(
    processes: Executor, dask: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemovableHandle, "next_id", 0)  # as in the new processes
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    network[0].register_forward_hook(halve)
    losses = {"content": ContentLoss(["0"], weight=0.1), "style": GramStyleLoss(["1"])}
    repaint = StyleTransfer(nst.BackboneExtractor(network), losses, num_steps=2)
    for executor in (processes, dask):
        (found,) = results_of(repaint.map([picture()], picture(seed=1), executor=executor))
        assert_same(found, repaint.run(picture(), picture(seed=1)))


@pytest.mark.parametrize(
    ("executor", "told", "used"),
    [("processes", 2, 2), ("processes", 1, 1), ("threads", 2, 1)],
    indirect=["executor"],
)
def test_a_run_in_another_process_uses_as_many_threads_as_it_is_told(
    executor: Executor, told: int, used: int
) -> None:
    outcomes = transfer().map([picture()], picture(), executor=executor, num_threads=told)
    assert results_of(outcomes)[0].settings["num_threads"] == used
    assert torch.get_num_threads() == 1


def test_of_twelve_pictures_on_a_dask_cluster_a_corrupt_one_costs_no_other(
    dask: Executor, tmp_path: Path
) -> None:
    contents = files(tmp_path, 12)
    contents[7].write_bytes(contents[7].read_bytes()[:200])
    outcomes = list(transfer().map(contents, picture(seed=99), executor=dask))
    assert sorted(each.index for each in outcomes) == list(range(12))
    assert all(each.content == contents[each.index] for each in outcomes)
    assert sum(each.result is not None for each in outcomes) == 11
    (failed,) = [each for each in outcomes if each.error is not None]
    assert failed.index == 7 and failed.name == "photo-07.png"
    assert isinstance(failed.error, ValueError)
    assert f"`content` is {str(contents[7])!r}, which is truncated" in str(failed.error)


def test_a_failed_picture_has_the_error_of_run(executor: Executor | None, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    contents: list[Any] = ["/missing.png", text, picture(4, 4), picture(), 3]
    repaint = transfer(GramStyleLoss(["relu4_1"]))
    outcomes = in_order(repaint.map(contents, picture(seed=1), executor=executor))
    assert [each.result is None for each in outcomes] == [True, True, True, False, True]
    for each in outcomes:
        if each.error is not None:
            with pytest.raises(type(each.error)) as expected:
                repaint.run(contents[each.index], picture(seed=1))
            assert str(each.error) == str(expected.value)


def test_an_error_that_cannot_be_sent_has_the_workers_traceback(processes: Executor) -> None:
    contents = [torch.ones(1, 3, 24, 32), picture()]
    repaint = transfer(BrightnessLoss("raise"))
    failed, done = in_order(repaint.map(contents, picture(seed=1), executor=processes))
    assert str(failed.error) == "UnpicklableError: too bright"
    assert failed.error is not None
    assert 'raise UnpicklableError("too bright", brightness)' in str(failed.error.__cause__)
    assert done.result is not None


def test_a_killed_worker_is_told_for_every_picture_not_done() -> None:
    contents = [picture(), torch.ones(1, 3, 24, 32), *[picture(seed=i) for i in range(4)]]
    outcomes: list[MapResult] = []
    with process_pool(1) as pool, pytest.raises(BrokenExecutor) as broken:
        repaint = transfer(BrightnessLoss("die"))
        for each in repaint.map(contents, picture(seed=1), executor=pool, max_in_flight=2):
            outcomes.append(each)
    assert sorted(each.index for each in outcomes) == list(range(6))
    undone = [each for each in outcomes if each.error is not None]
    assert len(undone) >= 5 and all(isinstance(each.error, BrokenExecutor) for each in undone)
    assert f"{len(undone)} pictures are not done. Pass those again" in str(broken.value)


def test_a_killed_worker_of_dask_costs_only_its_own_picture(dask: Executor) -> None:
    contents = [picture(), torch.ones(1, 3, 24, 32), picture(seed=2), picture(seed=3)]
    repaint = transfer(BrightnessLoss("die"))
    outcomes = repaint.map(contents, picture(seed=1), executor=dask, max_in_flight=1)
    failed = [each for each in outcomes if each.result is None]
    assert [(each.index, type(each.error).__name__) for each in failed] == [(1, "KilledWorker")]


def test_an_executor_that_was_shut_down_is_told_for_every_picture_not_done() -> None:
    pool, contents = ThreadPoolExecutor(1), [picture(seed=i) for i in range(4)]
    outcomes = transfer().map(contents, picture(), executor=pool, max_in_flight=1)
    assert next(outcomes).result is not None
    pool.shutdown()
    assert [type(next(outcomes).error) for _ in range(3)] == [RuntimeError] * 3
    with pytest.raises(BrokenExecutor, match="3 pictures are not done"):
        next(outcomes)


def test_what_cannot_be_sent_is_refused_but_works_in_threads(
    processes: Executor, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cloudpickle", raising=False)
    repaint = transfer(optimizer=lambda parameters: torch.optim.Adam(parameters))
    with pytest.raises(TypeError, match="at the top of a module"):
        list(repaint.map([picture()], picture(), executor=processes))
    (found,) = results_of(repaint.map([picture()], picture(seed=1), executor=threads))
    assert_same(found, repaint.run(picture(), picture(seed=1)))


def test_dask_is_sent_what_only_a_notebook_knows(dask: Executor) -> None:
    class LocalLoss(nst.StatisticLoss):
        def statistic(self, feature: Tensor, weight: Tensor) -> Tensor:
            return (feature**2 * weight).sum(-1)

    repaint = transfer(LocalLoss(LAYERS), optimizer=lambda params: torch.optim.Adam(params))
    (found,) = results_of(repaint.map([picture()], picture(seed=1), executor=dask))
    assert_same(found, repaint.run(picture(), picture(seed=1)))


def test_results_come_as_they_are_finished(threads: Executor) -> None:
    contents = [torch.ones(1, 3, 24, 32), picture()]
    repaint = transfer(BrightnessLoss("wait"), num_steps=1)
    outcomes = repaint.map(contents, picture(seed=1), executor=threads)
    assert [each.index for each in outcomes] == [1, 0]


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_pictures_are_taken_when_there_is_room(threads: Executor, max_in_flight: int) -> None:
    taken = itertools.count()
    contents = (picture(seed=next(taken)) for _ in range(8))
    outcomes = transfer().map(contents, picture(), executor=threads, max_in_flight=max_in_flight)
    next(outcomes)
    assert next(taken) <= max_in_flight
    outcomes.close()
    assert len(PARTS) == 0  # nothing is kept


def test_alone_a_picture_is_begun_when_it_is_asked_for() -> None:
    taken = itertools.count()
    outcomes = transfer().map((picture(seed=next(taken)) for _ in range(8)), picture())
    assert next(taken) == 0
    next(outcomes)
    assert next(taken) == 2


def test_what_is_not_begun_when_the_generator_is_closed_never_is() -> None:
    with ThreadPoolExecutor(1) as pool:
        recorder, contents = Noting(pool), [torch.ones(1, 3, 24, 32)] * 6
        repaint = transfer(BrightnessLoss("wait"), num_steps=1)
        outcomes = repaint.map(contents, picture(), executor=recorder, max_in_flight=6)
        next(outcomes)
        outcomes.close()
    assert sum(future.cancelled() for future in recorder.futures) >= 4


def test_callbacks_follow_each_run_in_this_process_and_ctrl_c_ends_them_all() -> None:
    recorder, contents = Recorder(), [picture(seed=i) for i in range(2)]
    list(transfer().map(contents, picture(), callbacks=recorder))
    assert recorder.calls.count("step 1") == recorder.calls.count("step 2") == 2
    (only,) = transfer().map(contents, picture(), callbacks=fail_at(1, KeyboardInterrupt()))
    assert only.result is not None and only.result.stop_reason == "interrupted"
    stop = stop_at(1, "interrupted")  # which ends only its run
    stopped = [each.result for each in transfer().map(contents, picture(), callbacks=stop)]
    assert [each and each.stop_reason for each in stopped] == 2 * ["interrupted by a callback"]


@pytest.mark.parametrize("executor", ["none", "processes"], indirect=True)
def test_a_style_is_captured_once_for_each_size(
    executor: Executor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = spy(monkeypatch, styles_module, "capture_painting")
    contents = [picture(24, 32), picture(32, 24), picture(16, 12), picture(40, 10)]
    results_of(transfer(size=32).map(contents, picture(), executor=executor))
    assert sorted(size for _, _, _, sizes, _ in calls for size in sizes) == [8, 16, 32]


def test_what_pictures_share_is_sent_once_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote(Executor):
        """One worker, with a memory of its own."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(fn(*args))
            return future

    monkeypatch.setattr("nst._batch.worker.PARTS", PartCache())
    recorder, repaint = Noting(Remote()), transfer()
    contents = [picture(seed=i) for i in range(9)]
    results_of(repaint.map(contents, picture(), executor=recorder, max_in_flight=1))
    network = sum(4 * each.numel() for each in repaint.extractor.parameters())
    alone = 4 * picture().numel() + 2000
    assert len(recorder.sizes) == 10
    assert recorder.sizes.pop(1) > network + alone
    assert max(recorder.sizes) < alone


@pytest.mark.weights
def test_a_network_known_by_name_is_not_sent_and_a_path_weighs_little(
    processes: Executor, tmp_path: Path
) -> None:
    recorder = Noting(processes)
    repaint = StyleTransfer(nst.FeatureExtractor("original"), num_steps=1)
    style = save_image(picture(64, 64), tmp_path / "painting.png")
    content = files(tmp_path, 1)[0]
    (found,) = results_of(repaint.map([content], style, executor=recorder))
    assert_same(found, repaint.run(content, style))
    assert recorder.sizes[0] < 1000
    assert max(recorder.sizes) < 3e6  # the statistics of the style, for one size


OTHER = ThreadPoolExecutor(1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"contents": "photo.png"}, TypeError, "`contents` is 'photo.png'; several pictures"),
        ({"contents": 3}, TypeError, "`contents` is 3; several pictures"),
        ({"style": "missing.png"}, FileNotFoundError, "`style[0]` is 'missing.png'"),
        ({"style": []}, ValueError, "`style` is empty"),
        ({"devices": "cuda:0"}, TypeError, r"`devices` is 'cuda:0'; it must be a list"),
        ({"devices": []}, ValueError, "`devices` is empty; name at least one"),
        ({"devices": ["none"]}, ValueError, "`device` is 'none', which cannot be used here"),
        ({"devices": ["cpu"], "executor": OTHER}, ValueError, "`devices` and `executor` are both"),
        ({"devices": ["cpu"], "callbacks": print}, ValueError, "`callbacks` cannot be called in"),
        ({"executor": 4}, TypeError, "`executor` is 4; a concurrent.futures.Executor is needed"),
        ({"max_in_flight": 0}, ValueError, "`max_in_flight` is 0"),
        ({"num_threads": 0}, ValueError, "`num_threads` is 0"),
        ({"strenght": 1}, TypeError, "`map` has no argument 'strenght'"),
        ({"strength": -1}, ValueError, "`strength` is -1"),
        ({"callbacks": 3}, TypeError, "`callbacks`"),
        ({"callbacks": nst.Checkpoint("a.ckpt")}, ValueError, "`callbacks` has a Checkpoint"),
        ({"callbacks": nst.SaveImages()}, ValueError, "`callbacks` has a SaveImages, but it can"),
        ({"callbacks": print, "executor": OTHER}, ValueError, "`callbacks` cannot be called in"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_for_all_is_refused_at_once(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"contents": [picture()], "style": picture(), **changes}
    with pytest.raises(error) as refusal:
        transfer().map(arguments.pop("contents"), arguments.pop("style"), **arguments)
    assert message in str(refusal.value)


def test_forked_processes_with_several_threads_are_refused() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as forked:
        with pytest.raises(ValueError, match=r'executor` forks.*get_context\("spawn"\)'):
            transfer().map([picture()], picture(), executor=forked, num_threads=2)
        transfer().map([picture()], picture(), executor=forked)  # a single thread is safe
