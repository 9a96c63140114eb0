"""Files from elsewhere stay data: none is run as code, written outside its folder, or allowed to take the machine's memory."""

import ast
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.data.cocolvis_files import read_lvis
from shared.data.pairs import read_list
from shared.data.spec import DatasetSpec
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.fid.remarks import remark
from shared.report import EmbeddingMap, write_report
from tests.shared.report.test_pages import PALETTE, comparison
from tests.small import require_one_line, save_image, save_labels
from tests.test_bad_input import SMALL

ROOT = Path(__file__).parent.parent
Invoke = Callable[..., Any]

FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "os.system", "shutil.unpack_archive"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place, dotted name, constant keyword arguments) of every call in the packages."""
    for path in sorted(path for package in ("seg", "synth", "shared") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {word.arg or "": word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
                yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), keywords


def test_nothing_that_is_read_can_run() -> None:
    seen = set()
    for place, name, keywords in calls():
        assert name not in FORBIDDEN, place
        assert not keywords.get("shell"), place
        assert not name.endswith((".extractall", ".extract")), place
        if name in SAFE:
            seen.add(name)
            option, value = SAFE[name]
            assert keywords.get(option) is value, f"{place}: {name} without {option}={value}"
    assert seen == set(SAFE)


def bomb(path: Path, size: int = 60_000) -> None:
    """A PNG of a few bytes whose header promises size × size pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = b"".join(struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data, b"IEND"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_pictures_with_absurd_headers_are_refused(invoke: Invoke, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            save_image(tmp_path / f"data/images/{split}/{name}.png")
            save_labels(tmp_path / f"data/labels/{split}/{name}.png")
    (tmp_path / "data/classes.txt").write_text("road\nsky\ncar\n")
    bomb(tmp_path / "data/images/train/b.png")
    data = ["--data.name", "folder", "--data.root", "data"]
    require_one_line(invoke("seg.train", *SMALL, *data, "--train.steps", 4, "--run_dir", "run"), "images/train/b.png", "cannot read")
    checked = invoke("shared.data", "check", *data)
    assert checked.status == 1
    assert "images/train/b.png" in checked.output + checked.errors
    assert "Traceback" not in checked.errors
    assert not list(tmp_path.glob("run/**/*.safetensors"))
    remark({str(tmp_path): [tmp_path / "data/images/train/b.png"]})


def test_lists_cannot_name_files_outside_their_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("../../etc/passwd\n/root/x.png 1\n..\\y\n")
    assert all("/" not in name and name != ".." for name in read_list(tmp_path / "list.txt"))
    content = {"images": [{"id": "../../x", "height": 2, "width": 2, "coco_url": "http://a/train2017/1.jpg"}], "annotations": []}
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"lvis.json is not like LVIS v1"):
        read_lvis(tmp_path / "lvis.json")


def test_a_class_called_script_is_text_in_every_page(invoke: Invoke, tmp_path: Path) -> None:
    """The report, and the map of class embeddings, which is an SVG: a browser runs scripts of both."""
    script = "<script>alert(1)</script>"
    names = (script, f"-->{script}", "b & <i>")
    ClassEmbeddings(torch.eye(3), torch.eye(3), names, "folder", {}).save(tmp_path / "e.safetensors")
    outcome = invoke("seg.inspect", tmp_path / "e.safetensors", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.errors
    report = comparison(dataset=DatasetSpec(script, names, PALETTE), embedding_map=EmbeddingMap(names, np.eye(3), PALETTE), machine=script)
    write_report(report, tmp_path / "out/report")
    pages = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".svg", ".html")]
    assert {path.suffix for path in pages} == {".svg", ".html"}
    for text in (path.read_text(encoding="utf-8") for path in pages):
        assert "<script>alert" not in text
        assert "<i>" not in text
