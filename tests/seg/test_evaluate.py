"""Figures of a network are those of its images one by one, whatever their sizes, the batches and the processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg.inference import ViewConfig, evaluate, predict_views
from seg.model import Segmenter, build_segmenter
from seg.training.monitoring import log_predictions
from shared.data.loader import build_eval_loader
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.data.transforms import EvalResize
from shared.metrics import ConfusionMatrix
from shared.run.directory import RunDirectory

CLASSES, CPU = 5, torch.device("cpu")
SIZES = [(24, 40), (40, 24), (17, 33), (24, 40), (1, 9), (40, 24), (24, 40), (17, 33), (24, 40), (30, 30), (24, 40)]


class Noise(SegmentationDataset):
    """Random pictures and labels of `SIZES`, some pixels ignored."""

    spec, split = DatasetSpec("noise", tuple("abcde"), np.arange(15, dtype=np.uint8).reshape(5, 3) * 16), "val"

    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, index: int) -> Sample:
        numbers = np.random.default_rng(index)
        image = torch.from_numpy(numbers.integers(0, 256, (3, *SIZES[index]), dtype=np.uint8))
        return Sample(image, torch.from_numpy(numbers.integers(-1, CLASSES, SIZES[index])), None, f"picture{index}")


@pytest.fixture(scope="module", params=["embedding", "softmax"])
def model(request: pytest.FixtureRequest) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(head=request.param, backbone="tiny", num_classes=CLASSES, width=16).eval()


def one_by_one(model: Segmenter, resize: tuple[int, int] | None, views: ViewConfig) -> torch.Tensor:
    matrix, transform = ConfusionMatrix(CLASSES), EvalResize(resize)
    for sample in map(transform, Noise()):
        matrix.update(predict_views(model, sample.image[None], views), sample.label_map[None])
    return matrix.counts


@pytest.mark.parametrize("resize", [None, (32, 32)])
@pytest.mark.parametrize("views", [ViewConfig(), ViewConfig(window=(16, 16), scales=[0.5, 1.0])], ids=["once", "views"])
def test_neither_batches_nor_processes_change_the_counts(model: Segmenter, resize: tuple[int, int] | None, views: ViewConfig) -> None:
    expected = one_by_one(model, resize, views)
    assert expected.sum() > 0 and (expected.sum(0) > 0).sum() > 1  # not one class everywhere
    for batch_size, workers in ((1, 0), (3, 0), (4, 2), (20, 0)):
        loader = build_eval_loader(Noise(), EvalResize(resize), batch_size=batch_size, num_workers=workers)
        assert torch.equal(evaluate(model, loader, CLASSES, CPU, views).counts, expected), (batch_size, workers)
    shares = [range(4), range(4, 8), range(8, 11), range(11, 11)]  # as `my_share` of four processes, one without images
    loaders = [build_eval_loader(Noise(), EvalResize(resize), batch_size=3, num_workers=1, samples=share) for share in shares]
    matrices = [evaluate(model, loader, CLASSES, CPU, views) for loader in loaders]
    assert torch.equal(ConfusionMatrix.total(matrices).counts, expected)


def test_pictures_of_all_sizes_are_shown(model: Segmenter, tmp_path: Path) -> None:
    """Those of the first images in the data set, in a grid whose cells have room for each."""
    run = RunDirectory(tmp_path)
    log_predictions(run, model.train(), Noise(), EvalResize(), 7, CPU)
    assert model.training
    model.eval()
    run.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (picture,) = events.Images("val/image, labels, prediction")
    assert (picture.step, picture.height, picture.width) == (7, 4 * 42 - 2, 3 * 42 - 2)
