"""`nst demo`: stylize a bundled sample photograph."""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image
from torch import nn

from nst._engine.processes import launched
from nst.callbacks.base import Callback, RunState
from nst.cli import arguments, build
from nst.cli.check import rehearse
from nst.cli.files import check_files
from nst.cli.output import save_result
from nst.cli.sample_images import painting, photograph
from nst.images import save_image
from nst.styles.style import Style

# A beginner waits a minute for the steps, and as long again for all else. With fewer than 40
# steps, there is little of the painting in the picture.
_SECONDS, _MIN_STEPS = 60, 40


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="stylize a bundled sample photograph",
        description="Stylize a photograph of scikit-image with a painting that comes with nst, "
        "in two scales and with a content weight of 0.05 by default.",
    )
    about = "output file (default: nst-demo.png)"
    arguments.add_output(parser, required=False, default="nst-demo.png", help=about)
    arguments.add_watching(parser)
    arguments.add_quiet(parser)
    arguments.add_options(parser)
    # A small picture of a face: coarse first for broad strokes, with more weight on the content.
    parser.set_defaults(run=run, num_scales=2, content_weight=0.05)


def run(options: argparse.Namespace) -> None:
    """Stylize the photograph."""
    check_files(options)
    content = photograph("chelsea")  # CC0, by Stefan van der Walt
    styles = [Style(Image.open(io.BytesIO(painting("evening"))))]
    callbacks = build.make_callbacks(options)
    paint = partial(build.run_transfer, options, content)
    rehearse(paint, styles, options)
    with build.live_page(options) as page:
        network = build.load_network(options)
        _announce(network, content, styles, options)
        callbacks = [*page, Preview(options.output, options.quiet), *callbacks]
        save_result(paint(network, styles, callbacks), options)


def _announce(
    network: nn.Module, content: Image.Image, styles: list[Style], options: argparse.Namespace
) -> None:
    """Report how long the demo takes, and take fewer steps on a slow machine."""
    is_default = options.preset == "default" and not {"num_steps", "size"} & vars(options).keys()
    # Only the first of several processes would measure, and all must take the same steps.
    may_shorten = is_default and not launched()
    if options.quiet and not may_shorten:
        return
    transfer = build.make_transfer(options, network)
    estimate, fewer = transfer.estimate(content, styles), ""
    steps = affordable_steps(estimate.seconds, transfer.num_steps)
    if may_shorten and steps < transfer.num_steps:
        options.num_steps = steps
        estimate = replace(estimate, seconds=estimate.seconds * steps / transfer.num_steps)
        fewer = (
            f", with {steps} steps, because this machine is slow; use `--steps "
            f"{transfer.num_steps}` for all"
        )
    if not options.quiet:
        sys.stderr.write(f"this takes {estimate}{fewer}\n")


def affordable_steps(seconds: float, num_steps: int) -> int:
    """Return how many of the steps fit into a minute, but at least 40 of them.

    Examples:
        >>> affordable_steps(30, 100), affordable_steps(120, 100), affordable_steps(600, 100)
        (100, 50, 40)
    """
    if seconds <= _SECONDS:
        return num_steps
    return min(num_steps, max(_MIN_STEPS, int(num_steps * _SECONDS / seconds)))


class Preview(Callback):
    """Saves the result of the coarse scales, which already resembles the final picture."""

    def __init__(self, output: str, quiet: bool) -> None:
        self._output, self._quiet = output, quiet
        self._scale = 0

    def on_start(self, state: RunState) -> None:
        """Announce the preview."""
        if not self._quiet and state.num_scales > 1:
            sys.stderr.write(f"a coarse preview will be in {self._output} before\n")

    def on_step(self, state: RunState) -> None:
        """Save the picture after the first step of the last scale."""
        if state.scale > self._scale:
            self._scale = state.scale
            if state.scale == state.num_scales - 1:
                save_image(state.image, self._output)
