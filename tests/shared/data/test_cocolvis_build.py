"""From annotations to 16-bit label files, and back through the data set."""

import builtins
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data import DataConfig, build_dataset
from shared.data.cocolvis import STUFF_VALUES
from shared.data.cocolvis_build import build_coco_lvis, published_stuff_values
from shared.data.cocolvis_files import Annotation, LvisImage, draw, flaw_of, read_lvis
from shared.data.pictures import read_numbers
from shared.data.statistics import ClassStatistics, class_statistics
from shared.errors import InputError
from tests.shared.data.made_data import save_image
from tests.shared.data.made_lvis import write_lvis, write_stuff

SIZE = (6, 8)
LEFT, RIGHT, ALL = (0, 0, 4, 6), (4, 0, 8, 6), (0, 0, 8, 6)
CORNER = (0, 0, 2, 2)


def needs_pycocotools() -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed; pip install -e '.[coco]'")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two training images and two for validation, the first of them from train2017; 429995 is the one the generator leaves out."""
    lvis = {
        "train": {9: ("train2017", SIZE, [(1203, CORNER), (7, LEFT)]), 429995: ("train2017", SIZE, [(300, CORNER)])},
        "val": {30: ("train2017", SIZE, []), 139: ("val2017", SIZE, [(1, ALL)])},
    }
    for split, images in lvis.items():
        write_lvis(tmp_path / f"lvis_v1_{split}.json", images)  # type: ignore[arg-type]
    stuff = {
        "train2017": {9: (SIZE, [(98, LEFT), (93, RIGHT)]), 429995: (SIZE, [(183, LEFT), (94, RIGHT)]), 30: (SIZE, [(165, RIGHT)])},
        "val2017": {139: (SIZE, [(182, ALL)])},
    }
    write_stuff(tmp_path, stuff)  # type: ignore[arg-type]
    return tmp_path


EXPECTED = {
    "train/000000000009": [1203, 1203, 7, 7, 110, 110, 110, 110],
    "train/000000429995": [300, 300, 0, 0, 1204, 1204, 1204, 1204],
    "val/000000000030": [0, 0, 0, 0, 1050, 1050, 1050, 1050],
    "val/000000000139": [1] * 8,
}
"""First row of each label file."""


def rows(output: Path) -> dict[str, list[int]]:
    return {path.relative_to(output).with_suffix("").as_posix(): read_numbers(path)[0].tolist() for path in sorted(output.glob("*/*.png"))}


@pytest.mark.parametrize("stuff", ["maps", "json"])
@pytest.mark.parametrize("workers", [0, 2])
def test_labels(source, stuff, workers):
    needs_pycocotools()
    found = build_coco_lvis(source, source, source / "coco_lvis", stuff=stuff, num_workers=workers).statistics
    assert rows(source / "coco_lvis") == EXPECTED
    values = read_numbers(source / "coco_lvis/train/000000000009.png")
    assert values.dtype == np.uint16 and values[2:, 0].tolist() == [7] * 4
    assert found["train"].images[[1202, 6, 109, 299, 1203]].tolist() == [1] * 5
    report = (source / "coco_lvis/report.md").read_text()
    for line in ("| images | 2 | 2 |", "| classes in 1 to 9 images | 5 | 2 |", "| 1204 | branch | 1 | 24 | 0 | 0 |"):
        assert line in report


def test_the_data_set_reads_what_was_built(source):
    needs_pycocotools()
    build_coco_lvis(source, source, source / "coco_lvis")
    for folder, number in (("train2017", 9), ("train2017", 429995), ("train2017", 30), ("val2017", 139)):
        save_image(source / f"{folder}/{number:012d}.jpg", SIZE)
    for split in ("train", "val"):
        dataset = build_dataset(DataConfig("coco_lvis", str(source)), split)
        assert [sample.label_map[0].tolist() for sample in dataset] == [
            [value - 1 for value in row] for name, row in EXPECTED.items() if name.startswith(split)
        ]
        counts = ClassStatistics.load(source / f"coco_lvis/statistics_{split}.safetensors")
        counts.require_match(dataset, "counts")
        assert np.array_equal(counts.pixels, class_statistics(dataset).pixels)


