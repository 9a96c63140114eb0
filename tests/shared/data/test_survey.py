"""Label files whose pixels are all right and mean something else: said with the class, the share and the setting, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.data import DataConfig, build_dataset
from shared.data.config import FolderConfig
from shared.data.early_check import check_early
from shared.errors import InputError
from tests.shared.data.made_data import MAKERS
from tests.small import require_one_line

Invoke = Callable[..., Any]
SMALL = ["--train.steps", 1, "--train.batch_size", 2]
SEG = ["seg.train", *SMALL, "--train.eval_every", 1, "--model.backbone", "tiny", "--model.width", 16]
SYNTH = ["synth.train", *SMALL, "--input.size", "[32, 32]", "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]
SYNTH += ["--loss.vgg_weight", 0, "--semantics", "onehot"]


def write(root: Path, values: list[list[int]], names: str, splits: tuple[str, ...] = ("train", "val"), count: int = 2) -> Path:
    """A folder data set whose label maps are these values, each 8 x 8 pixels large."""
    map_ = np.array(values, np.uint8).repeat(8, 0).repeat(8, 1)
    for split in splits:
        for index in range(count):
            for folder, pixels in (("images", np.full((*map_.shape, 3), 90, np.uint8)), ("labels", map_)):
                path = root / folder / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (root / "classes.txt").write_text(names.replace(" ", "\n"))
    return root


BLACK_AND_WHITE = ([[0, 255], [255, 0], [255, 0], [255, 255]], "background object")
THIRD_IS_WHITE = ([[0, 0, 1], [0, 0, 255]], "road sky car")
COUNTED_FROM_ONE = ([[0, 0], [0, 1]], "road car")


def folder(root: Path, **settings: Any) -> DataConfig:
    return DataConfig("folder", str(root), folder=FolderConfig(**settings))


@pytest.mark.parametrize(
    ("made", "settings", "share", "name", "advice"),
    [
        (BLACK_AND_WHITE, {}, "62.5%", "object", '--data.folder.label_values "[0, 255]" --data.folder.ignore_value null'),
        (THIRD_IS_WHITE, {}, "16.7%", "car", '--data.folder.label_values "[0, 1, 255]"'),
        (COUNTED_FROM_ONE, {"label_offset": 1, "ignore_value": 0}, "75.0%", "car", '--data.folder.label_values "[1, 0]"'),
        (BLACK_AND_WHITE, {"label_values": [0, 7], "ignore_value": 255}, "62.5%", "object", "data.folder.label_values"),
    ],
)
def test_a_class_that_is_ignored_is_said(
    tmp_path: Path, made: Any, settings: Any, share: str, name: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder(write(tmp_path, *made), **settings)
    for split in ("train", "val"):
        check_early(build_dataset(config, split))  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith(f"warning: {share} of the pixels in the 2 label maps of ") for line in lines)
    assert all(f"class {name} never occurs there" in line and advice in line for line in lines)


def test_the_setting_that_is_proposed_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = build_dataset(folder(write(tmp_path, *BLACK_AND_WHITE), label_values=[0, 255], ignore_value=None), "train")
    check_early(dataset)
    assert capsys.readouterr().out == ""
    assert dataset[0].label_map[::8, ::8].tolist() == [[0, 1], [1, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        (([[0, 1, 255, 1]], "road sky"), {}),
        (([[0, 1, 0, 1]], "road sky car"), {}),
        (([[0, 255, 0, 1], [0] * 4, [0] * 4, [0] * 4, [0] * 4, [0] * 4], "road sky car"), {}),
    ],
)
def test_nothing_is_said_of_usual_labels(tmp_path: Path, made: Any, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Some ignored pixels; a class that no sample has; both, but hardly a pixel is ignored."""
    check_early(build_dataset(folder(write(tmp_path, *made), **settings), "train"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "folder"])
def test_nothing_is_said_of_published_data(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    MAKERS[name](tmp_path)
    check_early(build_dataset(DataConfig(name, str(tmp_path)), "train"))  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def test_a_sample_says_that_it_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_early(build_dataset(folder(write(tmp_path, *BLACK_AND_WHITE, count=9)), "val"), seconds=0)
    assert "62.5% of the pixels in 1 of the 9 label maps of val are ignored" in capsys.readouterr().out


def test_one_labelled_pixel_is_looked_for_to_the_end(tmp_path: Path) -> None:
    dataset = build_dataset(folder(write(tmp_path, [[255, 255]], "road sky", count=9)), "train")
    with pytest.raises(InputError, match="nothing is labelled in the train split of folder: every pixel of its 9 label maps is ignored"):
        check_early(dataset, seconds=0)
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "labels/train/7.png")
    found = check_early(dataset, seconds=0)
    assert found is not None and 1 <= found.checked <= 9


# ---- programs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("program", [SEG, SYNTH])
def test_trainings_say_it(program: list[object], dry: list[str], tmp_path: Path, invoke: Invoke) -> None:
    write(tmp_path / "data", *BLACK_AND_WHITE)
    data = ["--data.name", "folder", "--data.root", "data", "--data.num_workers", 0]
    outcome = invoke(*program, *data, "--run_dir", "run", *dry)
    assert outcome.status == 0, outcome.errors
    told = [line for line in outcome.output.splitlines() if "class object never occurs" in line]
    assert len(told) == 2 and all("62.5%" in line and "--data.folder.label_values" in line for line in told)


def test_check_says_it(tmp_path: Path, invoke: Invoke) -> None:
    write(tmp_path / "data", *BLACK_AND_WHITE)
    outcome = invoke("shared.data", "check", "--data.name", "folder", "--data.root", "data", "--data.num_workers", 0)
    assert outcome.status == 0 and outcome.output.count("class object never occurs") == 2


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("program", [SEG, SYNTH, ["shared.data", "check"]])
def test_a_split_without_labels_is_refused(program: list[object], split: str, tmp_path: Path, invoke: Invoke) -> None:
    write(tmp_path / "data", [[0, 1]], "road sky")
    write(tmp_path / "data", [[255, 255]], "road sky", splits=(split,))
    data = ["--data.name", "folder", "--data.root", "data", "--data.num_workers", 0]
    run = [] if program[0] == "shared.data" else ["--run_dir", "run"]
    require_one_line(invoke(*program, *data, *run), f"nothing is labelled in the {split} split", "data.folder.ignore_value")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_without_labels_is_refused(tmp_path: Path, invoke: Invoke) -> None:
    write(tmp_path / "data", [[0, 1]], "road sky")
    data = ["--data.name", "folder", "--data.root", "data", "--data.num_workers", 0]
    assert invoke(*SEG, *data, "--run_dir", "run").status == 0
    write(tmp_path / "data", [[255, 255]], "road sky", splits=("val",))
    require_one_line(invoke("seg.evaluate", "run", "--json", "e.json"), "nothing is labelled in the val split")
    assert not (tmp_path / "e.json").exists()
