"""`nst rerun`: make a picture again from its record."""

from argparse import Namespace

from nst.cli import arguments, build
from nst.cli.check import check_files
from nst.cli.parser import Parser
from nst.images import read_record
from nst.transfer import StyleTransfer

HELP = "make a picture again from its record"
USAGE = "PICTURE -o OUT"
DESCRIPTION = "Make PICTURE again from the record in its file and the original images."
EXAMPLES = """\
nst rerun stylized.png -o again.png
nst rerun stylized.png -o again.png --inputs ~/pictures --device cpu"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("picture", metavar="PICTURE", help="picture that nst saved")
    arguments.add_output(parser)
    about = "folder to search, or a file; may be repeated"
    parser.add_argument("--inputs", metavar="PATH", action="append", default=[], help=about)
    arguments.add_replacements(parser)


def run(options: Namespace) -> None:
    check_files(options)
    replaced = build.replacements(options, read_record(options.picture))
    callbacks = build.make_callbacks(options)
    result = StyleTransfer.rerun(options.picture, options.inputs, callbacks=callbacks, **replaced)
    build.save_result(result, options)
