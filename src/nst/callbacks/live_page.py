"""Show a run in the browser: the callback, its page and its server."""

from __future__ import annotations

import base64
import errno
import hashlib
import html
import io
import ipaddress
import json
import math
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from string import Template
from typing import Any

from typing_extensions import Self

from nst._utils.checks import Checked, at_least
from nst._utils.text import logger
from nst.callbacks.base import Display, RunState
from nst.images import side_by_side, to_pil

_MAX_SIDE = 2048  # larger than most windows, and within the 65535 pixels of a JPEG
_MAX_POINTS = 200  # of a curve
_CURVE_WIDTH, _CURVE_HEIGHT = 100, 24


class LivePage(Display):
    """Shows the evolving picture and the losses on a page in the browser.

    By default, only this machine can see the page. To open the page of a remote HOST at
    http://127.0.0.1:8765/, run `ssh -L 8765:127.0.0.1:8765 HOST`. The result stays until `close` or
    the end of the process. A batch is shown side by side.

    Args:
        port: Port from 1 to 65535; 0 for any free port.
        host: Address to listen on; `"0.0.0.0"` admits everybody who can reach this machine. A
            request is answered only if its Host is this address or name.
        every: Number of steps between pictures; at least 1. Numbers change at each step.

    Raises:
        ValueError: `port` or `every` is out of range, or `host` is empty.
        OSError: When the page opens, by the start of the run: the port is taken, or the address is
            not available.

    Examples:
        >>> with LivePage(port=0) as page:
        ...     # transfer.run(content, style, callbacks=[page])
        ...     page.url.startswith("http://127.0.0.1:")
        True
    """

    port, host, every = Checked[int](), Checked[str](), Checked(at_least)

    def __init__(self, port: int = 8765, *, host: str = "127.0.0.1", every: int = 5) -> None:
        self.port, self.host, self.every = at_least("port", port, 0), host, every
        if self.port > 65535:
            raise ValueError(f"`port` is {port}; it must be at most 65535.")
        if not host:  # which would listen on all addresses
            raise ValueError("`host` is empty. Name an address, such as '127.0.0.1'.")
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Address of the page; raises RuntimeError while it is closed."""
        if self._server is None:
            remedy = "call LivePage.open, or start the run."
            raise RuntimeError(f"LivePage has no address while it is closed: {remedy}")
        return self._server.url

    def open(self) -> Self:
        """Start serving the page; a run does so when it starts."""
        if self._server is None:
            self._server = _Server(self.host, self.port)
            self._picture, self._name, self._alt = b"", "", "No picture yet."
            self._publish(self._server, "nst", "<p>No run has started.</p>")
            logger.info("the run is shown at %s", self.url)
        return self

    def close(self) -> None:
        """Stop serving the page. It can be opened again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_start(self, state: RunState) -> None:
        super().on_start(state)
        self.open()
        self._curves: dict[str, list[float]] = {}
        self._try(self._show, state)

    def on_step(self, state: RunState) -> None:
        self._try(partial(self._show, stepped=True), state)

    def on_end(self, state: RunState) -> None:
        self._try(self._show, state)

    def _show(self, state: RunState, *, stepped: bool = False) -> None:
        for name, value in state.losses.items() if stepped else ():
            self._curves.setdefault(name, []).append(float(value))
        if self._server is None:  # the page was closed during the run
            return
        if not stepped or state.step % self.every == 0:
            # Encode in the thread of the run: other threads must not read a changing tensor.
            picture, buffer = to_pil(side_by_side(state.image)), io.BytesIO()
            picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
            picture.save(buffer, "jpeg", quality=90, subsampling=0)
            self._picture = buffer.getvalue()
            # Browsers load a picture with a new name. A counter would repeat in the next process.
            self._name = str(time.time_ns())
            self._alt = f"The picture after {state.unit} {state.step} of {state.num_steps}."
        title = f"{state.step}/{state.num_steps} · nst"
        self._publish(self._server, title, _describe(state, self._curves))

    def _publish(self, server: _Server, title: str, content: str) -> None:
        shown = {"title": title, "html": content, "picture": self._name, "alt": self._alt}
        # Relative addresses also work behind a proxy with another path.
        source = f'src="picture.jpg?{self._name}" data-shown="{self._name}"'
        page = _template().substitute(shown, source=source if self._name else "hidden")
        # Some readers take JSON for HTML. Without a "<", it has no elements.
        as_json = json.dumps(shown).replace("<", "\\u003c")
        # One assignment, so that no request sees parts of two states. A reason can be any text.
        server.pages = {
            "/": ("text/html; charset=utf-8", page.encode(errors="replace")),
            "/state.json": ("application/json", as_json.encode()),
            "/picture.jpg": ("image/jpeg", self._picture),
        }


