"""What each recipe has to show after the same seconds: style against content.

    python benchmarks/frontier.py PHOTO PAINTING [PHOTO PAINTING ...] [--seconds 60 180]

For every pair, every recipe runs once for each weight and is looked at when its time is up: nst's
default with as many steps as fit in (by two short runs that are measured), single-scale Adam and
torch's L-BFGS on the same losses, and Adam on the absolute losses of the preset "gatys". The
measures are those of layers that no recipe optimizes, the content's distance, and the edges.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _machine import describe_machine
from _metrics import Scorer, load_pair
from convergence import torch_lbfgs
from nst import (
    FeatureExtractor,
    RunState,
    StyleTransfer,
)
from nst.images import to_pil
from nst.presets import preset

_MANY = 100_000
# How many steps are taken to know what they take, and what comes before the first.
_TRIED = (8, 24)


def losses_of(name: str, factor: float) -> dict[str, Any]:
    """Return the losses of a preset with the content's weight multiplied."""
    losses = dict(preset(name)["losses"])
    losses["content"].weight *= factor
    return losses


Recipe = Callable[[float], dict[str, Any]]
# Each for a factor to its usual content weight.
RECIPES: dict[str, Recipe] = {
    "nst's default": lambda factor: {"losses": losses_of("default", factor)},
    "Adam, one scale": lambda factor: {
        "losses": losses_of("default", factor),
        "optimizer": "adam",
        "num_scales": 1,
    },
    "torch's L-BFGS, one scale": lambda factor: {
        "losses": losses_of("default", factor),
        "optimizer": torch_lbfgs,
        "num_scales": 1,
    },
    "Adam, absolute losses": lambda factor: {
        "losses": losses_of("gatys", factor),
        "optimizer": "adam",
        "num_scales": 1,
    },
}


class Deadline:
    """Keeps the picture as it is when each of several times is up, and ends the run at the last."""

    def __init__(self, seconds: list[float]) -> None:
        self._start, self._left = time.perf_counter(), sorted(seconds)
        self.pictures: dict[float, Tensor] = {}

    def __call__(self, state: RunState) -> None:
        """Look at the clock."""
        while self._left and time.perf_counter() - self._start >= self._left[0]:
            self.pictures[self._left.pop(0)] = state.image.clone()
        if not self._left:
            state.stop("time is up")


def _seconds(transfer: StyleTransfer, content: Tensor, style: Tensor, num_steps: int) -> float:
    transfer = replace(transfer, num_steps=num_steps)
    start = time.perf_counter()
    transfer.run(content, style)
    return time.perf_counter() - start


def pictures(
    transfer: StyleTransfer, content: Tensor, style: Tensor, seconds: list[float], planned: bool
) -> dict[float, Tensor]:
    """Return what a recipe has to show after each time."""
    if not planned:
        transfer = replace(transfer, num_steps=_MANY)
        deadline = Deadline(seconds)
        transfer.run(content, style, callbacks=deadline)
        return deadline.pictures
    # A schedule is made for its time: one run for each.
    _seconds(transfer, content, style, 2)  # warm up
    few, more = (_seconds(transfer, content, style, num_steps) for num_steps in _TRIED)
    step = (more - few) / (_TRIED[1] - _TRIED[0])
    before = few - _TRIED[0] * step
    found = {}
    for limit in seconds:
        transfer = replace(transfer, num_steps=max(1, int((limit - before) / step)))
        deadline = Deadline([limit])
        image = transfer.run(content, style, callbacks=deadline).image
        found[limit] = deadline.pictures.get(limit, image)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="+", metavar="PICTURE")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, nargs="+", default=[60, 180])
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="where to keep the pictures")
    arguments = parser.parse_args()
    if len(arguments.pairs) % 2:
        parser.error("pictures come in pairs: PHOTO PAINTING")
    torch.set_num_threads(arguments.threads)
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine())
    extractor = FeatureExtractor()
    for photo, painting in zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True):
        content, style = load_pair(photo, painting, arguments.size)
        scorer = Scorer(extractor, content, style)
        print(f"\n{Path(photo).name} x {Path(painting).name}", flush=True)
        for name in arguments.recipes:
            recipe = RECIPES[name]
            for factor in arguments.factors:
                transfer = StyleTransfer(extractor, size=arguments.size, **recipe(factor))
                planned = name == "nst's default"
                found = pictures(transfer, content, style, arguments.seconds, planned)
                for seconds, image in found.items():
                    scores = scorer(image)
                    print(f"{name:26} content x {factor:<4} {seconds:4.0f} s  {scores}", flush=True)
                    if arguments.folder is not None:
                        file = f"{Path(photo).stem}-{name}-{factor}-{seconds:.0f}.png"
                        to_pil(image).save(arguments.folder / file.replace(" ", "-"))


if __name__ == "__main__":
    main()
