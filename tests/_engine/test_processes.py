"""Real processes, which talk by gloo; what they work out is tested in test_shares.py."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nst
from nst import Checkpoint, FeatureExtractor, RunState, Style, StyleTransfer
from nst._engine.objective import Objective
from nst._utils.group import Group, launched, process_group
from nst.cli import main as cli
from nst.extractors.weights import Weights
from nst.images import load_image, save_image
from nst.presets import preset
from nst.testing import tiny_extractor

pytestmark = pytest.mark.cpu  # other processes know no pretended device
HEIGHT, WIDTH, SECONDS = 301, 48, 90
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


def noise(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


class Deep(nst.ContentLoss):
    """Features of the previous frame."""

    reference = "previous"


def runs(dtype: torch.dtype) -> dict[str, Tensor]:
    """Return what some runs make; in as many processes as there are."""
    photo = noise(HEIGHT, WIDTH, 0)
    below = (torch.arange(HEIGHT) > 140).float().view(1, 1, -1, 1).expand(1, 1, -1, WIDTH)
    blend = [Style(noise(70, 60, 1), 0.7), Style(noise(60, 80, 2), 0.3)]
    regions = [Style(noise(70, 60, 1), region=below), Style(noise(60, 80, 2), region=1 - below)]
    losses: Any = {**preset("default")["losses"], "smooth": nst.TotalVariationLoss(weight=0.01)}

    def transfer(**changes: Any) -> StyleTransfer:
        return StyleTransfer(tiny_extractor().to(dtype), losses, num_steps=5, **changes)

    def down(one: Tensor, other: Tensor) -> Tensor:
        return torch.tensor([0.0, 3.0 if torch.equal(one, photo) else -3.0]).expand(*size, 2)

    size, frames = (HEIGHT, WIDTH), [photo, photo.roll(3, -2)]
    deep = [Deep(["relu2_1"], weight=0.1), nst.TemporalLoss(weight=3)]
    video = transfer(num_scales=1).replace(losses={**losses, "deep": deep[0], "temporal": deep[1]})
    coarse = FeatureExtractor(Weights(tiny_extractor().state_dict(), "tiny"), dtype="bfloat16")
    return {
        "bfloat16": transfer(num_scales=1).replace(extractor=coarse).run(photo, blend).image,
        "video": [each.image for each in video.frames(frames, blend, flow=down, num_steps=4)][1],
        "lbfgs": transfer(num_scales=2).run(photo, blend).image,
        "single scale": transfer(num_scales=1).run(photo, blend, where=below).image,
        "adam": transfer(optimizer="adam", num_scales=3).run(photo, regions).image,
    }


def lose(folder: Path) -> None:
    """Keep a run, of which the second process is killed in the sixth step."""

    def kill(state: RunState) -> None:
        if state.step == 6:
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)

    if Group.current().rank == 1:
        (folder / "pid").write_text(str(os.getpid()))
    run_kept(folder, [kill, Checkpoint(folder / "run.ckpt", every=4)])


def run_kept(folder: Path, callbacks: Any = ()) -> Tensor:
    transfer = StyleTransfer(tiny_extractor(), num_steps=8, num_scales=1)
    return transfer.run(noise(130, 32, 0), noise(50, 50, 1), callbacks=callbacks).image


def command_line() -> int:
    """Be `nst` with a tiny network."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nst.cli.build.FeatureExtractor", lambda **_: tiny_extractor())
        return cli.main(sys.argv[2:])


def start(rank: int, *words: str | Path, port: int) -> subprocess.Popen[str]:
    """Start this file as one of two processes, without torchrun, which would end the others."""
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    command, pipe = [sys.executable, __file__, *map(str, words)], subprocess.PIPE
    return subprocess.Popen(command, env=environment() | told, stdout=pipe, stderr=pipe, text=True)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(nst.__file__).parents[1])}


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def fail_second(folder: Path) -> None:
    """Raise in an evaluation of the second process, which then goes on living."""
    evaluate, calls = Objective.evaluate, iter(range(100))

    def fail(self: Objective, image: Tensor) -> Any:
        if next(calls) == 3:
            raise MemoryError("no more")
        return evaluate(self, image)

    if Group.current().rank == 1:
        Objective.evaluate = fail  # type: ignore[method-assign]
    try:
        run_kept(folder)
    except MemoryError:
        time.sleep(SECONDS)


