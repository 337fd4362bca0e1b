"""Preserve the photograph's colors in three ways."""

# --8<-- [start:run]
from nst import StyleTransfer

transfer = StyleTransfer()

# Paint only the brightness; every pixel has the photograph's color.
result = transfer.run("photo.jpg", "painting.jpg", preserve_color="luminance")
result.save("luminance.png")

# Give the painting the photograph's colors before the run.
result = transfer.run("photo.jpg", "painting.jpg", preserve_color="symmetric", color_when="before")
result.save("palette.png")
# --8<-- [end:run]

# --8<-- [start:after]
from nst import load_image, save_image
from nst.color import preserve_color

plain = transfer.run("photo.jpg", "painting.jpg")
photo = load_image("photo.jpg", size=512)
for method in ("luminance", "symmetric", "histogram"):
    save_image(preserve_color(plain.image, photo, method, when="after"), f"{method}.png")
# --8<-- [end:after]
