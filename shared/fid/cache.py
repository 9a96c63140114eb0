"""Statistics of images, kept under a name that follows from their content: the same images in the same network are read once."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

from shared.errors import InputError
from shared.fid.features import FeatureNetwork
from shared.fid.frechet import FeatureStatistics
from shared.files import sha256

FORMAT = "1"
"""Changes when the same images and network give other statistics."""

log = logging.getLogger(__name__)


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