def test_a_stopped_build_goes_on(source):
    needs_pycocotools()
    output = source / "out"
    build_coco_lvis(source, source, output)
    kept, cut, gone = (output / f"{name}.png" for name in list(EXPECTED)[:3])
    time = kept.stat().st_mtime_ns
    cut.write_bytes(cut.read_bytes()[:50])
    gone.unlink()
    found = build_coco_lvis(source, source, output).statistics
    assert rows(output) == EXPECTED and kept.stat().st_mtime_ns == time
    assert found["val"].images[1049] == 1
    with pytest.raises(InputError, match=r"out holds a run with other settings \(stuff was maps, now json\)"):
        build_coco_lvis(source, source, output, stuff="json")


def test_as_published(source):
    """Cabinet and blanket come out as other classes, a single stuff annotation wraps at 256, and an image is left out."""
    needs_pycocotools()
    build_coco_lvis(source, source, source / "out", stuff="json", as_published=True)
    published = EXPECTED | {
        "train/000000000009": [1203, 1203, 7, 7, 1217, 1217, 1217, 1217],
        "val/000000000030": [0] * 4 + [1050 % 256] * 4,
    }
    del published["train/000000429995"]
    assert rows(source / "out") == published
    with pytest.raises(InputError, match="--as-published needs --stuff json"):
        build_coco_lvis(source, source, source / "out", as_published=True)


def test_published_values():
    several, single = published_stuff_values(2), published_stuff_values(1)
    changed = {stuff_id: int(several[stuff_id]) for stuff_id in range(92, 184) if several[stuff_id] != STUFF_VALUES[stuff_id]}
    assert changed == {93: 1217, 98: 1283}
    assert single[165] == 26 and single.max() < 256
    assert several[[183, 255]].tolist() == [0, 0]


def test_command(source, invoke):
    needs_pycocotools()
    command = ["shared.data", "build-coco-lvis", "--coco", source, "--lvis", source]
    outcome = invoke(*command, "-o", "out", "--stuff", "json", "--as-published", "--data.num_workers", 0)
    assert outcome.status == 0, outcome.errors
    assert "train: 1 images, 3 of 1284 classes occur" in outcome.output and "out/report.md" in outcome.output
    outcome = invoke(*command)
    assert outcome.status == 1 and outcome.errors == "error: the following arguments are required: --output\n"


def spoil_list(source: Path) -> None:
    (source / "lvis_v1_train.json").unlink()


def spoil_maps(source: Path) -> None:
    shutil.rmtree(source / "stuffthingmaps/val2017")


def spoil_size(source: Path) -> None:
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(source / "stuffthingmaps/train2017/000000000009.png")


def spoil_json(source: Path) -> None:
    (source / "lvis_v1_val.json").write_text('{"images": [')


def spoil_category(source: Path) -> None:
    write_lvis(source / "lvis_v1_val.json", {139: ("val2017", SIZE, [(1230, ALL)])})


def spoil_format(source: Path) -> None:
    (source / "lvis_v1_val.json").write_text('{"images": [{"id": 1}], "annotations": []}')


