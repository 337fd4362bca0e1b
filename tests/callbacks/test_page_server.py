"""What a server of a few pages gives away, and what it leaves behind."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from nst.callbacks.page_server import PageServer

PAGES = {"/": ("text/plain", b"hello"), "/more": ("image/jpeg", b"\xff\xd8")}


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0)
    server.pages = PAGES
    yield server
    server.close()


def status(server: PageServer, path: str, method: str = "GET") -> int:
    host, port = server.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_page_is_what_was_put_there(server: PageServer) -> None:
    for path, (kind, content) in PAGES.items():
        with urllib.request.urlopen(server.url.rstrip("/") + path + "?7", timeout=5) as answer:
            assert (answer.headers["Content-Type"], answer.read()) == (kind, content)
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Python" not in answer.headers["Server"]


def test_pages_can_be_exchanged_while_they_are_served(server: PageServer) -> None:
    server.pages = {"/": ("text/plain", b"goodbye")}
    with urllib.request.urlopen(server.url, timeout=5) as answer:
        assert answer.read() == b"goodbye"
    assert status(server, "/more") == 404


@pytest.mark.parametrize("path", ["/..", "/more/", "/etc/passwd", "/%2e%2e/", "more", "*"])
def test_there_is_nothing_else(server: PageServer, path: str) -> None:
    assert status(server, path) == 404


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_done_but_to_get(server: PageServer, method: str) -> None:
    assert status(server, "/", method) == 404


def test_only_this_machine_is_listened_to(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_an_address_of_every_kind_is_told_as_a_browser_takes_it() -> None:
    everywhere = PageServer("0.0.0.0", 0)
    everywhere.close()
    assert f"//{socket.gethostname()}:" in everywhere.url
    try:
        newer = PageServer("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    newer.close()
    assert newer.url.startswith("http://[::1]:")


def test_a_port_that_is_taken_is_refused_with_a_remedy(server: PageServer) -> None:
    port = server.server_address[1]
    said = f"`port` is {port}, which is taken on '127.0.0.1'. Close what has it, choose another"
    with pytest.raises(OSError, match=re.escape(said)):
        PageServer("127.0.0.1", port)


def test_an_address_that_is_not_this_machines_is_refused_with_a_remedy() -> None:
    with pytest.raises(OSError, match=r"`host` is '192\.0\.2\.1'.*Use '127\.0\.0\.1'"):
        PageServer("192.0.2.1", 0)


def test_close_leaves_no_thread_and_no_socket(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    server = PageServer("127.0.0.1", 0)
    address = ("127.0.0.1", server.server_address[1])
    with socket.create_connection(address, timeout=5) as silent:  # as browsers do ahead of time
        assert status(server, "/") == 404
        server.close()
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    PageServer(*address).close()  # and the port is free again
    assert capfd.readouterr() == ("", "")


def test_a_browser_that_hangs_up_costs_nothing(
    server: PageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.pages = {"/": ("image/jpeg", bytes(2**24))}
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.server_address[1]), 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.recv(10)
    server.pages = PAGES
    assert status(server, "/") == 200
    assert capfd.readouterr() == ("", "")


def test_pages_are_served_although_somebody_says_nothing(server: PageServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=5):
        assert status(server, "/") == 200
