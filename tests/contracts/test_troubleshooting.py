"""The troubleshooting page quotes messages as the library words them."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from nst import (
    Callback,
    CallbackLike,
    Checkpoint,
    FeatureExtractor,
    GramStyleLoss,
    MomentStyleLoss,
    NearestNeighborStyleLoss,
    Style,
    StyleTransfer,
)
from nst.cli.segments import workspace
from nst.testing import tiny_extractor
from nst.video import open_video

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"
# Messages of other programs, of a machine without network or memory, or that vary with the machine.
ELSEWHERE = ("nst: ", "MemoryError", "`weights`: torchvision's", "`device` is 'cuda'")


def quoted() -> list[str]:
    blocks = re.findall(r"```output\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "".join(blocks).splitlines()
    return [line for line in lines if not line.startswith(ELSEWHERE)]


def shape_of(message: str) -> str:
    """Leave out names and numbers, which differ from case to case."""
    return re.sub(r"'[^']*'|\([^()]*\)|[\d.]+", "_", message)


class _Stop(Callback):
    def on_step(self, state: Any) -> None:
        state.stop("enough")


def _transfer(loss: Any = None, **options: Any) -> StyleTransfer:
    losses = {"style": loss or GramStyleLoss(["relu1_1"])}
    return StyleTransfer(tiny_extractor(), losses, num_steps=2, **options)


def _mask(width: int, height: int, color: Any, mode: str = "L") -> Style:
    return Style("painting.jpg", region=Image.new(mode, (width, height), color))


def _large() -> None:
    with patch.object(Image, "MAX_IMAGE_PIXELS", 100):
        _transfer().run("photo.jpg", "painting.jpg")


def _without_offline() -> None:
    with patch("importlib.util.find_spec", return_value=None):
        FeatureExtractor("original")


def _without(module: str) -> None:
    Path("video.mp4").write_bytes(b"video")
    with patch.dict(sys.modules, {module: None}):
        _transfer().frames([], "painting.jpg")
        open_video("video.mp4")


def _hdr() -> None:
    from tests.video.videos import make_video

    path = make_video("video.mkv", 2, pixels="yuv420p10le", transfer=18)
    open_video(path, name="VIDEO")


def _other_video() -> None:
    Path("stylized.mp4.partial").mkdir()
    Path("stylized.mp4.partial/job.json").write_text("{}")
    with workspace(Path("stylized.mp4"), {"record": {}}):
        pass


def _other_style() -> None:
    _transfer().capture("painting.jpg").save("painting.nst")
    _transfer(MomentStyleLoss(["relu1_1"])).run("photo.jpg", Style.load("painting.nst"))


def _unfinished() -> None:
    transfer = _transfer()
    transfer.run("photo.jpg", "painting.jpg", callbacks=[_Stop(), Checkpoint("run.ckpt", every=1)])
    transfer.run("photo.jpg", "painting.jpg", callbacks=[Checkpoint("run.ckpt", every=1)])


def _in_use() -> None:
    transfer = _transfer()

    def start_another(state: Any) -> None:
        transfer.run("photo.jpg", "painting.jpg", callbacks=[Checkpoint("run.ckpt")])

    callbacks: list[CallbackLike] = [Checkpoint("run.ckpt", every=1), start_another]
    transfer.run("photo.jpg", "painting.jpg", callbacks=callbacks)


def _rerun(change: Callable[[], object]) -> None:
    _transfer().run("photo.jpg", "painting.jpg").save("kept.png")
    change()
    StyleTransfer.rerun("kept.png", extractor=tiny_extractor())


def _other_network() -> None:
    transfer = _transfer()
    transfer.run("photo.jpg", "painting.jpg", callbacks=[_Stop(), Checkpoint("run.ckpt", every=1)])
    StyleTransfer.resume("run.ckpt", extractor=tiny_extractor(seed=1))


def _cut() -> None:
    data = Path("photo.jpg").read_bytes()
    Path("cut.jpg").write_bytes(data[: len(data) // 2])
    _transfer().run("cut.jpg", "painting.jpg")


def _text() -> None:
    Path("text.jpg").write_text("not a picture")
    _transfer().run("text.jpg", "painting.jpg")


MISTAKES: list[Callable[[], object]] = [
    _without_offline,
    lambda: _transfer().run("foto.jpg", "painting.jpg"),
    _text,
    _cut,
    _large,
    lambda: _transfer().run(np.full((36, 48, 3), 254.8), "painting.jpg"),
    lambda: _transfer().run(torch.rand(36, 48, 3), "painting.jpg"),
    lambda: StyleTransfer(tiny_extractor()).run(torch.rand(1, 3, 12, 12), "painting.jpg"),
    lambda: _transfer().run("photo.jpg", _mask(48, 36, 0)),
    lambda: _transfer().run("photo.jpg", _mask(36, 48, 255)),
    lambda: _transfer().run("photo.jpg", _mask(48, 36, (200, 10, 10), "RGB")),
    lambda: _transfer(NearestNeighborStyleLoss(["relu1_1"])).run(
        "photo.jpg", Style("painting.jpg", region=np.eye(36, 48) > 0)
    ),
    _other_style,
    lambda: _without("av"),
    lambda: _without("cv2"),
    _hdr,
    _other_video,
    lambda: _transfer(GramStyleLoss(["relu6_1"])),
    lambda: _transfer(optimizer="sgd"),
    lambda: _transfer(NearestNeighborStyleLoss(["relu1_1"]), tile=64),
    _unfinished,
    _in_use,
    _other_network,
    lambda: _rerun(lambda: Path("photo.jpg").rename("moved.jpg")),
    lambda: _rerun(lambda: Image.new("RGB", (48, 36)).save("photo.jpg")),
    lambda: StyleTransfer.rerun("photo.jpg"),
]


def test_every_quoted_message_is_one_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="a video is needed")
    messages = []
    for number, mistake in enumerate(MISTAKES):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        for seed, name in enumerate(("photo.jpg", "painting.jpg")):
            values = np.random.default_rng(seed).integers(0, 255, (36, 48, 3), np.uint8)
            Image.fromarray(values).save(name)
        with pytest.raises((ValueError, OSError, ImportError)) as refused:
            mistake()
        messages.append(shape_of(str(refused.value)))
    for line in quoted():
        parts = [re.escape(part) for part in shape_of(line).split("…")]
        assert any(re.match(".*".join(parts), message) for message in messages), line
    assert len(quoted()) == len(MISTAKES)