@cache
def _template() -> Template:
    page = files("nst.callbacks").joinpath("page.html").read_text("utf-8")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The browser runs no other script and loads nothing else, even if a loss's name has one.
    return Template(page.replace("$script_hash", digest))


def _describe(state: RunState, curves: Mapping[str, Sequence[float]]) -> str:
    """Return the state of a run as HTML."""
    (height, width), unit = state.image.shape[-2:], state.unit.capitalize()
    reason = html.escape(state.stop_reason or "")
    ended = f"<p><strong>Ended:</strong> {reason}</p>" if reason else ""
    rows = (
        f'<tr><th scope="row">{html.escape(name)}</th><td>{values[-1]:.4g}</td>'
        f"<td>{_curve(name, values)}</td></tr>"
        for name, values in curves.items()
    )
    return (
        f'<progress max="{state.num_steps}" value="{state.step}"></progress>'
        f"<p>{unit} {state.step} of {state.num_steps}, scale {state.scale + 1} of "
        f"{state.num_scales}, {width}x{height} pixels</p>{ended}<table>{''.join(rows)}</table>"
    )


def _curve(name: str, values: Sequence[float]) -> str:
    """Draw a loss by step as SVG, on a logarithmic scale if all values are positive."""
    logarithm = all(v > 0 for v in values)
    stride = math.ceil(len(values) / _MAX_POINTS)
    thinned = list(enumerate(values))[::-stride][::-1]  # always with the last value
    points = [(i, math.log(v) if logarithm else v) for i, v in thinned if math.isfinite(v)]
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    across = _CURVE_WIDTH / max(1, len(values) - 1)
    down = (_CURVE_HEIGHT - 2) / ((high - low) or 1)  # with a margin of 1 for the line's width
    line = " ".join(f"{i * across:.1f},{1 + (high - y) * down:.1f}" for i, y in points)
    label = f"{name}: {values[0]:.4g} at the first step, {values[-1]:.4g} after {len(values)}"
    return (
        f'<svg viewBox="0 0 {_CURVE_WIDTH} {_CURVE_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}"><polyline points="{line}"/></svg>'
    )


class _Server(socketserver.ThreadingTCPServer):
    """Serves `pages`, content type and content by path, in its own threads."""

    # An HTTPServer would look up the name of the host, which can take seconds.
    # On Windows, reuse would let two servers share a port.
    allow_reuse_address = os.name == "posix"

    def __init__(self, host: str, port: int) -> None:
        self.pages: Mapping[str, tuple[str, bytes]] = {}
        self._connections: dict[threading.Thread, socket.socket] = {}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            problem = f"where this machine cannot listen ({error.strerror})"
            if error.errno == errno.EADDRINUSE:
                problem = "which is taken"
            raise OSError(
                f"`host` is {host!r} and `port` is {port}, {problem}. Use '127.0.0.1' and a port "
                "from 1024, or 0 for a free one."
            ) from error
        address, number = self.server_address[:2]
        self.is_open = address in ("0.0.0.0", "::")
        name = socket.gethostname() if self.is_open else str(address)
        self.hosts = {host.lower(), str(address), name.lower(), "localhost", "127.0.0.1", "::1"}
        self.url = f"http://{f'[{name}]' if ':' in name else name}:{number}/"
        # Daemon threads do not keep a process alive that did not close its page.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and end all threads and connections."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for thread, connection in list(self._connections.items()):
            with suppress(OSError):  # the thread may have closed it
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        # The base class does not record its daemon threads, which `close` has to end.
        handle = partial(self.process_request_thread, request, client_address)
        thread = threading.Thread(target=handle, daemon=True)
        self._connections[thread] = request
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._connections.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("the page could not be sent", exc_info=True)  # browsers hang up at any time


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5  # seconds until a silent connection is closed
    server_version, sys_version = "nst", ""

    def do_GET(self) -> None:
        if not self._is_for_this_page():
            return self.send_error(403, "The Host is not that of this page")
        content_type, content = self.server.pages.get(self.path.partition("?")[0], ("", b""))
        if not content:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def _is_for_this_page(self) -> bool:
        """Return whether the Host is one of the page's, as a site can direct its own name here."""
        # Every browser sends a Host.
        host = re.sub(r":\d*$", "", self.headers.get("Host", "localhost")).strip("[]").lower()
        if host in self.server.hosts or not self.server.is_open:
            return host in self.server.hosts
        with suppress(ValueError):
            return bool(ipaddress.ip_address(host))  # a number, which is nobody else's name
        return False

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the default would print every request
