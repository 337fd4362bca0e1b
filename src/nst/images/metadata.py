"""Metadata of a photograph (EXIF) that the result carries over."""

import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

from PIL import Image
from PIL.ExifTags import IFD, Base

from nst._utils.checks import one_of
from nst._utils.text import logger
from nst.images.decode import decoding, opened

MetadataChoice = Literal["default", "all", "none"]
RECORD = "nst record"
"""Key of a record of a run in the description of a picture."""

_RESOLUTION = (Base.XResolution, Base.YResolution, Base.ResolutionUnit)
# Tags that describe a photograph, not the layout of its file or its colors. Those from XPTitle to
# XPSubject are Windows' title, comment, author, keywords and subject.
_DEFAULT = {Base.Artist, Base.Copyright, *_RESOLUTION}
_ALL = {*_DEFAULT, Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime}
_ALL |= {Base.HostComputer, Base.Rating, *range(Base.XPTitle, Base.XPSubject + 1)}
_DATE = {Base.DateTimeOriginal, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal}
_OF_THE_FILE = {Base.ColorSpace, Base.ExifImageWidth, Base.ExifImageHeight, IFD.Interop}


def read_exif(source: Any) -> bytes | None:
    """Return the EXIF data of a file or PIL image; None if there is none, or for other pictures."""
    try:
        if isinstance(source, Image.Image):
            return _read(source)
        if isinstance(source, str | os.PathLike):
            with decoding("`source`"), opened(source) as image:
                return _read(image)
    except Exception as error:  # damaged data can raise almost any type
        logger.warning("the metadata of the photograph is unreadable and left out (%s)", error)
    return None


def _read(image: Image.Image) -> bytes | None:
    exif = copied(image.getexif(), "all")
    dpi = image.info.get("dpi", ())
    if len(dpi) == 2 and all(1 < float(each) < 1e6 for each in dpi):  # 1 is of a file without
        exif.update(zip(_RESOLUTION, (*map(float, dpi), 2), strict=True))
    return exif.tobytes() if len(exif) else None


def carried_over(exif: bytes | None, metadata: MetadataChoice) -> bytes | None:
    """Return the part of a photograph's EXIF data that the result carries over."""
    one_of("metadata", metadata, get_args(MetadataChoice))
    return None if exif is None or metadata == "none" else copied(exif, metadata).tobytes()


def copied(source: Image.Exif | bytes | None, metadata: MetadataChoice = "all") -> Image.Exif:
    """Return a copy of EXIF data without tags that describe the pixels of its file."""
    found = source if isinstance(source, Image.Exif) else Image.Exif()
    made, everything = Image.Exif(), metadata == "all"
    if isinstance(source, bytes):
        found.load(source)
    wanted = (_ALL if everything else _DEFAULT) & found.keys()
    if f'"{RECORD}"' in str(found.get(Base.ImageDescription)):
        wanted -= {Base.ImageDescription}  # the record of the run that made the photograph
    main: dict[int, Any] = {tag: found[tag] for tag in wanted}
    if resolution(main) is None:
        main = {tag: value for tag, value in main.items() if tag not in _RESOLUTION}
    # Pillow decodes text of any encoding as Latin-1, but encodes only ASCII.
    for tag, value in main.items():
        main[tag] = value.encode("latin-1", "replace") if isinstance(value, str) else value
    made.update(_encodable(main))
    details, place = found.get_ifd(IFD.Exif), found.get_ifd(IFD.GPSInfo)
    tags = details.keys() - _OF_THE_FILE if everything else details.keys() & _DATE
    if inner := _encodable({tag: details[tag] for tag in tags}, IFD.Exif):
        made[IFD.Exif] = inner
    if everything and (inner := _encodable(place, IFD.GPSInfo)):
        made[IFD.GPSInfo] = inner
    return made


def _encodable(tags: Mapping[int, Any], directory: IFD | None = None) -> dict[int, Any]:
    """Return the tags of a directory that can be encoded; others are logged."""
    kept = {}
    for tag, value in tags.items():
        alone = Image.Exif()
        alone.update({tag: value} if directory is None else {directory: {tag: value}})
        try:
            alone.tobytes()
        except Exception as error:  # damaged data can raise almost any type
            logger.warning("the EXIF tag %d of the photograph is left out (%s)", tag, error)
        else:
            kept[tag] = value
    return kept


def resolution(exif: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return the pixels per inch, horizontally and vertically; None if unknown or damaged."""
    try:
        factor = 2.54 if exif.get(Base.ResolutionUnit) == 3 else 1  # 3: per centimeter
        x, y = (factor * float(exif[tag]) for tag in _RESOLUTION[:2])
    except Exception:  # a tag is missing, or not a number
        return None
    # 0/0 is NaN, and so is n/0; JPEG stores up to 65535.
    return (x, y) if 0 < x < 65536 and 0 < y < 65536 else None
