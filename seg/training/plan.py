"""What can be said of a training before its first step: whether it is possible, and how large it is."""

import torch

from seg.config import SegConfig
from seg.inputs import training_size
from seg.model import Segmenter
from seg.networks.deeplab import DeepLabV3Plus
from seg.training.memory import memory_plan
from shared.config import to_dict, to_yaml
from shared.data.early_check import EarlyCheck
from shared.data.spec import SegmentationDataset
from shared.distributed import is_first
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.shapes import shape_obstacle


def require_possible(config: SegConfig, model: Segmenter, size: tuple[int, int], early: EarlyCheck | None) -> None:
    """Refuse batches and images that the network cannot be trained on, and validation images that it cannot look at.

    Args:
        size: (height, width) of the training images.
    """
    height, width = size
    count, backbone = config.train.batch_size, config.model.backbone
    pads = isinstance(model.network, DeepLabV3Plus)  # so that features never vanish, and those of two images have two values at least
    obstacle = None if pads and count > 1 else shape_obstacle(model, (count, 3, height, width), training=True, upsample=False)
    if obstacle is not None:
        raise InputError(
            f"{backbone} cannot be trained on batches of {count} image{'s' if count > 1 else ''} of {height}x{width} (height x width): "
            f"{obstacle}. Change train.batch_size or input.crop"
        )
    smallest = config.input.resize or (None if early is None else early.smallest)
    if smallest is None or pads:
        return
    obstacle = shape_obstacle(model, (1, 3, *smallest), training=False, upsample=False)
    if obstacle is not None:
        raise InputError(
            f"{backbone} cannot look at validation images of {smallest[0]}x{smallest[1]} (height x width): {obstacle}. Set input.resize"
        )


def print_plan(
    config: SegConfig,
    run: RunDirectory,
    model: Segmenter,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    early: EarlyCheck | None,
    device: torch.device,
) -> None:
    """Say what a training would be: settings, sizes and memory."""
    if not is_first():
        return
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(to_yaml(to_dict(config)))
    print(f"{len(train_set)} training and {len(val_set)} validation images; {parameters:,} parameters; on {device}; would write {run.path}")
    if early is not None:
        print(early.line(val_set.split))
    print(memory_plan(config, train_set.spec.num_classes, training_size(config.input, train_set), device))
