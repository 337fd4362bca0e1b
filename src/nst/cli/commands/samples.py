"""`nst samples`: write sample images to a folder."""

from argparse import Namespace
from importlib import resources
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from nst._utils.checks import required
from nst.cli.build import report
from nst.cli.parser import Parser
from nst.images import check_output

HELP = "write sample images to a folder"
USAGE = "[FOLDER]"
DESCRIPTION = (
    "Write photo.jpg, painting.jpg, other.jpg and mask.png to FOLDER: a photograph of "
    "scikit-image, two paintings, and a mask."
)
EXAMPLES = """\
nst samples
nst samples pictures"""
NAMES = ("photo.jpg", "painting.jpg", "other.jpg", "mask.png")
# Saucer and cup: left, top, right, bottom as fractions of the photograph's width and height.
_CUP = ((0.13, 0.18, 0.8, 0.97), (0.28, 0.04, 0.69, 0.52))


def add_arguments(parser: Parser) -> None:
    about = "folder to write to (default: the current one)"
    output = parser.group_of("--output")
    output.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help=about)


def run(options: Namespace) -> None:
    folder, coffee = Path(options.folder), photograph("coffee")  # CC0, by Rachel Michetti
    what, remedy = f"`FOLDER` is {str(folder)!r}, ", "Name another folder."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"{what}a folder that cannot be created ({error.strerror}). {remedy}"
        ) from error
    for name in NAMES:
        if (folder / name).exists():
            raise FileExistsError(f"{what}where {name!r} exists and would be overwritten. {remedy}")
        check_output(folder / name, name="FOLDER")
    coffee.save(folder / "photo.jpg", quality=95)
    (folder / "painting.jpg").write_bytes(painting("evening"))
    (folder / "other.jpg").write_bytes(painting("woodcut"))
    cup_mask(coffee.size).save(folder / "mask.png")
    for name in NAMES:
        report((folder / name).resolve(), options)


def cup_mask(size: tuple[int, int]) -> Image.Image:
    """Return a mask of the photograph of a cup: white on cup and saucer, with soft edges."""
    mask = Image.new("L", size, 0)
    for left, top, right, bottom in _CUP:
        box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
        ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(size[0] / 100))


def painting(name: str) -> bytes:
    """Return the JPEG file of a painting, `"evening"` or `"woodcut"`."""
    return (resources.files("nst.cli") / "samples" / f"{name}.jpg").read_bytes()


def photograph(name: str) -> Image.Image:
    """Return a photograph of scikit-image, by the name of the function in `skimage.data`."""
    data = required("skimage", "`nst demo` and `nst samples` need scikit-image", "demo").data
    return Image.fromarray(getattr(data, name)())
