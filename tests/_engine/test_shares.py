from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from nst import (
    Checkpoint,
    ContentLoss,
    FeatureExtractor,
    GramStyleLoss,
    LaplacianLoss,
    Loss,
    MomentStyleLoss,
    RunState,
    SelfSimilarityLoss,
    Style,
    StyleTransfer,
    StyleTransferResult,
    TotalVariationLoss,
)
from nst._engine.objective import Objective
from nst._engine.processes import Ranks
from nst._engine.references import Reference, Region
from nst.cli import main as cli
from nst.extractors.weights import Weights
from nst.images import save_image
from nst.optim.lbfgs import BoundedLBFGS
from nst.testing import tiny_extractor

T = TypeVar("T")


class Threads(Ranks):
    """Threads in place of processes: what is told goes through a board that all can see."""

    def __init__(self, rank: int, size: int, board: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(rank, size)
        self.board, self.barrier = board, barrier

    def post(self, value: T) -> list[T]:
        self.board[self.rank] = value
        self.barrier.wait()
        seen = list(self.board)
        self.barrier.wait()
        return seen

    def _broadcast(self, message: object) -> Any:
        return self.post(message)[0]

    def of_first(self, values: Tensor) -> Tensor:
        return self.post(values)[0].clone()

    def add_up(self, tensors: Sequence[Tensor], kind: str) -> list[Tensor]:
        self._count(kind, *tensors)
        every = self.post(list(tensors))
        return [torch.stack(own).sum(0) for own in zip(*every, strict=True)]

    def exchange(
        self, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor], kind: str
    ) -> None:
        self._count(kind, *outgoing.values())
        every = self.post({rank: each.clone() for rank, each in outgoing.items()})
        for rank, each in incoming.items():
            each.copy_(every[rank][self.rank])


def together(size: int, work: Callable[[Ranks], T]) -> list[T]:
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

    threads = [threading.Thread(target=begin, args=(rank,)) for rank in range(size)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [results[rank] for rank in range(size)]


def tiny(dtype: torch.dtype = torch.float64, **options: Any) -> FeatureExtractor:
    return FeatureExtractor(Weights(tiny_extractor().state_dict(), "tiny"), **options).to(dtype)


def noise(height: int, width: int, seed: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64)


def objective_for(
    extractor: torch.nn.Module, losses: Mapping[str, Loss], shape: tuple[int, int], **how: Any
) -> Objective:
    """Return an objective with two styles in two regions; its content is not captured yet."""
    objective = Objective(extractor, losses, **how)
    dtype = next(extractor.parameters()).dtype
    mask = (noise(*shape, 4, channels=1) + 0.1).to(dtype)
    styles = [Reference(noise(33, 47, seed).to(dtype)) for seed in (2, 3)]
    regions = [Region(mask, styles[:1], [1.0]), Region(1.1 - mask, styles, [1.0, 2.0])]
    objective.capture_styles(regions)
    return objective


LOSSES: dict[str, Loss] = {
    "content": ContentLoss(["relu4_2", "conv2_1", "image"]),
    "gram": GramStyleLoss(),
    "moments": MomentStyleLoss(["relu3_2", "pool2"]),
    "smooth": TotalVariationLoss(),
    "lines": LaplacianLoss(),
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
    alone.capture_content(content)
    losses, gradient = alone.evaluate(picture)

    def evaluate(ranks: Ranks) -> tuple[dict[str, Tensor], Tensor]:
        share = ranks.share(height)
        objective = objective_for(extractor, LOSSES, shape, tile=tile, **how)
        objective.divide(share)
        objective.capture_content(content)
        found, rows = objective.evaluate(share.own(picture))
        assert objective.score(share.own(picture)) == found
        return found, share.whole(rows)

    for found, own in together(size, evaluate):
        for name, value in losses.items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=0)
        assert float((own - gradient).norm()) <= 1e-12 * float(gradient.norm())


@pytest.mark.parametrize("levels", [0, 3])
def test_bands_are_optimized_as_the_whole(levels: int) -> None:
    height = 333
    start, goal = noise(height, 21, 0), 1.5 * noise(height, 21, 1) - 0.25
    scale = 0.1 + noise(height, 21, 2)

    def optimize(ranks: Ranks) -> Tensor:
        share = ranks.share(height)
        pixels = share.own(start).clone().requires_grad_()
        # As larger parts have a shorter history, by which they must not get out of step.
        optimizer = BoundedLBFGS([pixels], levels=levels, history_size=4 - ranks.rank)
        optimizer.divide(share)

        def closure() -> Tensor:
            # Not quadratic, so that the search has to try more than once.
            error = (share.own(scale) * (pixels - share.own(goal))).square()
            loss = (error + 20 * error.square()).sum()
            pixels.grad = torch.autograd.grad(loss, pixels)[0]
            return share.add_up([loss.detach()])[0]

        for _ in range(8):
            optimizer.step(closure)
        return share.whole(pixels.detach())

    (alone,) = together(1, optimize)
    for found in together(3, optimize):
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-10)


