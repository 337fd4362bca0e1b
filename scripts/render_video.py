"""Render the video and the stills of docs/how-to/video.md.

python scripts/render_video.py [SIZE [NUM_FRAMES]]

The video is a camera move over scikit-image's photograph of a cup of coffee, in the style of the
woodcut that comes with nst. Beside it, each frame by itself.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nst import StyleTransfer, load_image
from nst.cli.commands.samples import painting, photograph
from nst.cli.commands.sheet import contact_sheet
from nst.images import resize, to_pil
from nst.video import write_video

IMAGES = Path(__file__).parent.parent / "docs" / "images"
RATE = 12


def camera_move(photo: Tensor, size: int, num_frames: int) -> Iterator[Tensor]:
    """Yield crops of a photograph along a pan, which also turns and zooms in."""
    height = size * 3 // 4
    for i in range(num_frames):
        t = i / (num_frames - 1)
        angle, zoom = torch.tensor(0.1 * (t - 0.5)), 0.8 - 0.15 * t
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
        theta = torch.cat([zoom * turn, torch.tensor([[0.2 * (t - 0.5)], [0.1 * (0.5 - t)]])], 1)
        grid = F.affine_grid(theta[None], [1, 3, 2 * height, 2 * size], align_corners=False)
        moved = F.grid_sample(photo, grid, padding_mode="reflection", align_corners=False)
        yield resize(moved.clamp(0, 1), (height, size))


def main() -> None:
    """Render both."""
    size, count = (int(word) for word in [*sys.argv[1:], "128", "18"][:2])
    style = Image.open(io.BytesIO(painting("woodcut")))
    # More content than by default, as the frames are small.
    transfer = StyleTransfer(content_weight=0.05)
    frames = list(camera_move(load_image(photograph("coffee"), size=400), size, count))
    stylized = []
    for result in transfer.frames(iter(frames), style):
        stylized.append(result.image)
        print(f"{len(stylized)}/{count}", flush=True)  # noqa: T201
    pairs = (torch.cat(pair, -1) for pair in zip(frames, stylized, strict=True))
    write_video(pairs, IMAGES / "video.webp", rate=RATE)
    chosen = [count // 2, count // 2 + 1]
    alone = [transfer.run(frames[i], style).image for i in chosen]
    rows = [alone, [stylized[i] for i in chosen]]
    labels = ["each by itself", "StyleTransfer.frames"]
    columns = [f"frame {i + 1}" for i in chosen]
    to_pil(contact_sheet(rows, labels, columns)).save(IMAGES / "video-stills.jpg", quality=90)
    for kind, images in (("frames", stylized[chosen[0] : chosen[-1] + 1]), ("alone", alone)):
        steps = [(b - a).square().mean() for a, b in pairwise(images)]
        print(f"{kind}: mean square change {torch.stack(steps).mean():.4f}")  # noqa: T201


if __name__ == "__main__":
    main()
