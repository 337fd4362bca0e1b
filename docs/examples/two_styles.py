"""Use one style in the white part of a mask, and another in the black part."""

from PIL import Image, ImageOps

from nst import Style, StyleTransfer

mask = Image.open("mask.png")  # white is the cup, black the table
result = StyleTransfer().run(
    "photo.jpg",
    [
        Style("painting.jpg", region=mask),
        Style("other.jpg", region=ImageOps.invert(mask)),
    ],
)
result.save("two-styles.png")
