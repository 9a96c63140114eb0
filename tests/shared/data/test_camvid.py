from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.constants import IGNORE_INDEX
from shared.data import DataConfig, build_dataset
from shared.data.camvid import CAMVID, CamVid
from shared.data.statistics import class_statistics
from shared.errors import InputError

REAL = Path(__file__).parents[4] / "shared/data/camvid"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="CamVid is not there; put it at ../shared/data/camvid beside the repository")


@pytest.fixture
def root(tmp_path):
    """One frame per split in SegNet's layout; label value = column, so 11 (void) is the last."""
    for split in ("train", "val"):
        for folder, pixels in ((split, np.zeros((4, 12, 3), np.uint8)), (f"{split}annot", np.tile(np.arange(12, dtype=np.uint8), (4, 1)))):
            (tmp_path / folder).mkdir()
            Image.fromarray(pixels).save(tmp_path / folder / "frame_1.png")
    return tmp_path


def test_reads_the_layout(root):
    dataset = build_dataset(DataConfig("camvid", str(root)), "train")
    sample = dataset[0]
    assert len(dataset) == 1 and dataset.split == "train" and sample.name == "frame_1"
    assert sample.label_map[0].tolist() == [*range(11), IGNORE_INDEX]


def test_names_and_colours():
    assert CAMVID.num_classes == 11 and CAMVID.palette.shape == (11, 3)
    assert CAMVID.class_names[3] == "Road" and CAMVID.palette[3].tolist() == [128, 64, 128]
    assert len({tuple(colour) for colour in CAMVID.palette.tolist()}) == 11


def test_refusals(root):
    with pytest.raises(InputError, match=r"there is no folder .*/test; expected .*--data.root"):
        CamVid(root, "test")
    with pytest.raises(InputError, match=r"CamVid: unknown split 'training' \(did you mean train\?\); choose one of train, val, test"):
        CamVid(root, "training")
    with pytest.raises(InputError, match=r"data set camvid lies in files; say where with --data\.root"):
        build_dataset(DataConfig("camvid"), "train")


@needs_real
def test_real_files():
    train, val = CamVid(REAL, "train"), CamVid(REAL, "val")
    assert (len(train), len(val)) == (367, 101)
    sample = val[100]
    assert sample.image.shape == (3, 360, 480) and sample.label_map.shape == (360, 480)
    assert sample.label_map.min() >= IGNORE_INDEX and sample.label_map.max() < 11


@needs_real
def test_real_pixel_counts():
    train = CamVid(REAL, "train")
    train.pairs = train.pairs[::8]
    statistics = class_statistics(train)
    published = np.array([10.68, 14.75, 0.62, 20.08, 2.85, 6.17, 0.74, 0.71, 3.72, 0.41, 0.18])  # millions, over all 367 frames
    shares = statistics.pixels / statistics.pixels.sum()
    assert np.abs(shares - published / published.sum()).max() < 0.02
    assert statistics.sizes == {(360, 480): 46}
