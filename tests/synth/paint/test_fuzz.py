"""A thousand malformed requests: each gets a line, none a traceback; memory stays, and the next good request is answered."""

import json
import random
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth.paint.painting import Painting
from tests.spoiling import spoil_bytes
from tests.synth.paint.serving import Served, blocks, pixels, sent, serving
from tests.synth.test_generate import write_run

pytestmark = pytest.mark.slow
CASES, WARM = 1000, 200
GROWTH = 48 * 2**20
"""Bytes that the allocator may hold on to."""
ODD = (None, True, -1, 0, 2**31, 2**63, 10**40, 1e308, "", "x" * 5000, "²", "\0", [], [[]], {}, {"a": 1}, [1, [2, [3]]])
KEYS = ("height", "width", "mixes", "style", "noise", "redrawn", "tab", "name", "parts", "start", "end", "steps", "step", "<script>")


@pytest.fixture(scope="module", params=["vectors", "styled", "noisy"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzz")
    kinds: dict[str, dict[str, Any]] = {
        "vectors": {"semantics": "random"},
        "styled": {"style_dim": 6},
        "noisy": {"noise_channels": 5, "noise": "region"},
    }
    with serving(write_run(folder / "run", **kinds[request.param]), folder) as found:
        yield found


def odd(chance: random.Random, depth: int = 0) -> Any:
    """Some JSON value."""
    kind = chance.random()
    if depth > 3 or kind < 0.5:
        return chance.choice(ODD)
    if kind < 0.75:
        return {chance.choice(KEYS): odd(chance, depth + 1) for _ in range(chance.randrange(4))}
    return [odd(chance, depth + 1) for _ in range(chance.randrange(4))]


def spoilt_painting(chance: random.Random) -> bytes:
    """A painting with a wrong value, a wrong length, or wrong bytes."""
    painting = Painting(blocks(), mixes=(("hill", ((0.5, 0), (0.5, 1))),), redrawn={1: 2})
    about, body = painting.about() | {"tab": "fuzz"}, sent(painting)
    ids = body[-2 * painting.labels.size :]
    kind = chance.randrange(5)
    if kind == 0:
        return spoil_bytes(body, chance)
    if kind == 1:
        return struct.pack("<I", chance.choice((0, 1, 2**16, 2**31, len(body)))) + body[4:]
    parts = about, about["mixes"][0], about["style"]
    for _ in range(chance.randrange(1, 4)):
        target = chance.choice(parts)
        target[chance.choice(KEYS)] = odd(chance)
    text = json.dumps(about).encode()
    return struct.pack("<I", len(text)) + text + (ids if kind < 4 else ids[: chance.randrange(len(ids))])


def spoilt_http(served: Served, chance: random.Random) -> bytes:
    """Bytes that are hardly HTTP."""
    head = f"Host: 127.0.0.1:{served.port}\r\nOrigin: {served.address}\r\n"
    body = sent(Painting(blocks()))
    good = f"POST /image HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return chance.choice(
        (
            lambda: chance.randbytes(chance.randrange(300)),
            lambda: spoil_bytes(good[:200], chance) + good[200:],
            lambda: good[: chance.randrange(len(good))],
            lambda: f"GET /{'a' * 30000} HTTP/1.1\r\n{head}\r\n".encode(),
            lambda: f"POST /image HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\nfffffff\r\nab".encode(),
            lambda: f"POST /image HTTP/1.1\r\n{head}Content-Length: 5\r\nContent-Length: 9\r\n\r\nabcde".encode(),
            lambda: f"GET / HTTP/1.1\r\n{head}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n".encode(),
        )
    )()


def one(served: Served, number: int) -> None:
    """Send a malformed request. What comes back, if anything, is an answer of the server that says why, or one that needs no reason."""
    chance = random.Random(f"paint {number}")
    kind = number % 4
    if kind == 0:
        reply = served.post(f"/{chance.choice(('image', 'take/image', 'take/all', 'take/x'))}", spoilt_painting(chance))
    elif kind == 1:
        content = spoil_bytes(served.post("/take/labels", sent(Painting(blocks()))).body, chance)
        name = chance.choice(("a.png", "..%2F..%2Fetc%2Fpasswd.png", "%00.png", "a.exe", "", "%F0%9F%8E%A8.png", "a" * 400 + ".png"))
        reply = served.post(f"/{chance.choice(('labels', 'style', 'photo'))}?name={name}", content)
    elif kind == 2:
        path = chance.choice(("near", "layouts", "map", "layouts/0", "about", "take/image", "%2e%2e/%2e%2e/etc/passwd"))
        reply = served.get(f"/{path}/{chance.choice(('', '-1', '9' * 400, '%00', '1e3', '<b>', 'x' * 2000))}")
    else:
        answer = served.raw(spoilt_http(served, chance))
        assert b"Traceback" not in answer and (not answer or answer.startswith(b"HTTP/1.1 ")), answer[:200]
        assert not answer.startswith(b"HTTP/1.1 500"), answer[:400]
        return
    assert reply.status in (200, 307, 400, 403, 404, 405, 413), (number, reply.status, reply.body[:300])
    if reply.status >= 400:
        assert len(reply.json["error"].splitlines()) == 1 and "Traceback" not in reply.json["error"]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_malformed_requests(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    good = sent(Painting(blocks()))
    expected, before = pixels(served.post("/image", good)), 0
    for number in range(CASES):
        one(served, number)
        if number == WARM:
            before = resident()
    assert resident() - before < GROWTH
    assert np.array_equal(pixels(served.post("/image", good)), expected)
    assert "Traceback" not in capfd.readouterr().err
    assert not list(served.studio.painter.folder.glob("paint-*"))
