from typing import Any

import pytest

from nst import StyleTransfer, StyleTransferResult
from tests.cli.running import Run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that the command line started, without rehearsals."""
    seen, run = list[Run](), StyleTransfer.run

    def recorded(self: StyleTransfer, *pictures: Any, **options: Any) -> StyleTransferResult:
        result = run(self, *pictures, **options)
        if getattr(self.extractor, "weights", "") != "none":
            seen.append(Run(self, result))
        return result

    monkeypatch.setattr(StyleTransfer, "run", recorded)
    return seen
