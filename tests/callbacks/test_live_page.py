"""What a browser sees of a run, and what its server answers."""

import base64
import hashlib
import http.client
import io
import json
import logging
import math
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import nst
from nst import LivePage, RunState
from tests.callbacks.conftest import paint
from tests.helpers import Recorder, hooked


@pytest.fixture
def page() -> Iterator[LivePage]:
    with LivePage(port=0, every=2) as page:
        yield page


def fetch(page: LivePage, path: str = "") -> bytes:
    with urllib.request.urlopen(page.url + path, timeout=5) as answer:
        content: bytes = answer.read()
        return content


def address(page: LivePage) -> tuple[str, int]:
    return "127.0.0.1", int(page.url.split(":")[-1].rstrip("/"))


def status(page: LivePage, path: str, method: str = "GET", **how: Any) -> int:
    with closing(http.client.HTTPConnection(*address(page), timeout=5)) as connection:
        connection.request(method, path, **how)
        return connection.getresponse().status


def json_state(page: LivePage) -> dict[str, str]:
    state: dict[str, str] = json.loads(fetch(page, "state.json"))
    assert state.keys() == {"title", "html", "picture", "alt"}  # what the script reads
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
    """Whether a JPEG shows a picture, except for compression losses."""
    shown = nst.load_image(image)
    return shown.shape == pixels.shape and float((shown - pixels).abs().mean()) < 0.05


def state_of(losses: dict[str, float], reason: str | None = None) -> RunState:
    tensors = {name: torch.tensor(value) for name, value in losses.items()}
    return RunState(torch.rand(1, 3, 8, 8), num_steps=9, step=1, losses=tensors, stop_reason=reason)


@pytest.mark.parametrize(
    ("listens", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:{port}", 200),
        ("127.0.0.1", "LOCALHOST:9000", 200),  # through a tunnel from another port
        ("127.0.0.1", "[::1]:{port}", 200),
        ("127.0.0.1", "evil.example:{port}", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "192.168.1.5:{port}", 403),
        ("127.0.0.1", "", 403),
        ("localhost", "localhost:{port}", 200),
        ("0.0.0.0", "192.168.1.5:{port}", 200),
        ("0.0.0.0", f"{socket.gethostname()}:{{port}}", 200),
        ("0.0.0.0", "evil.example:{port}", 403),
    ],
)
def test_only_requests_for_the_page_are_answered(listens: str, host: str, expected: int) -> None:
    with LivePage(port=0, host=listens) as page:
        for path in ("/", "/state.json", "/picture.jpg"):
            given = {"Host": host.format(port=address(page)[1])}
            missing = path == "/picture.jpg" and expected == 200
            assert status(page, path, headers=given) == (404 if missing else expected)


def test_the_page_shows_every_step_and_the_result(page: LivePage) -> None:
    titles: list[str] = []

    def look(state: RunState) -> None:
        shown = json_state(page)
        titles.append(shown["title"])
        assert "Ended" not in shown["html"]
        for name, value in state.losses.items():
            assert f"{name}</th><td>{float(value):.4g}</td>" in shown["html"]

    result = paint(page, look)
    assert titles == [f"{step}/4 · nst" for step in (1, 2, 3, 4)]
    assert "completed" in json_state(page)["html"]
    assert near(picture(page), result.image)


def test_the_picture_changes_every_few_steps(page: LivePage, photo: Tensor) -> None:
    names: list[str] = []

    def start(state: RunState) -> None:
        names.append(json_state(page)["picture"])
        assert near(picture(page), photo)

    def step(state: RunState) -> None:
        names.append(json_state(page)["picture"])
        drawn = state.step // 2 * 2
        assert json_state(page)["alt"] == f"The picture after step {drawn} of 5."

    paint(page, hooked(on_start=start, on_step=step), num_steps=5)
    names.append(json_state(page)["picture"])
    start_, one, two, three, four, five, end = names
    assert start_ == one and two == three and four == five
    assert len({start_, two, four, end}) == 4