def change_annotation(path: Path, place: int, **changes: object) -> None:
    """Other values in an annotation of a JSON file; None takes the key away."""
    content = json.loads(path.read_text())
    entry = content["annotations"][place] | changes
    content["annotations"][place] = {key: value for key, value in entry.items() if value is not None}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "message", "written"),
    [
        (
            lambda source: (source / "lvis_v1_train.json").unlink(),
            r"cannot read LVIS v1 annotations from .*train.json: No such file",
            False,
        ),
        (spoil_json, r"cannot read LVIS v1 annotations from .*val.json: it is no JSON", False),
        (spoil_format, r"lvis_v1_val.json is not like LVIS v1: image 1 in it needs id, height, width and coco_url", False),
        (spoil_maps, r"1 of 4 images have no stuff map; the first is .*val2017/000000000139.png: unpack", False),
        (spoil_size, r"train2017/000000000009.png is 6x7 \(height x width\), its image 6x8 in LVIS", True),
        (spoil_category, r"annotation 1 of image 139, which has category 1230; LVIS v1 has 1..1203; repair the JSON file", False),
    ],
)
def test_bad_sources(source, spoil, message, written):
    needs_pycocotools()
    spoil(source)
    with pytest.raises(InputError, match=message):
        build_coco_lvis(source, source, source / "out", num_workers=2)
    assert (source / "out").exists() == written
    assert not list(source.glob("out/.*")) and not (source / "out/val.txt").exists()


WILD = [
    ({"segmentation": [[1, 1, 2e8, 5, 5, 9]]}, "2 of image 9, whose polygon (x 1..2e+08, y 1..9) reaches far outside the image of 6x8"),
    ({"segmentation": [[1, 1, -1e300, 5, 5, 9]]}, "2 of image 9, whose polygon (x -1e+300..5, y 1..9) reaches far outside"),
    ({"segmentation": [[1, 1, float("nan"), 5, 5, 9]]}, "2 of image 9, whose polygon holds numbers that are not finite"),
    ({"segmentation": [[1, 1, 10**400, 5, 5, 9]]}, "2 of image 9, whose polygon [1, 1, 1000"),
    ({"segmentation": [[1, 1, "4", 5, 5, 9]]}, "2 of image 9, whose polygon [1, 1, '4', 5, 5, 9] is no list of numbers"),
    ({"segmentation": [[1, 1, [4], 5, 5, 9]]}, "2 of image 9, whose polygon [1, 1, [4], 5, 5, 9] is no list of numbers"),
    ({"segmentation": [[1, 1, 5, 5]]}, "2 of image 9, which has a polygon of 4 numbers"),
    ({"segmentation": [[3.0]]}, "2 of image 9, which has a polygon of 1 numbers"),
    ({"segmentation": [[]]}, "2 of image 9, which has a polygon of 0 numbers"),
    ({"segmentation": []}, "2 of image 9, which has no polygon"),
    ({"segmentation": "polygon"}, "2 of image 9, which has segmentation 'polygon'"),
    ({"segmentation": {"size": [6, 8], "counts": [40, 4000]}}, "2 of image 9, whose run lengths do not add up to the 48 pixels"),
    ({"segmentation": {"size": [6, 8], "counts": [60, -12]}}, "2 of image 9, whose run lengths do not add up"),
    ({"segmentation": {"size": [6, 8], "counts": "oooooooooo"}}, "2 of image 9, whose run-length code 'oooooooooo' cannot be read"),
    ({"segmentation": {"size": [9, 9], "counts": [81]}}, "2 of image 9, which has size [9, 9], and its image [6, 8]"),
    ({"segmentation": {}}, "2 of image 9, which has size None"),
    ({"segmentation": None}, "2 has no segmentation"),
    ({"category_id": "7"}, "2 has category_id '7'; a whole number was expected"),
    ({"category_id": 0}, "2 of image 9, which has category 0"),
    ({"image_id": "9"}, "2 has image_id '9'"),
    ({"image_id": 10}, "2 of image 10, whose number no image has"),
    ({"id": None}, "in place 2 of the list has no id"),
    ({"id": float("nan")}, "in place 2 of the list has id nan"),
]
"""Changes of the second annotation of image 9, and how it is named."""


