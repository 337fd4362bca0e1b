"""Draw a mask: the upper part of a photograph, with a soft edge."""

from PIL import Image, ImageDraw, ImageFilter

with Image.open("photo.jpg") as photo:
    width, height = photo.size

mask = Image.new("L", (width, height), 0)  # black
ImageDraw.Draw(mask).rectangle((0, 0, width, height // 2), fill=255)
mask = mask.filter(ImageFilter.GaussianBlur(width / 50))
mask.save("upper.png")
