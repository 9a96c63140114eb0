"""How often the patches of label maps repeat: what the gathered convolution and the modulation by rows live on."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from shared.benchmark.report import Table, percent
from synth.benchmark.cases import resized
from synth.gathered_convolution import Geometry, distinct_patches

SIZES = ((4, 8), (8, 16), (16, 32), (32, 64), (64, 128), (128, 256), (256, 512))
WINDOW = Geometry((3, 3), (1, 1), (1, 1))


@dataclass(frozen=True)
class Share:
    """Distinct patches over pixels of single label maps, on average, in [0, 1].

    Attributes:
        height, width: of the maps.
        small, wide: of 3×3 and 5×5 pixels.
    """

    height: int
    width: int
    small: float
    wide: float


def distinct_shares(maps: Tensor, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Share]:
    """maps: (M, H, W) int64 with −1 for ignored pixels. sizes: to which they are resized."""
    return [_share(resized(maps, *size) + 1, int(maps.max()) + 2) for size in sizes]


def _share(maps: Tensor, num_ids: int) -> Share:
    found = [distinct_patches(ids[None], num_ids, WINDOW) for ids in maps]
    small, wide = (sum(len(patches.members) for patches in group) / maps.numel() for group in (found, [patches.wider for patches in found]))
    return Share(maps.shape[1], maps.shape[2], small, wide)


def share_table(shares: list[Share]) -> Table:
    """A row per size of patches, a column per size of maps."""
    columns = ["distinct patches per pixel", *(f"{share.height}×{share.width}" for share in shares), ""]
    return Table(columns, [["3×3", *(percent(s.small) for s in shares), ""], ["5×5", *(percent(s.wide) for s in shares), ""]])
