"""Any configuration gives a picture, or is refused with the reason before any work is done.

`NST_CONFIGURATIONS=20000 pytest tests/contracts/test_configurations.py` tries others, at random.
"""

import inspect
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nst import Style, StyleTransfer
from nst.color import COLOR_METHODS
from nst.testing import tiny_extractor
from tests.contracts.test_every_loss import variants
from tests.helpers import HAS_FLOAT64, Recorder

LOSSES = [variant.values[0] for variant in variants()]
LAYERS = ["image", "conv1_1", "relu1_1", "relu2_1", "pool2", "relu3_2", "relu4_2", "relu5_1"]
OTHER_TYPE = torch.float64 if HAS_FLOAT64 else torch.float32
NETWORKS = [tiny_extractor().to(kind) for kind in (torch.float32, OTHER_TYPE)]
RANDOM = "NST_CONFIGURATIONS" in os.environ
COUNT = int(os.environ.get("NST_CONFIGURATIONS", "800"))
SEEN: Counter[str] = Counter()


SGD, RUINOUS = (partial(torch.optim.SGD, lr=rate) for rate in (0.1, 1e30))
PLAIN_LBFGS = partial(torch.optim.LBFGS, max_iter=2)

# Usual values of every argument but network, losses and pictures, and values that are refused. A
# new argument belongs here.
Values = tuple[Sequence[Any], Sequence[Any]]
TRANSFER: dict[str, Values] = {
    "optimizer": (["lbfgs", "adam", SGD, PLAIN_LBFGS, RUINOUS], ["sgd", None, 3]),
    "content_weight": ([None], [0.1]),  # the losses are given
    "style_weight": ([None], [0.1, "much"]),
    "learning_rate": ([None, None, None, 0.1], [0, -1, float("nan"), "fast"]),
    "size": ([None, 16, 24, 40, 10**9], [0, 1, -3, 7.5, "big"]),
    "upscale": ([False, False, False, True], []),
    "num_steps": ([1, 2, 3, 4], [0, -1, 2.5, True]),
    "num_scales": (["auto", 1, 2, 3, 10**9], [0, "all"]),
    "average": ([0, 0.5, 0.99], [1, -0.1, float("nan")]),
    "normalize_gradients": ([False, False, False, True], []),
    "tile": ([None, "auto", None, "auto", 1, 5], [0, -1, 2.5, "rows"]),
    "device": (["auto", "cpu", torch.device("cpu")], ["gpu", None]),
}
RUN: dict[str, Values] = {
    "strength": ([0, 1e-30, 0.5, 1, 2, 1e30], [-1, float("inf"), 1e300, "much"]),
    "preserve_color": ([None, *COLOR_METHODS], ["lab"]),
    "color_when": (["before", "after", "both"], ["never"]),
    "seed": ([0, 7, 2**64 - 1], [-1, 2**64, 0.5]),
}
SYNTHESIZE: dict[str, Values] = {
    "shape": ([None, (16, 24), [40, 16]], [(16,), (0, 16), (10**9, 10**9), 16]),
    "seed": RUN["seed"],
}
INITS = ("content", "style", "noise", "pink-noise", "gray", "picture")
LEFT = np.zeros((24, 24))
LEFT[:, :12] = 1


@st.composite
def losses(draw: st.DrawFn) -> Any:
    made = {}
    for i in range(draw(st.sampled_from([1, 1, 2, 2, 3]))):
        make = draw(st.sampled_from(LOSSES))
        arguments: dict[str, Any] = {
            "weight": draw(st.sampled_from([1.0, 0.01, 1e3, 1.0, 1e-30, 1e30, 0.01, 1.0, 0.0]))
        }
        if "layers" in inspect.signature(make).parameters:
            layers = draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3, unique=True))
            weights = draw(st.sampled_from([1.0, 1e-20, 1e20]))
            arguments["layers"] = draw(st.sampled_from([layers, dict.fromkeys(layers, weights)]))
        made[f"loss {i}"] = make(**arguments)
    return made


