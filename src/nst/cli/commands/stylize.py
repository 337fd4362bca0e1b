"""`nst stylize`: stylize a photograph."""

from argparse import SUPPRESS, Namespace

from nst.cli import arguments, build
from nst.cli.check import check_files, check_run, resumes_run
from nst.cli.parser import Parser
from nst.cli.styles import parse_styles
from nst.transfer import StyleTransfer

HELP = "stylize a photograph"
USAGE = "CONTENT STYLE [STYLE ...] -o OUT"
DESCRIPTION = "Repaint CONTENT in the style of STYLE; several styles are blended."
EXAMPLES = """\
nst stylize photo.jpg painting.jpg -o stylized.png
nst stylize photo.jpg painting.jpg -o large.jpg --size 2048 --upscale
nst stylize photo.jpg painting.jpg:0.7@mask.png other.jpg -o two.png"""


def add_arguments(parser: Parser) -> None:
    arguments.add_pictures(parser)
    parser.add_argument("--content", dest="photograph", help=SUPPRESS)  # for --config
    arguments.add_output(parser, required=False)  # --config may have it
    arguments.add_config(parser)
    arguments.add_checkpoint(parser)
    arguments.add_watching(parser)
    arguments.add_options(parser)


def complete(options: Namespace) -> None:
    options.content = options.content or options.photograph
    arguments.require_pictures(options)
    arguments.require_checkpoint(options)


def run(options: Namespace) -> None:
    check_files(options)
    styles = parse_styles(options.styles)
    record = check_run(options, options.content, styles)
    if options.estimate:
        build.report(build.load_transfer(options).estimate(options.content, styles), options)
    else:
        resumes = resumes_run(options, record)
        build.paint(options, StyleTransfer.run, options.content, styles, resumes=resumes)
