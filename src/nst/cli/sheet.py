"""A contact sheet: pictures in rows and columns, so that a person chooses by looking."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nst.images import load_image, resize

__all__ = ["contact_sheet"]

_INK, _PAPER = "black", "white"


def contact_sheet(
    rows: Sequence[Sequence[Tensor]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Tensor:
    """Put pictures into a table with labels.

    Args:
        rows: Pictures `(1, 3, H, W)`, sRGB in [0, 1]; as many in each row. They are brought to the
            size of the first.
        row_labels: One for each row, on its left; or none.
        column_labels: One for each column, above it; or none.

    Returns:
        One picture, `(1, 3, H', W')`.

    Raises:
        ValueError: No pictures, rows of unequal length, or a wrong number of labels.

    Examples:
        >>> pictures = [torch.rand(1, 3, 40, 60) for _ in range(2)]
        >>> sheet = contact_sheet([pictures], column_labels=["strength 0.5", "strength 1"])
        >>> sheet.shape[2] > 40 and sheet.shape[3] > 120
        True
    """
    width = len(rows[0]) if rows else 0
    if width == 0 or any(len(row) != width for row in rows):
        raise ValueError("`rows` must hold pictures, as many in each row.")
    for name, labels, count in (
        ("row_labels", row_labels, len(rows)),
        ("column_labels", column_labels, width),
    ):
        if len(labels) not in (0, count):
            raise ValueError(f"`{name}` has {len(labels)} for {count}; give one for each, or none.")
    shape = (rows[0][0].shape[-2], rows[0][0].shape[-1])
    size = max(10, min(shape) // 16)
    gap = max(2, size // 4)
    lines = [torch.cat([_padded(resize(each, shape), gap) for each in row], -1) for row in rows]
    if row_labels:
        drawn = [_label(text, size) for text in row_labels]
        margin = max(label.shape[-1] for label in drawn)
        lines = [
            torch.cat([_placed(label, line.shape[-2], margin), line], -1)
            for label, line in zip(drawn, lines, strict=True)
        ]
    else:
        margin = 0
    if column_labels:
        drawn = [_label(text, size) for text in column_labels]
        height = max(label.shape[-2] for label in drawn)
        cells = [_placed(label, height, shape[1] + 2 * gap) for label in drawn]
        head = torch.cat([torch.ones(1, 3, height, margin), *cells], -1)
        lines.insert(0, head)
    return torch.cat(lines, -2)


def _padded(picture: Tensor, gap: int) -> Tensor:
    return torch.nn.functional.pad(picture.float().cpu(), (gap, gap, gap, gap), value=1.0)


def _label(text: str, size: int) -> Tensor:
    font = ImageFont.load_default(size)
    left, _, right, bottom = font.getbbox(text)
    label = Image.new("RGB", (round(right - left) + size, round(bottom) + size // 2), _PAPER)
    ImageDraw.Draw(label).text((size / 2, size / 4), text, fill=_INK, font=font)
    return load_image(label)


def _placed(label: Tensor, height: int, width: int) -> Tensor:
    """Put a label into the middle of a white cell; what does not fit is cut off."""
    label = label[..., :height, :width]
    cell = torch.ones(1, 3, height, width)
    top, left = (height - label.shape[-2]) // 2, (width - label.shape[-1]) // 2
    cell[..., top : top + label.shape[-2], left : left + label.shape[-1]] = label
    return cell
