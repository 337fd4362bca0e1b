from typing import Any

import pytest

from nst import StyleTransfer, StyleTransferResult
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
