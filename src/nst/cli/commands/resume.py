"""`nst resume`: resume a run from its checkpoint."""

from argparse import Namespace

from nst.callbacks.checkpoint import read_checkpoint_record
from nst.cli import arguments, build
from nst.cli.check import check_files
from nst.cli.parser import Parser
from nst.transfer import StyleTransfer

HELP = "resume a killed run from its checkpoint"
USAGE = "FILE -o OUT"
DESCRIPTION = "Resume the run in FILE, with the result of an uninterrupted run. FILE is updated."
EXAMPLES = """\
nst resume run.ckpt -o stylized.png
nst resume run.ckpt -o stylized.png --device cpu --tile 64"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="checkpoint written by --checkpoint")
    arguments.add_output(parser)
    arguments.add_replacements(parser)
    arguments.add_watching(parser)


def run(options: Namespace) -> None:
    check_files(options)
    replaced = build.replacements(options, read_checkpoint_record(options.file))
    with build.live_callbacks(options) as callbacks:
        result = StyleTransfer.resume(options.file, callbacks=callbacks, **replaced)
        build.save_result(result, options)
