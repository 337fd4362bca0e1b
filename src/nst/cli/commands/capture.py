"""`nst capture`: save a style to a file."""

from argparse import ArgumentTypeError, Namespace

from nst.cli import arguments, build
from nst.cli.check import check_files, weightless
from nst.cli.parser import Parser
from nst.cli.styles import FORM, explain, parse_styles
from nst.transfer import StyleTransfer

HELP = "save a style to a file, without the painting"
USAGE = "STYLE -o OUT"
DESCRIPTION = (
    "Save the statistics of STYLE for the selected losses and network to a file of about 1 MB."
)
EXAMPLES = """\
nst capture painting.jpg -o painting.nst --sizes 256,512
nst stylize photo.jpg painting.nst -o stylized.png"""
_OF_RUNS = ["num_steps", "optimizer", "average", "normalize_gradients", "style_weight", "tv"]
_OF_RUNS += ["upscale", "learning_rate"]


def add_arguments(parser: Parser) -> None:
    parser.epilog = explain(FORM.replace("[:WEIGHT][@REGION]", ""))
    parser.add_argument("styles", metavar="STYLE", nargs=1, help="painting")
    arguments.add_output(parser, of_run=False)
    about = "longer sides of the pictures to stylize (default: the scales of --size)"
    parser.add_argument("--sizes", type=_whole_numbers, metavar="N,N", help=about)
    arguments.add_options(parser, StyleTransfer.capture, without=_OF_RUNS)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is invalid; use whole numbers as in 256,512") from None


def complete(options: Namespace) -> None:
    for flag, name in (("--size", "size"), ("--scales", "num_scales")):
        if options.sizes is not None and name in options:
            options.parser.error(f"`{flag}` has no effect with `--sizes`; leave it out")


def run(options: Namespace) -> None:
    check_files(options)
    (style,) = parse_styles(options.styles)
    if style.weight != 1 or style.region is not None:
        raise ValueError(
            f"`style[0]` is {options.styles[0]!r}, with a weight or a region, which a style file "
            "does not store. Give it where the file is used."
        )
    with weightless(options, [style]) as (transfer, adopted):
        transfer.capture(adopted[0], options.sizes)
    captured = build.load_transfer(options).capture(style, options.sizes)
    build.report(captured.save(options.output).resolve(), options)