def test_a_loss_that_is_no_sum_is_refused_by_name() -> None:
    def refuse(ranks: Ranks) -> None:
        share = ranks.share(128)
        objective = Objective(tiny(), {"own": SelfSimilarityLoss()})
        objective.divide(share)
        with pytest.raises(ValueError, match="there are 2 processes, but the loss 'own'"):
            objective.capture_content(noise(128, 32, 0))

    together(2, refuse)


def test_bytes_go_with_the_width_and_not_with_the_height() -> None:
    def count(ranks: Ranks, height: int, width: int) -> dict[str, int]:
        share = ranks.share(height)
        losses = {"content": ContentLoss(), "style": GramStyleLoss()}
        objective = objective_for(tiny(), losses, (height, width))
        objective.divide(share)
        objective.capture_content(noise(height, width, 0))
        ranks.sent.clear()
        objective.evaluate(share.own(noise(height, width, 1)))
        return dict(ranks.sent)

    small, *_ = together(2, lambda ranks: count(ranks, 256, 32))
    assert together(2, lambda ranks: count(ranks, 461, 32))[0] == small
    wide, *_ = together(2, lambda ranks: count(ranks, 256, 64))
    assert wide["statistics"] == small["statistics"]
    assert wide["halos"] == 2 * small["halos"]


def test_a_picture_with_too_few_rows_is_left_to_the_first_process() -> None:
    shares = [Ranks(rank, 3).share(191) for rank in range(3)]
    assert [share.waits for share in shares] == [False, True, True]
    assert not any(share.divided for share in shares)


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], T]], list[T]]:
    """Returns what several processes return that do the same."""
    own = threading.local()
    monkeypatch.setattr(Ranks, "found", lambda: getattr(own, "ranks", None) or Ranks())

    def begin(size: int, work: Callable[[], T]) -> list[T]:
        def as_process(ranks: Ranks) -> T:
            own.ranks = ranks
            return work()

        return together(size, as_process)

    return begin


def transfer(**changes: Any) -> StyleTransfer:
    losses: dict[str, Loss] = {
        "content": ContentLoss(weight=0.05),
        "style": GramStyleLoss(),
        "smooth": TotalVariationLoss(weight=0.01),
    }
    return StyleTransfer(tiny(), losses, **{"num_steps": 6, "num_scales": 2, **changes})


HALF = torch.zeros(1, 1, 301, 64)
HALF[..., 140:, :] = 1
PHOTO = noise(301, 64, 0)
STYLES = [Style(noise(80, 60, 1), 0.7), Style(noise(60, 90, 2), 0.3)]
Divided = Callable[[int, Callable[[], Any]], list[Any]]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, {}),
        ({"num_scales": 1}, {"where": HALF, "init": "noise"}),
        ({"optimizer": "adam", "average": 0.9}, {"strength": 1.5}),
        ({"optimizer": "adam", "average": 0.9, "num_scales": 4}, {}),  # the first is left to one
        ({"optimizer": "adam", "normalize_gradients": True}, {"preserve_color": "luminance"}),
    ],
)
def test_a_run_of_several_processes_is_that_of_one(
    size: int, changes: dict[str, Any], arguments: dict[str, Any], divided: Divided
) -> None:
    alone = transfer(**changes).run(PHOTO, STYLES, **arguments)
    results: list[StyleTransferResult] = divided(
        size, lambda: transfer(**changes).run(PHOTO, STYLES, **arguments)
    )
    for found in results:
        assert (found.num_steps, found.stop_reason) == (alone.num_steps, alone.stop_reason)
        torch.testing.assert_close(found.image, alone.image, rtol=0, atol=1e-9)
        for name, values in alone.history.items():
            assert found.history[name] == pytest.approx(values, rel=1e-9)


