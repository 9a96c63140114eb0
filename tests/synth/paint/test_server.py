"""The page's server: images as synth.generate makes them, files to take home and to bring, and turns of several tabs."""

import asyncio
import http.client
import io
import json
import os
import shlex
import signal
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.errors import InputError
from shared.run.directory import RunDirectory
from synth.images.generation import generate
from synth.paint.painting import Painting, Way
from synth.paint.server import listen
from synth.paint.turns import MOST_WAITING, Replaced, TooMany, Turns
from synth.trained import load_generator
from tests.launcher import Launcher
from tests.small import refusal
from tests.synth.paint.serving import Served, blocks, pixels, sent, serving
from tests.synth.test_generate import write_run
from tests.test_security import bomb

Invoke = Callable[..., Any]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "vectors": {"semantics": "random"},
    "styled": {"style_dim": 6},
    "image": {"noise_channels": 5},
    "region": {"noise_channels": 5, "noise": "region"},
    "pixel": {"noise_channels": 5, "noise": "pixel"},
    "edges": {"instance_edges": True},
    "shifted": {"offset": 1, "ignore_value": 0},
}


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serving(write_run(folder / "run", **KINDS[request.param]), folder) as found:
        yield found


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("vectors")
    with serving(write_run(folder / "run", **KINDS["vectors"]), folder) as found:
        yield found


def save_style(served: Served) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(buffer, format="JPEG")
    reply = served.post("/style?name=sun%20set.jpg", buffer.getvalue())
    assert reply.status == 200, reply.body
    return str(reply.json["key"])


def paintings(served: Served) -> Iterator[Painting]:
    """Of everything that this generator can do."""
    labels, generator = blocks(), served.studio.painter.generator
    yield Painting(labels)
    if generator.z_dim is None:
        yield Painting(blocks((64, 96)), noise=7)
    if served.studio.painter.has_vectors:
        mixed = labels.copy()
        mixed[:16, :16], mixed[16:, :16] = 4, 5
        parts = (("hill", ((0.3, 0), (0.75, 3))), ("wood - old", ((1.0, 4), (-0.5, 1), (0.05, 2))))
        yield Painting(mixed, mixes=parts)
    if generator.z_dim is not None:
        key = save_style(served)
        yield Painting(labels, style=Way(41))
        yield Painting(labels, style=Way(key))
        yield Painting(labels, style=Way(3, key, steps=11, step=4))
    if generator.noise_channels:
        yield Painting(labels, noise=5, redrawn={1: 8, 3: 0})


def test_what_is_taken_home_is_what_the_command_makes(served: Served, invoke: Invoke, tmp_path: Path) -> None:
    """Bit for bit: the image on the page, the PNG, the one in the ZIP, and the file that synth.generate writes."""
    for number, painting in enumerate(paintings(served)):
        shown = pixels(served.post("/image", sent(painting)))
        image, archive = (served.post(f"/take/{what}", sent(painting)) for what in ("image", "all"))
        folder = tmp_path / str(number)
        zipfile.ZipFile(io.BytesIO(archive.body)).extractall(folder)
        assert np.array_equal(np.array(Image.open(io.BytesIO(image.body))), shown)
        command = shlex.split((folder / "command.txt").read_text())
        assert command[:3] == ["python", "-m", "synth.generate"]
        expected = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
        command[command.index("images")] = "again"
        os.chdir(folder)
        outcome = invoke(*command[2:])
        assert outcome.status == 0, outcome.errors
        ((name, content),) = expected.items()
        assert f'filename="{name}"' in image.headers["content-disposition"]
        assert (folder / "again" / name).read_bytes() == content == image.body


def test_images_differ_where_they_should(served: Served) -> None:
    made = [pixels(served.post("/image", sent(painting))).tobytes() for painting in paintings(served)]
    assert len({*made}) == len(made)


def test_what_was_taken_home_comes_back(served: Served) -> None:
    """The label file holds all of the painting, whatever the rule of the data set's own files."""
    for painting in paintings(served):
        labels = served.post("/take/labels", sent(painting))
        back = served.post("/labels?name=a.png", labels.body)
        assert back.status == 200, back.body
        assert back.about == painting.about()
        assert back.rest == sent(painting)[-2 * painting.labels.size :]


