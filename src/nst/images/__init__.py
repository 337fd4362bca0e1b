"""Read, resize and save images, and the record in an image file."""

from nst.images.decode import check_input
from nst.images.load import ImageLike, Picture, fit, load_image, read_picture, resize
from nst.images.write import check_output, read_record, save_image, side_by_side, to_pil

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
