"""Write and read the record of a run in an image file, as the EXIF image description."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from nst._utils.json import json_ready
from nst.images.read import check_input, decoding

__all__ = ["read_record", "record_options"]

logger = logging.getLogger("nst")

_EXIF_FORMATS = {"JPEG", "PNG", "TIFF", "WEBP"}
_MAX_JPEG_EXIF = 65_533  # bytes
_KEY, _VERSION = "nst record", 1


def record_options(record: Mapping[str, Any], path: Path, format_name: str) -> dict[str, Any]:
    """Return the options with which Pillow writes a record; none if the format cannot hold it."""
    if format_name not in _EXIF_FORMATS:
        return {}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = json.dumps({_KEY: _VERSION, **json_ready(record)})
    length = len(exif.tobytes())
    if format_name == "JPEG" and length > _MAX_JPEG_EXIF:
        # An error would lose a picture that may have taken an hour; `settings` has the record.
        message = (
            "the record of %r is left out: it has %d bytes, and this format can hold %d; "
            "save as .png to keep it"
        )
        logger.warning(message, str(path), length, _MAX_JPEG_EXIF)
        return {}
    return {"exif": exif}


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings of a run that `StyleTransferResult.save` wrote into an image.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is not an image, or has no record of a known version.

    Examples:
        >>> import torch
        >>> from nst import save_image
        >>> path = save_image(torch.rand(1, 3, 8, 8), "noise.png", record={"seed": 7})
        >>> read_record(path)
        {'seed': 7}
    """
    path = check_input(path, name="path")
    what = f"`path` is {str(path)!r}, which"
    refusal = f"{what} holds no record of nst; use the file as it was saved."
    with decoding(what), Image.open(path) as picture:
        text = picture.getexif().get(ExifTags.Base.ImageDescription, "")
    try:
        record: dict[str, Any] = json.loads(text)
        version = record.pop(_KEY)
    except Exception as error:  # an arbitrary description can raise almost any type
        raise ValueError(refusal) from error
    if version != _VERSION:
        raise ValueError(f"{refusal} Its version is {version!r}; {_VERSION} is needed.")
    return record
