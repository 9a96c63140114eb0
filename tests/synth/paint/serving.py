"""A server of the page in a thread of the test's own process, and requests as the page sends them."""

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synth.paint.config import PaintConfig
from synth.paint.files import wire_ids
from synth.paint.painter import Painter
from synth.paint.painting import Painting, pack
from synth.paint.server import HOST, build_server, listen
from synth.paint.studio import Studio


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def about(self) -> Any:
        """The text before the rest."""
        return json.loads(self.body[4 : 4 + self._length])

    @property
    def rest(self) -> bytes:
        return self.body[4 + self._length :]

    @property
    def _length(self) -> int:
        return int(struct.unpack("<I", self.body[:4])[0])


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    studio: Studio

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: bytes, **headers: str) -> Reply:
        return self.ask("POST", path, body, {"Origin": self.address} | headers)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        """Header names are given with _ for -."""
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=60)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Reply(response.status, response.read(), {name.lower(): value for name, value in response.getheaders()})

    def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes, or nothing."""
        with closing(socket.create_connection((HOST, self.port), timeout=10)) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                found = b""
                while part := connection.recv(65536):
                    found += part
            except (ConnectionError, TimeoutError):
                return b""
            return found


@contextmanager
def serving(run: Path, folder: Path, **settings: Any) -> Iterator[Served]:
    """The page of a run. folder: for images that are brought."""
    config = PaintConfig(run=str(run), port=0, **settings)
    studio = Studio(config, Painter(config.run, torch.device("cpu"), folder, config.table))
    studio.warm_up()
    with closing(listen(0)) as listener:
        server = build_server(studio, listener.getsockname()[1])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Served(listener.getsockname()[1], studio)
        finally:
            server.should_exit = True
            thread.join(20)
            studio.turns.close()


def blocks(size: tuple[int, int] = (32, 64), classes: int = 4, seed: int = 0) -> np.ndarray:
    """(height, width) int64, blocks of 8×8 pixels, some of them ignored."""
    drawn = np.random.default_rng(seed).integers(-1, classes, (size[0] // 8, size[1] // 8))
    return drawn.repeat(8, 0).repeat(8, 1)


def sent(painting: Painting, tab: str = "tab") -> bytes:
    """As the page sends it."""
    return pack(painting.about() | {"tab": tab}, wire_ids(painting.labels))


def pixels(reply: Reply) -> np.ndarray:
    """(H, W, 3) uint8 of an answer to /image."""
    assert reply.status == 200, reply.body
    return np.frombuffer(reply.rest, np.uint8).reshape(reply.about["height"], reply.about["width"], 3)
