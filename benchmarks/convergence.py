"""How soon each optimizer comes to the loss, and to the picture, that Adam has after 500 steps.

    python benchmarks/convergence.py PHOTO PAINTING [--size 512] [--threads 2] [--brief]

First with the losses of the preset "gatys" for all: Adam (lr 0.02, clamped after each step, one
scale), torch's L-BFGS (clamped), bounded L-BFGS at one scale, and the default's optimizer and
scales. The loss is that of the picture as it would be saved; it is computed aside, and the time for
that does not count. Then the default with its own losses, against Adam's picture, by measures that
neither optimizes.

Adam runs on nst's network here, which is faster than PyTorch's own convolution. What its steps cost
somebody who writes the loop by hand (in `channels_last`, the fastest of those in step.py) is
measured between the runs, and every time is also told as a share of as many such steps. With
`--adam`, its picture is one that an earlier run kept in its `--folder`, and its seconds are those
of as many steps as a few of its steps tell.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _loops import Loop, hand_written_channels_last
from _machine import describe_machine
from _metrics import Scorer, load_pair
from nst import FeatureExtractor, RunState, StyleTransfer, StyleTransferResult
from nst._engine.objective import Objective, Region
from nst.images import load_image, to_pil
from nst.presets import preset
from nst.styles.style import Painting

_ADAM_STEPS = 500
_TRIED = (4, 20)
"""After how many steps Adam's time is looked at where its picture is not painted again."""
_PLAIN_STEPS = 8


def torch_lbfgs(params: list[Tensor]) -> torch.optim.Optimizer:
    """Return L-BFGS as most implementations use it: one iteration a step, no line search."""
    return torch.optim.LBFGS(params, lr=1, max_iter=1, history_size=20)


RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("torch's L-BFGS, clamped", {"optimizer": torch_lbfgs, "num_scales": 1, "num_steps": 160}),
    ("bounded L-BFGS, one scale", {"num_scales": 1, "num_steps": 160}),
    ("the default's scales", {"num_steps": 225}),
]


class Track:
    """Follows a run: seconds and the loss of the picture as it would be saved."""

    def __init__(self, score: Callable[[Tensor], float], size: tuple[int, ...], every: int) -> None:
        self._score, self._size, self._every = score, size, every
        self._aside, self._start = 0.0, time.perf_counter()
        self.points: list[tuple[float, float]] = []
        self.step_at_size = 0

    def __call__(self, state: RunState) -> None:
        """Note where the run stands, every few steps."""
        if tuple(state.image.shape) != self._size:
            return
        self.step_at_size += 1
        if self.step_at_size % self._every == 0 or state.step == state.num_steps:
            now = time.perf_counter()
            loss = self._score(state.image)
            self.points.append((now - self._start - self._aside, loss))
            self._aside += time.perf_counter() - now

    def reached(self, loss: float) -> float | None:
        """Return after how many seconds the loss was reached; None if it never was."""
        return next((seconds for seconds, each in self.points if each <= loss), None)


class Comparison:
    """Runs recipes on one pair of pictures."""

    def __init__(self, photo: str, painting: str, size: int) -> None:
        self.extractor = FeatureExtractor()
        self.content, self.style = load_pair(photo, painting, size)
        self.size = size
        objective = Objective(self.extractor, preset("gatys")["losses"], self.content)
        objective.capture(self.content)
        objective.capture_styles([Region(None, [Painting(self.style, None)], [1.0])])
        self._objective = objective
        self.scorer = Scorer(self.extractor, self.content, self.style)

    def loss(self, image: Tensor) -> float:
        """Return the total of the preset "gatys" for a picture."""
        with torch.no_grad():
            return float(sum(self._objective.score(image).values()))

    def adam(self, kept: Tensor | None) -> tuple[float, float, Tensor]:
        """Return Adam's seconds, loss and picture, which an earlier run may have kept."""
        if kept is None:
            track, result = self.run(25, **preset("gatys"))
            return *track.points[-1], result.image
        few, more = _TRIED
        track, _ = self.run(few, **{**preset("gatys"), "num_steps": more})
        (first, _), *_, (last, _) = track.points
        step = (last - first) / (more - few)
        return first + (_ADAM_STEPS - few) * step, self.loss(kept), kept

    def run(self, every: int, **recipe: Any) -> tuple[Track, StyleTransferResult]:
        """Run a recipe and follow it."""
        transfer = StyleTransfer(self.extractor, size=self.size, **recipe)
        track = Track(self.loss, tuple(self.content.shape), every)
        return track, transfer.run(self.content, self.style, callbacks=track)


