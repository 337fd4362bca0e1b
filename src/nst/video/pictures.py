"""Read animations and numbered pictures with Pillow."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path

from PIL import Image
from torch import Tensor

from nst._utils.text import logger
from nst.images import read_picture
from nst.images.decode import decoding
from nst.images.load import picture_shape
from nst.images.plugins import SUFFIXES, register_plugins
from nst.video.base import Decoded, Video

_DEFAULT_DURATION = 100  # milliseconds for which browsers show a frame without a duration
ANIMATED = (".gif", ".webp", ".png", ".apng", ".avif")
"""Suffixes of animations that can be read."""
_NUMBER = re.compile(r"%0?\d*d")
_PART = re.compile(rf"{_NUMBER.pattern}|.", re.DOTALL)


class Animation(Video):
    """A GIF, an animated WebP or an animated PNG."""

    @classmethod
    def open(cls, path: Path, what: str) -> Animation:
        """Read the times of all frames."""
        ends, damage, shape = [0.0], "", (0, 0)
        try:
            with decoding(what), _opened(path) as image:
                shape = image.height, image.width
                with suppress(EOFError):  # after the last frame
                    for i in count():
                        image.seek(i)
                        image.load()
                        ends.append(ends[-1] + (image.info.get("duration") or _DEFAULT_DURATION))
        except ValueError as error:
            if len(ends) < 2:
                raise
            damage = str(error)
        if len(ends) < 3 and not damage:
            raise ValueError(f"{what} is one picture. Use `nst stylize`, or StyleTransfer.run.")
        *times, end = (Fraction(round(time), 1000) for time in ends)
        return cls(path, shape, len(times) / end, tuple(times), end, Fraction(1, 1000), damage)

    def _decode(self, first: int) -> Decoded:
        with _opened(self.path) as image:
            for index in range(first, len(self.all_times)):
                with decoding(f"`{self.path.name}`"):
                    image.seek(index)
                yield index, partial(_pixels, image)


def _opened(path: Path) -> Image.Image:
    """Open an animation; Pillow would run Ghostscript for an EPS, whatever its suffix."""
    formats = {Image.registered_extensions().get(suffix) for suffix in ANIMATED} & Image.OPEN.keys()
    return Image.open(path, formats=sorted(filter(None, formats)))


@dataclass(frozen=True)
class Pictures(Video):
    """Pictures, one for each frame."""

    files: tuple[Path, ...] = ()

    @classmethod
    def open(cls, path: Path, name: str, rate: Fraction) -> Pictures:
        """Find the pictures of a folder or of a pattern, and check their sizes."""
        files, sizes = pictures_in(path, name), set[tuple[int, int]]()
        for file in files:
            sizes.add(picture_shape(file))
            if len(sizes) > 1:
                raise ValueError(
                    f"`{name}` is {str(path)!r}, which contains pictures of several sizes, such as "
                    f"{file.name!r}. Resize them to one."
                )
        times = tuple(i / rate for i in range(len(files) + 1))
        parts = (path, sizes.pop(), rate, times[:-1], times[-1], 1 / rate)
        return cls(*parts, files=tuple(file.absolute() for file in files))

    def _decode(self, first: int) -> Decoded:
        return ((i, partial(_pixels, self.files[i])) for i in range(first, len(self.files)))


def _pixels(source: Path | Image.Image) -> Tensor:
    return read_picture(source, name="frame").pixels


def is_pattern(path: Path) -> bool:
    """Return whether a name is a pattern of several files, such as `frame-%04d.png`."""
    return not path.exists() and any(each in path.name for each in "*?%")


def numbered(path: Path, number: int) -> Path:
    """Return the name of a file of a pattern."""
    return path.with_name(_NUMBER.sub(lambda found: found[0] % number, path.name))


def pictures_in(path: Path, name: str) -> list[Path]:
    """Return the pictures of a folder or pattern, by name and number; warn about other files."""
    register_plugins()
    formats = Image.registered_extensions()  # also loads Pillow's plug-ins, which fill Image.OPEN
    # Without the plug-in, reading a HEIC file names it.
    suffixes = {suffix for suffix, name in formats.items() if name in Image.OPEN} | SUFFIXES
    found = path.iterdir() if path.is_dir() else _matching(path)
    files = sorted((p for p in found if p.is_file() and p.name[0] != "."), key=_natural)
    pictures = [file for file in files if file.suffix.lower() in suffixes]
    if not pictures:
        what = f"`{name}` is {str(path)!r}, which"
        raise ValueError(f"{what} contains no pictures. Check the path.")
    if others := [file.name for file in files if file not in pictures]:
        logger.warning("skipped files without the suffix of a picture: %s", ", ".join(others))
    return pictures


def _matching(path: Path) -> list[Path]:
    """Return the files of a pattern, in which only `*`, `?` and numbers are special."""
    special = {"*": ".*", "?": "."}
    parts = (part[0] for part in _PART.finditer(path.name))
    regex = (r"\d+" if len(each) > 1 else special.get(each, re.escape(each)) for each in parts)
    name = re.compile("".join(regex), re.DOTALL)
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    return [file for file in files if name.fullmatch(file.name)]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
