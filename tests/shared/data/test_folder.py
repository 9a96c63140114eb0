import json

import numpy as np
import pytest
from PIL import Image

from shared.data import DataConfig, build_dataset
from shared.data.config import FolderConfig
from shared.data.folder import FolderDataset
from shared.errors import InputError


@pytest.fixture
def root(tmp_path):
    """Three classes, two training images in sub-folders, one validation image."""
    for name in ("train/a/1", "train/b/1", "val/2"):
        for folder, pixels in (("images", np.zeros((2, 3, 3), np.uint8)), ("labels", np.array([[0, 1, 2], [255, 0, 0]], np.uint8))):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n\n")
    return tmp_path


def test_default_layout(root):
    train = build_dataset(DataConfig("folder", str(root)), "train")
    assert [sample.name for sample in train] == ["a/1", "b/1"]
    assert train[0].label_map.tolist() == [[0, 1, 2], [-1, 0, 0]]
    assert train.spec.class_names == ("sky", "road", "car") and train.spec.palette.shape == (3, 3)
    assert len(build_dataset(DataConfig("folder", str(root)), "val")) == 1


def test_names_and_colours_from_elsewhere(root):
    (root / "names.json").write_text(json.dumps(["x", "y", "z"]))
    (root / "colours.txt").write_text("1 2 3\n4 5 6\n255 0 0\n")
    spec = FolderDataset(root, "val", FolderConfig("mine", class_names="names.json", palette="colours.txt")).spec
    assert spec.name == "mine" and spec.class_names == ("x", "y", "z") and spec.palette.tolist() == [[1, 2, 3], [4, 5, 6], [255, 0, 0]]
    assert FolderDataset(root, "val", FolderConfig(class_names=["p", "q", "r"])).spec.class_names == ("p", "q", "r")


def test_instances_offset_and_ignore(root):
    Image.fromarray(np.full((2, 3), 70, np.uint8)).save(root / "labels/val/2.png")
    config = FolderConfig(val_instances="labels/val", label_offset=70, ignore_value=None)
    sample = FolderDataset(root, "val", config)[0]
    assert sample.instance_map is not None and sample.instance_map.unique().tolist() == [70]
    assert sample.label_map.unique().tolist() == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"class_names": "no.txt"},
            r"cannot read the class names file .*no.txt: No such file or directory; check --data.folder.class_names",
        ),
        ({"class_names": []}, "data.folder.class_names holds no class name"),
        ({"class_names": ["a", "b", "a"]}, "data.folder.class_names names a more than once"),
        ({"class_names": "bad.json"}, r"bad.json is not valid JSON: .*; expected a list of class names"),
        ({"class_names": "dict.json"}, r"dict.json holds no list of names"),
        ({"palette": "classes.txt"}, r"classes.txt: invalid literal .*; expected three whole numbers"),
        ({"palette": "short.txt"}, r"short.txt holds 1 lines; expected 3 lines of three numbers 0..255"),
        ({"palette": "big.txt"}, r"big.txt holds 3 lines; expected 3 lines of three numbers 0..255"),
        ({"class_names": [str(i) for i in range(300)]}, "value 255 is ignored and is also class 255 of 300; set ignore_value"),
        ({"train_images": "photos"}, r"there is no folder .*photos; expected .png"),
    ],
)
def test_refusals(root, change, message):
    (root / "bad.json").write_text("[")
    (root / "dict.json").write_text('{"0": "sky"}')
    (root / "short.txt").write_text("1 2 3\n")
    (root / "big.txt").write_text("1 2 3\n1 2 3\n1 2 256\n")
    with pytest.raises(InputError, match=message):
        FolderDataset(root, "train", FolderConfig(**change))


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"data\.folder\.label_offset is -1"):
        FolderConfig(label_offset=-1)
    with pytest.raises(InputError, match=r"data\.num_workers is -1"):
        DataConfig(num_workers=-1)
    with pytest.raises(InputError, match="data set folder: unknown split 'test'; choose one of train, val"):
        FolderDataset(".", "test", FolderConfig())


def test_values_of_the_classes(root):
    """Any values, whose order is that of the classes; everything else is refused."""
    Image.fromarray(np.array([[255, 0, 128], [7, 128, 0]], np.uint8)).save(root / "labels/val/2.png")
    config = FolderConfig(label_values=[0, 255, 128], ignore_value=7)
    dataset = FolderDataset(root, "val", config)
    assert dataset[0].label_map.tolist() == [[1, 0, 2], [-1, 2, 0]]
    with pytest.raises(InputError, match=r"2.png holds value 7; allowed are 0, 128, 255; these are not the label files"):
        FolderDataset(root, "val", FolderConfig(label_values=[0, 255, 128], ignore_value=None))[0]
    for values, ignored, message in (
        ([0, 255], None, "label_values has 2 values for 3 classes"),
        ([0, 255, 0], None, "label value 0 is that of class 2 and that of class 0 too"),
        ([0, 1, 255], 255, "label value 255 is that of class 2 and ignored too"),
        ([0, 1, 65536], None, "do not fit in 16 bits"),
        ([0, 1, -3], None, "do not fit in 16 bits"),
    ):
        with pytest.raises(InputError, match=message):
            FolderDataset(root, "val", FolderConfig(label_values=values, ignore_value=ignored))
    with pytest.raises(InputError, match=r"label_offset and label_values are both given"):
        FolderConfig(label_offset=1, label_values=[0, 1, 2])
    Image.fromarray(np.array([[60000, 3, 4]], np.uint16)).save(root / "labels/val/2.png")
    Image.fromarray(np.zeros((1, 3, 3), np.uint8)).save(root / "images/val/2.png")
    assert FolderDataset(root, "val", FolderConfig(label_values=[3, 4, 60000], ignore_value=None))[0].label_map.tolist() == [[2, 0, 1]]
