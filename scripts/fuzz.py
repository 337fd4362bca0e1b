"""Feed pictures and files that nobody meant to write, and see that each is refused.

python scripts/fuzz.py SECONDS [pictures|styles|records|checkpoints]

With atheris installed (`pip install atheris`), coverage leads the way; without, chance alone does.
What is found is written into the folder `fuzz-findings`, and the exit status is not 0.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(["nst", "PIL"]) if atheris else contextlib.nullcontext():
    from PIL import Image, ImageCms, PngImagePlugin

    from nst import (
        Callback,
        Checkpoint,
        ContentLoss,
        GramStyleLoss,
        RunState,
        Style,
        StyleTransfer,
        save_image,
    )
    from nst._record.replay import recorded_arguments, recorded_end, recorded_run
    from nst.images import read_picture, read_record

import numpy as np
import torch

from nst.testing import tiny_extractor

FINDINGS = Path("fuzz-findings")
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "JPEG2000",
    "TGA",
    "PPM",
    "ICO",
    "PCX",
    "SGI",
)
TEXT_AT = 0x010E  # EXIF's image description, where a record is
VALUES = "archive/data.pkl"  # in style files and checkpoints

Check = Callable[[bytes], None]


def transfer() -> StyleTransfer:
    """Return one that paints in moments."""
    losses = {"content": ContentLoss(["relu1_1"]), "style": GramStyleLoss(["relu1_1", "relu2_1"])}
    return StyleTransfer(tiny_extractor(), losses, num_steps=1, num_scales=1)


def pictures(folder: Path) -> tuple[list[bytes], Check]:
    """Return pictures to begin with, and what reads any bytes as one."""
    # A wrong sum would be refused before anything else is looked at.
    PngImagePlugin.ChunkStream.crc = PngImagePlugin.ChunkStream.crc_skip  # type: ignore[method-assign]
    Image.MAX_IMAGE_PIXELS = 1_000_000  # so that what is read takes moments
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 4), np.uint8))
    seeds = []
    for name in FORMATS:
        for mode in ("RGBA", "RGB", "L", "P", "1", "CMYK", "I;16"):
            buffer, exif = io.BytesIO(), Image.Exif()
            exif[0x0112] = 6
            with contextlib.suppress(Exception):
                whole.convert("L" if mode == "I;16" else mode).convert(mode).save(
                    buffer, name, icc_profile=profile, exif=exif
                )
                seeds.append(buffer.getvalue())
    path = folder / "picture"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            pixels, _ = read_picture(path)
        except ValueError as error:
            assert str(error).startswith("`source` is "), error
        else:
            assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1

    return seeds, check


def styles(folder: Path) -> tuple[list[bytes], Check]:
    """Return style files to begin with, and what loads any bytes as one and paints with it.

    What does not begin as an archive does is taken for the values within one.
    """
    photo, path = torch.rand(1, 3, 20, 24), folder / "style.nst"
    painter = transfer()
    painter.capture(torch.rand(1, 3, 24, 24), sizes=[24]).save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def check(content: bytes) -> None:
        if content[:2] != b"PK":
            with zipfile.ZipFile(path, "w") as archive:
                for name, member in {**members, VALUES: content}.items():
                    archive.writestr(name, member)
        else:
            path.write_bytes(content)
        try:
            image = painter.run(photo, Style.load(path), init="noise").image
        except ValueError as error:
            assert str(error).startswith("`") or "Capture again from" in str(error), error
        else:
            assert bool(image.isfinite().all())

    return [whole, members[VALUES]], check


def records(folder: Path) -> tuple[list[bytes], Check]:
    """Return records to begin with, and what makes a run of any bytes.

    What does not begin as a PNG does is taken for the record within a picture.
    """
    os.chdir(folder)
    for name in ("photo.png", "painting.png"):
        save_image(torch.rand(1, 3, 20, 24), name)
    result = transfer().run("photo.png", Style("painting.png", 2.0, "photo.png", "painting.png"))
    result.save("made.png")
    texture = transfer().synthesize("painting.png", (20, 24))
    path = Path("forged.tiff")

    def check(content: bytes) -> None:
        if content[:4] == b"\x89PNG":
            path.write_bytes(content)
        else:
            exif = Image.Exif()
            exif[TEXT_AT] = content.decode(errors="replace").replace("\0", " ")
            Image.new("RGB", (4, 4)).save(path, "TIFF", exif=exif)
        try:
            record = read_record(path)
        except ValueError as error:
            assert str(error).startswith("`path` is "), error
            return
        for use in (lambda: recorded_arguments(record, {}), lambda: recorded_end(record)):
            try:
                use()
            except ValueError as error:
                assert str(error).startswith("`record` cannot be used: "), error
        with contextlib.suppress(ValueError, FileNotFoundError):
            recorded_run(record, ["."])

    described = [{"nst record": 1, **each.settings} for each in (result, texture)]
    texts = [json.dumps(each).encode() for each in described]
    return [Path("made.png").read_bytes(), *texts], check


class Reached(Callback):
    """Ends a run where it would go on: a forged one could ask for any number of steps."""

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Say that the checkpoint was taken."""
        raise KeyboardInterrupt


