"""Pictures in and out: load, resize, convert, save; the record in a file."""

from nst.images.decode import ImageLike, Picture, read_picture
from nst.images.files import (
    check_output,
    fit,
    load_image,
    read_record,
    resize,
    save_image,
    side_by_side,
    to_pil,
)
from nst.images.read import check_input

__all__ = [
    "ImageLike",
    "Picture",
    "check_input",
    "check_output",
    "fit",
    "load_image",
    "read_picture",
    "read_record",
    "resize",
    "save_image",
    "side_by_side",
    "to_pil",
]
