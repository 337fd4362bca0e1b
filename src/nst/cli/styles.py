"""Parse a style of the command line: `PATH[:WEIGHT][@REGION][,KEY=VALUE ...]`."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nst.images import check_input
from nst.styles.mask import MaskLike
from nst.styles.statistics import StyleStatistics
from nst.styles.style import Style

FORM = "PATH[:WEIGHT][@REGION][,mask=PATH][,scale=X][,rotation=DEGREES]"
"""Syntax of a style."""
_PARTS = {
    ":WEIGHT": "weight among the styles, at least 0 (default: 1)",
    "@REGION": "mask of the part of the photograph to repaint",
    ",mask=PATH": "mask of the part of the painting to learn from",
    ",scale=X": "size of the strokes, above 0 (default: 1)",
    ",rotation=DEGREES": "counterclockwise rotation in degrees (default: 0)",
}

_OPTION = re.compile(r"(.*),(weight|region|mask|scale|rotation)=(.*)", re.DOTALL)
_COLOR = re.compile("#[0-9A-Fa-f]{6}$")
_WEIGHT = re.compile(r":([0-9.eE+-]+)$")


def explain(form: str = FORM) -> str:
    """Return the syntax of a style for the help of a command."""
    lines = [f"  {part:19} {about}" for part, about in _PARTS.items() if part in form]
    masks = "A mask is a picture, alpha, or PATH#RRGGBB for the pixels of one color."
    return "\n".join([f"STYLE is {form}, where PATH is a painting or a style file:", *lines, masks])


def parse_styles(specs: Sequence[str]) -> list[Style]:
    """Return the styles of a command line."""
    return [parse_style(spec, f"style[{i}]") for i, spec in enumerate(specs)]


def parse_style(spec: str, name: str = "style") -> Style:
    """Return a style of a command line.

    A text that is the name of a file means that file. Style files are recognized by their content.

    Examples:
        >>> from PIL import Image
        >>> Image.new("RGB", (8, 8)).save("waves.png")
        >>> parse_style("waves.png:0.7,scale=0.5")
        Style(image='waves.png', weight=0.7, region=None, mask=None, scale=0.5, rotation=0.0)
    """
    path, parts = split_style(spec)
    if not path:
        raise ValueError(f"`{name}` is {spec!r}, which names no file. Write it as {FORM}.")
    check_input(path, name=name)
    arguments: dict[str, Any] = dict(parts)
    for key, value in parts.items():
        if key not in ("region", "mask"):
            try:
                arguments[key] = float(value)
            except ValueError:
                about = f"`{name}` has {key}={value!r}; a number is needed. Write it as {FORM}."
                raise ValueError(about) from None
        elif value != "alpha":
            arguments[key] = parse_mask(value)
            check_input(mask_file(value), name=f"{name}, {key}")
    return Style(StyleStatistics.load(path) if zipfile.is_zipfile(path) else path, **arguments)


def in_folder(spec: str) -> tuple[Path, str] | None:
    """Return the folder that a style names, and what follows it; None if it names a file."""
    path, _ = split_style(spec)
    return (Path(path), spec[len(path) :]) if Path(path).is_dir() else None


def paths_of(spec: str, name: str) -> dict[str, str]:
    """Return the files of a style, by their names in messages."""
    path, parts = split_style(spec)
    masks = [key for key in ("region", "mask") if parts.get(key, "alpha") != "alpha"]
    return {name: path, **{f"{name}, {key}": mask_file(parts[key]) for key in masks}}


def parse_mask(text: str) -> MaskLike:
    """Return a mask of a command line: a name, or of `labels.png#ff0000` the labels and the color.

    Examples:
        >>> parse_mask("labels.png#ff0000"), parse_mask("alpha")
        (('labels.png', '#ff0000'), 'alpha')
    """
    color = _COLOR.search(text)
    return text if color is None or identity(text) else (text[: color.start()], color[0])


def mask_file(text: str) -> str:
    """Return the path of a mask of a command line."""
    mask = parse_mask(text)
    return str(mask[0]) if isinstance(mask, tuple) else text


def split_style(spec: str) -> tuple[str, dict[str, str]]:
    """Return the path of a style, and its parts: those that follow a file or cannot be a name."""
    path, parts = spec, dict[str, str]()
    while not _is_file(path) and (found := _OPTION.fullmatch(path)):
        path = found[1]
        parts.setdefault(found[2], found[3])
    if not _is_file(path) and "@" in path:
        path, parts["region"] = path.rsplit("@", 1)
    if identity(path) is None and (found := _WEIGHT.search(path)):
        path = path[: found.start()]
        parts.setdefault("weight", found[1])
    return path, parts


def _is_file(path: str) -> bool:
    """Return whether this names a file, with or without a weight."""
    return any(identity(name) is not None for name in (path, _WEIGHT.sub("", path)))


def identity(path: str | Path) -> tuple[int, int] | None:
    """Return the device and the inode of a file; None if it does not exist."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # perhaps no path can have this name
        return None
    return status.st_dev, status.st_ino
