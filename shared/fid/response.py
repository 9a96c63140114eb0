"""What a distance says of real images that were spoilt on purpose: `python -m shared.fid.response`.

A distance that is to judge generated images must be near 0 where nothing differs, and grow with every kind of damage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from shared.benchmark.report import Grid, three_digits, to_markdown, to_text
from shared.data import DataConfig, build_dataset
from shared.data.spec import SegmentationDataset
from shared.errors import InputError
from shared.fid.distortions import DISTORTIONS
from shared.fid.features import FeatureNetwork, FeaturesConfig, network_of
from shared.fid.folder import image_statistics
from shared.fid.frechet import FeatureStatistics, frechet_distance
from shared.fid.kernel import kernel_distance
from shared.files.atomic import write_text
from shared.files.json_file import write_json
from shared.run.directory import environment
from shared.run.program import run_program
from shared.run.training import choose_device, seed_of

DRAWS = 5
"""Pairs of random sets for each number of images, whose distances are averaged."""


@dataclass(kw_only=True)
class ResponseConfig(FeaturesConfig):
    """The distances between two halves of a data set, against the number of images and with one half spoilt in several ways."""

    output: Path
    """Folder for response.md and response.json."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data set."""
    split: Literal["train", "val"] = "val"
    """Which part of it; of small data sets the training split has more images."""
    images: int = 400
    """Images in all; each half has half of them."""
    seed: int = 0
    """Seed of the halves and of what is random in the damage."""
    batch_size: int = 32
    """Images at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""
    dry_run: bool = False
    """Check the data and the network, say what would be measured, and stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("images", 8), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True)
class Response:
    """The distances of one half from the other.

    Attributes:
        damage: to the second half. strength: of it, with its unit in the name.
        count: images on each side.
    """

    damage: str
    strength: str
    count: int
    distance: float
    kernel_distance: float


def measure(config: ResponseConfig) -> None:
    """Measure, print, and write both files."""
    dataset, network = build_dataset(config.data, config.split), network_of(config, choose_device(config.device))
    count = min(config.images, len(dataset)) // 2
    if count < 4:
        raise InputError(f"the {config.split} split has {len(dataset)} images; at least 8 are needed")
    if config.dry_run:
        print(
            f"would spoil {count} of {2 * count} images of {dataset.spec.name} ({config.split}) in {len(DISTORTIONS)} ways; {network.title}"
        )
        return
    order = np.random.default_rng(config.seed).permutation(len(dataset))
    first, second = order[:count], order[count : 2 * count]
    real, other = statistics_of(network, dataset, first, config), statistics_of(network, dataset, second, config)
    results = [*growth(real, other, config.seed), compare("none", "", real, other)]
    for damage, (_, unit, strengths) in DISTORTIONS.items():
        for strength in strengths:
            spoilt = statistics_of(network, dataset, second, config, damage, strength)
            results.append(compare(damage, f"{strength:g} ({unit})", real, spoilt))
    table = response_table(results, network)
    about = {"network": asdict(network.extractor), "dataset": dataset.spec.name, "split": config.split}
    record = environment() | about | {"results": [asdict(result) for result in results]}
    print(to_text(table))
    write_json(config.output / "response.json", record)
    lines = [f"# Response of {network.title}", "", f"    {record['command']}", ""]
    origin = f"{dataset.spec.name} ({config.split}), seed {config.seed}, {record['date']}"
    lines += [f"{origin}. {network.description}", "", to_markdown(table), ""]
    write_text(config.output / "response.md", "\n".join(lines))


def statistics_of(
    network: FeatureNetwork,
    dataset: SegmentationDataset,
    indices: Sequence[int] | np.ndarray,
    config: ResponseConfig,
    damage: str | None = None,
    strength: float = 0.0,
) -> FeatureStatistics:
    """Features of these samples' images, spoilt where a damage is named; its draws are a function of seed and sample."""

    def images() -> Iterator[torch.Tensor]:
        for index in indices:
            sample = dataset[int(index)]
            if damage is None:
                yield sample.image
                continue
            picture, random = sample.image.permute(1, 2, 0).numpy(), np.random.default_rng(seed_of(config.seed, int(index)))
            yield torch.from_numpy(DISTORTIONS[damage][0](picture, sample.label_map.numpy(), strength, random)).permute(2, 0, 1)

    return image_statistics(network, images(), total=len(indices), batch_size=config.batch_size, title=damage or "real")


def growth(real: FeatureStatistics, other: FeatureStatistics, seed: int) -> list[Response]:
    """The distances between equal distributions at half, a quarter, … of the images: means over `DRAWS` random sets on both sides."""
    assert real.features is not None and other.features is not None and real.count is not None
    generator = torch.Generator().manual_seed(seed)
    results = []
    sizes = [size for size in (25, 50, 100, 200, 400, 800) if size < real.count]
    for size in sizes:
        found = []
        for _ in range(DRAWS):
            sides = []
            for statistics in (real, other):
                sides.append(FeatureStatistics(real.dim, extractor=real.extractor))
                features = statistics.features
                assert features is not None
                sides[-1].update(features[torch.randperm(len(features), generator=generator)[:size]])
            found.append(compare("none", "", *sides))
        distances = np.array([(one.distance, one.kernel_distance) for one in found]).mean(0)
        results.append(Response("none", "", size, *distances.tolist()))
    return results


def compare(damage: str, strength: str, real: FeatureStatistics, other: FeatureStatistics) -> Response:
    """Both distances."""
    assert real.features is not None and other.features is not None and real.count is not None
    kernel, _ = kernel_distance(real.features, other.features, num_subsets=100, seed=0)
    return Response(damage, strength, real.count, frechet_distance(real, other), kernel)


def response_table(results: Sequence[Response], network: FeatureNetwork) -> Grid:
    """A row per result."""
    floor = next(result for result in reversed(results) if result.damage == "none")
    rows = [
        [
            result.damage,
            result.strength,
            str(result.count),
            three_digits(result.distance),
            three_digits(result.distance / floor.distance),
            three_digits(result.kernel_distance),
        ]
        for result in results
    ]
    return Grid(["damage", "strength", "images a side", network.title, "times the floor", network.kernel_title], rows)


if __name__ == "__main__":
    run_program(measure, ResponseConfig, "shared.fid.response", short={"output": "-o"})
