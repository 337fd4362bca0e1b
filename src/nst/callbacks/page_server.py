"""Serves a few pages that are held in memory, and nothing else, until it is closed."""

from __future__ import annotations

import errno
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

__all__ = ["PageServer", "Pages"]

Pages: TypeAlias = Mapping[str, tuple[str, bytes]]
"""Path to what is there: the type of its content, and the content."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_EVERYWHERE = ("0.0.0.0", "::")

logger = logging.getLogger("nst")


class PageServer(ThreadingHTTPServer):
    """Answers browsers in threads of its own, from `pages`, which may be exchanged at any time.

    Args:
        host: The address to listen at.
        port: 0 for one that is free.

    Raises:
        OSError: It cannot be listened there.

    Examples:
        >>> server = PageServer("127.0.0.1", 0)
        >>> server.pages = {"/": ("text/plain", b"hello")}
        >>> server.close()
    """

    pages: Pages
    # Elsewhere than on POSIX, it would let two servers share a port.
    allow_reuse_address = os.name == "posix"

    def __init__(self, host: str, port: int) -> None:
        self.pages = {}
        self._answering: dict[threading.Thread, Any] = {}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise _refusal(host, port, error) from error
        # Threads that are daemons do not keep a process from ending that forgot to close.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where a browser finds the first page."""
        host, port = self.server_address[:2]
        name = socket.gethostname() if host in _EVERYWHERE else str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def close(self) -> None:
        """Answer no more; no thread and no socket is left."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for thread, connection in list(self._answering.items()):
            with suppress(OSError):  # it was just about to end by itself
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def server_bind(self) -> None:
        """Take the address, without asking the network for its name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own: a browser may open a connection and say nothing."""
        arguments = (request, client_address)
        thread = threading.Thread(target=self._answer, args=arguments, daemon=True)
        self._answering[thread] = request
        thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Take it as it is: browsers hang up whenever they like."""
        logger.debug("the page could not be sent", exc_info=True)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            del self._answering[threading.current_thread()]


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds, after which a connection that says nothing is closed
    server_version, sys_version = "nst", ""

    def do_GET(self) -> None:
        assert isinstance(self.server, PageServer)
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(404)
            return
        kind, content = page
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # What cannot be done is answered like what is not there: that is all there is to know.
        super().send_error(404 if code == 501 else code, None if code == 501 else message, explain)

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass  # a terminal belongs to whoever opened it


def _refusal(host: str, port: int, error: OSError) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return OSError(
            f"`port` is {port}, which is taken on {host!r}. Close what has it, choose another, or "
            "0 for one that is free."
        )
    return OSError(
        f"`host` is {host!r} and `port` is {port}, where this machine cannot listen "
        f"({error.strerror}). Use '127.0.0.1' and a port from 1024, or 0 for one that is free."
    )
