import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nst._utils.group import Group, ProcessLost, own_device, process_group
from tests.helpers import raising


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

    with ThreadPoolExecutor(1) as threads:
        threads.submit(evaluate).result()
    assert seen == [before]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:9] Connection closed by peer"), ProcessLost),
        (RuntimeError("Timed out waiting 600000ms for recv operation"), ProcessLost),
        (dist.DistNetworkError("the client socket has failed"), ProcessLost),
        (dist.DistBackendError("ncclRemoteError: a remote process exited"), ProcessLost),
        (RuntimeError("[enforce fail at gloo/broadcast.cc:9] nbytes. 8 vs 4"), RuntimeError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (dist.DistBackendError("ncclInvalidUsage: Duplicate GPU detected"), dist.DistBackendError),
    ],
)
def test_only_an_error_of_the_connection_means_that_a_process_is_lost(
    error: RuntimeError, expected: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "all_reduce", raising(error))
    with pytest.raises(RuntimeError) as caught:
        Group(0, 2).add_up([torch.ones(1)])
    assert type(caught.value) is expected


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The third of four processes of torchrun on a machine with CUDA; what PyTorch is asked for."""
    told = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "2"}
    for name, value in (told | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, value)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(device=device))
    monkeypatch.setattr(
        dist, "init_process_group", lambda backend, **_: asked.update(backend=backend)
    )
    return asked


def test_each_process_has_a_gpu(torchrun: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with process_group():
        assert torchrun == {"device": 2, "backend": "cpu:gloo,cuda:nccl"}
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        for device in ("cuda", "cuda:0"):  # also of a recorded run
            assert own_device(torch.device(device)) == torch.device("cuda:2")
        assert own_device(torch.device("cpu")) == torch.device("cpu")
        with pytest.raises(ValueError, match="`device` is 'mps', but each process of torchrun"):
            own_device(torch.device("mps"))
        monkeypatch.setattr(dist, "is_initialized", lambda: False)


def test_processes_without_a_gpu_for_each_use_the_cpu_or_are_refused(
    torchrun: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with process_group():
        assert torchrun == {"backend": "gloo"}
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        with pytest.raises(ValueError, match=r"and there are 3\. Use device='cpu', or fewer"):
            own_device(torch.device("cuda"))
        monkeypatch.setattr(dist, "is_initialized", lambda: False)