def test_the_image_is_that_of_the_generator(vectors: Served) -> None:
    labels = blocks()
    expected = generate(
        load_generator(RunDirectory(Path(vectors.studio.painter.run)), torch.device("cpu")).generator, torch.from_numpy(labels)[None]
    )
    assert np.array_equal(pixels(vectors.post("/image", sent(Painting(labels)))), expected[0])


def test_a_mixed_class_leaves_the_others_and_other_tabs_alone(vectors: Served) -> None:
    labels = blocks()
    before = pixels(vectors.post("/image", sent(Painting(labels))))
    mixes = (("hill", ((1.0, 0), (1.0, 3))),)
    assert np.array_equal(pixels(vectors.post("/image", sent(Painting(labels, mixes=mixes), "other"))), before)
    hills = np.where(labels == 0, 4, labels)
    assert not np.array_equal(pixels(vectors.post("/image", sent(Painting(hills, mixes=mixes)))), before)
    whole = (("copy", ((1.0, 0),)),)
    assert np.array_equal(pixels(vectors.post("/image", sent(Painting(hills, mixes=whole)))), before)
    assert np.array_equal(pixels(vectors.post("/image", sent(Painting(labels)))), before)


def test_noise_stays_where_it_is_when_other_classes_come(tmp_path: Path) -> None:
    """What a brush far away changes is near the brush; drawing one class again changes something."""
    run = write_run(tmp_path / "run", noise_channels=5, noise="region", size=(256, 256))
    with serving(run, tmp_path) as served:
        labels = np.ones((256, 512), np.int64)
        changed = labels.copy()
        changed[:, -1:] = 0
        first, second, again = (
            pixels(served.post("/image", sent(painting)))
            for painting in (Painting(labels, noise=3), Painting(changed, noise=3), Painting(labels, noise=3, redrawn={1: 9}))
        )
        assert np.array_equal(first[:, :32], second[:, :32]) and not np.array_equal(first, second)
        assert not np.array_equal(first[:, :32], again[:, :32])


def test_label_files_are_read_by_the_rule_of_the_data_set(served: Served) -> None:
    rules = served.studio.painter.trained.meta["label_files"]["rules"][-1]
    labels = blocks()
    stored = np.where(labels < 0, rules["ignore_value"], labels + rules["offset"]).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, format="PNG")
    reply = served.post("/labels?name=a.png", buffer.getvalue())
    assert reply.status == 200, reply.body
    assert reply.rest == sent(Painting(labels))[-2 * labels.size :]
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 64), 77, np.uint8)).save(buffer, format="PNG")
    line = served.post("/labels?name=..%2Fb%3Cb%3E.png", buffer.getvalue()).json["error"]
    assert line.startswith("b_b_.png holds value 77; allowed are"), line


def test_label_files_of_other_sizes_come_to_one_that_can_be_made(vectors: Served) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((50, 120), np.uint8)).save(buffer, format="PNG")
    assert [vectors.post("/labels?name=a.png", buffer.getvalue()).about[side] for side in ("height", "width")] == [64, 128]


def test_classes_near_each_other(vectors: Served) -> None:
    table = vectors.studio.painter.vectors()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    near = vectors.get("/near/2").json["near"]
    expected = sorted((float(np.linalg.norm(unit[2] - unit[other])), other) for other in (0, 1, 3))
    assert [other for other, _ in near] == [other for _, other in expected]
    places = vectors.get("/map").json["places"]
    assert len(places) == 4 and {0, 1000} <= {x for x, _ in places} and all(0 <= value <= 1000 for place in places for value in place)


def test_one_hot_has_no_vectors(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run"), tmp_path) as served:
        assert served.get("/about").json["vectors"] is False
        for path in ("/near/1", "/map"):
            assert "no class vectors" in served.get(path).json["error"]
        mixed = Painting(blocks(), mixes=(("hill", ((1.0, 0), (1.0, 1))),))
        assert "no class vectors" in served.post("/image", sent(mixed)).json["error"]


def test_the_page_is_whole_and_its_policy_fits_it(vectors: Served) -> None:
    reply = vectors.get("/")
    text = reply.body.decode()
    assert reply.status == 200 and text.count("<script>") == 1 and "src=" not in text.split("<script>")[0]
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


# ---- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Origin": "http://evil.example"}, "another page asks"),
        ({"Origin": "null"}, "another page asks"),
        ({"Host": "evil.example"}, "this server answers to"),
        ({"Host": "127.0.0.1"}, "this server answers to"),
        ({"Sec_Fetch_Site": "cross-site"}, "another page asks"),
    ],
)
def test_other_pages_are_refused(headers: dict[str, str], told: str, vectors: Served) -> None:
    for reply in (vectors.get("/about", **headers), vectors.post("/image", sent(Painting(blocks())), **headers)):
        assert reply.status == 403 and told in reply.json["error"]


