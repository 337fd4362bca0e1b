"""A mask is read as its author meant it, or refused with the remedy."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from nst.images import load_image, resize
from nst.styles.mask import read_mask
from tests.helpers import LEFT, PHOTO

BOOLEAN = LEFT[0, 0].bool()
BYTES = (BOOLEAN.numpy() * 255).astype(np.uint8)


def read(source: Any, alpha: Any = None) -> Any:
    return read_mask(source, PHOTO, alpha, "where")


@pytest.mark.parametrize(
    "mask",
    [
        BOOLEAN,
        BOOLEAN.numpy(),
        BOOLEAN.numpy()[..., None],
        tv_tensors.Mask(BOOLEAN),
        tv_tensors.Mask(BOOLEAN[None]),
        BYTES,
        BYTES.astype(np.uint16) * 257,
        Image.fromarray(BYTES),
        Image.fromarray(BYTES).convert("1"),
        np.dstack([np.full_like(BYTES, 255)] * 3 + [BYTES]),  # white, partly transparent
        np.dstack([BYTES] * 3 + [np.full_like(BYTES, 255)]),
        np.dstack([BYTES, BYTES]),
    ],
    ids=lambda mask: f"{type(mask).__name__}-{getattr(mask, 'dtype', 'PIL')}",
)
def test_white_and_true_count_and_what_is_transparent_does_not(mask: Any) -> None:
    assert torch.equal(read(mask), LEFT)


def test_gray_counts_times_its_alpha_and_floats_mean_what_they_say_however_dark() -> None:
    gray = np.full((32, 40, 2), (128, 64), dtype=np.uint8)
    torch.testing.assert_close(read(gray), torch.full_like(LEFT, 128 * 64 / 255**2))
    dark = torch.full((32, 40), 0.1)
    torch.testing.assert_close(read(dark)[0, 0], dark)
    # Another size in the same proportions; and booleans are black and white in any picture.
    assert read(Image.new("L", (80, 64), 128)).shape == (1, 1, 32, 40)
    assert torch.equal(load_image(BOOLEAN.numpy()), LEFT.expand(1, 3, -1, -1))


LABELS = np.random.default_rng(0).integers(0, 21, (32, 40), dtype=np.uint8)
WITH_VOID = np.where(np.arange(40) == 7, 255, LABELS).astype(np.uint8)
RED = np.dstack([BYTES, 0 * BYTES, 0 * BYTES])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (1 * BYTES.clip(0, 1), "is nearly black: .* is 1 of 255. Pass what counts as booleans"),
        (BOOLEAN.byte(), "is nearly black"),
        (BYTES.astype(np.uint16), "is nearly black"),
        (BYTES / 255 / 255, "is nearly black"),
        (LABELS, r"seems to hold labels: .* up to 20 of 255. Pass what counts as booleans"),
        (WITH_VOID, "seems to hold labels"),
        (15 * BOOLEAN.byte(), "seems to hold labels"),
        (RED, r"is colored, .* must be gray.* Pass the color that counts with it, as in"),
        (torch.stack([BOOLEAN, ~BOOLEAN]), r"has 2 channels of booleans.* mask\[0\]"),
        (np.dstack([0 * BYTES, BYTES]), "is black everywhere; some part .* not transparent"),
    ],
)
def test_a_mask_of_another_convention_is_refused_with_the_remedy(mask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"`where` {words}"):
        read(mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.full((32, 40), 64, np.uint8),
        np.tile(np.linspace(0, 255, 40, dtype=np.uint8), (32, 1)),
        np.kron(BOOLEAN[::4, ::4].numpy(), np.array([[255, 128], [8, 16]])).astype(np.uint8),
    ],
)
def test_gray_and_soft_masks_are_no_labels(mask: Any) -> None:
    torch.testing.assert_close(read(mask), resize(load_image(mask)[:, :1], (32, 40)))


COLORED = np.dstack([BYTES, 0 * BYTES, 255 - BYTES])  # red to the left, blue to the right


@pytest.mark.parametrize("color", ["#ff0000", "#FF0000", "#f00", "red"])
@pytest.mark.parametrize("kind", [np.asarray, Image.fromarray])
def test_a_color_selects_a_label(color: str, kind: Any) -> None:
    assert torch.equal(read((kind(COLORED), color)), LEFT)
    assert torch.equal(read((kind(COLORED), "#0000ff")), 1 - LEFT)


def test_a_label_may_have_another_size_and_a_file_of_labels_needs_a_color(tmp_path: Path) -> None:
    large = Image.fromarray(COLORED).resize((80, 64), Image.Resampling.NEAREST)
    assert ((read((large, "red")) - LEFT).abs() > 0.1).float().mean() < 0.05
    half = np.dstack([COLORED, np.where(np.arange(32)[:, None] < 16, 255, 0) + 0 * BYTES])
    top = torch.arange(32).view(32, 1) < 16
    assert torch.equal(read((half.astype(np.uint8), "#ff0000")), LEFT * top)
    image = Image.fromarray(LABELS)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.save(tmp_path / "voc.png")
    with pytest.raises(ValueError, match="`where` is colored"):
        read(tmp_path / "voc.png")
    assert float(read(np.asarray(Image.open(tmp_path / "voc.png")) == 20).mean()) < 0.1


@pytest.mark.parametrize("given", [(COLORED, "reddish"), (COLORED, 7), (COLORED,)])
def test_a_color_that_does_not_occur_is_refused_with_those_that_do(given: Any) -> None:
    with pytest.raises(ValueError, match="it must be a picture of labels and the color of one"):
        read(given)
    message = r"(?s)`where` .*no pixel of the color #00ff00. .* are #.*; choose one of them"
    with pytest.raises(ValueError, match=message) as refused:
        read((COLORED, "#00ff00"))
    assert re.search(r"colors are (#ff0000, #0000ff|#0000ff, #ff0000)", str(refused.value))
