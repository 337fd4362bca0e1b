"""Stylize a video in a folder of finished frames, from which the same command resumes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from nst._batch.flow import as_flow, follow
from nst._record.replay import run_difference
from nst._utils.files import reserve, write_whole
from nst._utils.tensors import FileFormat
from nst.images import load_image, resize, save_image
from nst.result import StyleTransferResult
from nst.transfer import StyleTransfer
from nst.video import DamagedVideo, Frame, Video
from nst.video.write import is_one_file, picture_pattern

_SCHEMA = {"end": int, "content": Tensor, "image": Tensor}
_STATE = FileFormat("video state", 1, _SCHEMA, "Delete its folder to start again.")
"""Number of the next frame, and the last finished one, which it follows."""


@dataclass(frozen=True)
class Segment:
    """Frames of a video from one cut to the next, and the folder of the finished ones."""

    folder: Path
    video: Video
    first: int
    last: int
    arguments: Mapping[str, Any]
    """Arguments of `StyleTransfer.frames` that `run` does not have."""

    @property
    def _state(self) -> Path:
        return self.folder / f"{self.first:06d}.state"

    @property
    def end(self) -> int:
        """Number after the last finished frame."""
        return int(_STATE.read(self._state, part="end")) if self._state.exists() else self.first

    def finished(self) -> Iterator[Frame]:
        """Read the finished frames."""
        for number in range(self.first, self.end):
            path = self.folder / f"{number:06d}.png"
            if path.exists():  # else the video lacks the frame
                yield Frame(load_image(path), self.video.times[number], number)

    def stylize(
        self, transfer: StyleTransfer, style: Any, **arguments: Any
    ) -> Generator[StyleTransferResult, None, None]:
        """Stylize the other frames; a process killed at any moment loses at most one."""
        first, numbers, previous, value = self.end, deque[int](), None, None
        if first > self.first:
            value = _STATE.read(self._state)
            previous = value["content"], value["image"]

        def pictures() -> Iterator[Tensor]:
            for frame in self.video.part(first, self.last).frames():
                numbers.append(first + frame.number)
                yield frame.pixels

        arguments = {**arguments, **self.arguments, "previous": previous}
        for result in transfer.frames(pictures(), style, **arguments):
            if result.stop_reason == "interrupted":
                raise KeyboardInterrupt
            number = numbers.popleft()
            save_image(result.image, self.folder / f"{number:06d}.png")
            value = {"end": number + 1, "content": result.content, "image": result.image}
            _STATE.write(self._state, value, sole_writer=True)
            yield result
        if value is not None and value["end"] < self.last:  # the last frames cannot be decoded
            _STATE.write(self._state, {**value, "end": self.last}, sole_writer=True)


class EmptySegment(Exception):
    """Raised if none of the frames that are left of a segment can be decoded."""


class SegmentTransfer(StyleTransfer):
    """A transfer whose contents are segments of a video, so that `map` can distribute them."""

    @classmethod
    def of(cls, transfer: StyleTransfer) -> SegmentTransfer:
        """Convert a transfer."""
        return cls(**{each.name: getattr(transfer, each.name) for each in fields(transfer)})

    def run(self, content: Any, style: Any, **arguments: Any) -> StyleTransferResult:
        """Stylize a segment, and return its last result; raise `EmptySegment` if it has none."""
        segment: Segment = content
        if not (last := deque(segment.stylize(self, style, **arguments), maxlen=1)):
            raise EmptySegment
        return last[0]


def folder_of(output: Path) -> Path:
    """Return the folder of finished frames, which is next to the output."""
    is_file = is_one_file(output, name="--output")
    place = (output if is_file else picture_pattern(output).parent).absolute()
    return place.with_name(f"{place.name}.partial")


@contextmanager
def workspace(output: Path, job: Mapping[str, Any]) -> Iterator[Path]:
    """Create the folder of finished frames, or use that of the same command; delete it at the end.

    If an error occurs in the block, the folder stays if there are finished frames.
    """
    folder = folder_of(output)
    what = f"`--output` is {str(output)!r}, for which {folder.name!r}"
    try:
        release = reserve(folder)
    except BlockingIOError as error:
        remedy = "Wait until it ends, or choose another name."
        raise BlockingIOError(f"{what} is used by another nst. {remedy}") from error
    except OSError as error:
        raise _unusable(what, error) from error
    try:
        try:
            folder.mkdir(exist_ok=True)
            difference = _difference(folder, json.loads(json.dumps(job)))
        except OSError as error:
            raise _unusable(what, error) from error
        if difference:
            raise FileExistsError(
                f"{what} holds the unfinished video of another command (its {difference} differs). "
                "Run that one to finish it, choose another name, or delete the folder."
            )
        _write_json(folder / "job.json", job)
        is_complete = False
        try:
            yield folder
            is_complete = True
        finally:
            if is_complete or not any(folder.glob("*.state")):
                _delete(folder)
    finally:
        release()


def _unusable(what: str, error: OSError) -> OSError:
    return type(error)(f"{what} cannot be created or read ({error.strerror}). Choose another name.")


def _delete(folder: Path) -> None:
    """Delete the folder of finished frames, or the content of a linked one."""
    with suppress(OSError):  # the video is written
        (folder / "job.json").unlink()  # first, so that no command resumes from a part of the rest
        for each in folder.iterdir():
            each.unlink()
        if not folder.is_symlink():
            folder.rmdir()


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, memoryview(json.dumps(value).encode()), sole_writer=True)


def _difference(folder: Path, job: Mapping[str, Any]) -> str | None:
    """Return the name of a setting that makes other frames than those of a folder; else None."""
    path = folder / "job.json"
    if all(each.name.startswith(".nst-") for each in folder.iterdir()):
        return None  # new, or of a process that was killed before it wrote the file
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if difference := run_difference(stored["record"], job["record"]):
            return difference
        return next((name for name in job if name != "record" and stored[name] != job[name]), None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"file {path.name!r}"


def divide(
    folder: Path, video: Video, arguments: Mapping[str, Any], shape: tuple[int, int] | None
) -> list[Segment]:
    """Return the stored segments, or new ones; `shape`, of stylized frames, divides at cuts."""
    path, cuts, before = folder / "cuts.json", list[int](), None
    if not path.exists():
        flow = as_flow(arguments["flow"])
        with suppress(DamagedVideo):  # which is reported later
            for frame in video.frames() if shape else ():
                pixels = resize(frame.pixels, shape or video.shape)
                if before is not None and follow(flow, before, before, pixels) is None:
                    cuts.append(frame.number)
                before = pixels
        _write_json(path, cuts)
    bounds = [0, *json.loads(path.read_text(encoding="utf-8")), len(video)]
    return [Segment(folder, video, *each, arguments) for each in pairwise(bounds)]
