"""Paint the sample pictures of `nst samples` and `nst demo`: python scripts/make_samples.py."""

from __future__ import annotations

from pathlib import Path

from painting import paint
from PIL import Image
from prints import woodcut

FOLDER = Path(__file__).parent.parent / "src" / "nst" / "cli" / "samples"
SIZE = 512, 384


def main() -> None:
    """Write each picture, painted larger and reduced."""
    for name, painter in (("evening", paint), ("woodcut", woodcut)):
        picture = painter(768, 576).resize(SIZE, Image.Resampling.LANCZOS)
        picture.save(FOLDER / f"{name}.jpg", quality=90, optimize=True)


if __name__ == "__main__":
    main()