def test_a_picture_has_the_size_of_its_scale_and_a_batch_is_shown_side_by_side(
    page: LivePage, photo: Tensor
) -> None:
    sizes, page.every = list[tuple[int, int]](), 1
    look = hooked(on_step=lambda state: sizes.append(picture(page).size))
    paint(page, look, content=torch.cat([photo, photo]), num_steps=2, num_scales=2)
    assert sizes == [(40, 16), (80, 32)]
    assert "40x32 pixels" in Elements(fetch(page)).text
    page.on_start(RunState(torch.rand(1, 3, 8, 70_000), num_steps=1))
    assert picture(page).size == (2048, 1)  # a row wider than a JPEG is shrunk


def test_a_request_does_not_read_the_state(page: LivePage, photo: Tensor) -> None:
    page.on_start(state := RunState(photo.clone(), num_steps=4))
    before = fetch(page, "picture.jpg"), json_state(page)
    state.image.fill_(torch.nan)
    state.step = 3
    assert (fetch(page, "picture.jpg"), json_state(page)) == before


def test_the_result_stays_until_the_page_is_closed_which_may_be_during_a_run(photo: Tensor) -> None:
    page = LivePage(port=0)
    paint(page)
    url = page.url
    assert near(picture(page), photo) and "completed" in json_state(page)["html"]
    assert paint(page, lambda state: page.close()).stop_reason == "completed"
    page.close()  # a second time has no effect
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
    with pytest.raises(RuntimeError, match=r"call LivePage\.open, or start the run"):
        _ = page.url


