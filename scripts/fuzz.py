"""Feed broken pictures and files to the library, and check that each is refused or read.

python scripts/fuzz.py SECONDS [pictures|styles|records|checkpoints]

With atheris installed (`pip install atheris`), coverage guides the search; without, it is random.
Findings are written into the folder `fuzz-findings`, and the exit status is not 0.
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

FINDINGS = Path("fuzz-findings").resolve()
TEXT_AT = 0x010E  # EXIF's image description, where a record is
VALUES = "archive/data.pkl"  # in style files and checkpoints

Check = Callable[[bytes], None]


def transfer(**arguments: Any) -> StyleTransfer:
    """Return one that paints in moments."""
    losses = {"content": ContentLoss(["relu1_1"]), "style": GramStyleLoss(["relu1_1", "relu2_1"])}
    options = {"num_steps": 1, "num_scales": 1, **arguments}
    return StyleTransfer(tiny_extractor(), losses, **options)


def picture(height: int = 20, width: int = 24) -> torch.Tensor:
    """Return random noise."""
    return torch.rand(1, 3, height, width)


def members_of(path: Path) -> dict[str, bytes]:
    """Return the files within an archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    """Write files into an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)


def pictures(folder: Path) -> tuple[list[bytes], Check]:
    """Return picture files, and a check that reads any bytes as one."""
    # A wrong checksum would be refused before anything else is looked at.
    PngImagePlugin.ChunkStream.crc = PngImagePlugin.ChunkStream.crc_skip  # type: ignore[method-assign]
    Image.MAX_IMAGE_PIXELS = 1_000_000  # so that reading takes moments
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds, path = [], folder / "picture"
    Image.init()
    for name in sorted(set(Image.SAVE) - {"EPS", "PDF"}):
        for mode in ("RGBA", "RGB", "L", "P", "1", "CMYK", "I;16"):
            image = whole.convert("L" if mode == "I;16" else mode).convert(mode)
            buffer = io.BytesIO()
            with contextlib.suppress(Exception):
                image.save(buffer, name, icc_profile=profile, exif=exif)
                seeds.append(buffer.getvalue())

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
    """Return style files, and a check that paints with any bytes as one.

    Bytes that are no archive replace the values within one.
    """
    photo, path = picture(), folder / "style.nst"
    painter = transfer()
    painter.capture(picture(24, 24), sizes=[24]).save(path)
    whole, members = path.read_bytes(), members_of(path)

    def check(content: bytes) -> None:
        if content[:2] == b"PK":
            path.write_bytes(content)
        else:
            write_archive(path, {**members, VALUES: content})
        try:
            image = painter.run(photo, Style.load(path), init="noise").image
        except ValueError as error:
            assert str(error).startswith("`") or "Capture again from" in str(error), error
        else:
            assert bool(image.isfinite().all())

    return [whole, members[VALUES]], check


def records(folder: Path) -> tuple[list[bytes], Check]:
    """Return records, and a check that makes a run of any bytes.

    Bytes that are no PNG replace the record within a picture.
    """
    os.chdir(folder)
    for name in ("photo.png", "painting.png"):
        save_image(picture(), name)
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

    texts = [json.dumps({"nst record": 1, **x.settings}).encode() for x in (result, texture)]
    return [Path("made.png").read_bytes(), *texts], check


class Reached(Callback):
    """Ends a run when it is resumed: a forged one could ask for any number of steps."""

    def on_resume(self, state: RunState, kept: Mapping[str, Any]) -> None:
        """Accept the checkpoint."""
        raise KeyboardInterrupt


def checkpoints(folder: Path) -> tuple[list[bytes], Check]:
    """Return checkpoints, and a check that resumes any bytes as one.

    Bytes that are no archive replace the values within one.
    """
    path, kept = folder / "forged.ckpt", folder / "run.ckpt"
    seeds, members = [], dict[str, bytes]()
    for optimizer in ("adam", "lbfgs"):
        painter = transfer(optimizer=optimizer, num_steps=3)
        painter.run(picture(16, 16), picture(16, 16), callbacks=Checkpoint(kept, 2))
        members = members_of(kept)
        seeds += [kept.read_bytes(), members[VALUES]]
    logging.getLogger("nst").setLevel(logging.CRITICAL)

    def check(content: bytes) -> None:
        if content[:2] == b"PK":
            path.write_bytes(content)
        else:
            write_archive(path, {**members, VALUES: content})
        callbacks = [Checkpoint(kept), Reached()]
        try:
            StyleTransfer.resume(path, extractor=painter.extractor, callbacks=callbacks)
        except ValueError as error:
            assert str(error).startswith("`"), error

    return seeds, check


TARGETS = {each.__name__: each for each in (pictures, styles, records, checkpoints)}


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


def search(target: str, seconds: float, seeds: list[bytes], check: Check) -> None:
    """Check inputs at random; raise for the first that is neither read nor refused."""
    rng, tried, end = random.Random(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutated(rng.choice(seeds), rng)
        try:
            check(content)
        except Exception:
            (FINDINGS / f"{target}-{tried}").write_bytes(content)
            raise
        tried += 1
    sys.stderr.write(f"{target}: {tried} random inputs in {seconds:.0f} s\n")


def search_guided(target: str, seconds: float, seeds: list[bytes], check: Check) -> None:
    """Let atheris search; does not return."""
    corpus = Path(tempfile.mkdtemp(prefix="nst-corpus-"))
    atexit.register(shutil.rmtree, corpus, ignore_errors=True)
    for i, seed in enumerate(seeds):
        (corpus / str(i)).write_bytes(seed)
    limits = f"-max_total_time={seconds:.0f} -timeout=20 -rss_limit_mb=3000 -max_len=30000"
    found = f"-artifact_prefix={FINDINGS / target}-"
    atheris.Setup([sys.argv[0], *limits.split(), found, str(corpus)], check)
    atheris.Fuzz()


def main(seconds: str, *targets: str) -> int:
    """Fuzz each target in a process of its own, which a crash or a hang may end."""
    if len(targets) != 1:
        command = [sys.executable, __file__, seconds]
        return max(abs(subprocess.call([*command, target])) for target in targets or TARGETS)
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # a warning is a finding, too
    FINDINGS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nst-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (search_guided if atheris else search)(targets[0], float(seconds), *TARGETS[targets[0]](folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