def test_two_processes_give_what_one_gives(port: int, tmp_path: Path) -> None:
    for each in [start(rank, "runs", tmp_path, port=port) for rank in range(2)]:
        _, errors = each.communicate(timeout=SECONDS)
        assert each.returncode == 0, errors
    for dtype, tolerance in TOLERANCES.items():
        alone = runs(dtype)
        for rank in range(2):
            found = torch.load(tmp_path / f"{rank} {dtype}", weights_only=True)
            assert list(found) == list(alone)
            for name, image in alone.items():
                apart = (found[name] - image).abs()
                # Adam divides by the gradient's size: rounding becomes visible here and there.
                allowed = 1e-3 if name == "adam" else 0
                if name == "bfloat16":
                    assert float(apart.mean()) < 0.002
                else:
                    assert float((apart > tolerance).to(dtype).mean()) <= allowed, name


def test_a_process_that_dies_ends_the_run_with_a_good_checkpoint(port: int, tmp_path: Path) -> None:
    first, second = (start(rank, "lose", tmp_path, port=port) for rank in range(2))
    _, errors = first.communicate(timeout=SECONDS)
    second.communicate(timeout=SECONDS)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 1
    assert "Process 0 of 2 gets no answer from process 1: it has ended" in errors
    resumed = StyleTransfer.resume(tmp_path / "run.ckpt", extractor=tiny_extractor())
    torch.testing.assert_close(resumed.image, run_kept(tmp_path), rtol=0, atol=1e-5)


def test_a_process_that_fails_ends_the_first_with_the_reason_even_if_it_goes_on_living(
    port: int, tmp_path: Path
) -> None:
    first, second = (start(rank, "fail", tmp_path, port=port) for rank in range(2))
    _, errors = first.communicate(timeout=SECONDS / 2)
    assert second.poll() is None
    second.kill()
    second.communicate(timeout=SECONDS)
    assert "ProcessLost: Process 1 of 2 has failed: MemoryError: no more" in errors


def test_an_error_of_one_process_ends_the_others_with_the_reason(port: int, tmp_path: Path) -> None:
    save_image(noise(150, WIDTH, 0), tmp_path / "a.png")
    words: list[str | Path] = ["-o", tmp_path / "out.png", "--steps", "2"]
    missing = tmp_path / "missing.png"
    first = start(0, "nst", "stylize", tmp_path / "a.png", tmp_path / "a.png", *words, port=port)
    second = start(1, "nst", "stylize", tmp_path / "a.png", missing, *words, port=port)
    errors = [each.communicate(timeout=SECONDS)[1] for each in (first, second)]
    assert (first.returncode, second.returncode) == (1, 2)
    assert "nst: error: Process 1 of 2 has failed: FileNotFoundError: `style[0]` is" in errors[0]
    assert "nst: error: `style[0]` is" in errors[1]


def torchrun(*words: str | Path) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", __file__, "nst", *map(str, words)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_torchrun_makes_one_picture(tmp_path: Path) -> None:
    content, style, out = (tmp_path / name for name in ("content.png", "style.png", "out.png"))
    save_image(noise(150, WIDTH, 0), content)
    save_image(noise(60, 60, 1), style)
    done = torchrun("stylize", content, style, "-o", out, "--steps", "4", "--scales", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(out)) == 1
    alone = StyleTransfer(tiny_extractor(), num_steps=4, num_scales=1).run(content, style)
    torch.testing.assert_close(load_image(out), alone.image, rtol=0, atol=1.01 / 255)


def main() -> int:
    torch.set_num_threads(1)
    if sys.argv[1] == "nst":
        return command_line()
    assert launched()
    folder = Path(sys.argv[2])
    with process_group() as group:
        if sys.argv[1] != "runs":
            {"lose": lose, "fail": fail_second}[sys.argv[1]](folder)
        for dtype in TOLERANCES:
            torch.save(runs(dtype), folder / f"{group.rank} {dtype}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
