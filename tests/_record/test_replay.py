"""A picture holds the record of its run, from which the run can be repeated."""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import nst
import nst.cli.main
from nst import ContentLoss, FeatureExtractor, Style, StyleTransfer, StyleTransferResult, save_image
from nst._record.replay import recorded_arguments, recorded_end, recorded_extractor, recorded_run
from nst._utils.plain import hash_file, hash_network
from nst.callbacks.base import CallbackLike
from nst.extractors.weights import Weights
from nst.images import read_record
from nst.testing import tiny_extractor
from tests.helpers import LEFT, PHOTO, fail_at, halve, hooked, mutations, raising, stop_at


class OwnLoss(nst.TotalVariationLoss):
    def __init__(self, **own: Any) -> None:
        super().__init__()
        self.own = own

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self.own}


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The working folder, with a mask as well."""
    save_image((1 - LEFT).expand(1, 3, -1, -1), "half.png")
    return folder


def transfer(**arguments: Any) -> StyleTransfer:
    losses = {
        "content": ContentLoss(["relu2_1"], weight=0.1),
        "style": nst.GramStyleLoss({"relu1_1": 0.3, "relu2_1": 0.7}, centered=True),
        "smooth": nst.TotalVariationLoss(weight=0.01, power=1),
    }
    settings = {"num_steps": 4, "num_scales": 2, "losses": losses, **arguments}
    return StyleTransfer(tiny_extractor(), **settings)


def run(made: StyleTransfer | None = None, **arguments: Any) -> StyleTransferResult:
    """Paint the photograph, and save the result as `out.png`."""
    result = (made or transfer()).run("photo.png", "painting.png", **arguments)
    result.save("out.png")
    return result


def rerun(path: str = "out.png", *places: str, **arguments: Any) -> StyleTransferResult:
    return StyleTransfer.rerun(path, places, extractor=tiny_extractor(), **arguments)


@functools.cache
def _settings() -> str:
    return json.dumps(transfer().run("photo.png", "painting.png").settings)


def valid_record(**changes: Any) -> dict[str, Any]:
    """Return the record of a run, with changes."""
    return {**json.loads(_settings()), **changes}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_a_saved_picture_holds_the_settings(suffix: str) -> None:
    result = run(strength=0.5)
    result.save(f"out.{suffix}")
    assert read_record(f"out.{suffix}") == result.settings
    assert result.settings["nst"] == nst.__version__
    if suffix != "jpg":  # which holds a record of limited length
        save_image(PHOTO, f"out.{suffix}", record={"text": "a" * 100_000})
        assert read_record(f"out.{suffix}") == {"text": "a" * 100_000}


@pytest.mark.parametrize(
    ("made", "arguments"),
    [
        ({}, {}),
        ({}, {"strength": 0.5, "preserve_color": "pca", "color_when": "both"}),
        ({}, {"where": "half.png"}),
        ({}, {"init": "pink-noise", "seed": 7}),
        ({}, {"init": "painting.png"}),
        ({"optimizer": "adam", "learning_rate": 0.1}, {}),
    ],
)
def test_a_picture_is_made_again_bit_for_bit(made: Any, arguments: dict[str, Any]) -> None:
    first, again = run(transfer(**made), **arguments), rerun()
    assert torch.equal(again.image, first.image)
    assert again.settings == first.settings


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"weights": "torchvision"}, "which cannot be found by name"),
        ({"network": "vgg16", "weights": "out.png"}, "'out.png', which cannot be found by name"),
        ({"network": "vgg61", "weights": "torchvision"}, "'vgg61', which torchvision lacks"),
        ({"network": "VGG", "layers": {}}, "'BackboneExtractor', which cannot be found by name"),
    ],
)
def test_no_path_is_followed_to_a_network(described: dict[str, Any], message: str) -> None:
    record = valid_record(extractor={"type": "BackboneExtractor", **described})
    with pytest.raises(ValueError, match=message):
        recorded_extractor(record)


def test_regions_masks_and_style_files_are_found_again() -> None:
    own = transfer()
    own.capture("painting.png", sizes=[20, 40]).save("painting.nst")
    styles = [
        Style("painting.png", 2.0, "half.png", scale=0.9, rotation=10),
        Style("photo.png", mask="half.png", region="half.png"),
        Style.load("painting.nst", weight=0.5),
    ]
    first = own.run("photo.png", styles)
    first.save("out.png")
    assert torch.equal(rerun().image, first.image)


def test_a_record_gives_every_argument_of_a_transfer() -> None:
    names = {field.name for field in fields(StyleTransfer)}
    of_losses = {"content_weight", "style_weight"}
    assert recorded_arguments(valid_record(), {}).keys() == names - {"extractor", *of_losses}


STOP_AT_ONCE = hooked(on_start=lambda state: state.stop("at once"))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    ("callback", "steps"),
    [
        (stop_at(1), 1),  # at the coarse scale
        (stop_at(5), 5),  # where the scales meet
        (stop_at(6), 6),
        (stop_at(8, "at the last step"), 8),
        (nst.EarlyStopping(patience=1, min_improvement=0.9), 7),
        (STOP_AT_ONCE, 0),
    ],
)
def test_a_run_that_was_stopped_is_made_again_as_far_as_it_went(
    optimizer: str, callback: CallbackLike, steps: int
) -> None:
    first = run(transfer(num_steps=8, optimizer=optimizer), init="pink-noise", callbacks=callback)
    record = read_record("out.png")
    assert (record["num_steps"], record["steps_done"]) == (8, first.num_steps) == (8, steps)
    assert record["stop_reason"] == first.stop_reason
    seen: list[int] = []
    again = rerun(callbacks=[lambda state: seen.append(state.num_steps)])
    assert torch.equal(again.image, first.image)
    assert (again.num_steps, seen) == (steps, [8] * steps)
    if steps < 8:
        assert again.settings == first.settings and again.stop_reason == first.stop_reason


@pytest.mark.parametrize("callbacks", [(), stop_at(2)])
def test_a_texture_is_made_again_as_far_as_it_went(callbacks: Any) -> None:
    own = transfer(average=0.5, optimizer="adam")
    first = own.synthesize("painting.png", (24, 30), seed=3, callbacks=callbacks)
    first.save("out.png")
    again = rerun()
    assert torch.equal(again.image, first.image) and again.num_steps == (2 if callbacks else 4)


def test_a_rerun_may_change_the_arguments_of_the_run() -> None:
    changes: dict[str, Any] = {"strength": 0.5, "init": "noise", "where": None}
    run(where="half.png")
    again = rerun(**changes, style=Style("photo.png", scale=0.9), num_scales=1)
    first = transfer(num_scales=1).run("photo.png", Style("photo.png", scale=0.9), **changes)
    assert again.settings == first.settings
    assert torch.equal(again.image, first.image)


def test_a_rerun_may_end_elsewhere() -> None:
    cases: list[tuple[Any, dict[str, Any], tuple[int, str]]] = [
        ((), {}, (8, "completed")),
        (stop_at(2), {"num_steps": 4}, (4, "completed")),
        (stop_at(3), {"callbacks": stop_at(2, "now")}, (2, "now")),
    ]
    for first, changes, end in cases:
        run(transfer(num_steps=8), callbacks=first)
        again = rerun(**changes)
        assert (again.num_steps, again.stop_reason) == end


def test_a_warning_says_that_an_interrupted_or_failed_run_may_differ(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(transfer(num_steps=8), callbacks=fail_at(3, KeyboardInterrupt()))
    again = rerun()
    assert (again.num_steps, again.stop_reason) == (3, "interrupted")
    assert "interrupted or failed after step 3 of 8" in caplog.text
    with pytest.raises(OSError, match="full") as caught:
        run(transfer(num_steps=8), callbacks=fail_at(4, OSError("full")))
    caught.value.result.save("out.png")  # type: ignore[attr-defined]
    assert rerun().stop_reason == "failed: OSError"
    assert "interrupted or failed after step 4 of 8" in caplog.text


def test_no_reason_controls_the_terminal() -> None:
    record = valid_record(steps_done=2, stop_reason="red \x1b[31m\ndone")
    save_image(PHOTO, "out.png", record=record)
    assert rerun().stop_reason == "red  [31m done"


def test_files_are_found_in_given_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()
    for name, file in {"a": "out.png", "b": "photo.png", "c": "painting.png"}.items():
        (folder / name).mkdir()
        Path(file).rename(folder / name / file)
    monkeypatch.chdir(folder / "a")
    with pytest.raises(FileNotFoundError, match=r"`content` was 'photo\.png', which is not in"):
        rerun()
    assert torch.equal(rerun("out.png", "../b", "../c/painting.png").image, first.image)


def test_pictures_in_memory_are_hashed_but_cannot_be_found() -> None:
    result = transfer().run(PHOTO, "painting.png")
    result.save("out.png")
    inputs = read_record("out.png")["inputs"]
    assert inputs["content"]["name"] is None and len(inputs["content"]["sha256"]) == 64
    assert inputs["style[0]"] == {"name": "painting.png", "sha256": hash_file("painting.png")}
    with pytest.raises(ValueError, match="`content` of this run was in memory"):
        rerun()
    again = StyleTransfer.from_record("out.png", tiny_extractor()).run(PHOTO, "painting.png")
    assert torch.equal(again.image, result.image)


def test_settings_of_any_kind_are_recorded_without_folders(folder: Path) -> None:
    seed: Any = np.int64(3)
    own = {"seed": np.int64(7), "file": folder / "brush.png", "object": object()}
    network = FeatureExtractor(Weights(tiny_extractor().state_dict(), f"{folder}/own.pth"))
    transfer = StyleTransfer(network, {"own": OwnLoss(**own)}, num_steps=1)
    pictures, stop = (folder / "photo.png", folder / "painting.png"), stop_at(1, f"{folder}/x")
    made = transfer.run(*pictures, seed=seed, callbacks=stop)
    (path,) = made.save("out.png")
    record = read_record(path)
    assert record == made.settings
    assert record["seed"] == 3 and record["extractor"]["weights"] == "own.pth"
    found = [record["losses"]["own"][name] for name in own]
    assert found == [7, "brush.png", "<object object>"]
    assert str(folder.parent) not in json.dumps(record)


def test_a_picture_is_saved_even_if_a_loss_fails_to_return_its_settings(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnLoss, "settings", raising(RuntimeError("no settings")))
    assert run(transfer(losses={"own": OwnLoss()})).settings["losses"]["own"] == {"type": "OwnLoss"}
    assert "OwnLoss.settings failed" in caplog.text


def test_a_record_too_long_for_the_format_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    held = []
    for length in (*range(65_470, 65_530, 4), 100_000):
        save_image(PHOTO, "out.jpg", record={"text": "a" * length})
        with Image.open("out.jpg") as image:
            held.append(0x010E in image.getexif())
        if held[-1]:
            assert read_record("out.jpg") == {"text": "a" * length}
    assert held[0] and not held[-1] and "the record is left out" in caplog.text
    with pytest.raises(ValueError, match="holds no record"):
        read_record("out.jpg")


def test_records_and_pictures_of_any_kind_can_be_saved() -> None:
    record = {"array": np.zeros(2), "end": math.nan, "path": Path("a/b")}
    save_image(PHOTO, "out.png", record=record)
    assert read_record("out.png") == {"array": [0.0, 0.0], "end": "nan", "path": "b"}
    pictures: list[Any] = [Image.new("1", (40, 32), 1), Image.new("P", (40, 32))]
    pictures += [np.zeros((32, 40, 3), dtype=kind) for kind in ("uint8", ">u2", "float32")]
    for source in pictures:
        result = transfer().run(source, "painting.png")
        assert len(result.settings["inputs"]["content"]["sha256"]) == 64


def test_pictures_without_a_record_and_with_other_texts_are_refused() -> None:
    result = run()
    result.save("out.bmp", record=True)
    result.save("out.png", record=False)
    exif, texts = Image.Exif(), ["", "7", "[]", "{}", '{"nst record": 2}', "{", "[" * 100_000]
    for i, text in enumerate([*texts, '{"nst record": null}']):
        exif[0x010E] = text
        Image.new("RGB", (8, 8)).save(f"{i}.tiff", exif=exif)
    for name in ("out.png", "out.bmp", *(f"{i}.tiff" for i in range(8))):
        with pytest.raises(ValueError, match=rf"'{name}', which holds no record of nst"):
            read_record(name)


def test_custom_parts_are_named_and_can_be_passed() -> None:
    run(transfer(losses={"own": OwnLoss()}, optimizer=torch.optim.SGD))
    given: dict[str, Any] = {"extractor": tiny_extractor()}
    for name, part, message in (
        ("losses", {"own": OwnLoss()}, r"the loss 'own' of type 'OwnLoss', .* Pass losses="),
        ("optimizer", "adam", "`optimizer` is 'SGD'"),
    ):
        with pytest.raises(ValueError, match=message):
            StyleTransfer.from_record("out.png", **given)
        given[name] = part
    assert StyleTransfer.from_record("out.png", **given, num_steps=3).num_steps == 3
    given["extractor"] = None
    with pytest.raises(ValueError, match=r"the weights 'tiny, seed 0', .* Pass extractor="):
        StyleTransfer.from_record("out.png", **given)


def test_own_parts_with_the_names_of_nsts_are_not_replaced_by_those() -> None:
    def adam(params: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, lr=0.2)

    adam.__qualname__ = "adam"  # as at the top of a module
    kind = type("GramStyleLoss", (nst.GramStyleLoss,), {})
    own = {"style": kind(["relu1_1"])}
    record = run(transfer(losses=own, optimizer=adam, num_steps=1)).settings
    given: dict[str, Any] = {"extractor": tiny_extractor()}
    with pytest.raises(ValueError, match="the loss 'style' of type 'custom GramStyleLoss'"):
        StyleTransfer.from_record(record, **given)
    with pytest.raises(ValueError, match="`optimizer` is 'custom adam'"):
        StyleTransfer.from_record(record, **given, losses=own)
    captured = transfer().capture("painting.png")
    with pytest.raises(ValueError, match=r"not for \{'type': 'custom GramStyleLoss'"):
        transfer(losses={"style": kind(["relu1_1"], centered=True)}).check("photo.png", captured)


HALF = torch.bfloat16


def named(**arguments: Any) -> StyleTransfer:
    return StyleTransfer(FeatureExtractor("original", **arguments), num_steps=2)


@pytest.mark.parametrize("how", [{"pooling": "average", "padding": "replicate"}, {"dtype": HALF}])
def test_the_recorded_network_is_found_by_its_name(networks: dict[str, int], how: Any) -> None:
    first, again = run(named(**how)), StyleTransfer.rerun("out.png")
    assert torch.equal(again.image, first.image)
    assert again.settings == first.settings
    found: Any = recorded_extractor(first.settings)
    assert found.dtype == ("bfloat16" if "dtype" in how else "auto")


def test_weights_that_are_given_leave_other_settings_as_recorded(networks: dict[str, int]) -> None:
    record = dict(run(named(pooling="average")).settings)
    record["extractor"] = {**record["extractor"], "weights": "mine.pth"}
    network: Any = recorded_extractor(record, weights="torchvision")
    assert (network.weights, network.pooling) == ("torchvision", "average")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "/tmp/evil.pth"}, r"the weights '/tmp/evil\.pth', which .* --weights"),
        ({"weights": "photo.png"}, r"the weights 'photo\.png', which cannot be found by name"),
        ({"weights": None}, "weights` is None; it must be a string"),
        ({"pooling": "mean"}, "pooling` is 'mean'"),
        ({"padding": 7}, "padding` is 7"),
        ({"type": "BackboneExtractor"}, "of type 'BackboneExtractor', .* Pass extractor="),
        ("a text", "`extractor` is 'a text'"),
    ],
)
def test_a_forged_network_is_refused(networks: dict[str, int], changes: Any, message: str) -> None:
    record, whole = dict(run(named()).settings), isinstance(changes, str)
    record["extractor"] = changes if whole else {**record["extractor"], **changes}
    save_image(PHOTO, "out.png", record=record)
    # Not through a file, in which no path is absolute.
    with pytest.raises(ValueError, match=f"`record` cannot be used: .*{message}"):
        recorded_extractor(record)
    with pytest.raises(ValueError, match="`record` cannot be used: "):
        StyleTransfer.rerun("out.png")
    if whole or "weights" not in changes:
        with pytest.raises(ValueError, match="`record` cannot be used: "):
            recorded_extractor(record, weights="original")


@pytest.mark.parametrize("part", ["extractor", "network", "type", "weights", "pooling", "padding"])
def test_an_incomplete_network_is_refused(part: str) -> None:
    record = valid_record()
    (record if part in record else record["extractor"]).pop(part)
    with pytest.raises(ValueError, match=f"`record` cannot be used: .* lacks '{part}'"):
        recorded_extractor(record)
    assert StyleTransfer.from_record(record, tiny_extractor()).num_steps == 4


def test_another_network_of_the_same_name_is_refused_unless_it_is_given(
    networks: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    first = run(named())
    rerun()
    assert "network" not in caplog.text
    networks["original"] = 5
    tiny, other, here = (hash_network(tiny_extractor(seed))[:12] for seed in (0, 1, 5))
    with pytest.raises(ValueError, match=f"with the network {tiny}, .* {here}"):
        StyleTransfer.rerun("out.png")
    with pytest.raises(ValueError, match="The weights 'original' are others here"):
        StyleTransfer.from_record("out.png")
    again = StyleTransfer.rerun("out.png", extractor=tiny_extractor(seed=1))
    assert not torch.equal(again.image, first.image)
    assert f"with the network {tiny}, but this one is {other}" in caplog.text


def test_a_network_without_a_fingerprint_is_recorded_as_unknown() -> None:
    class Stateful(nn.Module):
        def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
            return {"image": images, **dict.fromkeys(layers, images)}

        get_extra_state = object

        def set_extra_state(self, state: object) -> None: ...

    made = run(StyleTransfer(Stateful(), num_steps=1))
    assert read_record("out.png")["network"] is None
    assert torch.equal(StyleTransfer.rerun("out.png", extractor=Stateful()).image, made.image)


def test_a_network_with_hooks_is_not_made_again_without_them(
    networks: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    extractor = FeatureExtractor("original")
    extractor.get_submodule("conv1_1").register_forward_hook(halve)
    made = run(StyleTransfer(extractor, num_steps=1))
    with pytest.raises(ValueError, match=r"its network had hooks.*extractor=\.\.\."):
        StyleTransfer.rerun("out.png")
    assert torch.equal(StyleTransfer.rerun("out.png", extractor=extractor).image, made.image)
    assert "network" not in caplog.text
    rerun()
    assert "with the network unknown, as with hooks, but this one is" in caplog.text


def test_no_path_of_a_record_is_followed_and_impossible_names_are_not_found(folder: Path) -> None:
    record = valid_record()
    (folder / "elsewhere").mkdir()
    hidden = Path("photo.png").rename("elsewhere/photo.png")
    paths = (str(hidden), f"./{hidden}", str(folder / hidden), "elsewhere\\photo.png")
    for name in (*paths, "a" * 5000, "a\0b", "..", "", "\ud800", "photo.png/.."):
        record["inputs"]["content"]["name"] = name
        message = r"was 'photo\.png', which" if name in paths else "which"
        with pytest.raises(FileNotFoundError, match=f"{message} is not in"):
            recorded_run(record, ["."])
    record["inputs"]["content"]["name"] = "elsewhere\\photo.png"
    hidden.rename("elsewhere\\photo.png")
    assert recorded_run(record, ["."])["content"] == Path("elsewhere\\photo.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": "many"}, "`num_steps` is 'many'; it must be a whole number"),
        ({"num_steps": 10**400}, "a whole number of more than 64 bits"),
        ({"average": math.nan}, "JSON compliant"),
        ({"size": object()}, "object is not JSON serializable"),
        ({"normalize_gradients": 1}, "`normalize_gradients` is 1; it must be True or False"),
        ({"device": "abacus"}, "`device` is 'abacus'"),
        ({"learning_rate": "fast"}, "`learning_rate` is 'fast'; it must be a finite number"),
        ({"losses": {"a": 3}}, r"`losses\['a'\]` is 3"),
        ({"losses": {"a": {"type": "STYLE_LAYERS"}}}, "'STYLE_LAYERS', which is not nst's own"),
        ({"losses": {"a": {"type": "ContentLoss", "brush": 1}}}, "unexpected keyword .*'brush'"),
        ({"losses": {"a": {"type": "ContentLoss", "layers": [{}]}}}, "unhashable"),
        ({"steps_done": -1}, "`steps_done` is -1; it must be at least 0"),
        ({"steps_done": 5}, "`steps_done` is 5, but `num_steps` only 4"),
        ({"steps_done": 2, "stop_reason": None}, "`stop_reason` is None; it must be a string"),
        ({"strength": 1e200}, "`strength` is 1e\\+200"),
        ({"styles": "photo.png"}, "`styles` is 'photo.png'; it must be a list"),
        ({"styles": []}, "`style` is empty"),
        ({"styles": [{"weight": 1, "scale": 1e308}]}, "scale` is 1e"),
        ({"styles": [{"weight": 1, "mask": "alpha"}]}, "mask` is 'alpha'; it must be True"),
        ({"styles": [{"weight": 1}] * 2}, r"it lacks 'style\[1\]'"),
        ({"inputs": {"content": {"name": 7, "sha256": ""}}}, r"inputs\['content'\].name` is 7"),
        ({"init": "painting.png"}, "`init` is 'painting.png'"),
        ({"init": "picture"}, "it lacks 'init'"),
        ({"task": "synthesize", "shape": [10**9, 10**9], "init": "noise"}, "`shape` is"),
        ({"task": "synthesize", "shape": [3], "init": "noise"}, "`shape` is"),
        ({"task": "synthesize"}, "`init` is 'content'"),
    ],
)
def test_a_message_names_what_is_wrong_in_a_record(changes: dict[str, Any], message: str) -> None:
    record = valid_record(**changes)
    with pytest.raises(ValueError, match=f"`record` cannot be used: .*{message}"):
        recorded_arguments(record, {})
        recorded_end(record)
        recorded_run(record, ["."])


FORGED = settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FORGED
@given(st.data())
def test_every_record_is_used_or_refused(networks: dict[str, int], data: st.DataObject) -> None:
    record = data.draw(mutations(_valid_record(data.draw(st.booleans()))))
    uses: list[Callable[[], object]] = [
        lambda: recorded_arguments(record, {}),
        lambda: recorded_extractor(record),
        lambda: recorded_extractor(record, "original"),
        lambda: recorded_end(record),
    ]
    for use in uses:
        try:
            use()
        except ValueError as error:
            assert str(error).startswith("`record` cannot be used: ")
    with contextlib.suppress(ValueError, FileNotFoundError):
        recorded_run(record, ["."])
    with contextlib.suppress(ValueError):
        StyleTransfer.from_record(record, tiny_extractor())
    path = save_image(torch.zeros(1, 3, 4, 4), "forged.png", record=record)
    with contextlib.suppress(ValueError, FileNotFoundError):
        StyleTransfer.rerun(path, num_steps=1, size=8)


@functools.cache
def _valid_record(texture: bool) -> dict[str, Any]:
    made = StyleTransfer(FeatureExtractor("original"), num_steps=1, size=32)
    if texture:
        return made.synthesize("painting.png", (16, 20), callbacks=STOP_AT_ONCE).settings
    style = Style("photo.png", 2.0, "half.png", "half.png", 0.9, 10)
    return made.run("photo.png", [style, "painting.png"]).settings


def test_the_command_line_takes_weights_that_the_record_cannot_name(
    networks: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    networks["mine.pth"] = 3
    Path("mine.pth").write_bytes(b"weights")
    line = "stylize photo.png painting.png -o out.png --steps 2 --pooling average --quiet"
    assert nst.cli.main.main([*line.split(), "--weights", "mine.pth"]) == 0
    again = ["rerun", "out.png", "-o", "again.png", "--quiet"]
    assert nst.cli.main.main(again) == 2
    assert "the weights 'mine.pth', which cannot be found by name" in capsys.readouterr().err
    assert nst.cli.main.main([*again, "--weights", "mine.pth"]) == 0
    assert read_record("again.png") == read_record("out.png")


@pytest.mark.parametrize("inputs", ["photos", Path("photos")])
def test_a_single_path_to_search_is_refused_with_the_remedy(inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"`inputs` is .*photos.*; a list of paths is needed"):
        StyleTransfer.rerun("out.png", inputs)
