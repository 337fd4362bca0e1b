"""What the page of a run says, as HTML that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from nst.callbacks.base import RunState

__all__ = ["as_html", "as_json", "describe"]

_MOST_POINTS = 200  # of a curve: as many as are seen on a phone
_WIDTH, _HEIGHT = 100, 24  # of a curve, before it is stretched to its place

Description = dict[str, Any]
"""What is to be said, in a form that JSON can hold."""


def describe(state: RunState | None, curves: Mapping[str, Sequence[float]]) -> Description:
    """Return what is to be said of a run.

    Args:
        state: Of the run; None before there is one. No tensor in it is read but for its shape.
        curves: The losses by name, step by step.

    Examples:
        >>> describe(None, {})["html"]
        '<p>No run has begun.</p>'
    """
    if state is None:
        return {"title": "nst", "html": "<p>No run has begun.</p>"}
    height, width = state.image.shape[-2:]
    last = {name: values[-1] for name, values in curves.items()}
    return {
        "step": state.step,
        "num_steps": state.num_steps,
        "scale": state.scale,
        "num_scales": state.num_scales,
        "losses": {name: v if math.isfinite(v) else None for name, v in last.items()},
        "stop_reason": state.stop_reason,
        "title": f"{state.step}/{state.num_steps} · nst",
        "html": (
            f'<progress max="{state.num_steps}" value="{state.step}"></progress>'
            f"<p>Step {state.step} of {state.num_steps}, scale {state.scale + 1} of "
            f"{state.num_scales}, {width}x{height} pixels</p>"
            f"{_reason(state.stop_reason)}{_table(curves)}"
        ),
    }


def as_json(said: Description) -> bytes:
    """Return what a page that is open already asks for.

    Args:
        said: What `describe` returned, and of the picture, its name `picture` and a text, `alt`.
    """
    # A reader that takes it for HTML in spite of its type finds no element in it.
    return json.dumps(said).replace("<", "\\u003c").encode()


def as_html(said: Description) -> bytes:
    """Return the whole page.

    Args:
        said: What `describe` returned, and of the picture, its name `picture` and a text, `alt`.
    """
    picture = said["picture"]
    page = _PAGE.substitute(
        title=html.escape(said["title"]),
        alt=html.escape(said["alt"]),
        source=f'src="picture.jpg?{picture}" data-shown="{picture}"' if picture else "hidden",
        state=said["html"],
        script=_SCRIPT,
        allowed=_ALLOWED,
    )
    return page.encode(errors="replace")  # a reason may be any text


def _reason(reason: str | None) -> str:
    return "" if reason is None else f"<p><strong>Ended:</strong> {html.escape(reason)}</p>"


def _table(curves: Mapping[str, Sequence[float]]) -> str:
    rows = (
        f'<tr><th scope="row">{html.escape(name)}</th><td>{values[-1]:.4g}</td>'
        f"<td>{_curve(name, values)}</td></tr>"
        for name, values in curves.items()
    )
    return f"<table>{''.join(rows)}</table>" if curves else ""


def _curve(name: str, values: Sequence[float]) -> str:
    """Draw a loss against the step; its logarithm, if it has one."""
    logarithm = all(v > 0 for v in values)
    thinned = list(enumerate(values))[:: -max(1, math.ceil(len(values) / _MOST_POINTS))][::-1]
    points = [(i, math.log(v) if logarithm else v) for i, v in thinned if math.isfinite(v)]
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    across = _WIDTH / max(1, len(values) - 1)
    down = (_HEIGHT - 2) / ((high - low) or 1)  # a margin of 1 on each side, for the line's width
    drawn = " ".join(f"{i * across:.1f},{1 + (high - y) * down:.1f}" for i, y in points)
    told = f"{name}: {values[0]:.4g} at the first step, {values[-1]:.4g} after {len(values)}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(told)}"><polyline points="{drawn}"/></svg>'
    )


_SCRIPT = """
const at = id => document.getElementById(id), picture = at("picture");
function say(text) {
  if (at("notice").textContent !== text) at("notice").textContent = text;
}
async function refresh() {
  try {
    const signal = AbortSignal.timeout(10000);
    const state = await (await fetch("state.json", {cache: "no-store", signal})).json();
    document.title = state.title;
    at("state").innerHTML = state.html;
    if (state.picture && state.picture !== picture.dataset.shown) {
      picture.dataset.shown = state.picture;
      picture.src = "picture.jpg?" + state.picture;
      picture.alt = state.alt;
      picture.hidden = false;
    }
    say("");
  } catch {
    say("No longer served: the program has ended, or the connection is lost. "
      + "This is what was seen last.");
  }
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
"""

# No script runs but this one, and nothing is loaded from elsewhere, whatever a loss is called.
_ALLOWED = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)

# Addresses are relative, so that the page can be passed on under another path.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$allowed">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<link rel="icon" href="data:,">
<title>$title</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; }
img { display: block; max-width: 100%; max-height: 75vh; margin: 0 auto 1rem; }
[hidden] { display: none; }
progress, table { width: 100%; }
th { text-align: left; overflow-wrap: anywhere; }
td { text-align: right; padding-left: 1rem; font-variant-numeric: tabular-nums; }
td:last-child { width: 50%; }
svg { display: block; width: 100%; height: 2rem; }
polyline { fill: none; stroke: currentColor; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
</style>
</head>
<body>
<main>
<img id="picture" alt="$alt" $source>
<div id="state">$state</div>
<p id="notice" role="status"></p>
</main>
<script>$script</script>
</body>
</html>
""")
