"""`nst synthesize`: make a texture from a style."""

from argparse import Namespace

from nst._record.replay import StopAfter
from nst.cli import arguments, build
from nst.cli.check import check_files, resumes_run, weightless
from nst.cli.parser import Parser
from nst.cli.styles import FORM, explain, parse_styles
from nst.images.write import check_shape
from nst.transfer import StyleTransfer

HELP = "make a texture: a style without a photograph"
USAGE = "STYLE [STYLE ...] -o OUT"
DESCRIPTION = "Make a texture in the style of STYLE; several styles are blended."
EXAMPLES = """\
nst synthesize painting.jpg -o texture.png
nst synthesize painting.jpg -o texture.png --height 512 --width 1024"""


def add_arguments(parser: Parser) -> None:
    parser.epilog = explain(FORM.replace("[@REGION]", ""))
    parser.add_argument("styles", metavar="STYLE", nargs="+", help="one painting or more")
    arguments.add_output(parser)
    about = "in pixels (default: the style's proportions)"
    parser.add_argument("--height", type=int, metavar="N", help=about)
    parser.add_argument("--width", type=int, metavar="N", help=about)
    arguments.add_checkpoint(parser)
    arguments.add_watching(parser)
    arguments.add_options(parser, StyleTransfer.synthesize)


def complete(options: Namespace) -> None:
    arguments.require_checkpoint(options)
    if (options.height is None) != (options.width is None):
        options.parser.error("`--height` and `--width` go together; give both or neither")
    if options.height is not None and "size" in options:
        options.parser.error("`--size` has no effect with `--height` and `--width`; leave it out")


def run(options: Namespace) -> None:
    check_files(options)
    styles = parse_styles(options.styles)
    shape = None if options.height is None else (options.height, options.width)
    with weightless(options, styles) as (transfer, adopted):
        chosen = build.run_arguments(options)
        checked = transfer.synthesize(adopted, shape, callbacks=StopAfter(0, "checked"), **chosen)
    height, width = checked.image.shape[-2:]
    check_shape(options.output, (height, width), name="--output")
    resumes = resumes_run(options, checked.settings)
    build.paint(options, StyleTransfer.synthesize, styles, shape, resumes=resumes)