@pytest.mark.parametrize(("changes", "named"), WILD)
def test_an_annotation_that_cannot_be_used_is_named_or_left_out(source, changes, named):
    needs_pycocotools()
    change_annotation(source / "lvis_v1_train.json", 1, **changes)
    with pytest.raises(InputError, match=rf"lvis_v1_train.json: annotation {re.escape(named)}.*leave such annotations out with --skip_bad"):
        build_coco_lvis(source, source, source / "out")
    assert not (source / "out").exists()
    built = build_coco_lvis(source, source, source / "out", skip_bad=True)
    assert len(built.left_out) == 1 and named in built.left_out[0]
    assert built.left_out[0] in (source / "out/report.md").read_text()
    assert rows(source / "out") == EXPECTED | {"train/000000000009": [1203, 1203, 181, 181, 110, 110, 110, 110]}


@pytest.mark.parametrize("changes", [{"segmentation": {"size": [6, 8], "counts": "1" * 3000}}, {"category_id": 10**30}])
def test_stuff_that_cannot_be_used_is_named_or_left_out(source, changes):
    needs_pycocotools()
    change_annotation(source / "annotations/stuff_train2017.json", 0, **changes)
    with pytest.raises(InputError, match=r"stuff_train2017.json: annotation 1 .*--skip_bad"):
        build_coco_lvis(source, source, source / "out", stuff="json")
    built = build_coco_lvis(source, source, source / "out", stuff="json", skip_bad=True)
    assert len(built.left_out) == 1
    assert rows(source / "out")["train/000000000009"] == [1203, 1203, 7, 7, 110, 110, 110, 110]


def test_not_all_annotations_are_left_out(source):
    needs_pycocotools()
    for place in range(3):
        change_annotation(source / "lvis_v1_train.json", place, segmentation=[])
    with pytest.raises(InputError, match=r"none of the 3 annotations of .*train.json can be used; the first: .*annotation 1 of image 9"):
        build_coco_lvis(source, source, source / "out", skip_bad=True)


def test_the_command_counts_what_it_leaves_out(source, invoke):
    needs_pycocotools()
    change_annotation(source / "lvis_v1_train.json", 1, category_id="7")
    command = ["shared.data", "build-coco-lvis", "--coco", source, "--lvis", source, "-o", "out", "--data.num_workers", 0]
    outcome = invoke(*command)
    assert outcome.status == 1 and outcome.errors.count("\n") == 1
    outcome = invoke(*command, "--skip_bad")
    assert outcome.status == 0, outcome.errors
    assert "left out 1 annotations that cannot be used: " in outcome.output


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"id": "9"}, "has id '9'"),
        ({"height": 0}, "has height 0"),
        ({"width": 6.5}, "has width 6.5"),
        ({"height": 10**6, "width": 10**6}, "has 1000000x1000000 pixels"),
        ({"coco_url": "http://images.example/../000000000009.jpg"}, "has coco_url"),
        ({"coco_url": None}, "has coco_url None"),
        ({"id": 429995}, "two images have the id 429995"),
    ],
)
def test_images_that_cannot_be_are_refused(source, image, told):
    path = source / "lvis_v1_train.json"
    content = json.loads(path.read_text())
    content["images"][0] |= image
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"is not like LVIS v1: .*{re.escape(told)}"):
        read_lvis(path)


def test_run_lengths_are_those_of_pycocotools():
    needs_pycocotools()
    from pycocotools import mask as coco

    random = np.random.default_rng(0)
    for _ in range(50):
        height, width = random.integers(1, 90, 2)
        mask = random.random((height, width)) < random.choice([0, 0.01, 0.5, 0.99, 1])
        code = coco.encode(np.asfortranarray(mask, np.uint8))
        annotation = Annotation(1, 1, {"size": [int(height), int(width)], "counts": code["counts"].decode()})
        image = LvisImage(1, int(height), int(width), "train2017", [])
        assert flaw_of(annotation, image, range(1, 2), "") == ""
        assert np.array_equal(draw(annotation, image), mask)


def test_without_pycocotools(source, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"needs pycocotools, which is not installed: pip install -e '\.\[coco\]'"):
        build_coco_lvis(source, source, source / "out")
    assert not (source / "out").exists()
