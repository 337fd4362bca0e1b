"""The tutorial runs from its first cell to its last, and is stored without what it showed."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "examples" / "tutorial.ipynb"
FAST = f"""
import sys
import torch

sys.path.insert(0, {str(ROOT)!r})
from conftest import replacements

torch.set_num_threads(1)
for replacement in replacements():
    replacement.start()
"""


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(TUTORIAL.read_text(encoding="utf-8"))["cells"]
    return found


def test_the_tutorial_is_stored_without_outputs() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert len(code) > 10
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel has its own
    notebook = nbformat.read(TUTORIAL, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FAST))
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [
        (cell.source, output.data)
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    pictures = "".join(source for source, data in shown if "image/png" in data)
    for what in ("LiveDisplay(", "show_transfer(result)", "plot_losses(result)", "torch.cat("):
        assert what in pictures, what
    assert (tmp_path / "stylized.png").is_file()
