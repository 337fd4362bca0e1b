"""The command line: `nst stylize` and `nst demo`, thin over the library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nst._callbacks import Callback, ProgressBar, SaveImages
from nst._features import FeatureExtractor
from nst._losses import Loss
from nst._painting import paint
from nst._presets import PRESETS, preset
from nst._result import StyleTransferResult
from nst._transfer import StyleTransfer
from nst.images import ImageLike, check_input, check_output

__all__ = ["main"]

_BAD_INPUT = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 2 for bad input (one line on standard error says what), 130 when
        interrupted before there was a picture to save.
    """
    try:
        arguments = _parser().parse_args(argv)
        output = check_output(arguments.output, name="--output")
        if arguments.command == "demo":
            content: ImageLike = _demo_photograph()
            styles: list[ImageLike] = [paint()]
        else:
            content, styles = arguments.content, arguments.style
            # Before the network is loaded, which may mean a download.
            for name, path in _files(arguments):
                check_input(path, name=name)
        _stylize(content, styles, output, arguments)
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"nst: error: {message}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _files(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    styles = [(f"style[{i}]", path) for i, path in enumerate(arguments.style)]
    return [("content", arguments.content), *styles]


def _stylize(
    content: ImageLike, styles: Sequence[ImageLike], output: Path, arguments: argparse.Namespace
) -> None:
    transfer = _transfer(arguments)
    result = transfer.run(
        content,
        styles,
        init=arguments.init,
        seed=arguments.seed,
        callbacks=_callbacks(output, arguments),
    )
    result.save(output)
    if not arguments.quiet:
        sys.stdout.write(f"{_summary(result)}\n{output.resolve()}\n")


def _transfer(arguments: argparse.Namespace) -> StyleTransfer:
    recipe = preset(arguments.preset)
    asked = {
        "optimizer": arguments.optimizer,
        "num_steps": arguments.steps,
        "num_scales": arguments.scales,
    }
    recipe.update({name: value for name, value in asked.items() if value is not None})
    recipe["losses"] = {
        "content": _changed(
            recipe["losses"]["content"], arguments.content_layers, arguments.content_weight
        ),
        "style": _changed(
            recipe["losses"]["style"], arguments.style_layers, arguments.style_weight
        ),
    }
    extractor = FeatureExtractor(arguments.weights)
    return StyleTransfer(extractor, size=arguments.size, device=arguments.device, **recipe)


def _changed(loss: Loss, layers: str | None, weight: float | None) -> Loss:
    """Make a preset's loss again, with other layers or another weight."""
    changes: dict[str, Any] = {}
    if layers is not None:
        changes["layers"] = [name.strip() for name in layers.split(",") if name.strip()]
    if weight is not None:
        changes["weight"] = weight
    return type(loss)(**{**loss.settings(), **changes})


def _callbacks(output: Path, arguments: argparse.Namespace) -> list[Callback]:
    callbacks: list[Callback] = []
    if arguments.save_every is not None:
        callbacks.append(SaveImages(output.with_name(f"{output.stem}-steps"), arguments.save_every))
    if not arguments.quiet:  # last: what the others refuse should not follow a progress bar
        callbacks.append(ProgressBar())
    return callbacks


def _summary(result: StyleTransferResult) -> str:
    height, width = result.image.shape[-2:]
    return (
        f"{width}x{height} pixels, {result.num_steps} steps in {result.seconds:.0f} s "
        f"({result.stop_reason}), VGG19 weights: {result.settings['extractor']['weights']}"
    )


def _demo_photograph() -> ImageLike:
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "`nst demo` takes its photograph from scikit-image, which is not installed. "
            "Run `pip install 'nst[demo]'`."
        ) from error
    untyped: Any = data
    photograph: ImageLike = untyped.chelsea()  # CC0, by Stefan van der Walt; part of the wheel
    return photograph


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse prints the usage as well."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(_BAD_INPUT, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    from nst import __version__

    parser = _Parser(prog="nst", description="Repaint a photograph in the manner of a painting.")
    parser.add_argument("--version", action="version", version=f"nst {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    stylize = commands.add_parser(
        "stylize",
        help="repaint a photograph of yours",
        description="Repaint CONTENT in the manner of STYLE; several styles are blended equally.",
    )
    stylize.add_argument("content", metavar="CONTENT", help="the photograph")
    stylize.add_argument("style", metavar="STYLE", nargs="+", help="the painting, or several")
    stylize.add_argument("-o", "--output", metavar="OUT", required=True, help="the file to write")
    demo = commands.add_parser(
        "demo",
        help="repaint a photograph that comes along, with no files of yours",
        description="Repaint a photograph of scikit-image in the manner of a picture that nst "
        "paints itself.",
    )
    demo.add_argument(
        "-o", "--output", metavar="OUT", default="nst-demo.png", help="the file to write"
    )
    for command in (stylize, demo):
        _add_options(command)
    # A small picture of a face: begun coarse for the strokes, with more weight on the content.
    demo.set_defaults(scales=2, content_weight=0.05)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--size", type=int, default=512, help="the longer side in pixels, at most (default: 512)")
    add("--preset", choices=list(PRESETS), default="default", help="the recipe (default: default)")
    add("--steps", type=int, help="optimizer steps over all scales (default: the preset's)")
    add("--scales", type=int, metavar="N", help="how many scales (default: the preset's)")
    add("--optimizer", choices=["lbfgs", "adam"], help="default: the preset's")
    add("--content-weight", type=float, metavar="X", help="default: the preset's")
    add("--style-weight", type=float, metavar="X", help="default: the preset's")
    add("--content-layers", metavar="A,B", help="such as relu4_2; default: the preset's")
    add("--style-layers", metavar="A,B", help="such as relu1_1,relu2_1; default: the preset's")
    add("--init", default="content", help="content, noise, style, or a picture to start from")
    add("--seed", type=int, default=0, help="makes the noise (default: 0)")
    add("--weights", default="auto", help="auto, original, torchvision, or a VGG19 state dict")
    add("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    add("--save-every", type=int, metavar="N", help="also save every N steps, in OUT-steps/")
    add("--quiet", action="store_true", help="print nothing but errors")
