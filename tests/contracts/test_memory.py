"""Too little memory: an error names the need and the remedy."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import Checkpoint, ContentLoss, GramStyleLoss, StyleTransfer, StyleTransferResult
from nst._utils.device import free_memory
from nst.testing import tiny_extractor
from tests import helpers
from tests.helpers import PHOTO, picture, raising

pytestmark = pytest.mark.cpu  # whose memory is limited here
EXHAUSTED = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
)
# High enough to be divided into tiles of 64 rows.
TALL = picture(160, 32)
NEEDED = r"`size` is 160: 32x160 pixels take about \d+ MB"


def paint(**arguments: Any) -> StyleTransferResult:
    losses = {"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}
    options = {"content": TALL, "losses": losses, "num_scales": 1, **arguments}
    return helpers.paint(tiny_extractor().double(), **options)


def resume(path: Path, **arguments: Any) -> StyleTransferResult:
    return StyleTransfer.resume(path, extractor=tiny_extractor().double(), **arguments)


@pytest.fixture
def fail_whole(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets tall pictures that are computed whole fail after so many evaluations."""

    def fail(after: int) -> None:
        statistic, calls = GramStyleLoss.statistic, [0]

        def statistic_or_fail(self: GramStyleLoss, feature: Tensor, weight: Tensor) -> Any:
            whole = feature.shape[-1] >= 160 * 32
            calls[0] += whole
            if whole and calls[0] > after:
                raise EXHAUSTED
            return statistic(self, feature, weight)

        monkeypatch.setattr(GramStyleLoss, "statistic", statistic_or_fail)

    return fail


@pytest.mark.parametrize(
    "arguments",
    [
        {"tile": None},
        {"tile": "auto"},  # which is decided before the run
        {"tile": "auto", "losses": {"n": nst.NearestNeighborStyleLoss(), "style": GramStyleLoss()}},
    ],
)
def test_an_error_of_memory_names_the_need_and_carries_the_picture(
    fail_whole: Callable[[int], None], arguments: dict[str, Any]
) -> None:
    fail_whole(3)
    with pytest.raises(MemoryError, match=NEEDED) as error:
        paint(**arguments)
    assert error.value.result.num_steps > 0  # type: ignore[attr-defined]


def test_an_error_of_memory_before_the_first_step_names_the_need_or_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.color.preserve_color", raising(EXHAUSTED))
    with pytest.raises(MemoryError, match=NEEDED):
        paint(tile=None, preserve_color="cholesky", color_when="before")
    file = nst.save_image(PHOTO, tmp_path / "photo.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", raising(MemoryError))
    with pytest.raises(MemoryError, match=r"`content` .*does not fit into the memory that is free"):
        paint(content=file)
    with pytest.raises(MemoryError, match=r"`source` is '.*photo.png', which does not fit"):
        nst.load_image(file)


def test_a_run_can_be_resumed_in_tiles_when_memory_is_exhausted(
    fail_whole: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "run.ckpt"
    fail_whole(3)
    with pytest.raises(MemoryError):
        paint(tile=None, callbacks=Checkpoint(kept, every=1))
    with pytest.raises(MemoryError, match="Use tile=64"):
        resume(kept)
    result = resume(kept, tile=64)
    assert result.num_steps == 6 and result.settings["tile"] == 64
    monkeypatch.setattr("torch.load", raising(EXHAUSTED))  # it is not called damaged
    with pytest.raises(MemoryError, match=r"run.ckpt', which needs more memory than is free"):
        resume(kept)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_all_control_groups_around_the_process_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    limit, used, cached = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    outer = tmp_path / "memory" if version == 1 else tmp_path
    inner = outer / "a" / "b"
    inner.mkdir(parents=True)
    unlimited = 2**62 if version == 1 else "max"
    for group, most in ((outer, 9000), (outer / "a", 5000), (inner, unlimited)):
        (group / limit).write_text(f"{most}\n")
        (group / used).write_text("3000\n")
        (group / "memory.stat").write_text(f"anon 7\n{cached} 500\n")
    own = tmp_path / "own"
    own.write_text({1: "5:cpu:/c\n4:memory:/a/b\n0::/\n", 2: "0::/a/b\n"}[version])
    monkeypatch.setattr("nst._utils.device._GROUPS", tmp_path)
    monkeypatch.setattr("nst._utils.device._OWN_GROUPS", own)
    assert free_memory(torch.device("cpu")) == 2500


LIMITED = """
import resource, sys, torch
torch.set_num_threads(1)
from nst import GramStyleLoss, StyleTransfer
from nst.testing import tiny_extractor

def run(photo, tile):
    layers = ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "conv2_1", "relu2_1"]
    losses = {"style": GramStyleLoss(layers)}
    options = {"size": 1536, "num_scales": 1, "num_steps": 1, "optimizer": "adam", "tile": tile}
    return StyleTransfer(tiny_extractor(), losses, **options).run(photo, painting)

painting, photo = (torch.rand(1, 3, side, side) for side in (64, 1536))
run(painting, None)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]) * 2**20,) * 2)
try:
    print(run(photo, None if sys.argv[1] == "None" else "auto").settings["tile"])
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the process's addresses")
@pytest.mark.parametrize(
    ("tile", "megabytes", "message"),
    [
        ("auto", 1000, "64"),
        ("None", 280, "`size` is 1536: 1536x1536 pixels take about 3.3 GB, which is more memory"),
    ],
)
def test_a_real_limit_of_memory_is_respected(tile: str, megabytes: int, message: str) -> None:
    command = [sys.executable, "-c", LIMITED, tile, str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.startswith(message), done.stderr
