"""Classes that a data set reads as ignored: their pixels alone change, in every split, and names that are no class are refused."""

from pathlib import Path

import pytest
import torch

from shared.constants import IGNORE_INDEX
from shared.data import DataConfig, build_dataset
from shared.data.config import FolderConfig, ScenesConfig
from shared.data.early_check import check_early
from shared.errors import InputError
from tests.small import save_image, save_labels

SCENES = ScenesConfig(num_classes=7, height=32, width=64, train_length=4, val_length=4)


@pytest.mark.parametrize("split", ["train", "val"])
def test_only_the_pixels_of_these_classes_change(split: str) -> None:
    whole = build_dataset(DataConfig(scenes=SCENES), split)  # type: ignore[arg-type]
    names = whole.spec.class_names
    some = build_dataset(DataConfig(scenes=SCENES, ignore_classes=[names[2], names[0]]), split)  # type: ignore[arg-type]
    assert some.spec.class_names == names and some.ignored == (0, 2)
    lost = 0
    for index in range(len(whole)):
        before, after = whole[index].label_map, some[index].label_map
        gone = (before == 0) | (before == 2)
        assert torch.equal(after, before.masked_fill(gone, IGNORE_INDEX))
        lost += int(gone.sum())
    assert lost > 0


def test_files_are_read_so_too_and_no_warning_says_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        for value, name in enumerate("abc"):
            save_image(tmp_path / f"images/{split}/{name}.png")
            save_labels(tmp_path / f"labels/{split}/{name}.png", value)
    config = DataConfig("folder", str(tmp_path), ignore_classes=["dog"], folder=FolderConfig(class_names=["cat", "dog", "cow"]))
    dataset = build_dataset(config, "val")
    assert [int(dataset[index].label_map.unique()) for index in range(3)] == [0, IGNORE_INDEX, 2]
    check_early(dataset)
    assert capsys.readouterr().out == ""


def test_a_name_that_is_no_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"data set scenes-7: unknown class 'rode' \(did you mean road\?\)"):
        build_dataset(DataConfig(scenes=SCENES, ignore_classes=["rode"]), "train")
