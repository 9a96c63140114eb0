"""What people bring, through whole programs: photos that are turned, names of any length and alphabet, terminals that lack letters, class
lists that change between two starts. Nothing ends a program but one line, and nothing is silently another thing."""

import io
import json
import os
import runpy
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from seg import labelling
from seg.inference import ViewConfig
from shared.data.spec import DatasetSpec
from shared.run.checkpoint import read_checkpoint
from tests.programs import invoke_program
from tests.small import require_one_line
from tests.test_bad_input import SMALL

Invoke = Callable[..., Any]
FOLDER = ["--data.name", "folder", "--data.root", "data"]
SEG = ["seg.train", *SMALL, *FOLDER]
SYNTH = ["synth.train", "--train.batch_size", 2, "--data.num_workers", 0, *FOLDER, "--input.size", "[32, 32]", "--generator.width", 2]
SYNTH += ["--generator.hidden", 4, "--discriminator.width", 4, "--loss.vgg_weight", 0, "--semantics", "onehot"]
PHOTO = np.arange(24 * 32 * 3, dtype=np.uint32).reshape(24, 32, 3).astype(np.uint8)
STRIPES = (np.arange(32, dtype=np.uint8)[None] // 11).repeat(24, 0)


def save(path: Path, pixels: np.ndarray, orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def write_data(root: Path, names: str = "road sky car", image: str = "{}.png") -> Path:
    for split in ("train", "val"):
        for name in ("a", "b"):
            save(root / f"images/{split}" / image.format(name), PHOTO)
            save(root / f"labels/{split}/{name}.png", STRIPES)
    (root / "classes.txt").write_text(names.replace(" ", "\n"))
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `seg` of two steps and a run `synth` of one."""
    folder = tmp_path_factory.mktemp("runs")
    write_data(folder / "data")
    for command, name in ((SEG, "seg"), ([*SYNTH, "--train.steps", 1], "synth")):
        outcome = invoke_program(*map(str, command), "--data.root", folder / "data", "--run_dir", folder / name)
        assert outcome.status == 0, outcome.errors
    return folder


# ---- class lists between two starts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "run"), [(SEG, "seg"), (SYNTH, "synth")])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("sky road car", "class 0 is road in run/checkpoints/last.safetensors, and sky now"),
        ("road car sky", "class 1 is sky in run/checkpoints/last.safetensors, and car now"),
        ("road sky lorry", "class 2 is car in run/checkpoints/last.safetensors, and lorry now"),
        ("road sky car lorry", "run/checkpoints/last.safetensors was saved with 3 classes, and there are 4 now"),
    ],
)
def test_a_run_goes_on_with_its_classes_alone(
    program: list[object], run: str, names: str, told: str, runs: Path, tmp_path: Path, invoke: Invoke
) -> None:
    write_data(tmp_path / "data", names)
    shutil.copytree(runs / run, "run")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*.safetensors"))}
    require_one_line(invoke(*program, "--train.steps", 3, "--run_dir", "run"), told, "another --run_dir")
    assert {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*.safetensors"))} == before


def test_the_same_names_in_another_form_of_unicode_go_on(tmp_path: Path, invoke: Invoke) -> None:
    data = write_data(tmp_path / "data", "stra\u00dfe caf\u00e9 auto")
    assert invoke(*SEG, "--run_dir", "run").status == 0
    (data / "classes.txt").write_text(unicodedata.normalize("NFD", (data / "classes.txt").read_text()))
    outcome = invoke(*SEG, "--train.steps", 3, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    assert read_checkpoint(tmp_path / "run/checkpoints/last.safetensors")[1]["class_names"][1] == "caf\u00e9"


# ---- photos that are turned ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("orientation", "size"), [(3, (24, 32)), (6, (32, 24)), (5, (32, 24)), (4, (24, 32))])
def test_labels_come_back_as_a_viewer_shows_the_photo(
    orientation: int, size: tuple[int, int], runs: Path, tmp_path: Path, invoke: Invoke
) -> None:
    """The prediction of a turned photo is that of the photo whose pixels were turned."""
    turned = save(tmp_path / "phone/p.png", PHOTO, orientation)
    with Image.open(turned) as picture:
        save(tmp_path / "upright/p.png", np.array(ImageOps.exif_transpose(picture)))
    for folder in ("phone", "upright"):
        assert invoke("seg.predict", runs / "seg", folder, "-o", f"out_{folder}").status == 0
    for kind in ("labels", "colour", "overlay"):
        ours, expected = (np.array(Image.open(tmp_path / f"out_{folder}/{kind}/p.png")) for folder in ("phone", "upright"))
        assert ours.shape[:2] == size and np.array_equal(ours, expected)


def test_check_names_turned_photos(tmp_path: Path, invoke: Invoke) -> None:
    data = write_data(tmp_path / "data")
    save(data / "images/train/a.png", PHOTO, 3)
    save(data / "images/train/b.png", PHOTO, 6)
    save(data / "images/val/a.png", PHOTO, 8)
    save(data / "labels/val/a.png", np.rot90(STRIPES, 1))
    outcome = invoke("shared.data", "check", *FOLDER, "--data.num_workers", 0)
    assert outcome.status == 0, outcome.output + outcome.errors
    notes = [line for line in outcome.output.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: data/images/train/a.png: EXIF orientation 3 (turned by 180°) is applied, as viewers do; if its label map was drawn on the "
        "stored pixels, set data.orientation stored",
        "note: data/images/train/b.png: EXIF orientation 6 (turned by 90°) is not applied: data/labels/train/b.png belongs to the pixels "
        "as they are stored",
        "note: data/images/val/a.png: EXIF orientation 8 (turned by 270°) is applied, as viewers do",
    ]
    outcome = invoke("shared.data", "check", *FOLDER, "--data.num_workers", 0, "--data.orientation", "stored", "--split", "train")
    assert "data/images/train/a.png: EXIF orientation 3 (turned by 180°) is not applied" in outcome.output


# ---- names -----------------------------------------------------------------------------------------------------------

LONG = ("x" * 251, "\u6f22" * 83 + "ab")  # 251 bytes and a suffix of four: 255


@pytest.mark.parametrize("name", LONG, ids=["ASCII", "of three bytes each"])
def test_names_of_255_bytes(name: str, runs: Path, tmp_path: Path, invoke: Invoke) -> None:
    write_data(tmp_path / "data")
    save(tmp_path / f"in/{name}.png", PHOTO)
    save(tmp_path / f"maps/{name}.png", STRIPES)
    for command in (["seg.predict", runs / "seg", "in", "-o", "out"], ["synth.generate", runs / "synth", "maps", "-o", "made"]):
        outcome = invoke(*command)
        assert outcome.status == 0, outcome.errors
    assert {path.name for folder in ("out/labels", "out/colour", "out/overlay", "made") for path in (tmp_path / folder).iterdir()} == {
        f"{name}.png"
    }
    for kind in ("images", "labels"):
        os.rename(tmp_path / f"data/{kind}/train/a.png", tmp_path / f"data/{kind}/train/{name}.png")
    outcome = invoke("shared.data", "write", *FOLDER, "--data.num_workers", 0, "-o", "copy")
    assert outcome.status == 0, outcome.errors
    assert (tmp_path / f"copy/labels/train/{name}.png").is_file()


def test_a_name_that_leaves_no_room_for_a_number_is_refused_at_once(tmp_path: Path, invoke: Invoke) -> None:
    write_data(tmp_path / "data")
    styled = [*SYNTH, "--generator.noise_channels", 4]
    assert invoke(*styled, "--train.steps", 1, "--run_dir", "srun").status == 0
    save(tmp_path / f"maps/{LONG[0]}.png", STRIPES)
    save(tmp_path / "maps/0.png", STRIPES)
    require_one_line(invoke("synth.generate", "srun", "maps", "-o", "made", "--samples", 2), "its name has 257 bytes, and may have 255")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_pair_in_either_form(form: str, tmp_path: Path, invoke: Invoke) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    data = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("caf\u00e9/\u00fcber", "\ud55c\uae00"):
            save(data / f"images/{split}/{unicodedata.normalize(form, name)}.png", PHOTO)
            save(data / f"labels/{split}/{unicodedata.normalize(other, name)}.png", STRIPES)
            save(data / f"objects/{split}/{name}.png", STRIPES)
    (data / "classes.txt").write_text("road\nsky\ncar\n")
    objects = ["--data.folder.train_instances", "objects/train", "--data.folder.val_instances", "objects/val"]
    outcome = invoke("shared.data", "check", *FOLDER, *objects, "--data.num_workers", 0)
    assert outcome.status == 0 and "train: 2 samples, 0 with problems" in outcome.output
    assert invoke(*SYNTH, *objects, "--input.instance_edges", "true", "--train.steps", 1, "--run_dir", "srun").status == 0
    made = invoke("synth.generate", "srun", data / "labels/val", "--instances", data / "objects/val", "-o", "made")
    assert made.status == 0, made.errors
    spelled = {path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.png")}
    assert spelled == {f"{unicodedata.normalize(other, name)}.png" for name in ("caf\u00e9/\u00fcber", "\ud55c\uae00")}


def test_both_forms_of_one_name_are_named(tmp_path: Path, invoke: Invoke) -> None:
    data = write_data(tmp_path / "data")
    for name in ("caf\u00e9", "cafe\u0301"):
        save(data / f"images/train/{name}.png", PHOTO)
    outcome = invoke("shared.data", "check", *FOLDER, "--data.num_workers", 0)
    require_one_line(outcome, "have the same name, but for composed and decomposed accents; only one file may be called caf\u00e9")


# ---- terminals -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["ascii", "latin-1", "utf-8"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs a program whose output goes to a terminal of that encoding; gives its status and what the terminal shows."""

    def run(program: str, *arguments: object) -> tuple[int, str]:
        output = io.TextIOWrapper(io.BytesIO(), encoding=request.param, errors="strict", write_through=True)
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", output)
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        status = 0
        try:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, output.buffer.getvalue().decode(request.param)  # type: ignore[attr-defined]

    return run


def test_no_output_ends_a_program(terminal: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """Classes and files of other alphabets, the signs of our own tables, and a file name that is no text at all."""
    write_data(tmp_path / "data", "\u9053\u8def \u7a7a stra\u00dfe\u221e")
    run = ["--head", "softmax", "--run_dir", "run \u221e"]
    status, output = terminal(*SEG, *run)
    assert status == 0, output
    status, output = terminal("seg.evaluate", "run \u221e", "-o", "e.json")
    assert status == 0 and (tmp_path / "e.json").is_file(), output
    distance = ["--encoder", "run \u221e/encoder.safetensors", "--cache", "null", "--subsets", 3, "--json", "d.json"]
    status, output = terminal("shared.fid", "data/images/train", "data/images/val", *distance)
    assert status == 0 and json.loads((tmp_path / "d.json").read_text())["distance"] >= 0, output
    broken = os.fsdecode(b"not text \xff.png")
    os.rename(tmp_path / "data/images/train/a.png", tmp_path / "data/images/train" / broken)
    status, output = terminal("shared.data", "check", *FOLDER, "--data.num_workers", 0)
    assert status == 1 and "not text \\udcff.png" in output
    os.rename(tmp_path / "data/labels/train/a.png", tmp_path / "data/labels/train" / broken)
    status, output = terminal(*SEG, "--run_dir", "run2")
    assert status == 0, output
    status, output = terminal("seg.predict", "run2", "data/images/train", "-o", "out")
    assert status == 0 and (tmp_path / "out/labels" / broken).is_file(), output


def test_a_run_directory_whose_name_is_no_text_is_refused_at_once(tmp_path: Path, invoke: Invoke) -> None:
    write_data(tmp_path / "data")
    require_one_line(invoke(*SEG, "--run_dir", os.fsdecode(b"run\xff")), "'run\\udcff' is no UTF-8 text")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


class Printed(Exception):
    """The first line of a table was to be printed."""


def test_files_are_written_before_tables_are_printed(runs: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path / "data")
    run = runs / "seg"

    def refuse(*texts: object, **options: Any) -> None:
        if "\n" in str(texts[0]):
            raise Printed

    monkeypatch.setattr("builtins.print", refuse)
    written = {
        "e.json": ["seg.evaluate", run, "-o", "e.json"],
        "d.json": ["shared.fid", "data/images/train", "data/images/val", "--encoder", run / "encoder.safetensors", "--json", "d.json"],
        "counts/statistics_train.safetensors": ["shared.data", "stats", *FOLDER, "--data.num_workers", 0, "-o", "counts"],
        "inspected/tree.nwk": ["seg.inspect", run / "class_embeddings.safetensors", "-o", "inspected"],
    }
    for file, command in written.items():
        with pytest.raises(Printed):
            invoke(*command)
        assert (tmp_path / file).is_file(), file


# ---- large pictures ----------------------------------------------------------------------------------------------------


def test_a_picture_is_as_large_as_a_setting_allows(runs: Path, tmp_path: Path, invoke: Invoke) -> None:
    write_data(tmp_path / "data")
    pixels = 24 * 32
    little, enough = ["--data.max_pixels", pixels - 1], ["--data.max_pixels", pixels]
    outcome = invoke("shared.data", "check", *FOLDER, "--data.num_workers", 0, *little)
    assert outcome.status == 1
    assert outcome.output.count(f"it has 24x32 (height x width) = {pixels} pixels, and at most {pixels - 1} are read; allow more with") == 8
    require_one_line(invoke(*SEG, *little, "--run_dir", "run"), "--data.max_pixels")
    for program in (["shared.data", "check", *FOLDER, "--data.num_workers", 0], [*SEG, "--run_dir", "run"]):
        outcome = invoke(*program, *enough)
        assert outcome.status == 0, outcome.errors
    encoder = ["--encoder", "run/encoder.safetensors", "--cache", "null"]
    for number, command in enumerate(
        (
            ["seg.predict", "run", "data/images/val", "-o", "out"],
            ["synth.generate", runs / "synth", "data/labels/val", "-o", "made"],
            ["shared.fid", "data/images/train", "data/images/val", *encoder],
            ["synth.score", runs / "synth", "data/labels/val", "--real", "data/images/val", *encoder],
        )
    ):
        require_one_line(invoke(*command, "--max_pixels", pixels - 1), "allow more with --max_pixels")
        outcome = invoke(*command, "--max_pixels", pixels)
        assert outcome.status == 0, (number, outcome.errors)


@pytest.mark.parametrize("tile", [(64, 64), (64, 96), (200, 300)])
def test_tiles_give_what_the_whole_gives_where_the_network_looks_no_further(
    tile: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that decides by the colour of each pixel, on the grid of its features."""
    monkeypatch.setattr(labelling, "predict_views", lambda model, images, views: (images[:, 0] > 0).long() + (images[:, 1] > 0).long())
    spec = DatasetSpec("made", ("a", "b", "c"), np.zeros((3, 3), np.uint8))
    trained: Any = SimpleNamespace(model=None, spec=spec, meta={"config": {"input": {"resize": None}}})
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 150, 230), dtype=np.uint8))
    whole = labelling.predict(trained, image, torch.device("cpu"), ViewConfig())
    found = labelling.predict_tiles(trained, image, torch.device("cpu"), ViewConfig(), tile)
    assert found.dtype == np.uint8 and np.array_equal(found, whole.numpy())


def test_tiles_through_the_program(runs: Path, tmp_path: Path, invoke: Invoke) -> None:
    big = np.random.default_rng(1).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    save(tmp_path / "in/big.png", big)
    run = runs / "seg"
    outcome = invoke("seg.predict", run, "in", "-o", "out", "--tile", "[64, 128]", "--max_pixels", 150_000)
    assert outcome.status == 0, outcome.errors
    with Image.open(tmp_path / "out/labels/big.png") as labels, Image.open(tmp_path / "out/overlay/big.png") as overlay:
        assert labels.size == overlay.size == (500, 300)
    require_one_line(invoke("seg.predict", run, "in", "-o", "out2", "--tile", "[8, 8]"), "tile is [8, 8]; both sides must be at least 64")
    write_data(tmp_path / "data")
    assert invoke(*SEG, "--input.resize", "[24, 32]", "--run_dir", "resized").status == 0
    refused = invoke("seg.predict", "resized", "in", "-o", "out2", "--tile", "[64, 64]")
    require_one_line(refused, "resized reads whole images, resized to [24, 32]")
