import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

import nst
from nst import Checkpoint, ContentLoss, GramStyleLoss, Loss, Style, StyleTransfer
from nst._engine.objective import Objective, Region
from nst._engine.shared import leading
from nst._utils.group import Group, ProcessLost
from nst.cli import main as cli
from nst.extractors.base import as_extractor
from nst.styles.style import Painting
from tests.helpers import Deep, Recorder, fail_at, stop_at, tiny, uniform

T = TypeVar("T")
Divided = Callable[[int, Callable[[], Any]], list[Any]]
pytestmark = pytest.mark.cpu  # the pretended device is that of one thread


class Threads(Group):
    """Threads instead of processes: they communicate by a list that all can see."""

    def __init__(self, rank: int, size: int, board: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(rank, size)
        self.board, self.barrier = board, barrier

    def gather_objects(self, value: T) -> list[T]:
        if self.size == 1:
            return [value]
        self.board[self.rank] = value
        self.barrier.wait()
        seen = list(self.board)
        self.barrier.wait()
        return seen

    def broadcast_object(self, value: Any) -> Any:
        return self.gather_objects(value)[0]

    def broadcast(self, values: Tensor, kind: str = "scalars") -> Tensor:
        self._count(kind, values)
        first = self.gather_objects(values)[0].clone()
        assert first.shape == values.shape and first.dtype == values.dtype
        return first

    def add_up(self, tensors: Sequence[Tensor], kind: str = "scalars") -> list[Tensor]:
        self._count(kind, *tensors)
        every = self.gather_objects(list(tensors))
        return [torch.stack(own).sum(0) for own in zip(*every, strict=True)]

    def leave(self, error: BaseException | None = None) -> None:
        self.size = 1
        self.barrier.abort()

    def exchange(
        self, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor], kind: str
    ) -> None:
        self._count(kind, *outgoing.values())
        every = self.gather_objects({rank: each.clone() for rank, each in outgoing.items()})
        for rank, each in incoming.items():
            each.copy_(every[rank][self.rank])


def together(size: int, work: Callable[[Group], T]) -> list[T]:
    """Do the same in several threads, each a process to the code."""
    board, barrier = [None] * size, threading.Barrier(size, timeout=60)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def begin(rank: int) -> None:
        try:
            results[rank] = work(Threads(rank, size, board, barrier))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=begin, args=(rank,), name=str(rank)) for rank in range(size)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [results[rank] for rank in range(size)]


def noise(height: int, width: int, seed: int, channels: int = 3) -> Tensor:
    return uniform(1, channels, height, width, seed=seed)


def objective_for(
    extractor: torch.nn.Module, losses: Mapping[str, Loss], shape: tuple[int, int], **how: Any
) -> Objective:
    """Return an objective with two styles in two regions; its content is not captured yet."""
    like = next(extractor.parameters())
    dtype, objective = like.dtype, Objective(as_extractor(extractor), losses, like, **how)
    mask = (noise(*shape, 4, channels=1) + 0.1).to(dtype)
    styles = [Painting(noise(33, 47, seed).to(dtype), None) for seed in (2, 3)]
    regions = [Region(mask, styles[:1], [1.0]), Region(1.1 - mask, styles, [1.0, 2.0])]
    objective.capture_styles(regions)
    return objective


LOSSES: dict[str, Loss] = {
    "content": ContentLoss(["relu4_2", "conv2_1", "image"]),
    "gram": GramStyleLoss(),
    "moments": nst.MomentStyleLoss(["relu3_2", "pool2"]),
    "smooth": nst.TotalVariationLoss(),
    "lines": nst.LaplacianLoss(),
}


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("tile", [None, 20])
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize(("size", "height"), [(2, 128), (2, 207), (5, 333)])
def test_several_bands_give_the_losses_and_the_gradient_of_the_whole(
    size: int, height: int, padding: str, tile: int | None, normalized: bool
) -> None:
    extractor, shape = tiny(padding=padding), (height, 37)
    content, picture = noise(*shape, 0), noise(*shape, 1)
    how = {"normalize_gradients": normalized}
    alone = objective_for(extractor, LOSSES, shape, **how)
    alone.capture(content)
    losses, gradient = alone.evaluate(picture)

    def evaluate(group: Group) -> tuple[dict[str, Tensor], Tensor]:
        objective = objective_for(extractor, LOSSES, shape, tile=tile, group=group, **how)
        objective.capture(content)
        found, own = objective.evaluate(picture)
        assert objective.score(picture) == found
        return found, own

    for found, own in together(size, evaluate):
        for name, value in losses.items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=0)
        assert float((own - gradient).norm()) <= 1e-12 * float(gradient.norm())


