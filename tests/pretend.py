"""A device that is not there.

Its tensors hold values in the processor's memory, but say that they are on "cuda" or "mps". They
refuse what tensors there would: another device in the same operation, a generator of another
device, float64, uneven pooling and border padding on MPS. It counts operations, copies to the
device, and how often the processor waits for it. It says nothing about kernels or speed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_WAITING = {"_local_scalar_dense", "equal", "nonzero", "_unique2", "masked_select", "is_nonzero"}
# They accept indices or values of another device.
_MIXING = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_", "_unsafe_index"}
_FROM_VALUES = {"tensor", "as_tensor", "asarray", "new_tensor"}
_active: list[PretendedDevice] = []


class OnDevice(Tensor):
    """A tensor of the pretended device."""

    values: Tensor  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> OnDevice:
        wrapper: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=values.device,
        )
        wrapper.values = values
        return wrapper

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _active[-1].compute(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return _active[-1].device

    is_mps = property(lambda self: self.device.type == "mps")
    is_cuda = property(lambda self: self.device.type == "cuda")
    is_cpu = property(lambda self: False)

    def tolist(self) -> Any:
        _active[-1].waits["tolist"] += 1
        return self.values.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy.")

    __array__ = numpy

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    def untyped_storage(self) -> Any:
        return self.values.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        return memo.setdefault(id(self), copied)  # type: ignore[no-any-return]


def _values_of(x: Any) -> Any:
    return x.values if isinstance(x, OnDevice) else x


class _Moved(torch.autograd.Function):
    """A tensor on the device from one elsewhere, or the other way around."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        moved = _values_of(x).detach().clone()
        return moved if isinstance(x, OnDevice) else OnDevice(moved)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        moved: Tensor = _Moved.apply(gradient)
        return moved


class _Calls(TorchFunctionMode):
    """Carries out what Python code says about devices."""

    def __init__(self, owner: PretendedDevice) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        owner, kwargs, name = self.owner, dict(kwargs or {}), getattr(func, "__name__", "")
        if func in (Tensor.to, Tensor.type_as):
            return owner.move(*args, **kwargs)
        if func is Tensor.cpu:
            return owner.move(args[0], "cpu")
        here = any(isinstance(x, OnDevice) for x in tree_leaves((args, kwargs)))
        named = kwargs.get("device") if func is not torch.device else None
        if named is not None:
            here = torch.device(named).type == owner.device.type
        generator = kwargs.get("generator")
        if here and generator is not None and generator.device.type != owner.device.type:
            raise RuntimeError(f"Expected a generator on {owner.device}, not {generator.device}")
        if here and named is not None:
            kwargs["device"] = "cpu"
        if here and name in _FROM_VALUES:
            owner.copies[name] += 1
            return owner.placed(func(*tree_map(_values_of, args), **kwargs))
        before, owner.creates = owner.creates, here if named is not None else owner.creates or here
        try:
            return func(*args, **kwargs)
        finally:
            owner.creates = before


class PretendedDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes the device available within a `with` block.

    Args:
        name: `"cuda"`, `"mps"`, or `"mps-old"`: MPS before macOS 15, which loses the gradient of a
            ReLU in memory that is not contiguous.
    """

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = torch.device(name.removesuffix("-old"), 0)
        self.loses = name.endswith("-old")
        self.creates = False  # whether a tensor made from nothing is on the device
        self.waits, self.copies, self.operations = Counter[str](), Counter[str](), Counter[str]()
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> PretendedDevice:
        for target, replacement in self._replacements().items():
            self._entered.enter_context(mock.patch(target, replacement))
        overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._entered.callback(
            torch.__future__.set_overwrite_module_params_on_conversion, overwrites
        )
        _active.append(self)
        self._entered.callback(_active.pop)
        self._entered.enter_context(_Calls(self))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._entered.close()

    def _replacements(self) -> dict[str, Any]:
        """Return what says that the device is there."""
        parse, backward = torch._C._nn._parse_to, torch.autograd.graph._engine_run_backward

        def parse_to(*args: Any, **kwargs: Any) -> Any:
            given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
            if not given:
                return parse(*args, **kwargs)
            return given[0].device, given[0].dtype, False, None

        def run_backward(*args: Any, **kwargs: Any) -> Any:
            with _Calls(self):  # for functions with a backward pass in Python
                return backward(*args, **kwargs)

        found: dict[str, Any] = {
            "torch._C._nn._parse_to": parse_to,
            "torch.accelerator.current_accelerator": lambda *args, **kwargs: None,
        }
        for module in ("torch.autograd.graph", "torch.autograd"):
            found[f"{module}._engine_run_backward"] = run_backward
        if self.device.type == "mps":
            return {
                **found,
                "torch.backends.mps.is_available": lambda: True,
                "torch.mps.recommended_max_memory": lambda: 2**34,
                "torch.mps.current_allocated_memory": lambda: 0,
            }
        generator = torch.Generator()
        answers: Mapping[str, Callable[..., Any]] = {
            "is_available": lambda: True,
            "_lazy_init": lambda: None,
            "is_current_stream_capturing": lambda: False,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "memory_reserved": lambda device=None: 0,
            "memory_allocated": lambda device=None: 0,
            "mem_get_info": lambda device=None: (2**33, 2**34),
            "get_rng_state": lambda device=None: generator.get_state(),
            "set_rng_state": lambda state, device=None: generator.set_state(state),
        }
        return {**found, **{f"torch.cuda.{name}": each for name, each in answers.items()}}

    def placed(self, x: Any) -> Any:
        """Return a tensor that holds values on the device."""
        if not isinstance(x, Tensor) or isinstance(x, OnDevice):
            return x
        self._check_dtype(x.dtype)
        return OnDevice(x)

    def _check_dtype(self, dtype: torch.dtype) -> None:
        if self.device.type == "mps" and dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def move(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Do what `Tensor.to` does."""
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        kwargs.pop("non_blocking", None)
        for each in args:
            if isinstance(each, Tensor):
                device, dtype = each.device, each.dtype
            elif isinstance(each, torch.dtype):
                dtype = each
            elif isinstance(each, (str, torch.device)):
                device = each
        dtype = x.dtype if dtype is None else dtype
        kind = (x.device if device is None else torch.device(device)).type
        if kind == self.device.type:
            self._check_dtype(dtype)
        elif isinstance(x, OnDevice):
            self.waits["to"] += 1
            x = _Moved.apply(x)
        with torch._C.DisableTorchFunction():
            x = Tensor.to(x, dtype, **kwargs)
        if kind == self.device.type and not isinstance(x, OnDevice):
            self.copies["to"] += 1
            x = _Moved.apply(x)
        return x

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.compute(func, args, kwargs or {})

    def compute(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Compute an operation with the values of its arguments."""
        name = func._schema.name.split("::")[1]
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        here = [x for x in tensors if isinstance(x, OnDevice)]
        if not here:
            made = func(*args, **kwargs)
            return tree_map(self.placed, made) if self.creates and not tensors else made
        elsewhere = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim and x.numel()]
        mixes = name == "copy_" or (name in _MIXING and isinstance(args[0], OnDevice))
        if elsewhere and not mixes:
            raise RuntimeError(f"{name}: tensors on {self.device} and cpu")
        self.operations[name] += 1
        if name == "copy_" and elsewhere:
            (self.copies if isinstance(args[0], OnDevice) else self.waits)["copy_"] += 1
        masks = [x for x in tree_leaves(args[1:2]) if isinstance(x, Tensor)]
        if name in _WAITING or (name == "index" and any(x.dtype == torch.bool for x in masks)):
            self.waits[name] += 1
        if self.device.type == "mps":
            self._check_mps(name, args)
        found = func(*tree_map(_values_of, args), **tree_map(_values_of, kwargs))
        if self.loses and name == "threshold_backward" and not found.is_contiguous():
            found.zero_()
        written = {id(x.values): x for x in here}
        if name == "_local_scalar_dense":
            return found
        return tree_map(lambda x: written[id(x)] if id(x) in written else self.placed(x), found)

    def _check_mps(self, name: str, args: Sequence[Any]) -> None:
        if name == "grid_sampler_2d" and args[3] == 1:  # before PyTorch 2.13
            raise RuntimeError("MPS: Unsupported Border padding mode")
        if name in ("_adaptive_avg_pool2d", "adaptive_avg_pool2d"):
            for size, cells in zip(args[0].shape[-2:], args[1], strict=True):
                if size % cells and cells % size:
                    raise RuntimeError("Adaptive pool MPS: input sizes must be divisible")
