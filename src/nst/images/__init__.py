"""Read, resize and save images, and the record in an image file."""

from nst.images.decode import ImageLike, Picture, load_image, read_picture
from nst.images.metadata import read_record
from nst.images.read import check_input
from nst.images.resize import fit, resize, side_by_side
from nst.images.write import check_output, save_image, to_pil

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