def test_without_an_origin_nothing_is_computed(vectors: Served) -> None:
    assert vectors.ask("POST", "/image", sent(Painting(blocks())), {}).status == 403
    assert vectors.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200  # a link that leads here


def test_nothing_but_this_machine_is_served(vectors: Served) -> None:
    for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}:
        if not str(address).startswith("127."):
            with pytest.raises(OSError):
                socket.create_connection((str(address), vectors.port), timeout=2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"height": 33}, "bytes of ids came for 33x64"),
        ({"height": 0}, "height must be a whole number from 1"),
        ({"width": True}, "width must be a whole number"),
        ({"height": 2**20, "width": 2**20}, "more than 2097152 pixels"),
        ({"brush": 1}, "the painting has no 'brush'"),
        ({"noise": -1}, "noise must be a whole number from 0"),
        ({"noise": 10**30}, "noise must be a whole number from 0"),
        ({"style": {"start": 0, "steps": 1}}, "steps must be a whole number from 2"),
        ({"style": []}, "style is list"),
        ({"redrawn": {"9": 1}}, "redrawn must be a whole number from 0 to 3"),
        ({"redrawn": {"²": 1}}, "redrawn must be"),
        ({"mixes": [{"name": "a=b", "parts": [[1, 0]]}]}, "the name of a mixed class needs"),
        ({"mixes": [{"name": "a", "parts": []}]}, "has 1 to 3 parts"),
        ({"mixes": [{"name": "a", "parts": [[1e300, 0]]}]}, "must be a number from -9 to 9"),
        ({"mixes": [{"name": "a", "parts": [[1, 4]]}]}, "part must be a whole number from 0 to 3"),
        ({"mixes": [{"name": "sky", "parts": [[1, 0]]}]}, "there is a class sky already"),
        ({"mixes": [{"name": "a", "parts": [[1, 0], [-1, 0]]}]}, "nothing is left of the parts"),
        ({"mixes": 7}, "mixes is int"),
        ({"tab": 5}, "the tab needs a name"),
    ],
)
def test_paintings_that_cannot_be(change: dict[str, Any], told: str, vectors: Served) -> None:
    painting = Painting(blocks())
    text = json.dumps(painting.about() | change).encode()
    reply = vectors.post("/image", len(text).to_bytes(4, "little") + text + sent(painting)[-2 * painting.labels.size :])
    assert reply.status == 400 and told in reply.json["error"], reply.body


