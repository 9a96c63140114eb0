"""`python -m shared.fid REAL GENERATED`: how far two sets of images are apart."""

import contextlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from shared.data.pictures import read_image
from shared.errors import InputError
from shared.fid import FeatureStatistics, frechet_distance, kernel_distance
from shared.fid.features import INCEPTION_DIM, INCEPTION_LABEL, FeatureNetwork, build_feature_network, titles
from shared.fid.folder import find_images, image_statistics
from shared.fid.manifold import manifold_scores
from shared.fid.weights import WeightsUnavailable
from shared.files import write_text
from shared.program import run_program
from shared.training import choose_device

NEIGHBOURS = 5
"""Balls of precision, recall, density and coverage reach to this neighbour, as in Naeem et al. 2020."""

Side = list[Path] | FeatureStatistics
"""One of the two sets: its image files, or its statistics."""

log = logging.getLogger(__name__)


@dataclass
class FidConfig:
    """Distance between two sets of images: FID and KID (with an encoder FD-seg and KD-seg), and how far they cover each other."""

    real: Path
    """Folder of PNG images, searched with its subfolders, or an .npz statistics file (ours or pytorch-fid's)."""
    generated: Path
    """The same for the images to be judged."""
    weights: Path | None = None
    """Inception weights file. Null: torch's cache, or a download into it."""
    encoder: Path | None = None
    """Encoder file; gives FD-seg and KD-seg in its features instead of FID and KID."""
    save_statistics: Path | None = None
    """Write the statistics of REAL to this .npz file; give it as REAL the next time."""
    json: Path | None = None
    """Also write the results to this JSON file."""
    batch_size: int = 32
    """Images at once."""
    subsets: int = 100
    """Random subsets whose mean and standard deviation are the kernel distance."""
    seed: int = 0
    """Seed of these subsets."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""
    dry_run: bool = False
    """Check the images, the statistics files and the network, say what would be compared, and stop."""

    def __post_init__(self) -> None:
        if self.weights and self.encoder:
            raise InputError("weights and encoder are both given; weights gives FID, encoder gives FD-seg: give one of them")
        for name in ("batch_size", "subsets"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass
class Result:
    """A comparison, as printed and as written to JSON. What needs features is None where a side has none."""

    title: str
    distance: float
    kernel_title: str
    kernel_distance: float | None
    kernel_deviation: float | None
    manifold: dict[str, float] | None
    network: str
    dim: int
    count_real: int | None
    count_generated: int | None
    real: str
    generated: str

    def lines(self) -> list[str]:
        """The result for a reader."""
        counts = [count if count is not None else "not recorded" for count in (self.count_real, self.count_generated)]
        about = f"{self.network}, D={self.dim}, N={counts[0]}/{counts[1]}"
        lines = [f"{self.title} ({about}): {self.distance:.4f}"]
        if self.kernel_distance is None:
            lines.append(f"{self.kernel_title}: needs the features of both sides; a statistics file has only mu and sigma")
        else:
            lines.append(f"{self.kernel_title} ({about}): {self.kernel_distance:.6f} ± {self.kernel_deviation:.6f}")
        if self.manifold is not None:
            lines.append(", ".join(f"{name} {value:.3f}" for name, value in self.manifold.items()) + f" (balls to neighbour {NEIGHBOURS})")
        fewest = min((count for count in (self.count_real, self.count_generated) if count is not None), default=self.dim)
        if fewest < self.dim:
            note = f"with fewer images than features {self.title} is above 0 even for equal distributions; compare it only at equal N"
            lines.append(f"{note}, or by {self.kernel_title}")
        return lines


def score(config: FidConfig) -> None:
    """Compare the two sets, print the result and write what was asked for."""
    paths = (config.real, config.generated)
    sides = [_open(path) for path in paths]
    _warn_of_sizes([side[0] for side in sides if isinstance(side, list)])
    network = _build_network(config) if any(isinstance(side, list) for side in sides) else None
    if network is not None:
        print(network.description)
        for path, side in zip(paths, sides):
            _require_network(side, network, path)
    if config.dry_run:
        print(f"would compare {_describe(sides[0])} of {config.real} with {_describe(sides[1])} of {config.generated}")
        return
    real, generated = (_statistics(side, network, path, config.batch_size) for path, side in zip(paths, sides))
    if config.save_statistics:
        real.save(config.save_statistics)
    result = _compare(real, generated, config)
    print("\n".join(result.lines()))
    if config.json:
        write_text(config.json, json.dumps(asdict(result), indent=2) + "\n")


def _open(path: Path) -> Side:
    """The image files of a folder, or the statistics of a file."""
    if path.suffix.lower() != ".npz":
        files = find_images(path)
        if len(files) < 2:
            raise InputError(f"{path} holds 1 image; a distance between distributions needs at least 2 on each side")
        return files
    statistics = FeatureStatistics.load(path)
    if not statistics.network:
        if statistics.dim != INCEPTION_DIM:
            expected = f"{INCEPTION_DIM} were expected, as FID has; compute the statistics again"
            raise InputError(f"{path} does not tell its network and has {statistics.dim} features; {expected}")
        statistics.network = INCEPTION_LABEL  # pytorch-fid writes no name, and with 2048 features it has this network
    return statistics


def _warn_of_sizes(first_images: list[Path]) -> None:
    sizes = set()
    unreadable = (OSError, Image.DecompressionBombError)  # such a file is named when it is read
    for path in first_images:
        with contextlib.suppress(*unreadable), Image.open(path) as image:
            sizes.add(f"{image.height} × {image.width}")
    if len(sizes) > 1:
        log.warning("the two sets have images of %s: the distance also measures the resizing; use one size", " and ".join(sorted(sizes)))


def _build_network(config: FidConfig) -> FeatureNetwork:
    name = str(config.encoder) if config.encoder else "inception"
    try:
        return build_feature_network(name, weights_path=config.weights, device=choose_device(config.device))
    except WeightsUnavailable as error:
        raise WeightsUnavailable(f"{error} with --weights, or give an encoder with --encoder to get FD-seg instead") from error


def _require_network(side: Side, network: FeatureNetwork, path: Path) -> None:
    if isinstance(side, FeatureStatistics) and side.network != network.label:
        raise InputError(f"{path} has features of {side.network}, but the images would get those of {network.label}; use one network")


def _describe(side: Side) -> str:
    count = len(side) if isinstance(side, list) else side.count
    return f"{'an unknown number' if count is None else count} images"


def _statistics(side: Side, network: FeatureNetwork | None, path: Path, batch_size: int) -> FeatureStatistics:
    if isinstance(side, FeatureStatistics):
        return side
    assert network is not None, "a folder needs a network"
    return image_statistics(network, map(read_image, side), total=len(side), batch_size=batch_size, title=path.name)


def _compare(real: FeatureStatistics, generated: FeatureStatistics, config: FidConfig) -> Result:
    distance, mean, deviation, manifold = frechet_distance(real, generated), None, None, None
    if real.features is not None and generated.features is not None:
        mean, deviation = kernel_distance(real.features, generated.features, num_subsets=config.subsets, seed=config.seed)
        if min(len(real.features), len(generated.features)) > NEIGHBOURS:
            manifold = manifold_scores(real.features, generated.features, neighbours=NEIGHBOURS)._asdict()
    title, kernel_title = titles(real.network)
    return Result(
        title=title,
        distance=distance,
        kernel_title=kernel_title,
        kernel_distance=mean,
        kernel_deviation=deviation,
        manifold=manifold,
        network=real.network,
        dim=real.dim,
        count_real=real.count,
        count_generated=generated.count,
        real=str(config.real),
        generated=str(config.generated),
    )


def main() -> None:
    """The program."""
    run_program(score, FidConfig, "shared.fid", positional={"real": None, "generated": None})


if __name__ == "__main__":
    main()
