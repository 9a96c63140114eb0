"""How stored samples become what the segmentation network reads."""

from seg.config import InputConfig
from shared.data.spec import SegmentationDataset
from shared.data.transforms import EvalResize, TrainCrop


def training_size(config: InputConfig, dataset: SegmentationDataset) -> tuple[int, int]:
    """(height, width) of the training images: of the crop, or else of the resized or stored picture."""
    stored = dataset[0].label_map.shape
    return config.crop or config.resize or (stored[0], stored[1])


def train_transform(config: InputConfig, dataset: SegmentationDataset) -> TrainCrop:
    """Resize, random scale, crop, flip and jitter."""
    size = training_size(config, dataset)
    return TrainCrop(size, resize=config.resize, scale=config.scale, flip=config.flip, jitter=config.jitter)


def eval_transform(config: InputConfig) -> EvalResize:
    """Resize only; labels are compared at the resized size."""
    return EvalResize(config.resize)
