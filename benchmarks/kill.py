"""Does a run that is killed again and again end with the same bits as one that is left alone?

    python benchmarks/kill.py [--kills 20] [--every 3] [--seed 0]

A small network repaints a small picture in a process of its own, with a checkpoint. The process is
killed (SIGKILL) at a random moment, and another goes on from the file; when a run is done, the next
begins. After every kill, the file is read whole. In the end, the pictures of all runs have to have
the hash of one that nobody disturbed, and no kill may have cost more than EVERY steps.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from _machine import describe_machine
from nst import Checkpoint, EarlyStopping, RunState, StyleTransfer
from nst._utils.plain import hash_values
from nst.callbacks.base import CallbackLike
from nst.callbacks.checkpoint import CHECKPOINT_FILE
from nst.testing import tiny_extractor

STEPS, SCALES, SIDE = 400, 2, 96
# How long a process lives at the most after it has started to work, in seconds.
LONGEST_LIFE = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="makes the moments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(compare(Path(folder), arguments.kills, arguments.every, arguments.seed))


def compare(folder: Path, kills: int, every: int, seed: int) -> int:
    start, moments = time.perf_counter(), random.Random(seed)
    processes = multiprocessing.get_context("forkserver")  # a new process without a new import
    processes.set_forkserver_preload(["nst.testing"])
    whole = folder / "whole"
    undisturbed = processes.Process(target=paint, args=(None, every, folder / "log", whole))
    undisturbed.start()
    undisturbed.join()
    expected, runs, done, writing, lost = whole.read_text(), 0, 0, 0, 0
    wrong = False
    while done < kills:
        runs += 1
        path, log, result = (folder / f"{name}-{runs}" for name in ("run", "log", "result"))
        while not result.exists():
            log.touch()
            before = log.stat().st_size
            process = processes.Process(target=paint, args=(path, every, log, result))
            process.start()
            if done < kills:
                while log.stat().st_size == before and process.is_alive():
                    time.sleep(0.0005)
                process.join(moments.uniform(0, LONGEST_LIFE))
                if process.is_alive():
                    process.kill()
                    done += 1
                    process.join()
                    writing += any(folder.glob(".nst-*.tmp"))
                    if path.exists():
                        CHECKPOINT_FILE.read(path)
            process.join()
        same = result.read_text() == expected
        wrong |= not same
        steps = [int(line) for line in log.read_text().split()]
        lost = max([lost, *(one - other + 1 for one, other in itertools.pairwise(steps))])
        print(f"run {runs}: {result.read_text()[:16]}, {'the same' if same else 'ANOTHER'}")
    left = [file.name for file in folder.glob(".nst-*.tmp")]
    print(
        f"undisturbed: {expected[:16]}\n"
        f"{done} kills, {writing} of them while the file was written, in {runs} x {STEPS} steps; "
        f"at most {lost} steps lost, with a checkpoint every {every}; "
        f"{len(left)} files left over; {time.perf_counter() - start:.0f} s"
    )
    return int(wrong or lost > every or bool(left))


def paint(path: Path | None, every: int, log: Path, result: Path) -> None:
    """Paint in a process of its own, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(state: RunState) -> None:
        os.write(descriptor, f"{state.step}\n".encode())

    callbacks: list[CallbackLike] = [note, EarlyStopping(patience=STEPS)]
    if path is not None:
        callbacks.append(Checkpoint(path, every))
    if path is not None and path.exists():
        done = StyleTransfer.resume(path, extractor=tiny_extractor(), callbacks=callbacks)
    else:
        transfer = StyleTransfer(tiny_extractor(), num_steps=STEPS, num_scales=SCALES, average=0.9)
        done = transfer.run(picture(1), picture(2), callbacks=callbacks)
    temporary = result.with_suffix(".part")
    temporary.write_text(hash_values(done.image))
    temporary.replace(result)


def picture(seed: int) -> Tensor:
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


if __name__ == "__main__":
    main()