class Plain:
    """A loop written by hand, whose steps are measured now and then."""

    def __init__(self, pair: Comparison) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._loop: Loop = hand_written_channels_last(pair.content, pair.style, Path(folder))
        self._seconds: list[float] = []
        self._loop(1)  # warm up

    def measure(self) -> None:
        """Take some steps."""
        start = time.perf_counter()
        self._loop(_PLAIN_STEPS)
        self._seconds.append((time.perf_counter() - start) / _PLAIN_STEPS)

    @property
    def seconds(self) -> float:
        """What Adam's steps take, by the median."""
        return _ADAM_STEPS * statistics.median(self._seconds)


def show(name: str, track: Track, goal: float) -> tuple[str, float | None]:
    """Print where a run ended; return its name and when it came to the goal."""
    seconds, loss = track.points[-1]
    reached = track.reached(goal)
    when = "not reached" if reached is None else f"{reached:6.1f} s"
    print(f"{name:30} {seconds:7.1f} s  loss {loss:10.4g}  Adam's: {when}", flush=True)
    return name, reached


def show_ratios(found: list[tuple[str, float | None]], on_nst: float, plain: float) -> None:
    """Print times as shares of Adam's."""
    print(f"\nAdam's {_ADAM_STEPS} steps: {on_nst:.0f} s on nst's network, {plain:.0f} s by hand")
    for name, seconds in found:
        if seconds is not None:
            print(f"{name:30} 1/{on_nst / seconds:.1f} and 1/{plain / seconds:.1f} of that")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo")
    parser.add_argument("painting")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--brief", action="store_true", help="only Adam and the default's scales")
    parser.add_argument("--adam", type=Path, help="Adam's picture, from an earlier run's folder")
    parser.add_argument("--folder", type=Path, help="where to keep the pictures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    kept = None if arguments.adam is None else load_image(arguments.adam)
    print(describe_machine())
    pair = Comparison(arguments.photo, arguments.painting, arguments.size)
    plain = Plain(pair)
    gatys = preset("gatys")["losses"]
    pair.run(1, losses=gatys, num_steps=1, num_scales=1)  # warm up
    plain.measure()
    limit, goal, adam = pair.adam(kept)
    print(f"{f'Adam, {_ADAM_STEPS} steps':30} {limit:7.1f} s  loss {goal:10.4g}", flush=True)
    found: list[tuple[str, float | None]] = []
    for name, recipe in RECIPES[-1:] if arguments.brief else RECIPES:
        plain.measure()
        track, _ = pair.run(4, losses=gatys, **recipe)
        found.append(show(name, track, goal))
    plain.measure()
    _, ours = pair.run(1000)
    plain.measure()
    print("\nwith its own losses, in measures that neither optimizes")
    for name, image, seconds in (
        (f"Adam, {_ADAM_STEPS} steps", adam, limit),
        ("the default", ours.image, ours.seconds),
    ):
        print(f"{name:30} {seconds:7.1f} s  {pair.scorer(image)}")
        if arguments.folder is not None:
            file = f"{Path(arguments.photo).stem}-{name.split(',')[0].replace(' ', '-')}.png"
            to_pil(image).save(arguments.folder / file)
    show_ratios([*found, ("the default, own losses", ours.seconds)], limit, plain.seconds)


if __name__ == "__main__":
    main()
