"""How far a generator's images are from real ones, without writing them: `python -m synth.score RUN LABELMAPS… --real REAL`."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from shared.errors import InputError
from shared.fid.comparison import compare
from shared.fid.diversity import Diversity, build_pair_distance, diversity
from shared.fid.features import EncoderFeatures, FeatureNetwork, network_of
from shared.fid.folder import image_statistics
from shared.fid.remarks import remark
from shared.fid.sides import DistanceConfig, describe, open_side, require_network, statistics_of, tell
from shared.run.program import run_program
from shared.run.training import choose_device
from synth.images.layout_images import LayoutImages, LayoutImagesConfig

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ScoreConfig(LayoutImagesConfig, DistanceConfig):
    """Distance between real images and those that a generator makes of label maps: what synth.generate and then shared.fid give."""

    real: Path
    """Folder of images, searched with its subfolders as a data set's is, or an .npz file of feature statistics (ours or pytorch-fid's)."""
    seed: int = 0
    """Seed of the drawn styles and noise, and of the subsets of the distances."""

    def __post_init__(self) -> None:
        LayoutImagesConfig.__post_init__(self)
        DistanceConfig.__post_init__(self)


def score(config: ScoreConfig) -> None:
    """Generate, compare with the real side, print the result and write what was asked for."""
    real, images = open_side(config.real), LayoutImages(config)
    network = network_of(config, choose_device(config.device), [] if isinstance(real, list) else [real.extractor])
    print(network.description)
    require_network(real, network, config.real)
    if len(images) < 2:
        raise InputError("1 image would be generated; a distance between distributions needs at least 2 on each side: give more label maps")
    if config.dry_run:
        print(f"would compare {describe(real)} of {config.real} with {len(images)} generated ones of {images.sizes}")
        return
    if isinstance(real, list):
        height, width, _ = next(iter(images))[1].shape
        remark({str(config.real): real}, made=(height, width))
    real_statistics = statistics_of(real, network, config.real, config, cache=True)
    generated = image_statistics(
        network,
        as_tensors(images),
        total=len(images),
        batch_size=config.batch_size,
        title="generated",
        keep_features=not config.moments_only,
    )
    comparison = compare(real_statistics, generated, subsets=config.subsets, seed=config.seed)
    found = measure_diversity(network, images) if images.per_layout > 1 else None
    tell(comparison, config, [] if found is None else [found.line()], real=str(config.real), generated=config.run, diversity=found)


def measure_diversity(network: FeatureNetwork, images: LayoutImages) -> Diversity | None:
    """Of the images of every layout; None, with a sentence, where there is nothing to measure it with."""
    distance = build_pair_distance(network.path if isinstance(network, EncoderFeatures) else None, images.device)
    if distance is None:
        log.warning(
            "no diversity: AlexNet's weights for LPIPS are not in torch's cache; an encoder file, with --features, would take their place"
        )
        return None
    made = as_tensors(images)
    return diversity((torch.stack(list(islice(made, images.per_layout))) for _ in images.files), distance)


def as_tensors(images: LayoutImages) -> Iterator[torch.Tensor]:
    """(3, H, W) uint8 of every image, in order."""
    for _, image in images:
        yield torch.from_numpy(image).permute(2, 0, 1)


if __name__ == "__main__":
    run_program(score, ScoreConfig, "synth.score", positional={"run": None, "label_maps": "+"})
