"""Too little memory: known before if that can be, and else told, or gone around, in the run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from nst import (
    Checkpoint,
    ContentLoss,
    GramStyleLoss,
    NearestNeighborStyleLoss,
    StyleTransfer,
    load_image,
    save_image,
)
from nst._network.sweep import Sweep
from nst._utils.memory import free_memory, is_exhausted
from nst.testing import tiny_extractor

EXHAUSTED = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
)


def small(**arguments: Any) -> StyleTransfer:
    losses = {"content": ContentLoss(weight=0.01), "style": GramStyleLoss()}
    settings = {"losses": losses, "num_steps": 6, "num_scales": 1, **arguments}
    return StyleTransfer(tiny_extractor().double(), **settings)


@pytest.fixture
def fail_whole(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets pictures that are computed whole fail, from one backward pass through the network on."""

    def fail(after: int) -> None:
        backward, calls = Sweep.backward, [0]

        def backward_or_fail(sweep: Sweep, *args: Any, **options: Any) -> Tensor | None:
            calls[0] += sweep._tile is None
            if sweep._tile is None and calls[0] > after:
                raise EXHAUSTED
            return backward(sweep, *args, **options)

        monkeypatch.setattr(Sweep, "backward", backward_or_fail)

    return fail


@pytest.mark.parametrize(
    "arguments",
    [{"tile": None}, {}, {"losses": {"n": NearestNeighborStyleLoss()}}],
)
def test_the_error_tells_what_is_needed_and_has_the_picture(
    photo: Tensor,
    painting: Tensor,
    fail_whole: Callable[[int], None],
    arguments: dict[str, Any],
) -> None:
    fail_whole(3)
    with pytest.raises(MemoryError, match=r"`size` is 40: 40x32 pixels take about \d+ MB") as error:
        small(**arguments).run(photo, painting)
    assert error.value.result.num_steps > 0  # type: ignore[attr-defined]


def test_a_picture_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Tensor, painting: Tensor
) -> None:
    def exhausted(*_: Any) -> NoReturn:
        raise EXHAUSTED

    file = save_image(painting, tmp_path / "painting.png")
    monkeypatch.setattr("nst.images.decode._compose", exhausted)
    message = "`content` does not fit into the memory that is free. Use a smaller picture."
    with pytest.raises(MemoryError, match=re.escape(message)):
        small(tile="auto").run(photo, painting)
    with pytest.raises(MemoryError, match=r"`source` is '.*painting.png', which does not fit"):
        load_image(file)


def test_a_run_can_be_resumed_in_tiles_where_memory_is_short(
    photo: Tensor, painting: Tensor, fail_whole: Callable[[int], None], tmp_path: Path
) -> None:
    kept = tmp_path / "run.ckpt"
    fail_whole(3)
    with pytest.raises(MemoryError):
        small(tile=None).run(photo, painting, callbacks=Checkpoint(kept, every=1))
    with pytest.raises(MemoryError, match="Use tile=64"):
        StyleTransfer.resume(kept, extractor=tiny_extractor().double())
    result = StyleTransfer.resume(kept, extractor=tiny_extractor().double(), tile=64)
    assert result.num_steps == 6 and result.settings["tile"] == 64


def test_a_checkpoint_that_does_not_fit_is_not_called_damaged(
    photo: Tensor, painting: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any) -> NoReturn:
        raise EXHAUSTED

    kept = tmp_path / "run.ckpt"
    small(tile=None).run(photo, painting, callbacks=Checkpoint(kept))
    monkeypatch.setattr("nst._utils.archive._read_tensor", exhausted)
    with pytest.raises(MemoryError, match=r"run.ckpt', which needs more memory than is free"):
        StyleTransfer.resume(kept, extractor=tiny_extractor().double())


def test_an_error_before_the_first_step_tells_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, photo: Tensor, painting: Tensor
) -> None:
    def exhausted(*_: Any, **__: Any) -> NoReturn:
        raise EXHAUSTED

    monkeypatch.setattr("nst.color.preserve_color", exhausted)
    with pytest.raises(MemoryError, match=r"`size` is 40: 40x32 pixels take about \d+ MB"):
        small(tile=None).run(photo, painting, preserve_color="cholesky", color_when="before")


def test_only_pytorchs_own_errors_say_that_memory_is_exhausted() -> None:
    assert is_exhausted(EXHAUSTED) and is_exhausted(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_exhausted(RuntimeError("MPS backend out of memory (MPS allocated: 3 GB)"))
    assert not is_exhausted(RuntimeError("shapes differ")) and not is_exhausted(MemoryError())


def test_free_memory_is_that_of_the_machine() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or free > 2**20


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
    for group, most in (
        (outer, 9000),
        (outer / "a", 5000),
        (inner, 2**62 if version == 1 else "max"),
    ):
        (group / limit).write_text(f"{most}\n")
        (group / used).write_text("3000\n")
        (group / "memory.stat").write_text(f"anon 7\n{cached} 500\n")
    own = tmp_path / "own"
    own.write_text({1: "5:cpu:/c\n4:memory:/a/b\n0::/\n", 2: "0::/a/b\n"}[version])
    monkeypatch.setattr("nst._utils.memory._GROUPS", tmp_path)
    monkeypatch.setattr("nst._utils.memory._OWN_GROUPS", own)
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
    ("tile", "megabytes", "told"),
    [
        ("auto", 1000, "64"),
        ("None", 280, "`size` is 1536: 1536x1536 pixels take about 3.3 GB, which is more memory"),
    ],
)
def test_within_a_real_limit(tile: str, megabytes: int, told: str) -> None:
    command = [sys.executable, "-c", LIMITED, tile, str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith(told)