def test_regions_and_batches_are_divided_too(divided: Divided) -> None:
    photos = torch.cat([PHOTO, PHOTO.flip(-1)])
    styles = [Style(STYLES[0].image, region=HALF), Style(STYLES[1].image, region=1 - HALF)]
    alone = transfer(num_steps=3).run(photos, styles)
    for found in divided(2, lambda: transfer(num_steps=3).run(photos, styles)):
        torch.testing.assert_close(found.image, alone.image, rtol=0, atol=1e-9)


def test_callbacks_follow_in_the_first_process_and_may_stop_all(divided: Divided) -> None:
    shapes = []

    def stop(state: RunState) -> None:
        shapes.append(tuple(state.image.shape))
        if state.step == 4:
            state.stop("enough")

    results = divided(2, lambda: transfer(num_scales=1).run(PHOTO, STYLES, callbacks=stop))
    assert [(each.num_steps, each.stop_reason) for each in results] == 2 * [(4, "enough")]
    assert len(shapes) == 4
    assert shapes[-1] == (1, 3, 301, 64)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 3)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    optimizer: str, sizes: tuple[int, int], divided: Divided, tmp_path: Path
) -> None:
    before, after = sizes
    make = {"optimizer": optimizer, "average": 0.5, "num_scales": 1}

    def begin() -> None:
        def stop(state: RunState) -> None:
            if state.step == 4:
                state.stop("a machine is wanted")

        keep = Checkpoint(tmp_path / "run.ckpt", every=4)
        transfer(**make).run(PHOTO, STYLES, callbacks=[keep, stop])

    divided(before, begin)
    results = divided(after, lambda: StyleTransfer.resume(tmp_path / "run.ckpt", extractor=tiny()))
    alone = transfer(**make).run(PHOTO, STYLES)
    for found in results:
        torch.testing.assert_close(found.image, alone.image, rtol=0, atol=1e-9)
        assert found.history["style"] == pytest.approx(alone.history["style"], rel=1e-9)


def test_processes_that_are_given_different_runs_are_told(divided: Divided) -> None:
    numbers = iter([3, 4])
    with pytest.raises(ValueError, match="of process 1 of 2 is not that of the first"):
        divided(2, lambda: run_for(numbers))


def run_for(numbers: Iterator[int]) -> None:
    transfer(num_steps=next(numbers)).run(PHOTO, STYLES)


def test_an_optimizer_of_the_users_is_refused(divided: Divided) -> None:
    def run() -> None:
        with pytest.raises(ValueError, match="Use 'lbfgs' or 'adam', or a single process"):
            transfer(optimizer=torch.optim.LBFGS).run(PHOTO, STYLES)

    divided(2, run)


def test_after_an_error_callbacks_see_what_the_scale_began_with(divided: Divided) -> None:
    ends = []

    class Broken(Checkpoint):
        def on_start(self, state: RunState) -> None: ...

        def on_step(self, state: RunState) -> None:
            raise RuntimeError("no more")

        def on_end(self, state: RunState) -> None:
            ends.append(state.image)

    with pytest.raises(RuntimeError, match="no more"):
        divided(2, lambda: transfer(num_scales=1).run(PHOTO, STYLES, callbacks=Broken()))
    assert torch.equal(ends[0], PHOTO)


def test_many_pictures_are_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_image(PHOTO, tmp_path / "a.png")
    monkeypatch.setattr(cli, "launched", lambda: True)
    folders = [str(tmp_path), "-o", str(tmp_path / "out")]
    assert cli.main(["batch", *folders, "--style", str(tmp_path / "a.png")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nst: error: `nst batch` does not support torchrun")


def test_an_estimate_is_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo = str(save_image(PHOTO, tmp_path / "a.png"))
    monkeypatch.setattr(cli, "launched", lambda: True)
    line = ["stylize", photo, photo, "-o", str(tmp_path / "out.png"), "--estimate"]
    assert cli.main(line) == 2
    assert "`--estimate` does not support torchrun" in capsys.readouterr().err
