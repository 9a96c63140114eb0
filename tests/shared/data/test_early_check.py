"""What a look at a split says before the first step."""

from pathlib import Path

import numpy as np
import pytest

from shared.data import build_dataset
from shared.data.config import DataConfig, FolderConfig
from shared.data.early_check import EarlyCheck, check_early, spread
from shared.errors import InputError
from shared.visualise import save_png


def folder(root: Path, maps: list[np.ndarray]) -> DataConfig:
    for split in ("train", "val"):
        for index, label_map in enumerate(maps):
            save_png(np.zeros((*label_map.shape, 3), np.uint8), root / "images" / split / f"{index}.png")
            save_png(label_map.astype(np.uint8), root / "labels" / split / f"{index}.png")
    (root / "classes.txt").write_text("back\nfront\n")
    return DataConfig(name="folder", root=str(root), folder=FolderConfig())


def test_masks_in_black_and_white(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """White is the ignored value, so that a class never occurs: said, with the share and the option."""
    config = folder(tmp_path, [np.array([[0, 255, 255], [0, 255, 255]])] * 3)
    assert check_early(build_dataset(config, "val")) == EarlyCheck(3, 3, (2, 3))
    assert capsys.readouterr().out == (
        "warning: 66.7% of the pixels in the 3 label maps of val are ignored (value 255), and class front never occurs there; if 255 is "
        'the value of front in these files, set --data.folder.label_values "[0, 255]" --data.folder.ignore_value null\n'
    )


def test_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder(tmp_path, [np.array([[0, 1, 1]]), np.array([[0, 1], [1, 1]])])
    assert check_early(build_dataset(config, "val")) == EarlyCheck(2, 2, (1, 3))
    assert capsys.readouterr().out == ""


def test_a_split_in_which_nothing_is_labelled_is_refused(tmp_path: Path) -> None:
    config = folder(tmp_path, [np.full((2, 3), 255)] * 3)
    with pytest.raises(InputError, match="nothing is labelled in the val split of folder: every pixel of its 3 label maps is ignored"):
        check_early(build_dataset(config, "val"), seconds=0)


def test_when_time_is_over_labelled_samples_decide(tmp_path: Path) -> None:
    """Without any time: one sample, and further ones until one is labelled."""
    maps = [np.full((2, 3), 255)] * 5
    maps[spread(5)[2]] = np.array([[0, 1, 1], [0, 1, 1]])
    found = check_early(build_dataset(folder(tmp_path, maps), "val"), seconds=0)
    assert found is not None and (found.checked, found.total) == (3, 5)
    assert found.line("val").startswith("checked labels and sizes of 3 of 5 val images; for all of them:")


@pytest.mark.parametrize("size", [(2, 4), (3, 3)])
def test_an_image_of_another_size_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    config = folder(tmp_path, [np.array([[0, 1, 1], [0, 1, 1]])] * 2)
    save_png(np.zeros((*size, 3), np.uint8), tmp_path / "images" / "val" / "1.png")
    with pytest.raises(InputError, match=r"1\.png is 2x3 .* but its image"):
        check_early(build_dataset(config, "val"))
