"""Options from a TOML file."""

import difflib
import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nst.cli.arguments import KNOWN_WORDS
from nst.cli.styles import split_style
from nst.images import check_input

_STYLE_KEYS = ("image", "weight", "region", "mask", "scale", "rotation")
_PATHS = ("content", "output", "where", "init", "weights", "checkpoint")


def read_config(path: str, options: Mapping[str, bool]) -> list[str]:
    """Return the options of a TOML file as words of a command line.

    Keys are names of `options`, whose values are whether each takes a value. `style` is a path or
    a table with `image` and arguments of `Style`, or several. Paths are relative to the file.
    """
    check_input(path, name="--config")
    toml = _toml_reader()
    try:
        config = toml.loads(Path(path).read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`--config` is {path!r}, which is not TOML: {error}. Use the form of TOML."
        ) from error
    words: list[str] = []
    for key, value in config.items():
        name = key.replace("_", "-")
        if name not in options:
            guess = difflib.get_close_matches(name, options, n=1, cutoff=0)
            raise ValueError(
                f"`--config`: {path!r} has {key!r}, which is not an option. Did you mean "
                f"{guess[0]!r}?"
            )
        words += _words(name, value, Path(path).parent, options[name])
    return words


def _toml_reader() -> Any:
    """Return `tomllib`, or before Python 3.11 its twin `tomli`."""
    for name in ("tomllib", "tomli"):
        with suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError("`--config` needs tomli on Python 3.10. Run `pip install 'nst[toml]'`.")


def _words(name: str, value: Any, folder: Path, takes_value: bool) -> Iterator[str]:
    if name == "style":
        for each in value if isinstance(value, list) else [value]:
            yield f"--style={_style(each, folder)}"
    elif takes_value:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"`--config`: {name!r} is {value!r}; a text or a number is needed.")
        is_path = name in _PATHS and str(value) not in KNOWN_WORDS.get(name, ())
        yield f"--{name}={folder / str(value) if is_path else value}"
    elif not isinstance(value, bool):
        raise ValueError(f"`--config`: {name!r} is {value!r}; true or false is needed.")
    elif value:
        yield f"--{name}"


def _style(value: Any, folder: Path) -> str:
    """Return a style in the form of the command line, with paths from the current folder."""
    if isinstance(value, str):
        image, parts = split_style(str(folder / value))
        return _joined(image, parts, folder)
    if not isinstance(value, dict) or "image" not in value:
        raise ValueError(
            f"`--config`: a style is {value!r}; a path is needed, or a table with 'image'."
        )
    unknown = [key for key in value if key not in _STYLE_KEYS]
    if unknown:
        raise ValueError(f"`--config`: a style has {unknown[0]!r}; use {', '.join(_STYLE_KEYS)}.")
    return _joined(str(folder / str(value["image"])), value, folder)


def _joined(image: str, parts: Mapping[str, Any], folder: Path) -> str:
    """Return a style in the form of the command line, with masks from a folder."""
    words = [image]
    for key in _STYLE_KEYS[1:]:
        if key in parts:
            is_path = key in ("region", "mask") and parts[key] != "alpha"
            words.append(f"{key}={folder / str(parts[key]) if is_path else parts[key]}")
    return ",".join(words)
