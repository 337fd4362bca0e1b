"""The result of a run."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from torch import Tensor

from nst._utils.checks import check_index
from nst._utils.files import check_place
from nst._utils.text import logger
from nst.images import save_image, to_pil
from nst.images.metadata import MetadataChoice, carried_over
from nst.images.write import BitDepth, encode, format_of

_NOTE = "Save the best picture so far: error.result.save('rescued.png')."


@dataclass(frozen=True, eq=False)
class StyleTransferResult:
    """The best picture of a run, with its history and settings; notebooks display it."""

    image: Tensor = field(repr=False)
    """`(N, 3, H, W)`, sRGB in [0, 1], on the CPU."""
    history: dict[str, list[float]] = field(repr=False)
    """Loss name to its weighted value after each step; a batch's mean."""
    num_steps: int
    """Number of optimizer steps taken."""
    stop_reason: str
    """`"completed"`, `"interrupted"`, or another reason."""
    seconds: float
    """Duration of the run."""
    settings: dict[str, Any] = field(repr=False)
    """Everything needed to repeat the run except the pictures; JSON-ready values, no folders."""
    content: Tensor = field(repr=False)
    """The photograph at the result's size, `(N, 3, H, W)`, on the CPU."""
    styles: list[Tensor] = field(repr=False)
    """The paintings at the size of the last scale, `(1, 3, h, w)` each, on the CPU."""
    alpha: Tensor | None = field(default=None, repr=False)
    """The content's transparency, `(N, 1, H, W)`; `to_pil` and `save` restore it."""
    exif: bytes | None = field(default=None, repr=False)
    """EXIF data of the content, if it was a file or a PIL image."""

    def to_pil(self, index: int = 0) -> Image.Image:
        """Return a picture of the batch, 8-bit RGB (RGBA if the content had transparency)."""
        index = check_index("index", index, len(self.image))
        return to_pil(self.image[index], None if self.alpha is None else self.alpha[index])

    def show(self, index: int = 0) -> None:
        """Show a picture of the batch in the viewer of the system."""
        self.to_pil(index).show()

    def to_bytes(
        self,
        format: str = "png",
        *,
        index: int = 0,
        record: bool = True,
        metadata: MetadataChoice = "default",
        quality: int | None = None,
        bit_depth: BitDepth = 8,
    ) -> bytes:
        """Return the file of a picture of the batch; arguments and errors are those of `save`."""
        index = check_index("index", index, len(self.image))
        encoding = self._encoding(index, record, metadata, quality=quality, bit_depth=bit_depth)
        return encode(self.image[index], format_of(format), **encoding)

    def save(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        format: str | None = None,
        record: bool = True,
        metadata: MetadataChoice = "default",
        quality: int | None = None,
        bit_depth: BitDepth = 8,
    ) -> list[Path]:
        """Write the picture and return its path; a batch gets `out-0.png`, `out-1.png` and so on.

        Args:
            path: The suffix selects the format: `.png`, `.jpg`, `.webp`, `.tiff` and others. The
                content's transparency is stored if the format supports it. Or a binary file, for
                one picture.
            format: Format such as `"jpg"`, for a binary file only; None is PNG.
            record: Whether to store the settings for `StyleTransfer.rerun`, if the format supports
                it (PNG, WebP, TIFF, AVIF, HEIC; JPEG up to 64 kB): names and hashes of pictures, no
                folders.
            metadata: Metadata of the photograph to carry over, in the same formats: `"default"`
                is resolution, artist, copyright and date; `"all"` is all EXIF data, the place
                included, but the record replaces a description; or `"none"`.
            quality: Quality of JPEG, WebP and AVIF, 1 to 100; None is 95.
            bit_depth: Bits per channel: 8 or, for PNG and TIFF, 16.

        Raises:
            ValueError: The suffix or format is unknown, or lacks the quality or bit depth; a format
                with a path, or a batch for one file.
            OSError: The file cannot be written; an existing one is unchanged.
        """
        count, others = len(self.image), {"quality": quality, "bit_depth": bit_depth}
        if hasattr(path, "write"):
            if count > 1:
                raise ValueError(
                    f"`path` is a file, but the result is a batch of {count} pictures. Write each "
                    "with to_bytes(index=...)."
                )
            encoding = self._encoding(0, record, metadata, **others)
            path.write(encode(self.image[0], format_of(format or "png"), **encoding))
            return []
        if format is not None:
            raise ValueError(
                f"`format` is {format!r}, but the suffix of `path` selects it. Leave it out."
            )
        path = check_place(path, name="path", example="result.png")
        paths = [path.with_stem(f"{path.stem}-{i}") for i in range(count)] if count > 1 else [path]
        return [
            save_image(self.image[i], each, **self._encoding(i, record, metadata, **others))
            for i, each in enumerate(paths)
        ]

    def _encoding(
        self, index: int, record: bool, metadata: MetadataChoice, **others: Any
    ) -> dict[str, Any]:
        alpha = None if self.alpha is None else self.alpha[index]
        exif = carried_over(self.exif, metadata)
        return {"alpha": alpha, "record": self.settings if record else None, "exif": exif, **others}

    def _repr_png_(self) -> bytes:
        return self.to_bytes(record=False, metadata="none")


def attach_result(error: BaseException, finish: Callable[[], StyleTransferResult]) -> None:
    """Set the attribute `result` of an error unless it has another attribute of that name."""
    attributes = vars(error)
    if not isinstance(attributes.get("result"), (StyleTransferResult, type(None))):
        return
    try:
        attributes["result"] = finish()
    except Exception:  # the original error must not be hidden
        logger.exception("the best picture so far is lost")
        return
    if hasattr(error, "add_note") and _NOTE not in getattr(error, "__notes__", []):
        error.add_note(_NOTE)  # since Python 3.11
