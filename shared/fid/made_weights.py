"""Inception weights of the published layout with random values, for tests and timings where the published ones are not available."""

from pathlib import Path

import torch
from torch import nn

from shared.files.atomic import atomic_write

CALIBRATION_IMAGES = 2


def write_made_weights(path: Path, seed: int = 0) -> None:
    """Write a file that `InceptionFeatures` and pytorch-fid read. Its distances mean nothing.

    Every layer's output is normalised on noise, so that features neither vanish nor explode.
    """
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.inception_v3(weights=None, num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
        with torch.no_grad():
            network.train()(2 * torch.rand(CALIBRATION_IMAGES, 3, 299, 299) - 1)
    with atomic_write(path) as temporary:
        torch.save(network.state_dict(), temporary)
