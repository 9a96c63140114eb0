"""How stored samples become what the segmentation network reads, and how often."""

import numpy as np

from seg.config import InputConfig, SamplingConfig
from shared.data.sampling import crop_weights, repeat_factors
from shared.data.spec import SegmentationDataset
from shared.data.statistics import ClassStatistics
from shared.data.transforms import EvalResize, TrainCrop

STATISTICS_FILE = "statistics_train.safetensors"
"""Counts of the training images in a run directory."""


def training_size(config: InputConfig, dataset: SegmentationDataset) -> tuple[int, int]:
    """(height, width) of the training images: of the crop, or else of the resized or stored picture."""
    stored = dataset[0].label_map.shape
    return config.crop or config.resize or (stored[0], stored[1])


def train_transform(
    config: InputConfig, sampling: SamplingConfig, dataset: SegmentationDataset, statistics: ClassStatistics | None
) -> TrainCrop:
    """Resize, random scale, crop, flip and jitter.

    Args:
        statistics: counts of `dataset`; needed for crops around classes.
    """
    return TrainCrop(
        training_size(config, dataset),
        resize=config.resize,
        scale=config.scale,
        flip=config.flip,
        jitter=config.jitter,
        class_crop=sampling.class_crop or 0.0,
        class_weights=None if statistics is None else crop_weights(statistics),
    )


def sample_repeats(sampling: SamplingConfig, statistics: ClassStatistics | None) -> np.ndarray | None:
    """(samples,) how often an epoch reads each sample; None: once.

    Args:
        statistics: counts of the data set; needed for a `repeat_threshold`.
    """
    if sampling.repeat_threshold is None:
        return None
    assert statistics is not None, "repeat factors without counts"
    return repeat_factors(statistics, sampling.repeat_threshold)


def eval_transform(config: InputConfig) -> EvalResize:
    """Resize only; labels are compared at the resized size."""
    return EvalResize(config.resize)
