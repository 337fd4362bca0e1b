"""Attributes that are set after construction: checked as in the constructor, or refused."""

import copy
import pickle
from typing import Any, NamedTuple

import pytest
from torch import Tensor

import nst
from nst import Callback, Checkpoint, ContentLoss, EarlyStopping, GramStyleLoss, SaveImages
from nst.callbacks.base import as_callbacks
from nst.images import read_picture
from nst.plotting import LiveDisplay
from nst.styles.style import as_styles
from nst.testing import tiny_extractor
from tests.helpers import PAINTING, PHOTO, raising, small


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (GramStyleLoss(), "weight", -1),
        (GramStyleLoss(), "units", "cosine"),
        (GramStyleLoss(), "layers", ("relu1_1",)),
        (ContentLoss(), "units", "other"),
        (nst.TotalVariationLoss(), "power", 3),
        (nst.SlicedWassersteinStyleLoss(), "num_directions", 0),
        (nst.SelfSimilarityLoss(), "max_positions", 1),
        (SaveImages(), "every", 0),
        (SaveImages(), "path", "steps.gif"),
        (LiveDisplay(), "every", 0),
        (nst.LivePage(), "port", 1),
        (EarlyStopping(), "patience", 0.5),
        (Checkpoint(), "path", 3),
        (tiny_extractor(), "pooling", "avg"),
        (tiny_extractor(), "padding", "replicate"),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(owner: Any, name: str, value: Any) -> None:
    before = getattr(owner, name)
    with pytest.raises((AttributeError, TypeError, ValueError), match=f"`{name}` (is|of a)"):
        setattr(owner, name, value)
    assert getattr(owner, name) == before


def test_a_right_value_takes_effect_and_is_copied() -> None:
    loss = GramStyleLoss(["relu1_1"])
    loss.weight, loss.units = 3, "gatys"
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert (twin.weight, twin.units, twin.layers) == (3.0, "gatys", ("relu1_1",))


@pytest.mark.parametrize(("layer", "weight"), [("relu1_1", -1), ("relu2_1", 1)])
def test_weights_of_layers_are_checked_before_each_run(layer: str, weight: float) -> None:
    loss = GramStyleLoss(["relu1_1"])
    transfer = nst.StyleTransfer(tiny_extractor(), {"style": loss}, num_steps=1)
    loss.layer_weights[layer] = weight
    with pytest.raises(ValueError, match=r"`losses\['style'\]\.layer_weights"):
        transfer.run(PHOTO, PAINTING)


def test_a_tuple_with_named_fields_is_not_a_list_of_styles() -> None:
    class Photo(NamedTuple):
        pixels: Tensor
        mask: Tensor

    for picture in (Photo(PAINTING, PAINTING[:, :1]), read_picture(PAINTING)):
        assert len(as_styles(picture)) == 1  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"`style\[0\]` is of type (Photo|Picture)"):
            small().run(PHOTO, picture)  # type: ignore[arg-type]


def test_a_callback_that_can_be_iterated_is_one_callback() -> None:
    class Frames(Callback):
        __iter__ = raising(AssertionError)

    frames = Frames()
    assert as_callbacks(frames) == [frames]
