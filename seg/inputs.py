"""How stored samples become what the segmentation network reads."""

from seg.config import InputConfig
from shared.data.spec import SegmentationDataset
from shared.data.transforms import EvalResize, TrainCrop


def train_transform(config: InputConfig, dataset: SegmentationDataset) -> TrainCrop:
    """Resize, random scale, crop, flip and jitter; without a crop size the result has the size of the resized or stored picture."""
    stored = dataset[0].label_map.shape
    size = config.crop or config.resize or (stored[0], stored[1])
    return TrainCrop(size, resize=config.resize, scale=config.scale, flip=config.flip, jitter=config.jitter)


def eval_transform(config: InputConfig) -> EvalResize:
    """Resize only; labels are compared at the resized size."""
    return EvalResize(config.resize)
