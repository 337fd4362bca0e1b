"""`nst video`: stylize a video."""

from argparse import Namespace
from contextlib import ExitStack
from dataclasses import replace
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst._utils.files import check_place
from nst._utils.plain import hash_file, hash_network
from nst._utils.text import one_line, say
from nst.callbacks.base import RunState
from nst.cli import arguments, build
from nst.cli.check import check_inputs, check_run, weightless
from nst.cli.parser import Parser
from nst.cli.segments import EmptySegment, Segment, SegmentTransfer, divide, folder_of, workspace
from nst.cli.styles import identity, parse_styles
from nst.cli.workers import complete_devices, has_workers, workers
from nst.images import fit
from nst.styles.style import Style
from nst.transfer import StyleTransfer
from nst.video import DamagedVideo, Video, check_video_output, open_video, write_video

HELP = "stylize a video"
USAGE = "VIDEO STYLE [STYLE ...] -o OUT"
DESCRIPTION = (
    "Stylize VIDEO in the style of STYLE, so that the frames follow the motion. An interrupted "
    "command resumes after the last finished frame when it is called again."
)
EXAMPLES = """\
nst video video.mp4 painting.jpg -o stylized.mp4
nst video video.mp4 painting.jpg -o preview.webm --size 192 --end 2
nst video frames painting.jpg -o stylized --rate 30"""
_PART = ("start", "end", "every", "rate")
_FRAME_STEPS: int = signature(StyleTransfer.frames).parameters["num_steps"].default


def add_arguments(parser: Parser) -> None:
    about = (
        "video file, GIF, animated WebP, folder of pictures, or a pattern such as frames/%%04d.png"
    )
    arguments.add_pictures(parser, "video", about)
    arguments.add_output(parser, required=False, of_run=False)
    arguments.add_config(parser)
    arguments.add_page(parser)
    arguments.add_workers(parser)
    arguments.add_parameters(parser, open_video, _PART)
    arguments.add_parameters(parser, write_video, ("codec", "crf"))
    about = "optical flow; none is for a still camera (default: dis)"
    parser.add_argument("--flow", choices=["dis", "none"], default="dis", help=about)
    arguments.add_parameters(parser, StyleTransfer.frames, ["temporal_weight"])
    about = (
        f"number of steps for a frame that follows another, at least 1 (default: {_FRAME_STEPS})"
    )
    parser.add_argument("--frame-steps", type=int, default=_FRAME_STEPS, metavar="N", help=about)
    arguments.add_options(parser)


def complete(options: Namespace) -> None:
    arguments.require_pictures(options, "video")
    complete_devices(options)
    if options.page is not None and has_workers(options):
        options.parser.error("`--page` cannot show the frames of workers; leave one of them out")


def run(options: Namespace) -> int:
    video, output = _open(options)
    styles, frame = parse_styles(options.styles), next(iter(video), None)
    if frame is None:
        raise ValueError(f"`VIDEO` is {options.video!r}, without a readable frame. Convert it.")
    record = check_run(options, frame, styles)
    settings: dict[str, Any] = {"flow": None if options.flow == "none" else options.flow}
    settings["temporal_weight"] = getattr(options, "temporal_weight", None)
    settings["num_steps"] = options.frame_steps
    with weightless(options, styles) as (transfer, adopted):
        all_arguments = {**settings, **build.run_arguments(options)}
        transfer.frames([], adopted, **all_arguments)  # raises for wrong ones
        shape = transfer.enlarged(video.shape)
        shape = fit(shape, transfer.size_of(shape))
    if options.estimate:
        build.report(_estimate(options, video, frame, styles), options)
        return 0
    transfer = build.load_transfer(options)
    part = {name: getattr(options, name, None) for name in _PART}
    files = getattr(video, "files", [video.path])
    job = {"record": record, **settings, **part, "video": [hash_file(each) for each in files]}
    job["network"] = hash_network(transfer.extractor)  # the file of the weights may change
    with workspace(output, job) as folder:
        segments = divide(folder, video, settings, shape if has_workers(options) else None)
        try:
            damage = _stylize(segments, styles, frame, transfer, options)
            return _write(segments, damage, output, options)
        except BaseException:
            if done := _count(segments):
                text = f"{done} of {len(video)} frames are finished; the same command resumes"
                say(f"nst: {text}", "stderr")
            raise


