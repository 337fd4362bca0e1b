"""What a browser sees of a run, while it goes on and afterwards."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import math
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import nst
from nst import Callback, FeatureExtractor, LivePage, RunState, StyleTransfer
from nst.callbacks.page_html import as_html, as_json, describe


@pytest.fixture
def page() -> Iterator[LivePage]:
    with LivePage(port=0, every=2) as page:
        yield page


@pytest.fixture
def transfer(extractor: FeatureExtractor) -> StyleTransfer:
    return StyleTransfer(extractor, num_steps=5)


def fetch(page: LivePage, path: str = "") -> bytes:
    with urllib.request.urlopen(page.url + path, timeout=5) as answer:
        content: bytes = answer.read()
        return content


def said(page: LivePage) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(fetch(page, "state.json"))
    return state


def picture(page: LivePage) -> Image.Image:
    image = Image.open(io.BytesIO(fetch(page, "picture.jpg")))
    image.load()
    return image


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def near(image: Image.Image, pixels: Tensor) -> bool:
    """Say whether a JPEG shows a picture, give or take what it leaves out."""
    shown = nst.load_image(image)
    return shown.shape == pixels.shape and float((shown - pixels).abs().mean()) < 0.05


# While it goes on


def test_a_run_is_seen_step_by_step(
    page: LivePage, transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    seen: list[dict[str, Any]] = []

    def look(state: RunState) -> None:
        seen.append(said(page))
        assert seen[-1]["losses"] == pytest.approx(
            {name: float(value) for name, value in state.losses.items()}
        )

    result = transfer.run(photo, painting, callbacks=[page, look])
    assert [state["step"] for state in seen] == [1, 2, 3, 4, 5]
    assert {state["num_steps"] for state in seen} == {5}
    assert {state["stop_reason"] for state in seen} == {None}
    end = said(page)
    assert (end["step"], end["stop_reason"]) == (5, "completed")
    assert near(picture(page), result.image)


def test_the_picture_is_encoded_when_it_is_due(
    page: LivePage, transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    names: list[str] = []

    class Look(Callback):
        def on_start(self, state: RunState) -> None:
            names.append(said(page)["picture"])
            assert near(picture(page), photo)

        def on_step(self, state: RunState) -> None:
            names.append(said(page)["picture"])
            drawn = state.step // 2 * 2
            assert said(page)["alt"] == f"The picture after step {drawn} of 5."

    transfer.run(photo, painting, callbacks=[page, Look()])
    names.append(said(page)["picture"])
    start, one, two, three, four, five, end = names
    assert start == one and two == three and four == five
    assert len({start, two, four, end}) == 4


def test_a_picture_is_as_large_as_its_scale_and_a_batch_side_by_side(
    page: LivePage, extractor: FeatureExtractor, photo: Tensor, painting: Tensor
) -> None:
    sizes = []

    def look(state: RunState) -> None:
        sizes.append(picture(page).size)

    page.every = 1
    transfer = StyleTransfer(extractor, num_steps=2, num_scales=2)
    transfer.run(torch.cat([photo, photo]), painting, callbacks=[page, look])
    assert sizes == [(40, 16), (80, 32)]
    assert "40x32 pixels" in Elements(fetch(page)).text


def test_more_pictures_than_a_jpeg_can_hold_are_shrunk(page: LivePage) -> None:
    page.on_start(RunState(torch.rand(1, 3, 8, 70_000), num_steps=1))
    assert picture(page).size == (2048, 1)


def test_no_tensor_is_read_by_those_who_look(page: LivePage, photo: Tensor) -> None:
    state = RunState(photo.clone(), num_steps=4)
    page.on_start(state)
    before = fetch(page, "picture.jpg"), said(page)
    state.image.fill_(torch.nan)
    state.step = 3
    assert (fetch(page, "picture.jpg"), said(page)) == before


# Afterwards


def test_the_last_picture_stays_until_the_page_is_closed(
    transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    threads = set(threading.enumerate())
    page = LivePage(port=0)
    transfer.run(photo, painting, callbacks=[page])
    url = page.url
    assert near(picture(page), photo) and said(page)["stop_reason"] == "completed"
    page.close()
    page.close()  # once more does no harm
    assert set(threading.enumerate()) == threads
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
    with pytest.raises(RuntimeError, match=r"call LivePage\.open, or start the run"):
        _ = page.url


def test_another_run_takes_the_place_of_the_last(
    page: LivePage, transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    url, curves = page.url, []
    for _ in range(2):
        transfer.run(photo, painting, callbacks=[page])
        curves.append(Elements(fetch(page)).of("svg"))
    assert page.url == url
    assert curves[0] == curves[1] and len(curves[0]) == 2


def test_a_page_that_is_opened_again_begins_anew(page: LivePage, photo: Tensor) -> None:
    page.on_start(RunState(photo, num_steps=1))
    page.close()
    page.open()
    assert said(page)["html"] == "<p>No run has begun.</p>"
    assert Elements(fetch(page)).of("img")[0].keys() >= {"hidden", "alt"}
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        fetch(page, "picture.jpg")
    caught.value.close()  # else Python 3.14 warns


def test_a_page_may_be_closed_while_the_run_goes_on(
    page: LivePage, transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    result = transfer.run(photo, painting, callbacks=[page, lambda state: page.close()])
    assert result.stop_reason == "completed"


def test_an_error_is_told(
    page: LivePage, transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    def fail(state: RunState) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transfer.run(photo, painting, callbacks=[page, fail])
    assert said(page)["stop_reason"] == "failed: ZeroDivisionError"
    assert "Ended: failed: ZeroDivisionError" in Elements(fetch(page)).text


# What the page holds


def state_of(losses: dict[str, float], reason: str | None = None) -> RunState:
    tensors = {name: torch.tensor(value) for name, value in losses.items()}
    state = RunState(torch.rand(1, 3, 8, 8), num_steps=9, step=1, losses=tensors)
    state.stop_reason = reason
    return state


def test_the_page_tells_the_step_the_scale_the_losses_and_the_end(page: LivePage) -> None:
    page.on_start(state_of({}))
    page.on_step(state_of({"content": 0.25, "style": 2.0}, "enough"))
    elements = Elements(fetch(page))
    for words in (
        "Step 1 of 9, scale 1 of 1, 8x8 pixels",
        "Ended: enough",
        "content0.25",
        "style2",
    ):
        assert words in elements.text
    assert elements.of("progress") == [{"max": "9", "value": "1"}]
    assert [svg["aria-label"] for svg in elements.of("svg")] == [
        "content: 0.25 at the first step, 0.25 after 1",
        "style: 2 at the first step, 2 after 1",
    ]


def test_the_page_needs_nothing_but_itself_and_fits_every_screen(page: LivePage) -> None:
    page.on_start(state_of({}))
    content = fetch(page).decode()
    assert "//" not in content  # no other address, and none without a scheme
    elements = Elements(content.encode())
    (image,) = elements.of("img")
    assert image["alt"] == "The picture after step 1 of 9."
    assert str(image["src"]).startswith("picture.jpg?")
    metas = {meta.get("name"): meta["content"] for meta in elements.of("meta") if "content" in meta}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"


HOSTILE = "<script>alert('1')</script>\" onerror=\"x"


def test_names_and_reasons_are_no_html(page: LivePage) -> None:
    page.on_start(state_of({}))
    page.on_step(state_of({HOSTILE: 1.0}, HOSTILE))
    assert b"<script>alert" not in fetch(page) + fetch(page, "state.json")
    for content in (fetch(page), said(page)["html"].encode()):
        elements = Elements(content)
        assert elements.text.count(HOSTILE) == 2
        assert not any("onerror" in attributes for _, attributes in elements.found)
    assert said(page)["stop_reason"] == HOSTILE


def test_only_the_pages_own_script_may_run() -> None:
    content = as_html({**describe(None, {}), "picture": "", "alt": ""}).decode()
    script = content.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in content
    assert "default-src 'none'" in content


def points(curve: list[float]) -> list[tuple[float, float]]:
    elements = Elements(describe(state_of({}), {"loss": curve})["html"].encode())
    drawn = " ".join(str(line["points"]) for line in elements.of("polyline"))
    return [(float(x), float(y)) for x, y in (point.split(",") for point in drawn.split())]


def test_a_curve_falls_from_the_upper_left_to_the_lower_right() -> None:
    assert points([100.0, 10.0, 1.0]) == [(0, 1), (50, 12), (100, 23)]  # by its logarithm
    assert points([2.0, 1.0, 0.0]) == [(0, 1), (50, 12), (100, 23)]  # zero has none


def test_a_curve_of_many_steps_has_as_many_points_as_are_seen() -> None:
    long = points([0.99**i for i in range(5000)])
    assert 100 < len(long) <= 200
    assert long[-1] == (100, 23)


@pytest.mark.parametrize("curve", [[1.0], [0.0, 0.0], [math.nan], [1.0, math.nan, 2.0, math.inf]])
def test_any_loss_can_be_drawn_and_told(curve: list[float]) -> None:
    found = describe(state_of({}), {"loss": curve})
    assert all(0 <= x <= 100 and 0 <= y <= 24 for x, y in points(curve))
    assert len(points(curve)) == sum(math.isfinite(value) for value in curve)
    read = json.loads(as_json(found), parse_constant=lambda name: pytest.fail(name))
    assert read["losses"] == {"loss": curve[-1] if math.isfinite(curve[-1]) else None}


# Where


def test_the_address_is_told_to_the_logger_and_nobody_else(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "nst"), LivePage(port=0) as page:
        fetch(page)
        assert [record.getMessage() for record in caplog.records] == [
            f"the run is shown at {page.url}"
        ]
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_refused_before_any_work(
    page: LivePage, transfer: StyleTransfer, photo: Tensor, painting: Tensor
) -> None:
    port = int(page.url.split(":")[-1].rstrip("/"))
    steps: list[int] = []
    other = LivePage(port)  # to make one takes no port
    with pytest.raises(OSError, match=f"`port` is {port}, which is taken"):
        transfer.run(photo, painting, callbacks=[lambda s: steps.append(s.step), other])
    assert not steps
    page.close()
    with other:
        assert other.url == f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"port": -1}, ValueError, "`port` is -1; it must be at least 0."),
        ({"port": 65536}, ValueError, "`port` is 65536; it must be at most 65535."),
        ({"port": "http"}, TypeError, "`port` is 'http'; a whole number is needed."),
        ({"every": 0}, ValueError, "`every` is 0; it must be at least 1."),
        ({"host": ""}, ValueError, "`host` is empty. Name an address, such as '127.0.0.1'."),
    ],
)
def test_a_bad_argument_is_refused(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        LivePage(**arguments)
