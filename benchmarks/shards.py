"""Seconds per evaluation of one process and of several that share a picture, and what they send.

    python benchmarks/shards.py [--size 1024] [--processes 2] [--rounds 5]

Each process has one thread. One process alone, and several that talk by gloo, all with VGG19, take
steps of L-BFGS on the same square picture of noise in turns; while some work, the others wait. A
step is everything: network, losses, optimizer. Medians over the rounds, and the median of each
round's ratio. Bytes are what the first process sends for an evaluation, by what they are.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time

import torch

from _machine import describe_machine
from nst import Callback, RunState, StyleTransfer
from nst._engine.objective import Objective
from nst._utils.group import Group, launched, process_group


class Timer(Callback):
    """Takes a step for every line of standard input; prints seconds and bytes per evaluation."""

    def __init__(self, group: Group, evaluations: list[float]) -> None:
        self.group, self.evaluations, self.start = group, evaluations, 0.0

    def on_step(self, state: RunState) -> None:
        """Report the step, unless it is the first, and wait for the next line."""
        if state.step == 1:
            print("ready", flush=True)
        else:
            seconds, count = time.perf_counter() - self.start, len(self.evaluations)
            sent = [f"{kind} {each // count}" for kind, each in sorted(self.group.sent.items())]
            print(seconds / count, ", ".join(sent), sep="\t", flush=True)
        if not sys.stdin.readline():
            state.stop("done")
        self.evaluations.clear()
        self.group.sent.clear()
        self.start = time.perf_counter()


def work(size: int, group: Group) -> None:
    """Take the steps of a run."""
    generator = torch.Generator().manual_seed(0)
    content, style = (torch.rand(1, 3, side, side, generator=generator) for side in (size, 256))
    evaluate, evaluations = Objective.evaluate, list[float]()

    def counted(
        self: Objective, image: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        evaluations.append(1)
        return evaluate(self, image)

    Objective.evaluate = counted  # type: ignore[method-assign]
    Group.current = lambda: group  # type: ignore[method-assign]
    transfer = StyleTransfer(size=size, num_scales=1, num_steps=10_000)
    transfer.run(content, style, callbacks=Timer(group, evaluations))


def start(size: int, processes: int) -> list[subprocess.Popen[str]]:
    """Start processes that work together."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "none",
        "OMP_NUM_THREADS": "1",
    }
    started = []
    for rank in range(processes):
        env = {**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, __file__, "--size", str(size), "--work"]
        started.append(
            subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    return started


def step(processes: list[subprocess.Popen[str]]) -> tuple[float, str]:
    """Let processes take a step; return seconds per evaluation, and what the first sent."""
    first = processes[0]
    assert first.stdin is not None
    first.stdin.write("step\n")
    first.stdin.flush()
    seconds, sent = read(first).split("\t")
    return float(seconds), sent


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip("\n")
    if not line:
        raise SystemExit("a process has ended; see above")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        torch.set_num_threads(1)
        if not launched():
            work(arguments.size, Group())
            return
        with process_group() as group:
            work(arguments.size, group)
        return
    torch.set_num_threads(1)
    print(f"{describe_machine()} a process\n{arguments.size}x{arguments.size} pixels", flush=True)
    teams = [start(arguments.size, 1), start(arguments.size, arguments.processes)]
    try:
        for team in teams:
            read(team[0])
        rounds = [[step(team) for team in teams] for _ in range(arguments.rounds)]
    finally:
        for team in teams:
            for each in team:
                assert each.stdin is not None
                each.stdin.close()  # by which it ends
                each.wait()
    for team, results in zip(teams, zip(*rounds, strict=True), strict=True):
        seconds = [each for each, _ in results]
        print(
            f"{len(team)} process(es): {statistics.median(seconds):.2f} s per evaluation "
            f"({min(seconds):.2f} to {max(seconds):.2f})"
        )
    ratios = [alone / several for (alone, _), (several, _) in rounds]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"bytes that the first process sends for an evaluation: {rounds[-1][1][1]}")


if __name__ == "__main__":
    main()