def _open(options: Namespace) -> tuple[Video, Path]:
    """Open the video, and check the places of all files."""
    inputs = [("VIDEO", options.video), *check_inputs(options)]
    video = open_video(options.video, name="VIDEO", **arguments.given(options, _PART))
    inputs += [("VIDEO", str(path)) for path in getattr(video, "files", ())]
    encoder = arguments.given(options, ("codec", "crf"))
    # An interrupted command may have written some of the pictures.
    job = folder_of(Path(options.output)) / "job.json"
    encoder["overwrite"] = identity(job) is not None
    output = check_video_output(options.output, name="--output", like=video, **encoder)
    if identity(job.parent) is None:
        check_place(job.parent, name="--output", example="out.mp4")
    for name, path in inputs:
        if output.exists() and identity(output) == identity(path):
            what = f"`--output` is {str(output)!r}, which is also `{name}` and would be overwritten"
            raise ValueError(f"{what}. Choose another name.")
    return video, output


def _estimate(options: Namespace, video: Video, frame: Tensor, styles: list[Style]) -> str:
    """Return the time of a video without cuts as text, and the memory."""
    transfer = build.load_transfer(options)
    later = transfer.replace(num_steps=options.frame_steps, num_scales=1).estimate(frame, styles)
    first = transfer.estimate(frame, styles)
    seconds = first.seconds + (len(video) - 1) * later.seconds
    return f"{len(video)} frames: {replace(first, seconds=seconds)}"


def _count(segments: list[Segment]) -> int:
    return sum(each.end - each.first for each in segments)


def _stylize(
    segments: list[Segment],
    styles: list[Style],
    frame: Tensor,
    transfer: StyleTransfer,
    options: Namespace,
) -> DamagedVideo | None:
    """Stylize the frames that are not finished; return the error of a damaged video."""
    left: list[Any] = [each for each in segments if each.end < each.last]
    done, total, damage = _count(segments), segments[-1].last, None
    if done and left and not options.quiet:
        say(f"nst: {done} of {total} frames are finished; the others follow", "stderr")
    if not left:
        return None
    if not has_workers(options):
        state = RunState(frame, total, step=done, unit="frame")
        return _one_by_one(left, styles, transfer, options, state)
    with workers(options) as (executor, settings):
        settings |= {"executor": executor, **build.run_arguments(options)}
        for each in SegmentTransfer.of(transfer).map(left, styles, **settings):
            if isinstance(each.error, DamagedVideo):
                damage = damage or each.error
            elif each.error is not None and not isinstance(each.error, EmptySegment):
                raise each.error
            build.report(f"{_count(segments)} of {total} frames", options)
    return damage


def _one_by_one(
    segments: list[Segment],
    styles: list[Style],
    transfer: StyleTransfer,
    options: Namespace,
    state: RunState,
) -> DamagedVideo | None:
    """Stylize the frames in this process, and show the progress."""
    with build.live_callbacks(options, every=1) as callbacks, ExitStack() as stack:
        for callback in callbacks:
            callback.on_start(state)
            stack.callback(callback.on_end, state)
        try:
            for segment in segments:
                for result in segment.stylize(transfer, styles, **build.run_arguments(options)):
                    state.step, state.image = state.step + 1, result.image
                    state.losses = {n: torch.tensor(v[-1]) for n, v in result.history.items()}
                    for callback in callbacks:
                        callback.on_step(state)
        except DamagedVideo as error:
            return error
        finally:
            is_complete = all(each.end == each.last for each in segments)
            state.stop("completed" if is_complete else "stopped")
    return None


def _write(
    segments: list[Segment], damage: DamagedVideo | None, output: Path, options: Namespace
) -> int:
    """Write the finished frames, up to the damage if there is one; return the exit status."""
    video = segments[0].video
    end = len(video)
    if damage is not None:
        end = next((each.end for each in segments if each.end < each.last), end)
    count = sum(int(each.stem) < end for each in segments[0].folder.glob("[0-9]*.png"))
    if count == 0 and damage is not None:
        raise damage
    frames = chain.from_iterable(each.finished() for each in segments)
    settings = {**arguments.given(options, ("codec", "crf")), "overwrite": True}
    settings["like"] = video.part(0, end)
    write_video((each for each in frames if each.number < end), output, **settings)
    if damage is not None:
        say(f"nst: error: {one_line(damage)} The {count} frames before are written.", "stderr")
    build.report(f"{count} of {len(video)} frames", options)
    build.report(output.resolve(), options)
    return 0 if damage is None else 1