def checkpoints(folder: Path) -> tuple[list[bytes], Check]:
    """Return checkpoints to begin with, and what goes on with any bytes as if they were one.

    What does not begin as an archive does is taken for the values within one.
    """
    path, kept, network = folder / "forged.ckpt", folder / "run.ckpt", tiny_extractor()
    losses = {"content": ContentLoss(["relu1_1"]), "style": GramStyleLoss(["relu1_1", "relu2_1"])}
    seeds, members = [], dict[str, bytes]()
    for optimizer in ("adam", "lbfgs"):
        painter = StyleTransfer(network, losses, optimizer=optimizer, num_steps=3, num_scales=1)
        photo, painting = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
        painter.run(photo, painting, callbacks=Checkpoint(kept, 2))
        with zipfile.ZipFile(kept) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        seeds += [kept.read_bytes(), members[VALUES]]
    logging.getLogger("nst").setLevel(logging.CRITICAL)

    def check(content: bytes) -> None:
        if content[:2] != b"PK":
            with zipfile.ZipFile(path, "w") as archive:
                for name, member in {**members, VALUES: content}.items():
                    archive.writestr(name, member)
        else:
            path.write_bytes(content)
        callbacks = [Checkpoint(kept), Reached()]
        try:
            StyleTransfer.resume(path, extractor=network, callbacks=callbacks)
        except ValueError as error:
            assert str(error).startswith("`"), error

    return seeds, check


TARGETS = {
    "pictures": pictures,
    "styles": styles,
    "records": records,
    "checkpoints": checkpoints,
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a copy with a few bits flipped, and parts replaced, repeated or left out."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(changed) + 1), rng.randint(1, 16)
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            del changed[at : at + length]
        else:
            changed[at:at] = changed[at : at + length]
    return bytes(changed)


def fuzz(target: str, seconds: float) -> None:
    """Try inputs for so long; raise for the first that is neither taken nor refused."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # what the library lets out is found as well
    findings = FINDINGS.resolve()
    findings.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nst-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    seeds, check = TARGETS[target](folder)
    if atheris is not None:
        corpus = folder / "corpus"
        corpus.mkdir()
        for i, seed in enumerate(seeds):
            (corpus / str(i)).write_bytes(seed)
        options = {
            "max_total_time": round(seconds),
            "timeout": 20,
            "rss_limit_mb": 3000,
            "max_len": 30_000,
            "artifact_prefix": f"{findings / target}-",
        }
        atheris.Setup([sys.argv[0], *(f"-{k}={v}" for k, v in options.items()), str(corpus)], check)
        atheris.Fuzz()  # does not return
    rng, count, end = random.Random(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutated(rng.choice(seeds), rng)
        try:
            check(content)
        except Exception:
            (findings / f"{target}-{count}").write_bytes(content)
            raise
        count += 1
    sys.stderr.write(f"{target}: {count} inputs, by chance, in {seconds:.0f} s\n")


def main(seconds: str, *targets: str) -> int:
    """Fuzz each target in a process of its own, which a crash or a hang may end."""
    if len(targets) == 1:
        fuzz(targets[0], float(seconds))
        return 0
    return max(
        abs(subprocess.call([sys.executable, __file__, seconds, target]))
        for target in targets or TARGETS
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
