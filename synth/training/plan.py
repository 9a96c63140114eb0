"""What can be said of a training before its first step: whether it is possible, and how large it is."""

import torch
from torch import nn

from shared.config import to_dict, to_yaml
from shared.distributed import is_first, world_size
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.run.monitor import parameter_count
from shared.shapes import shape_obstacle
from synth.config import SynthConfig
from synth.discriminator import MultiscaleDiscriminator, PatchDiscriminator
from synth.generator import SpadeGenerator, in_pixels
from synth.oasis.discriminator import SegmentationDiscriminator


def require_possible(
    config: SynthConfig, generator: SpadeGenerator, discriminator: MultiscaleDiscriminator | SegmentationDiscriminator
) -> None:
    """Refuse a batch and a size that leave a normalisation a single value, and sizes that the discriminator cannot halve so often."""
    size, count = (config.input.size[0], config.input.size[1]), config.train.batch_size
    first = generator.start_size(size)
    seen = count * (world_size() if generator.norm == "sync" else 1)
    if generator.norm != "instance" and seen * first[0] * first[1] == 1:
        raise InputError(
            f"the generator cannot be trained on batches of 1 image of {in_pixels(size)} (height x width): its first features are 1x1, of "
            "whose single value per channel batch normalisation has no deviation. Give a larger train.batch_size or input.size"
        )
    if isinstance(discriminator, SegmentationDiscriminator):
        discriminator.require_size(*size)
        return
    height, width = size
    for scale, network in enumerate(discriminator.children()):
        assert isinstance(network, PatchDiscriminator)
        shape = (2 * count, network.semantic_width + 3, height, width)
        # layers that pad by 2 leave more than one value of all that is larger
        obstacle = None if max(height, width) > 2 else shape_obstacle(nn.Sequential(*network.children()), shape, training=True)
        if obstacle is not None:
            raise InputError(
                f"the discriminator cannot look at images of {in_pixels(size)} (height x width): at scale {scale}, of {height}x{width}, "
                f"{obstacle}. Lower discriminator.num_scales, or give a larger input.size"
            )
        height, width = (height + 1) // 2, (width + 1) // 2


def print_plan(
    config: SynthConfig,
    run: RunDirectory,
    generator: SpadeGenerator,
    discriminator: torch.nn.Module,
    train_size: int,
    val_size: int,
    device: torch.device,
) -> None:
    """Say what a training would be: settings and sizes."""
    if not is_first():
        return
    print(to_yaml(to_dict(config)))
    sizes = f"{parameter_count(generator):,} parameters in the generator, {parameter_count(discriminator):,} in the discriminator"
    print(f"{train_size} training and {val_size} validation images; {sizes}; on {device}; would write {run.path}")
