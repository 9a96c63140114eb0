"""Two folders of images compared: what `python -m shared.fid` prints, and `shared.fid.compare_folders` gives."""

from os import PathLike
from pathlib import Path
from typing import Literal, NamedTuple

from shared.data.pictures import MAX_PIXELS
from shared.fid.comparison import Comparison, compare
from shared.fid.features import FeatureNetwork, network_of
from shared.fid.frechet import FeatureStatistics
from shared.fid.remarks import remark
from shared.fid.sides import DistanceConfig, Side, open_side, require_network, statistics_of
from shared.run.training import choose_device


class OpenSides(NamedTuple):
    """Two sets of images, and the network that sees them; None where both are files of statistics."""

    real: Side
    generated: Side
    network: FeatureNetwork | None


def open_sides(real: Path, generated: Path, config: DistanceConfig) -> OpenSides:
    """Find the images and build the network, before anything is computed; differences between the sets are warned of.

    Raises:
        InputError: fewer than two images on a side, files that are no statistics, or statistics of another network.
    """
    paths = (real, generated)
    sides = open_side(real), open_side(generated)
    remark({str(path): side for path, side in zip(paths, sides) if isinstance(side, list)})
    if not any(isinstance(side, list) for side in sides):
        return OpenSides(*sides, None)
    network = network_of(config, choose_device(config.device), [side.extractor for side in sides if not isinstance(side, list)])
    for path, side in zip(paths, sides):
        require_network(side, network, path)
    return OpenSides(*sides, network)


def compare_sides(sides: OpenSides, real: Path, generated: Path, config: DistanceConfig) -> tuple[Comparison, FeatureStatistics]:
    """The comparison, and the statistics of the real images."""
    statistics = statistics_of(sides.real, sides.network, real, config, cache=True)
    others = statistics_of(sides.generated, sides.network, generated, config)
    return compare(statistics, others, subsets=config.subsets, seed=config.seed), statistics


def compare_folders(
    real: str | PathLike[str],
    generated: str | PathLike[str],
    *,
    features: str = "auto",
    weights: str | PathLike[str] | None = None,
    cache: str | PathLike[str] | None = DistanceConfig.cache,
    moments_only: bool = False,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
    subsets: int = 100,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Comparison:
    """How far two sets of images are apart, as `python -m shared.fid` prints it, bit for bit.

    Args:
        real, generated: folders of images, or .npz files of feature statistics.
        features: the network of the features, see `FeaturesConfig.features`; `title` of the result says what the distance is called.
        weights, cache, moments_only, batch_size, max_pixels, subsets, seed, device: as in `DistanceConfig`.

    Raises:
        InputError: fewer than two images on a side, an unreadable one, or weights that are missing.
    """
    config = DistanceConfig(
        features=features,
        weights=None if weights is None else Path(weights),
        cache=None if cache is None else Path(cache),
        moments_only=moments_only,
        batch_size=batch_size,
        max_pixels=max_pixels,
        subsets=subsets,
        seed=seed,
        device=device,
    )
    paths = Path(real), Path(generated)
    comparison, _ = compare_sides(open_sides(*paths, config), *paths, config)
    return comparison
