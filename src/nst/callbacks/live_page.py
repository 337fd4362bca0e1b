"""Shows a run in a browser, for those whose machine has no screen."""

from __future__ import annotations

import io
import logging
import time

from typing_extensions import Self

from nst._utils.checks import at_least
from nst.callbacks.base import Callback, RunState
from nst.callbacks.page_html import as_html, as_json, describe
from nst.callbacks.page_server import PageServer
from nst.images import side_by_side, to_pil

__all__ = ["LivePage"]

_LAST_PORT = 65535
# Larger than most windows. A JPEG has an end at 65535 pixels, and many pictures side by side are
# wider than that.
_LONGEST_SIDE = 2048

logger = logging.getLogger("nst")


class LivePage(Callback):
    """Shows the evolving picture and the losses on a page in the browser.

    Only this machine can see it. On another, `ssh -L 8765:127.0.0.1:8765 HOST` brings the page of
    HOST to its own address http://127.0.0.1:8765/. Nothing is asked of the run by those who look:
    they get what was last put there. The result stays until `close` is called or the process ends.
    A batch is shown side by side.

    Args:
        port: Where the page is served; 0 for any port that is free.
        host: The address to listen at; `"0.0.0.0"` lets everybody in who can reach this machine.
        every: Show the picture after each so many steps; at least 1. Numbers change at each.

    Raises:
        TypeError: `port` or `every` is no whole number.
        ValueError: `port` is not between 0 and 65535, `every` is below 1, or `host` is empty.
        OSError: When it is opened, at the latest when the run starts: the port is taken, or
            cannot be listened at.

    Examples:
        >>> with LivePage(port=0) as page:
        ...     # transfer.run(content, style, callbacks=[page])
        ...     page.url.startswith("http://127.0.0.1:")
        True
    """

    _curves: dict[str, list[float]]

    def __init__(self, port: int = 8765, *, host: str = "127.0.0.1", every: int = 5) -> None:
        self.port, self.every = at_least("port", port, 0), at_least("every", every, 1)
        if self.port > _LAST_PORT:
            raise ValueError(f"`port` is {port}; it must be at most {_LAST_PORT}.")
        if not host:  # which would be every address there is
            raise ValueError("`host` is empty. Name an address, such as '127.0.0.1'.")
        self.host = host
        self._server: PageServer | None = None
        self._forget()

    @property
    def url(self) -> str:
        """The address of the page.

        Raises:
            RuntimeError: It is not open.
        """
        if self._server is None:
            raise RuntimeError(
                "LivePage has no address while it is closed: call LivePage.open, or start the run."
            )
        return self._server.url

    def open(self) -> Self:
        """Serve the page from now on; a run does so when it starts, if it was not done.

        Raises:
            OSError: The port is taken, or cannot be listened at.
        """
        if self._server is None:
            self._server = PageServer(self.host, self.port)
            self._forget()
            self._show(None)
            logger.info("the run is shown at %s", self.url)
        return self

    def close(self) -> None:
        """Serve it no longer. It can be opened again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_start(self, state: RunState) -> None:
        """Open the page, before any work, with the starting picture."""
        self._curves = {}
        self.open()
        self._draw(state)
        self._show(state)

    def on_step(self, state: RunState) -> None:
        """Show the losses, and the picture if it is due."""
        for name, value in state.losses.items():
            self._curves.setdefault(name, []).append(float(value))
        if state.step % self.every == 0:
            self._draw(state)
        self._show(state)

    def on_end(self, state: RunState) -> None:
        """Show the result, and why the run ended."""
        self._draw(state)
        self._show(state)

    def _draw(self, state: RunState) -> None:
        """Encode the picture, here and now: whoever looks at it must not meet a changing tensor."""
        if self._server is None:
            return
        picture, buffer = to_pil(side_by_side(state.image)), io.BytesIO()
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        picture.save(buffer, "jpeg", quality=90, subsampling=0)
        self._picture = buffer.getvalue()
        # The name tells a browser of a new picture, also when it is another process that serves.
        alt = f"The picture after step {state.step} of {state.num_steps}."
        self._about_picture = {"picture": str(time.time_ns()), "alt": alt}

    def _forget(self) -> None:
        self._curves = {}
        self._picture = b""
        self._about_picture = {"picture": "", "alt": "No picture yet."}

    def _show(self, state: RunState | None) -> None:
        server = self._server
        if server is None:  # was closed while the run goes on
            return
        said = {**describe(state, self._curves), **self._about_picture}
        pages = {
            "/": ("text/html; charset=utf-8", as_html(said)),
            "/state.json": ("application/json", as_json(said)),
        }
        if self._picture:
            pages["/picture.jpg"] = ("image/jpeg", self._picture)
        server.pages = pages  # all at once: no request sees half of it
