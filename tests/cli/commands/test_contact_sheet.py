import pytest
import torch
from torch import Tensor

from nst.cli.commands.sheet import contact_sheet

COLORS = [0.1, 0.3, 0.5, 0.7, 0.9, 0.2]


def picture(value: float, height: int = 40, width: int = 60) -> Tensor:
    return torch.full((1, 3, height, width), value)


@pytest.mark.parametrize("labels", [False, True])
def test_every_picture_is_there_whole_and_in_its_place(labels: bool) -> None:
    rows = [[picture(c) for c in COLORS[:3]], [picture(c) for c in COLORS[3:]]]
    names = (["one", "two"], ["a", "b", "c"]) if labels else ((), ())
    sheet, centers = contact_sheet(rows, *names), []
    for value in COLORS:
        found = (sheet[0] == value).all(0).nonzero()
        # Antialiased letters may have the same gray; a picture has its 40 x 60 pixels of it.
        assert len(found) >= 40 * 60
        centers.append(found.double().median(0).values)
    for row in (centers[:3], centers[3:]):
        assert row[0][1] < row[1][1] < row[2][1]
        assert row[0][0] == row[1][0] == row[2][0]
    assert centers[0][0] < centers[3][0]


def test_labels_are_drawn_beside_and_above() -> None:
    rows = [[picture(0.5), picture(0.5)]]
    plain, labeled = contact_sheet(rows), contact_sheet(rows, ["row"], ["left", "right"])
    top = labeled.shape[-2] - plain.shape[-2]
    side = labeled.shape[-1] - plain.shape[-1]
    assert top > 0 and side > 0
    assert float(labeled[..., :top, side:].min()) < 0.5
    assert float(labeled[..., top:, :side].min()) < 0.5
    assert torch.equal(labeled[..., top:, side:], plain)


def test_pictures_of_other_sizes_are_brought_to_the_first_however_small_and_narrow() -> None:
    sheet = contact_sheet([[picture(0.5), picture(0.5, 80, 90)]])
    assert sheet.shape == contact_sheet([[picture(0.5), picture(0.5)]]).shape
    for size in ((1, 1), (3, 200), (200, 3)):
        sheet = contact_sheet([[picture(0.5, *size)]], ["a long label"], ["another long label"])
        assert bool(((sheet >= 0) & (sheet <= 1)).all())
