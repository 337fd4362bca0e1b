"""HEIC and AVIF, for which Pillow may need a plug-in."""

import importlib
from contextlib import suppress
from functools import cache

BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis"}
"""Bytes 8 to 12 of the files."""
SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".avifs"}
NEEDED = "a format that needs a plug-in, which is not installed. Run `pip install 'nst[heif]'`."


@cache
def register_plugins() -> None:
    """Let Pillow read and write HEIC if the plug-in is installed; newer Pillows have AVIF."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