def test_other_refusals(vectors: Served) -> None:
    labels = blocks()
    labels[0, 0] = 4
    assert "holds class id 4; there are 4 classes" in vectors.post("/image", sent(Painting(labels))).json["error"]
    assert "both sides must be multiples of 32" in vectors.post("/image", sent(Painting(blocks((40, 64))))).json["error"]
    for body in (b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\2\0\0\0[]", b"\2\0\0\0{{"):
        assert vectors.post("/image", body).status == 400
    assert "take one of image, labels, all, command" in vectors.post("/take/x", sent(Painting(blocks()))).json["error"]
    for announced in (2**23, 10**30, "x"):
        head = f"POST /image HTTP/1.1\r\nHost: 127.0.0.1:{vectors.port}\r\nOrigin: {vectors.address}\r\n"
        reply = vectors.raw(f"{head}Content-Length: {announced}\r\n\r\n".encode())
        assert reply[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400")
    assert vectors.get("/near/" + "9" * 5000).status == 400
    assert [vectors.get(path).status for path in ("/near/4", "/layouts/0", "/nothing", "/image")] == [400, 400, 404, 405]
    assert "--segmenter RUN" in vectors.post("/photo?name=a.jpg", b"x").json["error"]
    assert "no style" in vectors.post("/style?name=a.png", b"x").json["error"]
    for name in ("a.png", "a.exe", "", ".png", "%00.png"):
        assert vectors.post(f"/labels?name={name}", b"\x89PNG\r\n").status == 400


def test_a_style_image_that_is_not_here(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run", style_dim=6), tmp_path) as served:
        assert "drop it on the page again" in served.post("/image", sent(Painting(blocks(), style=Way("0123")))).json["error"]
        assert "cannot read the picture a.png" in served.post("/style?name=a.png", b"x").json["error"]
        assert "makes images of the size it was trained for" in served.post("/image", sent(Painting(blocks((64, 64))))).json["error"]


def test_ports_and_runs_that_cannot_be_used(vectors: Served, invoke: Invoke, tmp_path: Path) -> None:
    run = vectors.studio.painter.run
    assert f"port {vectors.port} of 127.0.0.1 cannot be used" in refusal(invoke("synth.paint", run, "--port", vectors.port))
    assert "port is 70000" in refusal(invoke("synth.paint", run, "--port", 70000))
    assert "is no run directory" in refusal(invoke("synth.paint", tmp_path))
    outcome = invoke("synth.paint", run, "--port", 0, "--dry-run")
    assert outcome.status == 0 and "would serve http://127.0.0.1:" in outcome.output


def test_a_picture_that_unfolds_to_any_size_is_refused(vectors: Served, tmp_path: Path) -> None:
    bomb(tmp_path / "b.png")
    line = vectors.post("/labels?name=b.png", (tmp_path / "b.png").read_bytes()).json["error"]
    assert line.startswith("cannot read the picture b.png: it has 60000x60000"), line


def test_a_request_that_does_not_end(vectors: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.paint.server.BODY_SECONDS", 0.2)
    head = f"POST /image HTTP/1.1\r\nHost: 127.0.0.1:{vectors.port}\r\nOrigin: {vectors.address}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", vectors.port), timeout=20) as connection:
        connection.sendall(head.encode() + b"abc")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly(number: int, launcher: Launcher, tmp_path: Path) -> None:
    """With success, while an image is being made and a connection stays open."""
    run = write_run(tmp_path / "run", semantics="random")
    with closing(listen(0)) as free:
        port = free.getsockname()[1]
    process = launcher.start("synth.paint", run, "--port", port, "--max_pixels", 2**22)

    def answers() -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            try:
                connection.request("GET", "/about")
                return connection.getresponse().status == 200
            except OSError:
                return False

    process.run_until(answers)
    body = sent(Painting(np.zeros((1024, 1024), np.int64)))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = f"POST /image HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        os.kill(process.pid, number)
        assert process.wait() == 0, process.errors
    assert "Traceback" not in process.errors


# ---- turns -------------------------------------------------------------------------------------------------------------------


def test_the_last_painting_of_a_tab_wins_and_tabs_take_turns() -> None:
    async def scene() -> list[str]:
        turns, done, gate = Turns(), [], threading.Event()

        def work(name: str) -> Callable[[], str]:
            def do() -> str:
                done.append(name)
                return name

            return do

        first = asyncio.create_task(turns.run("a", gate.wait))
        await asyncio.sleep(0.05)
        waiting = []
        for tab, name in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("a", "a3"), ("b", "b2")):
            waiting.append(asyncio.create_task(turns.run(tab, work(name))))
            await asyncio.sleep(0)
        gate.set()
        assert await first
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) if isinstance(result, Exception) else result for result in results] == [
            *(Replaced, Replaced, Replaced),
            *("c1", "a3", "b2"),
        ]
        turns.close()
        return done

    assert asyncio.run(scene()) == ["a3", "b2", "c1"]


def test_a_failure_is_its_own_and_a_crowd_is_refused() -> None:
    async def scene() -> None:
        turns, gate = Turns(), threading.Event()

        def fail() -> None:
            raise InputError("ours")

        with pytest.raises(InputError, match="ours"):
            await turns.run("a", fail)
        first = asyncio.create_task(turns.run("a", gate.wait))
        await asyncio.sleep(0.05)
        crowd = [asyncio.create_task(turns.run(str(tab), int)) for tab in range(MOST_WAITING)]
        await asyncio.sleep(0.05)
        with pytest.raises(TooMany):
            await turns.run("one more", int)
        crowd[3].cancel()  # whoever asked is gone
        gate.set()
        await first
        assert [result for result in await asyncio.gather(*crowd, return_exceptions=True) if result != 0] and await turns.run("a", int) == 0
        turns.close()

    asyncio.run(scene())
