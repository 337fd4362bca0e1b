"""Contact sheets: pictures in a table, to choose by looking."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nst.images import load_image, resize


def contact_sheet(
    rows: Sequence[Sequence[Tensor]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Tensor:
    """Arrange pictures in a table, with a label to the left of each row and above each column.

    Pictures, `(1, 3, H, W)`, are resized to the size of the first. All rows have the same number.

    Examples:
        >>> pictures = [torch.rand(1, 3, 40, 60) for _ in range(2)]
        >>> sheet = contact_sheet([pictures], column_labels=["strength 0.5", "strength 1"])
        >>> sheet.shape[2] > 40 and sheet.shape[3] > 120
        True
    """
    shape = (rows[0][0].shape[-2], rows[0][0].shape[-1])
    size = max(10, min(shape) // 16)
    gap = max(2, size // 4)
    height, width = shape[0] + 2 * gap, shape[1] + 2 * gap
    of_rows, of_columns = (
        [_label(x, size) for x in labels] for labels in (row_labels, column_labels)
    )
    left = max((label.width for label in of_rows), default=0)
    top = max((label.height for label in of_columns), default=0)
    page = Image.new("RGB", (left + len(rows[0]) * width, top + len(rows) * height), "white")
    for i, label in enumerate(of_rows):
        _paste(page, label, (0, top + i * height), (left, height))
    for i, label in enumerate(of_columns):
        _paste(page, label, (left + i * width, 0), (width, top))
    sheet = load_image(page)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            y, x = top + i * height + gap, left + j * width + gap
            sheet[..., y : y + shape[0], x : x + shape[1]] = resize(picture, shape)
    return sheet


def _label(text: str, size: int) -> Image.Image:
    font = ImageFont.load_default(size)
    left, _, right, bottom = font.getbbox(text)
    label = Image.new("RGB", (round(right - left) + size, round(bottom) + size // 2), "white")
    ImageDraw.Draw(label).text((size / 2, size / 4), text, fill="black", font=font)
    return label


def _paste(
    page: Image.Image, label: Image.Image, corner: tuple[int, int], room: tuple[int, int]
) -> None:
    """Paste a label into the middle of its room; cut off what does not fit."""
    label = label.crop((0, 0, min(label.width, room[0]), min(label.height, room[1])))
    x, y = ((r - s) // 2 for r, s in zip(room, label.size, strict=True))
    page.paste(label, (corner[0] + x, corner[1] + y))
