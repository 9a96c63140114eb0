"""The largest batch that fits a card, predicted: the paper's Figure 1 and Table 6."""

from collections.abc import Iterator
from dataclasses import dataclass

from seg.benchmark.cases import PAPER_SETTINGS
from seg.benchmark.config import GIB, BenchmarkConfig
from seg.benchmark.training_step import VARIANTS, Network, variant_config
from seg.memory import predict_peak
from shared.benchmark.report import Table, number

BACKBONE: Network = "resnet50"
FIGURE_1 = "figure 1"
FIGURE_SIZE = 512


@dataclass(frozen=True)
class BatchSetting:
    """One network of the paper at one image size.

    Attributes:
        title: a row of Table 1, or `FIGURE_1`.
        batches: images that the paper trains with, of softmax and of embeddings; None in Figure 1.
        others: as in `Case`.
    """

    title: str
    classes: int
    height: int
    width: int
    dim: int
    batches: tuple[int, int] | None


@dataclass(frozen=True)
class LargestBatch:
    """What one variant of the network needs on a GPU.

    Attributes:
        largest: images of the largest batch that fits the card.
        peak: bytes with the paper's batch; None in Figure 1.
    """

    setting: BatchSetting
    variant: str
    largest: int
    peak: int | None


def batch_settings(config: BenchmarkConfig) -> list[BatchSetting]:
    """Rows of Table 1, then Figure 1: images of 512×512 and every number of classes."""
    rows = {name: PAPER_SETTINGS[name] for name in config.settings}
    table = [BatchSetting(name, s.classes, s.height, s.width, s.dim, (s.softmax_batch, s.batch)) for name, s in rows.items()]
    return table + [BatchSetting(FIGURE_1, count, FIGURE_SIZE, FIGURE_SIZE, config.dim, None) for count in config.classes]


def largest_batches(setting: BatchSetting, card: float, backbone: Network = BACKBONE) -> Iterator[LargestBatch]:
    """Predict every variant of the network.

    Args:
        card: GiB that all tensors together may take. The context and the workspaces of the GPU's libraries come on top.
    """
    for name in VARIANTS:
        config = variant_config(name, backbone, setting.dim)
        batch = 1 if setting.batches is None else setting.batches[config.head != "softmax"]
        prediction = predict_peak(config, setting.classes, batch_size=batch, height=setting.height, width=setting.width, device_type="cuda")
        peak = None if setting.batches is None else prediction.peak
        yield LargestBatch(setting, name, prediction.largest_batch(int(card * GIB)), peak)


def batch_table(found: list[LargestBatch]) -> Table:
    """A row per setting: for every variant the largest batch and, in brackets, GiB with the paper's batch."""
    columns = ["", "C", "image", "paper's batches", *VARIANTS, "note"]
    rows = []
    for setting in dict.fromkeys(line.setting for line in found):
        lines = {line.variant: line for line in found if line.setting == setting}
        cells = [f"{line.largest}" + ("" if line.peak is None else f" ({number(line.peak / GIB)} GiB)") for line in lines.values()]
        batches = "" if setting.batches is None else " / ".join(map(str, setting.batches))
        rows.append([setting.title, str(setting.classes), f"{setting.height}×{setting.width}", batches, *cells, ""])
    return Table(columns, rows)
