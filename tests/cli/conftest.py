"""Fixtures for the tests of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from nst import StyleTransfer, StyleTransferResult, save_image
from tests.cli.running import Run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that the command line started, without rehearsals."""
    seen: list[Run] = []
    run = StyleTransfer.run

    def recorded(
        self: StyleTransfer, content: Any, style: Any, **options: Any
    ) -> StyleTransferResult:
        if getattr(self.extractor, "weights", "") == "none":
            return run(self, content, style, **options)
        seen.append(Run(self, {"content": content, "style": style, **options}))
        seen[-1].result = run(self, content, style, **options)
        return seen[-1].result

    monkeypatch.setattr(StyleTransfer, "run", recorded)
    return seen


@pytest.fixture
def pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Tensor, painting: Tensor
) -> Path:
    """The working folder, with a photograph and a painting."""
    monkeypatch.chdir(tmp_path)
    save_image(photo, "photo.png")
    save_image(painting, "painting.png")
    return tmp_path