def test_a_loss_that_is_no_sum_is_refused_by_name() -> None:
    def refuse(group: Group) -> None:
        content = noise(128, 32, 0)
        objective = Objective(tiny(), {"own": nst.SelfSimilarityLoss()}, content, group=group)
        with pytest.raises(ValueError, match="there are 2 processes, but the loss 'own'"):
            objective.capture(content)

    together(2, refuse)
    # A picture with too few rows is not divided.
    assert not Group(0, 3).divides(191) and Group(0, 3).divides(192)


def test_such_a_loss_is_refused_before_a_coarse_scale_that_one_process_could_do(
    divided: Divided, tmp_path: Path
) -> None:
    own = StyleTransfer(tiny(), {"own": nst.SelfSimilarityLoss()}, num_steps=2, num_scales=2)
    one, path = noise(160, 32, 0), tmp_path / "run.ckpt"
    own.run(one, one, init="gray", callbacks=[stop_at(1), Checkpoint(path)])
    for work in (
        lambda: own.check(one, one),
        lambda: StyleTransfer.resume(path, extractor=tiny()),
    ):
        with pytest.raises(ValueError, match="there are 2 processes, but the loss 'own'"):
            divided(2, work)
    assert divided(2, lambda: own.run(one[:, :, :120], one).num_steps) == [2, 2]


def test_the_first_process_raises_its_own_error_although_the_others_have_ended() -> None:
    class Alone(Group):
        def broadcast_object(self, value: Any) -> Any:
            raise ProcessLost("no answer")

    group = Alone(0, 2)
    with pytest.raises(ZeroDivisionError), leading(group):
        raise ZeroDivisionError
    assert group.size == 1


def test_bytes_go_with_the_width_and_not_with_the_height() -> None:
    def count(group: Group, height: int, width: int) -> dict[str, int]:
        losses = {"content": ContentLoss(), "style": GramStyleLoss()}
        objective = objective_for(tiny(), losses, (height, width), group=group)
        objective.capture(noise(height, width, 0))
        group.sent.clear()
        objective.evaluate(noise(height, width, 1))
        return {kind: group.sent[kind] for kind in ("statistics", "halos")}

    small, *_ = together(2, lambda group: count(group, 256, 32))
    assert together(2, lambda group: count(group, 461, 32))[0] == small
    wide, *_ = together(2, lambda group: count(group, 256, 64))
    assert wide["statistics"] == small["statistics"]
    assert wide["halos"] == 2 * small["halos"]


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], T]], list[T]]:
    """Returns what several processes return that do the same."""
    own = threading.local()
    monkeypatch.setattr(Group, "current", lambda: getattr(own, "group", None) or Group())

    def begin(size: int, work: Callable[[], T]) -> list[T]:
        def as_process(group: Group) -> T:
            own.group = group
            return work()

        return together(size, as_process)

    return begin


def transfer(**changes: Any) -> StyleTransfer:
    losses: dict[str, Loss] = {
        "content": ContentLoss(weight=0.05),
        "style": GramStyleLoss(),
        "smooth": nst.TotalVariationLoss(weight=0.01),
    }
    return StyleTransfer(tiny(), losses, **{"num_steps": 6, "num_scales": 2, **changes})


HALF = torch.zeros(1, 1, 301, 64)
HALF[..., 140:, :] = 1
PHOTO = noise(301, 64, 0)
STYLES = [Style(noise(80, 60, 1), 0.7), Style(noise(60, 90, 2), 0.3)]
REGIONS = [Style(STYLES[0].image, region=HALF), Style(STYLES[1].image, region=1 - HALF)]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, {}),
        ({"num_scales": 1}, {"where": HALF, "init": "noise"}),
        ({"size": 270}, {}),  # the coarse scale has another width if rounded twice
        ({"optimizer": "adam", "average": 0.9}, {"strength": 1.5}),
        ({"optimizer": "adam", "average": 0.9, "num_scales": 4}, {}),  # the first is left to one
        ({"optimizer": partial(torch.optim.SGD, lr=0.1), "num_scales": 1}, {}),
        ({"optimizer": "adam", "normalize_gradients": True}, {"preserve_color": "luminance"}),
        ({"num_steps": 3}, {"content": torch.cat([PHOTO, PHOTO.flip(-1)]), "style": REGIONS}),
    ],
)
def test_a_run_of_several_processes_is_that_of_one(
    size: int, changes: dict[str, Any], arguments: dict[str, Any], divided: Divided
) -> None:
    given = {"content": PHOTO, "style": STYLES, **arguments}
    alone = transfer(**changes).run(**given)
    for found in divided(size, lambda: transfer(**changes).run(**given)):
        assert (found.num_steps, found.stop_reason) == (alone.num_steps, alone.stop_reason)
        torch.testing.assert_close(found.image, alone.image, rtol=0, atol=1e-9)
        for name, values in alone.history.items():
            assert found.history[name] == pytest.approx(values, rel=1e-9)


