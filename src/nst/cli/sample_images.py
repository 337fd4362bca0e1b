"""The sample images: photographs of scikit-image, and paintings that are part of the package.

`scripts/make_samples.py` paints them.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from PIL import Image


def painting(name: str) -> bytes:
    """Return the JPEG file of a painting, `"evening"` or `"woodcut"`."""
    return (resources.files("nst.cli") / "samples" / f"{name}.jpg").read_bytes()


def photograph(name: str) -> Image.Image:
    """Return a photograph of scikit-image, by the name of the function in `skimage.data`."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "`nst demo` and `nst samples` need scikit-image, which is not installed. "
            "Run `pip install 'nst[demo]'`."
        ) from error
    untyped: Any = data
    return Image.fromarray(getattr(untyped, name)())
