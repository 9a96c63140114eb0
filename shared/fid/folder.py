"""Folders of images, and the statistics of a stream of images."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from shared.data.picture_files import picture_files
from shared.data.pictures import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from shared.data.workers import in_threads
from shared.errors import InputError
from shared.fid.features import FeatureNetwork
from shared.fid.frechet import FeatureStatistics
from shared.run.training import progress

READERS = 2
"""Threads that decode pictures while the network computes; decoding leaves Python's lock."""


def find_images(folder: str | Path) -> list[Path]:
    """The images in `folder` and below that a data set would find there, in order of their paths.

    Raises:
        InputError: no folder, or no image in it; says what was found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; a folder of images or an .npz file of feature statistics was expected")
    images = sorted(picture_files(folder, IMAGE_SUFFIXES))
    if not images:
        found = Counter(path.suffix or "no ending" for path in folder.rglob("*") if path.is_file())
        listed = ", ".join(f"{count} × {suffix}" for suffix, count in found.most_common(5)) or "nothing"
        raise InputError(f"no image ({'/'.join(IMAGE_SUFFIXES)}) in {folder} or below; found {listed}")
    return images


def read_ahead(files: Sequence[Path], ahead: int, *, max_pixels: int = MAX_PIXELS) -> Iterator[torch.Tensor]:
    """`read_image` of every file, in order, `ahead` of them read before they are asked for.

    Raises:
        InputError: an unreadable file, by name.
    """
    return in_threads(partial(read_image, max_pixels=max_pixels), files, threads=READERS, ahead=ahead)


def image_statistics(
    network: FeatureNetwork,
    images: Iterable[torch.Tensor],
    *,
    total: int,
    batch_size: int = 32,
    title: str = "features",
    keep_features: bool = True,
) -> FeatureStatistics:
    """Statistics of a stream of images, with a progress bar.

    Args:
        network: on the device to compute on.
        images: such as `read_ahead(files, ahead)`; each (3, H, W) uint8: rounded to 8 bit, as files are. Sizes may differ.
        total: number of images, for the bar.
        batch_size: most images at once; images of different size never share a batch.
        keep_features: see `FeatureStatistics`.
    """
    statistics = FeatureStatistics(network.dim, keep_features, network.extractor)
    device = next(network.parameters()).device
    for batch in _batches(progress(images, title, total=total, unit="image"), batch_size):
        with torch.no_grad():
            statistics.update(network(batch.to(device).float() / 255))
    return statistics


def _batches(images: Iterable[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    """Stacks of consecutive images of one shape."""
    batch: list[torch.Tensor] = []
    for image in images:
        if batch and (len(batch) == size or image.shape != batch[0].shape):
            yield torch.stack(batch)
            batch = []
        batch.append(image)
    if batch:
        yield torch.stack(batch)