@st.composite
def pictures(draw: st.DrawFn, *, batches: bool = False) -> Any:
    sizes = [(24, 24), (16, 16), (40, 40), (17, 17), (24, 24), (40, 24)]
    height, width = draw(st.sampled_from(sizes))
    look = draw(st.sampled_from(["noise", "noise", "noise", "black", "white", "red", "faint"]))
    noise = np.random.default_rng(draw(st.integers(0, 3))).random((height, width, 3))
    values = {
        "noise": noise,
        "black": np.zeros_like(noise),
        "white": np.ones_like(noise),
        "red": np.broadcast_to([1.0, 0, 0], noise.shape),
        "faint": 0.5 + 1e-6 * noise,
    }[look]
    kinds = ["tensor", "float64", "bytes", "pil", "alpha", "gray"]
    kind = draw(st.sampled_from([*kinds, "batch"] if batches else kinds))
    if kind in ("tensor", "float64", "batch"):
        tensor = torch.tensor(values).permute(2, 0, 1)[None]
        tensor = tensor if kind == "float64" else tensor.float()
        return torch.cat([tensor, tensor.flip(-1)]) if kind == "batch" else tensor
    if kind == "gray":
        return values[..., 0]
    array = (255 * values).round().astype(np.uint8)
    if kind == "alpha":
        alpha = np.zeros_like(array[..., :1])
        alpha[:, : width // 2] = draw(st.sampled_from([128, 255]))
        return np.concatenate([array, alpha], -1)
    return Image.fromarray(array) if kind == "pil" else array


@st.composite
def styles(draw: st.DrawFn, *, regions: bool) -> Any:
    weights = [1.0, 0.3, 1.0, 0.3, 1e-300, 1e308, 1.0, 0.3, 1.0, 0.0]
    made = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        image, weight = draw(pictures()), draw(st.sampled_from(weights))
        region = draw(st.sampled_from([None] * 7 + ["alpha", LEFT] * regions))
        mask = draw(st.sampled_from([None] * 7 + ["alpha", LEFT]))
        scale = draw(st.sampled_from([1] * 9 + [1.5, 1e99, 1e-9]))
        rotation = draw(st.sampled_from([0, 0, 0, 90, 33, -1e9]))
        made.append(Style(image, weight, region, mask, scale, rotation))
    return made


def choose(data: st.DataObject, table: dict[str, Values]) -> dict[str, Any]:
    """Draw a few of the arguments, at most one of them odd; the others stay as they are."""
    names = data.draw(st.sets(st.sampled_from(sorted(table)), max_size=4))
    odd = data.draw(st.sampled_from([None] * 19 + sorted(names)))
    values = {name: (name == odd and table[name][1]) or table[name][0] for name in sorted(names)}
    return {name: data.draw(st.sampled_from(values[name]), label=name) for name in values}


def attempt(data: st.DataObject, recorder: Recorder) -> Any:
    network = NETWORKS[data.draw(st.integers(0, 1))]
    chosen = {"losses": data.draw(losses()), "num_steps": 2, **choose(data, TRANSFER)}
    transfer = StyleTransfer(network, **chosen)
    texture = data.draw(st.sampled_from([False, False, False, True]))
    style = data.draw(styles(regions=not texture))
    init = data.draw(st.sampled_from(INITS[1:] if texture else INITS))
    if init == "picture":
        init = data.draw(pictures(batches=not texture))
    if texture:
        arguments = choose(data, SYNTHESIZE)
        return transfer.synthesize(style, init=init, callbacks=recorder, **arguments)
    content = data.draw(pictures(batches=True))
    where = data.draw(st.sampled_from([None] * 5 + ["alpha", LEFT]))
    arguments = choose(data, RUN)
    return transfer.run(content, style, where=where, init=init, callbacks=recorder, **arguments)


@given(data=st.data())
@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=not RANDOM,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_any_configuration_gives_a_picture_or_is_refused_before_work(data: st.DataObject) -> None:
    recorder = Recorder()
    try:
        result = attempt(data, recorder)
    except (ValueError, TypeError, FileNotFoundError) as error:
        assert str(error).startswith("`"), error
        assert recorder.calls == [], error
        SEEN["refused"] += 1
        return
    image = result.image
    assert bool(image.isfinite().all())
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert image.shape == result.content.shape
    assert result.stop_reason
    SEEN["diverged" if "diverged" in result.stop_reason else "painted"] += 1


def test_the_configurations_are_of_every_kind() -> None:
    if not SEEN:
        pytest.skip("needs the test before it")
    assert sum(SEEN.values()) >= COUNT * 0.9
    assert SEEN["painted"] > COUNT * 0.4 and SEEN["refused"] > COUNT * 0.1
    assert SEEN["diverged"] > 0


def arguments_of(function: Any, *others: str) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", *others}


def test_every_argument_is_among_those_tried() -> None:
    pictures = ("content", "style", "where", "init", "callbacks")
    assert arguments_of(StyleTransfer, "extractor", "losses") == set(TRANSFER)
    assert arguments_of(StyleTransfer.run, *pictures) == set(RUN)
    assert arguments_of(StyleTransfer.synthesize, *pictures) == set(SYNTHESIZE)
