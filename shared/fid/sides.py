"""The two sides of a comparison: folders of images or files of feature statistics, and how programs are told to compare them."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

from shared.data.pictures import MAX_PIXELS
from shared.distributed import gather, is_first, my_share
from shared.errors import InputError
from shared.fid.comparison import Comparison
from shared.fid.features import INCEPTION_DIM, INCEPTION_LABEL, FeatureNetwork, FeaturesConfig
from shared.fid.folder import find_images, image_statistics, read_ahead
from shared.fid.frechet import Extractor, FeatureStatistics
from shared.files.atomic import sha256
from shared.files.json_file import write_json
from shared.run.directory import RUNS

Side = list[Path] | FeatureStatistics
"""One of the two sets: its image files, or its statistics."""
log = logging.getLogger(__name__)


FORMAT = "2"
"""Changes when the same images and network give other statistics."""


@dataclass
class DistanceConfig(FeaturesConfig):
    """How the distance between two sets of images is taken."""

    cache: Path | None = RUNS / "statistics"
    """Folder for the statistics of real images, by content: they are not computed twice. Null: none. A file has 34 MB with
    Inception's features."""
    moments_only: bool = False
    """Keep means and covariances and no features, so that memory does not grow with the number of images: gives the Fréchet distance
    alone."""
    json: Path | None = None
    """Also write the results to this JSON file."""
    batch_size: int = 32
    """Images at once."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest image that is read; a larger one is refused, as a small file may unfold to any size."""
    subsets: int = 100
    """Random subsets whose mean and standard deviation are the kernel distance."""
    seed: int = 0
    """Seed of these subsets, of the extrapolation's and of the floor's halves."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""
    dry_run: bool = False
    """Check the images, the feature statistics and the network, say what would be compared, and stop."""

    def __post_init__(self) -> None:
        FeaturesConfig.__post_init__(self)
        for name in ("batch_size", "subsets", "max_pixels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


def open_side(path: Path) -> Side:
    """The image files of a folder, or the statistics of a file.

    Raises:
        InputError: fewer than 2 images, or a file that is no statistics, or does not tell what they are of.
    """
    if path.suffix.lower() != ".npz":
        files = find_images(path)
        if len(files) < 2:
            raise InputError(f"{path} holds 1 image; a distance between distributions needs at least 2 on each side")
        return files
    statistics = FeatureStatistics.load(path)
    if not statistics.extractor.network:
        if statistics.dim != INCEPTION_DIM:
            expected = f"{INCEPTION_DIM} were expected, as FID has; compute the statistics again"
            raise InputError(f"{path} does not tell its network and has {statistics.dim} features; {expected}")
        statistics.extractor = Extractor(INCEPTION_LABEL)  # pytorch-fid writes no name, and with 2048 features it has this network
    return statistics


def require_network(side: Side, network: FeatureNetwork, path: Path) -> None:
    """Refuse statistics of another network than the images of the other side would be seen by."""
    if not isinstance(side, FeatureStatistics):
        return
    if difference := side.extractor.difference(network.extractor):
        raise InputError(f"{path} and the images to be compared with it differ in their features: {difference}; use one network")


def describe(side: Side) -> str:
    """Such as "500 images"."""
    count = len(side) if isinstance(side, list) else side.count
    return f"{'an unknown number' if count is None else count} images"


def statistics_of(
    side: Side, network: FeatureNetwork | None, path: Path, config: DistanceConfig, *, cache: bool = False
) -> FeatureStatistics:
    """The statistics of a side; of image files with features unless the settings say otherwise, and from the cache where they may be.

    Several processes call this together, and each reads its share of the files.
    """
    if isinstance(side, FeatureStatistics):
        return side
    assert network is not None, "a folder needs a network"
    keep = not config.moments_only

    def compute() -> FeatureStatistics:
        files = [side[index] for index in my_share(len(side))]
        images = read_ahead(files, config.batch_size, max_pixels=config.max_pixels)
        mine = image_statistics(network, images, total=len(files), batch_size=config.batch_size, title=path.name, keep_features=keep)
        first, *others = gather(mine)
        for other in others:
            first.add(other)
        return first

    return cached_statistics(config.cache, network, side, keep, compute) if cache else compute()


def tell(comparison: Comparison, config: DistanceConfig, more: Sequence[str] = (), **about: Any) -> None:
    """Write a comparison where the settings say so, and print it. Of several processes the first one does.

    Args:
        more: lines to print after those of the comparison.
        about: further entries of the file: names of what was compared, and other results.
    """
    if not is_first():
        return
    if config.json:
        about = {name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value for name, value in about.items()}
        write_json(config.json, asdict(comparison) | about)
    print("\n".join([*comparison.lines(), *more]))


def cached_statistics(
    folder: Path | None, network: FeatureNetwork, files: Sequence[Path], keep_features: bool, make: Callable[[], FeatureStatistics]
) -> FeatureStatistics:
    """The statistics of `files` from `folder`, or those of `make`, which are then written there.

    Args:
        folder: None: nothing is read or written.
        files: images in the order of their features; a changed, added or removed one is another name.
        keep_features: whether `make` keeps them.
    """
    if folder is None:
        return make()
    path = folder / f"{content_key(network, files, keep_features)}.npz"
    if path.is_file():
        try:
            return FeatureStatistics.load(path)
        except InputError as error:
            log.warning("%s; made again", error)
    statistics = make()
    statistics.save(path)
    return statistics


def content_key(network: FeatureNetwork, files: Sequence[Path], keep_features: bool) -> str:
    """A hash of what the statistics depend on: the network with its weights and resize rule, and the bytes of the files."""
    parts = [FORMAT, str(keep_features), *astuple(network.extractor), *map(sha256, files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
