"""A style in one word of the command line: `PATH[:WEIGHT][@REGION][,KEY=VALUE ...]`."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from nst.images import check_input
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style

__all__ = ["FORM", "parse_style", "paths_of"]

FORM = "PATH[:WEIGHT][@REGION][,mask=PATH][,scale=X][,rotation=DEGREES]"
"""How a style is written."""

_OPTION = re.compile(r",(weight|region|mask|scale|rotation)=([^,]*)$")
_WEIGHT = re.compile(r":([0-9.eE+-]+)$")


def parse_style(spec: str, name: str = "style") -> Style:
    """Read a style as it is written on the command line.

    A file whose whole name is what is written is that file, whatever signs are in it. A file that
    `Style.save` wrote is told by its content.

    Args:
        spec: `PATH[:WEIGHT][@REGION]`, then any of `,weight=`, `,region=`, `,mask=`, `,scale=`,
            `,rotation=`; region and mask may be `alpha`.
        name: What it is called in messages.

    Raises:
        FileNotFoundError: There is no file at one of the paths.
        ValueError: A part is written in another way, or out of range.

    Examples:
        >>> from PIL import Image
        >>> Image.new("RGB", (8, 8)).save("waves.png")
        >>> parse_style("waves.png:0.7,scale=0.5")
        Style(image='waves.png', weight=0.7, region=None, mask=None, scale=0.5, rotation=0.0)
    """
    path, parts = _split(spec)
    if not path:
        raise ValueError(f"`{name}` is {spec!r}, which names no file. Write it as {FORM}.")
    check_input(path, name=name)
    arguments: dict[str, Any] = {}
    for key, value in parts.items():
        if key in ("region", "mask"):
            if value != "alpha":
                check_input(value, name=f"{name}, {key}")
            arguments[key] = value
        else:
            arguments[key] = _number(name, key, value)
    if zipfile.is_zipfile(path):
        return Style(StyleStatistics.load(path), **arguments)
    return Style(path, **arguments)


def paths_of(spec: str) -> dict[str, str]:
    """Return the files that a style consists of: its `image`, and `region` and `mask` if any.

    Args:
        spec: As in `parse_style`; nothing is checked.

    Examples:
        >>> paths_of("waves.png:0.7@sky.png,mask=alpha")
        {'image': 'waves.png', 'region': 'sky.png'}
    """
    path, parts = _split(spec)
    masks = {key: parts[key] for key in ("region", "mask") if key in parts}
    return {"image": path, **{key: value for key, value in masks.items() if value != "alpha"}}


def _split(spec: str) -> tuple[str, dict[str, str]]:
    """Take the parts off from the right, until what is left is a file or cannot be divided."""
    path = spec
    parts: dict[str, str] = {}
    while not _is_file(path) and (found := _OPTION.search(path)):
        path = path[: found.start()]
        parts.setdefault(found[1], found[2])
    if not _is_file(path) and "@" in path:
        path, parts["region"] = path.rsplit("@", 1)
    if not _exists(path) and (found := _WEIGHT.search(path)):
        path = path[: found.start()]
        parts.setdefault("weight", found[1])
    return path, parts


def _is_file(path: str) -> bool:
    """Whether this is the whole name of a file, but for a weight."""
    return _exists(path) or _exists(_WEIGHT.sub("", path))


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a sign that no path may have
        return False


def _number(name: str, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(
            f"`{name}` has {key}={value!r}; a number is needed. Write it as {FORM}."
        ) from None
