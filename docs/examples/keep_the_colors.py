"""Keep the photograph's colors, in three ways."""

# --8<-- [start:run]
from nst import StyleTransfer

transfer = StyleTransfer()

# Brightness and strokes of the painting; every color where the photograph has it.
result = transfer.run("photo.jpg", "painting.jpg", preserve_color="luminance")
result.save("luminance.png")

# A painter who had only the photograph's colors to mix from.
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
