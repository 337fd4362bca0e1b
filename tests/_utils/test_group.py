from __future__ import annotations

import signal
import threading

import pytest
import torch

from nst._utils.group import Group


def test_a_process_alone_sends_nothing() -> None:
    alone, tensor = Group.current(), torch.ones(2)
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.broadcast_object("a") == "a" and alone.gather_objects("a") == ["a"]
    assert alone.broadcast(tensor) is tensor and alone.add_up([tensor])[0] is tensor
    assert alone.sent == {}


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_takes_effect_only_after_what_others_wait_for(ignored: bool) -> None:
    done = []

    def evaluate() -> None:
        with Group(0, 2).interrupts_deferred(ignored=ignored):
            signal.raise_signal(signal.SIGINT)
            done.append("evaluated")

    before = signal.getsignal(signal.SIGINT)
    if ignored:
        evaluate()
    else:
        with pytest.raises(KeyboardInterrupt):
            evaluate()
    assert done == ["evaluated"]
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_are_left_alone_in_other_threads() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def evaluate() -> None:
        with Group(0, 2).interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=evaluate)
    thread.start()
    thread.join()
    assert seen == [before]