def test_a_picture_that_cannot_be_shown_does_not_end_the_run(
    page: LivePage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nst.callbacks.live_page.to_pil", lambda _: 1 / 0)
        assert paint(page).stop_reason == "completed"
    (message,) = caplog.messages
    assert message.startswith("LivePage shows nothing more")
    result = paint(page)
    assert near(picture(page), result.image)


def test_the_next_run_replaces_the_last_and_a_reopened_page_is_empty(page: LivePage) -> None:
    url, curves = page.url, []
    for _ in range(2):
        paint(page)
        curves.append(Elements(fetch(page)).of("svg"))
    assert page.url == url
    assert curves[0] == curves[1] and len(curves[0]) == 2
    page.close()
    page.open()
    assert json_state(page)["html"] == "<p>No run has started.</p>"
    assert Elements(fetch(page)).of("img")[0].keys() >= {"hidden", "alt"}
    assert status(page, "/picture.jpg") == 404


def test_the_page_shows_the_step_the_scale_the_losses_and_the_reason(page: LivePage) -> None:
    page.on_start(state_of({}))
    page.on_step(state_of({"content": 0.25, "style": 2.0}, "enough"))
    elements = Elements(fetch(page))
    words = "Step 1 of 9, scale 1 of 1, 8x8 pixelsEnded: enoughcontent0.25style2"
    assert words in elements.text
    assert elements.of("progress") == [{"max": "9", "value": "1"}]
    labels = [svg["aria-label"] for svg in elements.of("svg")]
    assert labels[0] == "content: 0.25 at the first step, 0.25 after 1"
    assert labels[1:] == ["style: 2 at the first step, 2 after 1"]
    hostile = "<script>alert('1')</script>\" onerror=\"x"
    page.on_start(state_of({}))
    page.on_step(state_of({hostile: 1.0}, hostile))  # names and reasons are escaped
    assert b"<script>alert" not in fetch(page) + fetch(page, "state.json")
    for content in (fetch(page), json_state(page)["html"].encode()):
        elements = Elements(content)
        assert elements.text.count(hostile) == 2
        assert not any("onerror" in attributes for _, attributes in elements.found)


def test_the_page_loads_nothing_from_elsewhere_and_runs_only_its_own_script(page: LivePage) -> None:
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
    assert '<noscript><meta http-equiv="refresh"' in content
    script = content.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    kinds = {meta.get("http-equiv"): meta.get("content") for meta in elements.of("meta")}
    assert kinds["Content-Security-Policy"] == (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
        f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def points(page: LivePage, curve: list[float]) -> list[tuple[float, float]]:
    page.on_start(state_of({}))
    for value in curve:
        page.on_step(state_of({"loss": value}))
    drawn = " ".join(str(line["points"]) for line in Elements(fetch(page)).of("polyline"))
    return [(float(x), float(y)) for x, y in (point.split(",") for point in drawn.split())]


def test_a_curve_is_logarithmic_unless_a_loss_is_zero_and_thinned(page: LivePage) -> None:
    assert points(page, [100.0, 10.0, 1.0]) == [(0, 1), (50, 12), (100, 23)]
    assert points(page, [2.0, 1.0, 0.0]) == [(0, 1), (50, 12), (100, 23)]
    page.every = 10_000
    long = points(page, [0.99**i for i in range(900)])
    assert 100 < len(long) <= 200
    assert long[-1] == (100, 23)


@pytest.mark.parametrize("curve", [[1.0], [0.0, 0.0], [math.nan], [1.0, math.nan, 2.0, math.inf]])
def test_the_page_shows_any_loss(page: LivePage, curve: list[float]) -> None:
    drawn = points(page, curve)
    assert all(0 <= x <= 100 and 0 <= y <= 24 for x, y in drawn)
    assert len(drawn) == sum(math.isfinite(value) for value in curve)
    assert f"loss</th><td>{curve[-1]:.4g}</td>" in json_state(page)["html"]


def test_the_headers_forbid_caching_and_hide_the_software(page: LivePage) -> None:
    page.on_start(state_of({}))
    kinds = {"": "text/html; charset=utf-8", "state.json": "application/json"}
    for path, kind in (kinds | {"picture.jpg?7": "image/jpeg"}).items():
        with urllib.request.urlopen(page.url + path, timeout=5) as answer:
            found = [answer.headers[name] for name in ("Content-Type", "Cache-Control")]
            assert found == [kind, "no-store"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Python" not in answer.headers["Server"]


def test_head_gets_headers_alone_and_other_paths_and_methods_are_refused(page: LivePage) -> None:
    with socket.create_connection(address(page), 5) as connection:
        connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert b" 200 " in answer and f"Content-Length: {len(fetch(page))}".encode() in answer
    assert answer.endswith(b"\r\n\r\n") and b"<html" not in answer
    for path in ("/..", "/state.json/", "/etc/passwd", "/%2e%2e/", "more", "*"):
        assert status(page, path) == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert status(page, "/", method) == 501


def test_the_url_is_one_that_a_browser_accepts_and_only_the_logger_reports_it(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "nst"), LivePage(port=0) as page:
        fetch(page)
        assert page.url == f"http://127.0.0.1:{address(page)[1]}/"
        assert caplog.messages == [f"the run is shown at {page.url}"]
    with LivePage(port=0, host="0.0.0.0") as everywhere:
        assert f"//{socket.gethostname()}:" in everywhere.url
    assert capfd.readouterr() == ("", "")
    try:
        with LivePage(port=0, host="::1") as newer:
            assert newer.url.startswith("http://[::1]:")
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_a_taken_port_and_a_host_elsewhere_are_refused_before_any_work(page: LivePage) -> None:
    port, recorder = address(page)[1], Recorder()
    other = LivePage(port)  # the constructor does not take the port
    message = f"`host` is '127.0.0.1' and `port` is {port}, which is taken. Use '127.0.0.1' and"
    with pytest.raises(OSError, match=message):
        paint(recorder, other)
    assert not recorder.losses
    page.close()
    with other:
        assert other.url == f"http://127.0.0.1:{port}/"
    with pytest.raises(OSError, match=r"`host` is '192\.0\.2\.1'.*Use '127\.0\.0\.1'"):
        LivePage(port=0, host="192.0.2.1").open()


def test_closing_ends_all_threads_and_sockets(capfd: pytest.CaptureFixture[str]) -> None:
    before, page = set(threading.enumerate()), LivePage(port=0).open()
    place = address(page)
    with socket.create_connection(place, timeout=5) as silent:  # as browsers open ahead
        assert status(page, "/") == 200
        page.close()
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, timeout=5)
    with LivePage(place[1]) as page:  # the port is free again
        page.on_start(RunState(torch.rand(1, 3, 2048, 2048), num_steps=1))
        for _ in range(3):  # browsers that hang up do no harm
            with socket.create_connection(place, 5) as connection:
                connection.sendall(b"GET /picture.jpg HTTP/1.0\r\n\r\n")
                connection.recv(10)
        assert status(page, "/") == 200
    assert capfd.readouterr() == ("", "")
