"""The distance and its features beside pytorch-fid's, on the same files, weights and machine: `python -m shared.fid.benchmark`."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from unittest import mock

import numpy as np
import torch

from shared.benchmark.report import Grid, three_digits, to_markdown, to_text
from shared.benchmark.timing import disturbance, time_once
from shared.errors import InputError
from shared.fid.features import INCEPTION_DIM, INCEPTION_WEIGHTS, FeatureNetwork, FeaturesConfig, InceptionFeatures, network_of
from shared.fid.folder import find_images, image_statistics, read_ahead
from shared.fid.frechet import FeatureStatistics, frechet_distance
from shared.fid.made_weights import write_made_weights
from shared.files.atomic import write_text
from shared.files.json_file import write_json
from shared.run.directory import environment
from shared.run.program import run_program
from shared.run.training import choose_device
from shared.visualise import save_png

Result = TypeVar("Result")


@dataclass
class BenchmarkConfig(FeaturesConfig):
    """Time the extraction of features and the distance, ours and pytorch-fid's, and say how far the results differ."""

    output: Path | None = None
    """Folder for benchmark.md and benchmark.json. Null: printed only."""
    json: Path | None = None
    """Also write the figures to this JSON file."""
    weights: Path | None = None
    """Weights file of inception or torchvision/NAME. Null: for inception, random weights of its layout, which take the same time; else
    torch's cache."""
    images: int = 64
    """PNG images of noise whose features are extracted."""
    size: tuple[int, int] = (128, 256)
    """(height, width) of these images in pixels."""
    batch_size: int = 16
    """Images at once, on both sides."""
    workers: int = 2
    """pytorch-fid's reading processes; we read with two threads."""
    counts: list[int] = field(default_factory=lambda: [300, 3000])
    """Features per side, of 2048 numbers each, whose distance is timed; drawn from a Gaussian with a falling spectrum."""
    seed: int = 0
    """Seed of images, weights and features."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to extract features."""
    dry_run: bool = False
    """Check the weights, say what would be measured, and stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = [("images", self.images, 2), ("batch_size", self.batch_size, 1), ("workers", self.workers, 0)]
        for name, value, least in [*limits, *(("counts", count, 2) for count in self.counts)]:
            if value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True)
class Measurement:
    """One piece of work by both.

    Attributes:
        ours, theirs: seconds.
        difference: of the two results, relative to theirs: of the mean of features, or of the distance.
        failure: why theirs gave no result; then the last two are None.
    """

    work: str
    ours: float
    theirs: float | None
    difference: float | None
    failure: str = ""


def benchmark(config: BenchmarkConfig) -> None:
    """Measure, print, and write what was asked for."""
    device = choose_device(config.device)
    network: FeatureNetwork | Path | None = None
    if config.features not in ("auto", "inception"):
        network = network_of(config, device)
    elif config.weights is not None:
        network = INCEPTION_WEIGHTS.find(config.weights)
    if config.dry_run:
        where = "" if config.output is None else f" and write to {config.output}"
        print(f"would extract features of {config.images} images, take distances of {config.counts}{where}")
        return
    with tempfile.TemporaryDirectory() as folder, disturbance() as others:
        if network is None:
            write_made_weights(network := Path(folder, "weights.pth"), config.seed)
        results = [measure_extraction(config, network, Path(folder, "images"), device)]
        results += [measure_distance(count, config.seed) for count in config.counts]
    table = result_table(results)
    settings = {name: getattr(config, name) for name in ("features", "images", "size", "batch_size", "seed")}
    about = {"settings": settings, "disturbance": others.share, "results": [asdict(result) for result in results]}
    record = environment() | about
    load = "" if others.share is None else f", other processes used {others.share:.0%} of the CPU"
    conditions = f"{record['machine']}, {record['threads']} threads, seed {config.seed}, {record['date']}{load}"
    for path in (config.json, config.output and config.output / "benchmark.json"):
        if path is not None:
            write_json(path, record)
    if config.output is not None:
        lines = [f"# The distance beside pytorch-fid's\n\n    {record['command']}\n\n{conditions}.\n", to_markdown(table), ""]
        write_text(config.output / "benchmark.md", "\n".join(lines))
    print(f"{conditions}\n{to_text(table)}")


def measure_extraction(config: BenchmarkConfig, network: FeatureNetwork | Path, folder: Path, device: torch.device) -> Measurement:
    """Features of PNG files: reading, decoding, network.

    Args:
        network: Inception's weights, which pytorch-fid takes too, or another network, which it does not have.
    """
    random = np.random.default_rng(config.seed)
    for index in range(config.images):
        save_png(random.integers(0, 256, (*config.size, 3), np.uint8), folder / f"{index:05}.png")
    files, work = find_images(folder), f"features of {config.images} images"
    ours = InceptionFeatures(network).to(device) if isinstance(network, Path) else network

    def extract() -> FeatureStatistics:
        return image_statistics(ours, read_ahead(files, config.batch_size), total=len(files), batch_size=config.batch_size)

    def warm_up(network: torch.nn.Module) -> None:
        with torch.no_grad():
            network(torch.rand(config.batch_size, 3, *config.size, device=device))

    warm_up(ours)
    statistics, seconds = timed(extract, device)
    if not isinstance(network, Path):
        return Measurement(work, seconds, None, None, f"pytorch-fid does not have the features of {ours.extractor.network}")
    from pytorch_fid import fid_score, inception

    state = torch.load(network, map_location="cpu", weights_only=True)
    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        theirs = inception.InceptionV3().eval().to(device)

    def extract_theirs() -> np.ndarray:
        return fid_score.get_activations(files, theirs, config.batch_size, INCEPTION_DIM, device, config.workers)

    warm_up(theirs)
    features, their_seconds = timed(extract_theirs, device)
    mean = features.mean(0)
    difference = float(np.linalg.norm(statistics.mean.numpy() - mean) / np.linalg.norm(mean))
    return Measurement(work, seconds, their_seconds, difference)


def measure_distance(count: int, seed: int, dim: int = INCEPTION_DIM) -> Measurement:
    """The distance between two sets of `count` features, ours with features where there are no more than numbers in each."""
    scales = torch.arange(1, dim + 1).rsqrt()
    sides = []
    for number_of_side in range(2):
        generator = torch.Generator().manual_seed(2 * seed + number_of_side)
        sides.append(FeatureStatistics(dim))
        sides[-1].update(torch.randn(count, dim, generator=generator) * scales)
    a, b = sides
    gaussians = [array.numpy() for side in sides for array in (side.mean, side.covariance)]
    cpu = torch.device("cpu")
    ours, seconds = timed(lambda: frechet_distance(a, b), cpu)
    from pytorch_fid import fid_score

    work = f"distance of {count} and {count} features"
    try:
        theirs, their_seconds = timed(lambda: float(fid_score.calculate_frechet_distance(*gaussians)), cpu)
    except (TypeError, ValueError) as error:
        return Measurement(work, seconds, None, None, f"pytorch-fid failed: {error}")
    return Measurement(work, seconds, their_seconds, abs(ours - theirs) / theirs)


def timed(call: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """The result of a call and its seconds."""
    results: list[Result] = []
    seconds, _ = time_once(lambda: results.append(call()), device)
    return results[0], seconds


def result_table(results: list[Measurement]) -> Grid:
    """A row per piece of work."""
    rows = []
    for result in results:
        times = "" if result.theirs is None else three_digits(result.theirs / result.ours)
        difference = "" if result.difference is None else f"{result.difference:.1e}"
        rows.append([result.work, three_digits(result.ours), three_digits(result.theirs), times, difference, result.failure])
    return Grid(["work", "ours (s)", "pytorch-fid (s)", "times faster", "relative difference", ""], rows)


if __name__ == "__main__":
    run_program(benchmark, BenchmarkConfig, "shared.fid.benchmark", short={"output": "-o"})
