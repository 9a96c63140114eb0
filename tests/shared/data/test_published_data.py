"""The published data sets: layouts, class ids and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from shared.data import DataConfig, SegmentationDataset, build_dataset
from shared.data.ade20k import ADE20K
from shared.data.cityscapes import CITYSCAPES, CITYSCAPES_ALL
from shared.data.cocolvis import COCO_LVIS, STUFF_VALUES, merge_labels
from shared.data.cocostuff import COCO_STUFF
from shared.data.config import CityscapesConfig, CocoStuffConfig, VocConfig
from shared.data.pairs import label_rules_of
from shared.data.stored_rules import read_rules
from shared.data.voc import VOC
from shared.errors import InputError
from tests.shared.data.made_data import HEIGHT, MAKERS, WIDTH, every_value, save_values

REAL_STUFF = Path(__file__).parents[4] / "shared/data/coco_stuff_sample"


def made(root: Path, name: str, split: Any = "train", **settings: Any) -> SegmentationDataset:
    if not any(root.iterdir()):
        MAKERS[name](root)
    return build_dataset(DataConfig(name, str(root), **settings), split)  # type: ignore[arg-type]


def ids_of(dataset: SegmentationDataset, count: int) -> list[int]:
    """The class ids of the first `count` pixels of the first sample."""
    return dataset[0].label_map.flatten()[:count].tolist()


@pytest.mark.parametrize(
    ("name", "num_classes", "lengths"),
    [
        ("cityscapes", 19, (2, 2)),
        ("voc", 21, (1, 1)),
        ("ade20k", 150, (2, 2)),
        ("ade20k_full", 847, (1, 1)),
        ("coco_stuff10k", 182, (1, 1)),
        ("coco_stuff", 182, (1, 1)),
        ("coco_lvis", 1284, (1, 2)),
    ],
)
def test_every_data_set(tmp_path, name, num_classes, lengths):
    for split, length in zip(("train", "val"), lengths):
        dataset = made(tmp_path, name, split)
        assert len(dataset) == length and dataset.spec.name == name and dataset.split == split
        assert dataset.spec.num_classes == num_classes == len(set(dataset.spec.class_names))
        assert dataset.spec.palette.shape == (num_classes, 3) and dataset.spec.palette.dtype == np.uint8
        for sample in dataset:
            assert sample.image.shape == (3, HEIGHT, WIDTH) and sample.label_map.shape == (HEIGHT, WIDTH)
            assert sample.label_map.dtype == torch.int64 and sample.label_map.min() >= -1 and sample.label_map.max() < num_classes


def test_cityscapes(tmp_path):
    published = [-1] * 7 + [0, 1, -1, -1, 2, 3, 4, -1, -1, -1, 5, -1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, -1, -1, 16, 17, 18]
    assert ids_of(made(tmp_path, "cityscapes"), 34) == published
    converted = made(tmp_path, "cityscapes", cityscapes=CityscapesConfig(labels="labelTrainIds"))
    assert ids_of(converted, 20) == [*range(19), -1]
    everything = made(tmp_path, "cityscapes", cityscapes=CityscapesConfig("all", instances=True))
    assert everything.spec is CITYSCAPES_ALL and ids_of(everything, 34) == [*range(34)]
    sample = everything[1]
    assert sample.name == "ulm/ulm_000000_000019"
    assert sample.instance_map is not None and sample.instance_map.flatten()[:3].tolist() == [7, 26000, 26001]
    assert CITYSCAPES.class_names[13] == "car" and CITYSCAPES.palette[13].tolist() == [0, 0, 142]
    assert CITYSCAPES_ALL.num_classes == 35 and CITYSCAPES_ALL.class_names[26] == "car"


def labels_found(dataset, folder, *paths) -> dict[str, list[int]]:
    """What a generator that was trained on `dataset` reads of these folders and files, after its rule has been in a checkpoint."""
    stored = json.loads(json.dumps(label_rules_of(dataset).to_plain()))
    found = read_rules(stored, dataset.spec.num_classes).find([str(folder / path) for path in paths])
    return {name: reader.read(path).flatten()[:60].tolist() for name, (path, reader) in found.items()}


def test_a_generator_reads_the_label_folders_of_its_data_set(tmp_path):
    ids, every = made(tmp_path, "cityscapes"), made(tmp_path, "cityscapes", cityscapes=CityscapesConfig("all"))
    own = ids[1].label_map.flatten()[:60].tolist()
    places = ("aachen/aachen_000000_000019_gtFine", "ulm/ulm_000000_000019_gtFine")
    assert labels_found(ids, tmp_path, "gtFine/train") == dict.fromkeys(places, own)
    single = "gtFine/train/ulm/ulm_000000_000019_gtFine"
    assert labels_found(ids, tmp_path, f"{single}_labelIds.png") == {"ulm_000000_000019_gtFine": own}
    assert labels_found(ids, tmp_path, f"{single}_labelTrainIds.png")["ulm_000000_000019_gtFine"][:20] == [*range(19), -1]
    assert labels_found(every, tmp_path, f"{single}_labelIds.png")["ulm_000000_000019_gtFine"][:34] == [*range(34)]
    for dataset, kind in ((ids, "color"), (ids, "instanceIds"), (every, "labelTrainIds")):
        with pytest.raises(InputError, match=rf"{kind}.png is no label map by its name; give the \*_labelIds.png"):
            labels_found(dataset, tmp_path, f"{single}_{kind}.png")
    predicted = tmp_path / "predicted.png"
    predicted.parent.joinpath(single).with_name("ulm_000000_000019_gtFine_labelTrainIds.png").rename(predicted)
    assert labels_found(ids, tmp_path, "predicted.png")["predicted"][:20] == [*range(19), -1]


@pytest.mark.parametrize(
    ("name", "settings", "folder", "count"),
    [
        ("coco_stuff10k", {}, "annotations", 2),
        ("coco_stuff10k", {"coco_stuff": CocoStuffConfig("png")}, "annotations/train2014", 1),
        ("coco_stuff", {}, "stuffthingmaps/train2017", 1),
        ("ade20k_full", {}, "images/ADE/training", 1),
        ("ade20k", {}, "annotations/training", 2),
        ("camvid", {}, "trainannot", 1),
    ],
)
def test_label_folders_of_other_data_sets(tmp_path, name, settings, folder, count):
    dataset = made(tmp_path, name, **settings)
    found = labels_found(dataset, tmp_path, folder)
    assert len(found) == count
    assert dataset[0].label_map.flatten()[:60].tolist() in found.values()


def test_files_that_converters_leave_beside_the_labels_are_no_labels(tmp_path):
    made(tmp_path, "coco_stuff")
    for split, number in (("train2017", 9), ("val2017", 139)):
        save_values(tmp_path / f"stuffthingmaps/{split}/{number:012d}_labelTrainIds.png", every_value(170))
    train, val = made(tmp_path, "coco_stuff"), made(tmp_path, "coco_stuff", "val")
    assert [train[0].name, val[0].name] == ["000000000009", "000000000139"]
    assert ids_of(train, 183) == [*range(182), -1]
    assert list(labels_found(train, tmp_path, "stuffthingmaps/train2017")) == ["000000000009"]
    with pytest.raises(InputError, match=r"000000000009_labelTrainIds\.png is no label map by its name"):
        labels_found(train, tmp_path, "stuffthingmaps/train2017/000000000009_labelTrainIds.png")


def test_voc(tmp_path):
    train, val = made(tmp_path, "voc"), made(tmp_path, "voc", "val")
    assert [train[0].name, val[0].name] == ["2007_000032", "2007_000033"]
    assert ids_of(train, 22) == [*range(21), -1]
    augmented = made(tmp_path, "voc", voc=VocConfig("trainaug"))
    assert [sample.name for sample in augmented] == ["2011_003255", "2007_000032"]
    assert len(made(tmp_path, "voc", "val", voc=VocConfig("trainaug"))) == 1
    assert VOC.class_names[15] == "person" and VOC.palette[15].tolist() == [192, 128, 128]


def test_ade20k(tmp_path):
    assert ids_of(made(tmp_path, "ade20k"), 151) == [*range(-1, 150)]
    assert ADE20K.class_names[0] == "wall" and ADE20K.class_names[149] == "flag" and ADE20K.palette[149].tolist() == [92, 0, 255]


def test_ade20k_full(tmp_path):
    dataset = made(tmp_path, "ade20k_full")
    names = dataset.spec.class_names
    assert ids_of(dataset, 6) == [-1, 0, 1, 846, -1, names.index("alga")]
    assert names[0] == "wall" and names[1] == "building" and names[846] == "adding machine"
    assert dataset[0].name == "ADE_train_00000001"
    (tmp_path / "images/ADE/training/urban/street/ADE_train_00000001_seg.png").unlink()
    with pytest.raises(InputError, match=r"1 of 1 images have no label file, first .*ADE_train_00000001_seg\.png"):
        made(tmp_path, "ade20k_full")


def test_ade20k_full_refuses_other_pictures(tmp_path):
    dataset = made(tmp_path, "ade20k_full")
    Image.new("L", (WIDTH, HEIGHT), 250).save(tmp_path / "images/ADE/training/urban/street/ADE_train_00000001_seg.png")
    with pytest.raises(InputError, match=r"_seg.png holds value 6650; allowed are 0\.\.3688; these are not the label files \*_seg.png"):
        dataset[0]


def test_published_and_converted_files_of_coco_stuff10k_agree(tmp_path):
    published = made(tmp_path, "coco_stuff10k")
    converted = made(tmp_path, "coco_stuff10k", coco_stuff=CocoStuffConfig("png"))
    assert torch.equal(published[0].label_map, converted[0].label_map)
    assert ids_of(published, 13) == [-1, *range(11), 12] and ids_of(published, 172)[171] == 181
    assert published.spec.class_names[12] == "stop sign" and published.spec.class_names[181] == "wood"


def test_coco_stuff(tmp_path):
    assert ids_of(made(tmp_path, "coco_stuff"), 183) == [*range(182), -1]
    sample = made(tmp_path, "coco_stuff", coco_stuff=CocoStuffConfig(instances="instances"))[0]
    assert sample.instance_map is not None and sample.instance_map.unique().tolist() == [1, 300]


@pytest.mark.skipif(not REAL_STUFF.is_dir(), reason="the COCO-Stuff sample is not there; put it beside the repository")
def test_real_files_of_coco_stuff(tmp_path):
    (tmp_path / "stuffthingmaps").mkdir()
    (tmp_path / "instances").mkdir()
    for split in ("train", "val"):
        for link, folder in ((f"{split}2017", "img"), (f"stuffthingmaps/{split}2017", "label"), (f"instances/{split}2017", "inst")):
            (tmp_path / link).symlink_to(REAL_STUFF / f"{split}_{folder}")
    train = made(tmp_path, "coco_stuff", coco_stuff=CocoStuffConfig(instances="instances"))
    val = made(tmp_path, "coco_stuff", "val")
    assert (len(train), len(val)) == (13, 8)
    first = next(sample for sample in val if sample.name == "000000000139")  # a living room with a television
    assert {"tv", "chair", "person"} <= {COCO_STUFF.class_names[index] for index in first.label_map.unique() if index >= 0}


def test_coco_lvis(tmp_path):
    assert ids_of(made(tmp_path, "coco_lvis"), HEIGHT * WIDTH) == [*range(-1, HEIGHT * WIDTH - 1)]
    val = made(tmp_path, "coco_lvis", "val")
    assert [sample.name for sample in val] == ["000000000030", "000000000139"]
    assert val[1].label_map.max() == 1283
    assert 255 in val[0].label_map  # an ordinary class here
    assert COCO_LVIS.class_names[1202] == "zucchini" and COCO_LVIS.class_names[1203] == "branch"
    moved = tmp_path / "elsewhere"
    (tmp_path / "coco_lvis").rename(moved)
    with pytest.raises(InputError, match=r"there is no .*/train.txt; make it, or finish it: .* build-coco-lvis -o"):
        made(tmp_path, "coco_lvis")


def test_stuff_classes_that_lvis_has_by_name():
    merged = {stuff_id: int(value) for stuff_id, value in enumerate(STUFF_VALUES) if 0 < value <= 1203}
    assert merged == {92: 50, 93: 110, 98: 181, 108: 346, 109: 350, 137: 713, 141: 804, 153: 904, 165: 1050, 168: 1108}
    others = [int(value) for value in STUFF_VALUES if value > 1203]
    assert others == [*range(1204, 1285)] and STUFF_VALUES[94] == 1204 and STUFF_VALUES[182] == 1284
    assert not STUFF_VALUES[:92].any() and not STUFF_VALUES[183:].any()


def test_merged_labels():
    stuff = np.array([[98, 93, 183, 255], [0, 181, 110, 50]])
    first, second = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    first[:, 0] = second[0, :2] = True
    labels = merge_labels([first, second], [1203, 7], stuff)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[1203, 7, 0, 0], [1203, 1283, 1217, 0]]  # the first annotation wins, then stuff, and things are no stuff
    assert merge_labels([], [], stuff)[0].tolist() == [181, 110, 0, 0]  # cabinet and blanket stay what they are
    assert stuff[0].tolist() == [98, 93, 183, 255]
    with pytest.raises(InputError, match=r"LVIS category 1230 came; LVIS v1 has 1\.\.1203: give the files of version 1"):
        merge_labels([first], [1230], stuff)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("cityscapes", "gtFine/train", r"gtFine/train; expected leftImg8bit/.*: check --data.root"),
        ("voc", "SegmentationClass", r"SegmentationClass; expected the folder VOC2012 of VOCdevkit"),
        ("ade20k", "images/training", r"images/training; expected the folder ADEChallengeData2016"),
        ("ade20k_full", "images/ADE/training", r"images/ADE/training; expected the folder ADE20K_2021_17_01"),
        ("coco_stuff10k", "imageLists", r"imageLists; expected images/\*.jpg, annotations/\*.mat and imageLists"),
        ("coco_stuff", "stuffthingmaps/train2017", r"stuffthingmaps/train2017; expected {train,val}2017/\*.jpg and"),
        ("coco_lvis", "train2017", r"train2017; expected COCO's train2017"),
    ],
)
def test_missing_folders_name_the_layout(tmp_path, name, folder, message):
    MAKERS[name](tmp_path)
    shutil.rmtree(tmp_path / folder)
    with pytest.raises(InputError, match="there is no folder .*/" + message):
        made(tmp_path, name)
    with pytest.raises(InputError, match=r"unknown split 'test'; choose one of train, val"):
        made(tmp_path, name, "test")


def test_wrong_files(tmp_path):
    names = {name: tmp_path / name for name in MAKERS}
    for name, root in names.items():
        MAKERS[name](root)
    save_values(names["cityscapes"] / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png", every_value(7, 35, 255))
    with pytest.raises(InputError, match=r"ulm_.*labelIds.png holds values 35, 255; allowed are 0\.\.34; these are not the label files"):
        made(names["cityscapes"], "cityscapes")[1]
    (names["cityscapes"] / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 of the images in .*leftImg8bit/val have no label in .*gtFine/val: ulm_000000"):
        made(names["cityscapes"], "cityscapes", "val")
    (names["voc"] / "SegmentationClass/2007_000032.png").unlink()
    with pytest.raises(InputError, match=r"1 of 1 samples have no label in .*SegmentationClass: 2007_000032; add the files"):
        made(names["voc"], "voc")
    lists = names["voc"] / "ImageSets/Segmentation"
    for text, message in (("", "is empty; expected a name per line"), ("a\na\n", "names a more than once")):
        (lists / "val.txt").write_text(text)
        with pytest.raises(InputError, match=f"the list of samples .*val.txt {message}"):
            made(names["voc"], "voc", "val")
    (lists / "val.txt").unlink()
    with pytest.raises(InputError, match=r"cannot read the list of samples .*val.txt: No such file"):
        made(names["voc"], "voc", "val")
    save_values(names["coco_lvis"] / "coco_lvis/train/000000000009.png", every_value(1))
    with pytest.raises(InputError, match=r"000000000009.png has 8 bits per pixel, which end at 255, but the 1284 classes"):
        made(names["coco_lvis"], "coco_lvis")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"S": every_value(183)}, r"holds value 183; allowed are 1\.\.182 and 0 \(ignored\)"),
        ({"T": every_value(1)}, "holds no variable S; expected an annotation file of COCO-Stuff10k"),
        ({"S": every_value(1) / 2}, r"variable S of .* is float64 of shape \(24, 40\); a matrix of integers was expected"),
        (None, "cannot read the MATLAB file"),
    ],
)
def test_wrong_mat_files(tmp_path, content, message):
    dataset = made(tmp_path, "coco_stuff10k")
    path = tmp_path / "annotations/COCO_train2014_000000000009.mat"
    if content is None:
        path.write_bytes(path.read_bytes()[:100])
    else:
        savemat(path, content)
    with pytest.raises(InputError, match=message):
        dataset[0]


def test_settings_that_contradict_each_other():
    with pytest.raises(InputError, match="labelTrainIds hold 19 classes"):
        CityscapesConfig("all", "labelTrainIds")
