"""`nst demo`: stylize a bundled sample photograph."""

import io
from argparse import Namespace
from dataclasses import replace

from PIL import Image

from nst._utils.group import launched
from nst._utils.text import say
from nst.callbacks.base import Callback, RunState
from nst.cli import arguments, build
from nst.cli.check import check_files, check_run
from nst.cli.commands.samples import painting, photograph
from nst.cli.parser import Parser
from nst.images import save_image
from nst.styles.style import Style
from nst.transfer import StyleTransfer

HELP = "stylize a bundled sample photograph"
USAGE = ""
DESCRIPTION = (
    "Stylize a photograph of scikit-image in the style of a painting that comes with nst. The "
    "default is two scales and a content weight of 0.05."
)
EXAMPLES = """\
nst demo
nst demo -o cat.jpg --preset strokes --steps 80"""
_SECONDS, _MIN_STEPS = 60, 20  # time that a beginner waits; fewer steps transfer little style


def add_arguments(parser: Parser) -> None:
    about = "output file (default: nst-demo.png)"
    arguments.add_output(parser, required=False, default="nst-demo.png", help=about)
    arguments.add_watching(parser)
    arguments.add_options(parser)
    # A face in a small picture: coarse first for broad strokes, with more weight on the content.
    parser.set_defaults(num_scales=2, content_weight=0.05)


def run(options: Namespace) -> None:
    check_files(options)
    content = photograph("chelsea")  # CC0, by Stefan van der Walt
    styles = [Style(Image.open(io.BytesIO(painting("evening"))))]
    check_run(options, content, styles)
    with build.live_callbacks(options) as callbacks:
        transfer = _announced(build.load_transfer(options), content, styles, options)
        callbacks = [_Preview(options.output, options.quiet), *callbacks]
        result = transfer.run(content, styles, callbacks=callbacks, **build.run_arguments(options))
        build.save_result(result, options)


def _announced(
    transfer: StyleTransfer, content: Image.Image, styles: list[Style], options: Namespace
) -> StyleTransfer:
    """Report how long the demo takes; on a slow machine, return a transfer with fewer steps."""
    is_default = options.preset == "default" and not {"num_steps", "size"} & vars(options).keys()
    may_shorten = is_default and not launched()  # all processes must take the same steps
    if options.quiet and not may_shorten:
        return transfer
    estimate, remark, all_steps = transfer.estimate(content, styles), "", transfer.num_steps
    steps = max(_MIN_STEPS, int(all_steps * _SECONDS / max(estimate.seconds, 1)))
    if may_shorten and steps < all_steps:
        transfer = replace(transfer, num_steps=steps)
        estimate = replace(estimate, seconds=estimate.seconds * steps / all_steps)
        remark = f", with {steps} steps, as this machine is slow; use `--steps {all_steps}` for all"
    if not options.quiet:
        say(f"this takes {estimate}{remark}", "stderr")
    return transfer


class _Preview(Callback):
    """Saves the result of the coarse scales, which already resembles the final picture."""

    def __init__(self, output: str, quiet: bool) -> None:
        self._output, self._quiet, self._is_saved = output, quiet, False

    def on_start(self, state: RunState) -> None:
        if not self._quiet and state.num_scales > 1:
            say(f"a coarse preview will be saved to {self._output} first", "stderr")

    def on_step(self, state: RunState) -> None:
        if 0 < state.scale == state.num_scales - 1 and not self._is_saved:
            self._is_saved = True
            save_image(state.image, self._output)