def test_callbacks_follow_in_the_first_process_and_may_stop_all(divided: Divided) -> None:
    recorder = Recorder()
    both: list[Any] = [recorder, stop_at(4)]
    results = divided(2, lambda: transfer(num_scales=1).run(PHOTO, STYLES, callbacks=both))
    assert [(each.num_steps, each.stop_reason) for each in results] == 2 * [(4, "enough")]
    assert len(recorder.losses) == 4
    assert {image.shape for image in recorder.images} == {(1, 3, 301, 64)}


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 3)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    optimizer: str, sizes: tuple[int, int], divided: Divided, tmp_path: Path
) -> None:
    before, after = sizes
    make = {"optimizer": optimizer, "average": 0.5, "num_scales": 1}
    both: list[Any] = [Checkpoint(tmp_path / "run.ckpt", every=4), stop_at(4)]
    divided(before, lambda: transfer(**make).run(PHOTO, STYLES, callbacks=both))
    results = divided(after, lambda: StyleTransfer.resume(tmp_path / "run.ckpt", extractor=tiny()))
    alone = transfer(**make).run(PHOTO, STYLES)
    for found in results:
        torch.testing.assert_close(found.image, alone.image, rtol=0, atol=1e-9)
        assert found.history["style"] == pytest.approx(alone.history["style"], rel=1e-9)


def test_processes_that_are_given_different_runs_or_networks_are_told(divided: Divided) -> None:
    numbers, types = iter([3, 4]), iter(["auto", "bfloat16"])
    with pytest.raises(ValueError, match="of process 1 of 2 is not that of the first"):
        divided(2, lambda: transfer(num_steps=next(numbers)).run(PHOTO, STYLES))

    def run() -> nst.StyleTransferResult:
        network: Any = tiny(torch.float32)
        network.dtype = next(types)
        return StyleTransfer(network, num_steps=2).run(PHOTO.float(), noise(80, 60, 1).float())

    with pytest.raises(ValueError, match="the network or another argument of process 1 of 2"):
        divided(2, run)


def test_a_frame_follows_the_previous_result_of_the_first_process(divided: Divided) -> None:
    def flow(previous: Tensor, following: Tensor) -> Tensor:
        return previous.new_full((301, 64, 2), 0.1 * Group.current().rank)

    def second() -> Tensor:
        losses: Any = {"style": GramStyleLoss(), "deep": Deep(["relu2_1"])}
        own = StyleTransfer(tiny(), losses, num_steps=6, num_scales=1)
        return list(own.frames([PHOTO, PHOTO], STYLES, flow=flow, num_steps=2))[1].image

    alone = second()
    for found in divided(2, second):
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-9)


def test_an_error_of_the_first_process_ends_all_and_has_the_picture(divided: Divided) -> None:
    stop = fail_at(3, ZeroDivisionError("no more"))

    def run() -> Exception:
        with pytest.raises((ZeroDivisionError, ProcessLost)) as caught:
            transfer(num_scales=1).run(PHOTO, STYLES, callbacks=stop)
        return caught.value

    first, second = divided(2, run)
    assert isinstance(first, ZeroDivisionError)
    assert first.result.num_steps == 3  # type: ignore[attr-defined]
    assert str(second) == "Process 0 of 2 has failed: ZeroDivisionError: no more"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("batch . -o out --style painting.png", "nst batch"),
        ("stylize photo.png painting.png -o out.png --estimate", "--estimate"),
    ],
)
def test_what_processes_do_not_share_is_refused_under_torchrun(
    line: str, refused: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "launched", lambda: True)
    assert cli.main(line.split()) == 2
    assert f"nst: error: `{refused}` does not support torchrun" in capsys.readouterr().err
