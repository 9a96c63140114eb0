import json
import sys

import numpy as np
import pytest
from PIL import Image

from shared.data.__main__ import main
from shared.data.statistics import ClassStatistics


@pytest.fixture
def root(tmp_path):
    """Four training images of three classes; the labels of 1 and 3 and image 2 are bad. One good validation image."""
    labels = {"train/0": [[0, 1], [1, 255]], "train/1": [[0, 9], [0, 0]], "train/2": [[0, 0], [0, 0]], "train/3": [[7, 7], [0, 0]]}
    for name, values in (labels | {"val/4": [[2, 2], [2, 0]]}).items():
        for folder, pixels in (("images", np.zeros((2, 2, 3), np.uint8)), ("labels", np.array(values, np.uint8))):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "images/train/2.png").write_bytes(b"no picture")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command line; gives exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shared.data", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return call


def test_check_lists_every_problem(root, command):
    status, out, err = command("check", "--data.name", "folder", "--data.root", root)
    lines = out.splitlines()
    assert status == 1
    assert lines[0] == "train: 4 samples, 3 with problems"
    assert "labels/train/1.png holds value 9; allowed are 0..2 and 255 (ignored)" in lines[1]
    assert "cannot read the picture" in lines[2] and "images/train/2.png" in lines[2]
    assert "labels/train/3.png holds value 7" in lines[3]
    assert lines[4:] == ["val: 1 samples, 0 with problems"]
    assert err.splitlines()[-1] == "error: 3 samples have problems, listed above; correct them before training"


def test_check_of_a_good_split_succeeds(root, command):
    status, out, _ = command("check", "--data.name", "folder", "--data.root", root, "--split", "val")
    assert (status, out) == (0, "val: 1 samples, 0 with problems\n")


def test_check_names_every_bad_file_of_a_sample(root, command):
    Image.fromarray(np.full((2, 3), 9, np.uint8)).save(root / "labels/train/2.png")  # its image is damaged too
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(root / "labels/train/0.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(root / "labels/train/1.png")
    for workers in (0, 2):
        options = ("--data.folder.train_instances", "labels/train", "--data.num_workers", workers, "--split", "train")
        _, out, _ = command("check", "--data.name", "folder", "--data.root", root, *options)
        lines = out.splitlines()
        assert lines[0] == "train: 4 samples, 4 with problems"
        for line, parts in zip(
            lines[1:],
            [
                ("labels/train/0.png is 2x3", "images/train/0.png is 2x2"),
                ("labels/train/1.png is a colour picture (mode RGB)", "expected class ids in one channel of 8 or 16 bits"),
                ("labels/train/1.png is a colour picture",),
                ("cannot read the picture", "images/train/2.png"),
                ("labels/train/2.png holds value 9; allowed are 0..2 and 255 (ignored)",),
                ("labels/train/3.png holds value 7",),
            ],
            strict=True,
        ):
            assert all(part in line for part in parts), line


def test_stats_as_a_file(root, command):
    status, out, _ = command("stats", "--data.name", "folder", "--data.root", root, "--split", "val", "-o", root / "counts")
    path = root / "counts/statistics_val.safetensors"
    assert status == 0 and out.endswith(f"wrote {path}\n")
    statistics = ClassStatistics.load(path)
    assert statistics.pixels.tolist() == [1, 0, 3] and statistics.images.tolist() == [1, 0, 1]
    assert statistics.class_names == ("sky", "road", "car") and statistics.names == ("4",) and statistics.split == "val"


def test_stats(root, command):
    status, out, _ = command("stats", "--data.name", "folder", "--data.root", root, "--split", "val")
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert out.startswith("val: 1 images; height x width (images): 2x2 (1)\n")
    assert rows[2:5] == [["0", "1", "25.000%", "1", "sky"], ["1", "0", "0.000%", "0", "road"], ["2", "3", "75.000%", "1", "car"]]
    assert rows[5] == ["0", "0.000%", "(ignored)"] and out.endswith("1 of 3 classes do not occur\n")


def test_mistakes_are_told_in_one_line(root, command):
    status, _, err = command("check", "--data.name", "folder")
    assert status == 1 and err == "error: data set folder lies in files; say where with --data.root FOLDER\n"
    status, _, err = command("stats", "--data.name", "folder", "--data.root", root, "--split", "train")
    assert status == 1 and err.splitlines()[-1].startswith("error: ") and "labels/train/1.png holds value 9" in err


def test_figures_as_json(root, command):
    data = ("--data.name", "folder", "--data.root", root)
    assert command("check", *data, "--json", root / "check.json")[0] == 1
    found = json.loads((root / "check.json").read_text())
    assert (found["train"]["samples"], len(found["train"]["problems"]), found["val"]) == (4, 3, {"samples": 1, "problems": [], "notes": []})
    assert command("stats", *data, "--split", "val", "--json", root / "stats.json")[0] == 0
    assert json.loads((root / "stats.json").read_text())["val"] == {
        "dataset": "folder",
        "images": 1,
        "sizes": [{"size": [2, 2], "images": 1}],
        "ignored_pixels": 0,
        "classes": [
            {"name": "sky", "pixels": 1, "images": 1},
            {"name": "road", "pixels": 0, "images": 0},
            {"name": "car", "pixels": 3, "images": 1},
        ],
    }
    given = ("--split", "val", "--seconds", 0.01, "--crop", "[2, 2]", "--json", root / "speed.json")
    assert command("speed", *data, *given)[0] == 0
    speed = json.loads((root / "speed.json").read_text())["val"]
    assert speed["size"] == speed["crop"] == [2, 2] and 0 < speed["both"] < min(speed["read"], speed["augment"])


def test_every_command_has_a_help_of_its_own(command):
    status, out, _ = command("--help")
    commands = {
        "check": "json",
        "stats": "output",
        "codes": "width",
        "write": "image_format",
        "speed": "seconds",
        "build-coco-lvis": "as_published",
    }
    assert status == 0 and all(f"  {name} " in out for name in commands) and "--data.root" not in out
    for name, own in commands.items():
        status, out, _ = command(name, "--help")
        assert status == 0 and out.startswith(f"usage: python -m shared.data {name} ") and f"--{own} " in out
        others = (
            {"image_format", "seconds", "as_published", "coco", "crop"}
            - {own}
            - {"build-coco-lvis": {"coco"}, "speed": {"crop"}}.get(name, set())
        )
        assert not any(f"--{option} " in out for option in others)
        assert ("--data.name" in out) == (name != "build-coco-lvis")


def test_a_command_is_asked_for_and_may_follow_its_options(root, command):
    data = ("--data.name", "folder", "--data.root", root, "--split", "val")
    assert command(*data, "check")[:2] == (0, "val: 1 samples, 0 with problems\n")
    for words, said in (
        ((), "no command was given; say python -m shared.data and one of check, stats, codes, write, speed, build-coco-lvis"),
        (data, "no command was given"),
        (("chek", *data), "unknown command 'chek' (did you mean check?); choose one of check, stats,"),
        (("write", *data), "arguments are required: --output"),
        (("build-coco-lvis", "-o", "check", "--lvis", "x"), "arguments are required: --coco"),
    ):
        status, _, err = command(*words)
        assert status == 1 and err.startswith("error: ") and err.count("\n") == 1 and said in err
