"""Flicker of stylized videos: warping error, style and time.

    python benchmarks/video.py --images FOLDER --output FOLDER [--size 256] [--frames 24]

Videos are made from photographs by known moves of a camera, with the noise of a sensor, so that the
true flow is known. Each video is stylized frame by frame; from the previous result as it is (warm
start); and by `StyleTransfer.frames` with the flow of OpenCV, with the true flow, and without flow.

- warping: mean square difference from the warped frame before, over the pixels that the true flow
  finds reliable, in thousandths. The first row has that of the video itself.
- long: the same over ten frames.
- style: distance of Gram matrices of layers that no loss compares; `content` and `edges` as in
  `_metrics.py`. The mean over every sixth frame.
- seconds: of a frame after the first.

Into the output folder go a strip of frames of every video, one row for each method, and a strip of
the differences from the warped frame before, times four around gray.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _machine import describe_machine
from _metrics import Scorer
from _videos import VIDEOS, KnownVideo, make_video
from nst import FeatureExtractor, StyleTransfer, functional
from nst.images import save_image

_LONG, _SCORED, _SHOWN = 10, 6, 6
"""Frames between those that are compared, scored and shown."""

Method = Callable[[StyleTransfer, KnownVideo, Tensor, dict[str, Any]], Iterator[Tensor]]


def frame_by_frame(
    transfer: StyleTransfer, video: KnownVideo, painting: Tensor, options: dict[str, Any]
) -> Iterator[Tensor]:
    """Yield each frame stylized for itself."""
    captured = transfer.capture(painting, sizes=[max(video.frames[0].shape)])
    for frame in video.frames:
        yield transfer.run(frame, captured).image


def warm_start(
    transfer: StyleTransfer, video: KnownVideo, painting: Tensor, options: dict[str, Any]
) -> Iterator[Tensor]:
    """Yield each frame, stylized from the previous result."""
    captured, image = transfer.capture(painting, sizes=[max(video.frames[0].shape)]), None
    short = transfer.replace(num_steps=options.get("num_steps", 25), num_scales=1)
    for frame in video.frames:
        if image is None:
            image = transfer.run(frame, captured).image
        else:
            image = short.run(frame, captured, init=image).image
        yield image


def following(flow: str | None) -> Method:
    """Return the method of `StyleTransfer.frames` with a flow; `"true"` is the video's own."""

    def method(
        transfer: StyleTransfer, video: KnownVideo, painting: Tensor, options: dict[str, Any]
    ) -> Iterator[Tensor]:
        places = {frame.numpy().tobytes(): i for i, frame in enumerate(video.frames)}

        def true(one: Tensor, other: Tensor) -> Tensor:
            return video.flow(*(places[each.numpy().tobytes()] for each in (one, other)))[0]

        found: Any = true if flow == "true" else flow
        for result in transfer.frames(video.frames, painting, flow=found, **options):
            yield result.image

    return method


METHODS: dict[str, Method] = {
    "frame by frame": frame_by_frame,
    "warm start": warm_start,
    "nst": following("dis"),
    "nst, true flow": following("true"),
    "nst, no flow": following(None),
}


def moved(video: KnownVideo, images: list[Tensor], apart: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield differences from warped frames `apart` before, and how reliable the pixels are."""
    for i in range(apart, len(images)):
        forward, backward = video.flow(i - apart, i), video.flow(i, i - apart)
        mask = functional.flow_reliability(forward, backward)
        yield images[i] - functional.warp(images[i - apart], backward), mask


def warping_error(video: KnownVideo, images: list[Tensor], apart: int = 1) -> float:
    """Return the mean square difference over reliable pixels, in thousandths."""
    errors = [
        (float((mask * apart_.square()).sum()), 3 * float(mask.sum()))
        for apart_, mask in moved(video, images, apart)
    ]
    total, count = (sum(each) for each in zip(*errors, strict=True)) if errors else (0.0, 1.0)
    return 1000 * total / max(count, 1)


def strip(images: list[Tensor]) -> Tensor:
    """Return some of the images side by side."""
    return torch.cat(images[:: max(1, len(images) // _SHOWN)][:_SHOWN], dim=-1)


def run_video(name: str, arguments: argparse.Namespace, extractor: FeatureExtractor) -> None:
    """Stylize a video by every method; print the figures and save the strips."""
    size, count, output = arguments.size, arguments.frames, arguments.output
    video, painting = make_video(name, size, count, arguments.images, output / "made")
    transfer = StyleTransfer(extractor, size=size, num_steps=arguments.first_steps)
    options = {"num_steps": arguments.steps, "temporal_weight": arguments.temporal_weight}
    print(f"\n{name}: {VIDEOS[name].about}, {count} frames of {video.frames[0].shape[3]} pixels")
    print(f"{'':20}{'warping':>9}{'long':>9}{'style':>8}{'content':>9}{'edges':>7}{'seconds':>9}")
    own = warping_error(video, video.frames), warping_error(video, video.frames, _LONG)
    print(f"{'the video itself':20}{own[0]:9.3f}{own[1]:9.3f}", flush=True)
    rows, differences = [strip(video.frames)], list[Tensor]()
    for method in arguments.methods:
        images, times = list[Tensor](), [time.perf_counter()]
        for image in METHODS[method](transfer, video, painting, options):
            images.append(image)
            times.append(time.perf_counter())
        scores = [
            Scorer(extractor, video.frames[i], painting)(images[i])
            for i in range(_SCORED - 1, count, _SCORED)
        ]
        style, content, edges = (
            np.mean([getattr(each, part) for each in scores])
            for part in ("style", "content", "edges")
        )
        seconds = float(np.median([b - a for a, b in pairwise(times[1:])]))
        errors = warping_error(video, images), warping_error(video, images, _LONG)
        print(
            f"{method:20}{errors[0]:9.3f}{errors[1]:9.3f}{style:8.4f}{content:9.3f}{edges:7.3f}"
            f"{seconds:9.2f}",
            flush=True,
        )
        rows.append(strip(images))
        apart = [0.5 + 4 * difference * mask for difference, mask in moved(video, images, 1)]
        differences.append(strip(apart).clamp(0, 1))
        if arguments.save_frames:
            for i, image in enumerate(images):
                folder = output / name / method.replace(" ", "-").replace(",", "")
                folder.mkdir(parents=True, exist_ok=True)
                save_image(image, folder / f"{i:03}.png")
    save_image(torch.cat(rows, dim=-2), output / f"{name}-strip.png")
    save_image(torch.cat(differences, dim=-2), output / f"{name}-differences.png")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Flicker of stylized videos.")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder for the strips")
    parser.add_argument("--size", type=int, default=256, help="width of a frame in pixels")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--steps", type=int, default=25, help="steps of a frame after the first")
    parser.add_argument("--first-steps", type=int, default=50, help="steps of a frame by itself")
    parser.add_argument("--temporal-weight", type=float, help="weight of the temporal loss")
    parser.add_argument("--videos", nargs="+", choices=VIDEOS, default=list(VIDEOS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--save-frames", action="store_true", help="save every frame as well")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(describe_machine())
    extractor = FeatureExtractor()
    for name in arguments.videos:
        run_video(name, arguments, extractor)


if __name__ == "__main__":
    main()
