"""The page: one HTML document with its style and scripts inside, and the policy that lets the browser run these and no others."""

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "page"
SCRIPTS = ("canvas.js", "history.js", "server.js", "classes.js", "controls.js", "main.js")
"""In the order in which they run, as one script."""


class Page(NamedTuple):
    """html: UTF-8. policy: its Content-Security-Policy."""

    html: bytes
    policy: str


def assemble() -> Page:
    """Read the files of the page and put them together."""
    style, html = (_read(name) for name in ("style.css", "paint.html"))
    script = "'use strict';\n" + "\n".join(map(_read, SCRIPTS))
    html = html.replace("/* style */", style).replace("/* scripts */", script)
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Page(html.encode(), "; ".join(f"{name} {value}" for name, value in rules.items()))


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a policy names an inline element, by its content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
